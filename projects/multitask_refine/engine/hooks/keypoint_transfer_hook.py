"""Start a keypoint head from weights that were trained on other keypoints."""

from typing import Dict, Optional, Sequence

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from multitask_refine.utils.errors import ConfigError

# The layers with one output channel (heatmap) or two (offset) a keypoint.
_LAYERS = ('heatmap_pred', 'offset_pred')
_HEAD = 'roi_head.keypoint_head.'


def transfer_keypoints(
    saved: Dict[str, Tensor], own: Dict[str, Tensor], source: Sequence[str], target: Sequence[str]
) -> Dict[str, Tensor]:
    """Reorder the last layers of a keypoint head by the keypoints' names.

    Args:
        saved (dict[str, Tensor]): ``state_dict`` of a network whose
            keypoints are ``source``; is not changed.
        own (dict[str, Tensor]): ``state_dict`` of the network to load into,
            whose keypoints are ``target``, as initialized.
        source (Sequence[str]): Names of the K_s keypoints of ``saved``.
        target (Sequence[str]): Names of the K_t keypoints of ``own``.

    Returns:
        dict[str, Tensor]: ``saved`` with heatmap and offset layers for
        ``target``: the channels of keypoints that both have come from
        ``saved``, those of new ones from ``own``. A layer that one of the
        two lacks, or whose input has another width, stays as it is.
    """
    result = dict(saved)
    to = [i for i, name in enumerate(target) if name in source]
    of = [source.index(target[i]) for i in to]
    for name in saved.keys() & own.keys():
        if not name.startswith(tuple(_HEAD + layer for layer in _LAYERS)):
            continue
        # Output channels of a transposed convolution are axis 1.
        axis = 1 if saved[name].dim() == 4 else 0
        theirs = saved[name].movedim(axis, 0)
        ours = own[name].detach().cpu().movedim(axis, 0).clone()
        if theirs.shape[1:] != ours.shape[1:]:
            continue
        channels = len(ours) // len(target)  # x and y of an offset together
        theirs = theirs.unflatten(0, (len(source), channels))
        ours = ours.unflatten(0, (len(target), channels))
        ours[to] = theirs[of].to(ours)
        result[name] = ours.flatten(0, 1).movedim(0, axis).contiguous()
    return result


@HOOKS.register_module()
class KeypointTransferHook(Hook):
    """Take over the keypoint head of ``load_from`` by keypoint names.

    When a training starts from a checkpoint of other keypoints, or of the
    same in another order, heatmaps and offsets of the keypoints that both
    have start with the weights of the checkpoint, new ones as initialized;
    see :func:`transfer_keypoints`. Resuming and testing are not affected.

    Args:
        names (dict[str, str], optional): The checkpoint's name of keypoints
            that are named differently there, such as
            ``dict(head='nose')``.

    Raises:
        ConfigError: If ``names`` has a keypoint that the data set or the
            checkpoint lacks.
    """

    # Before ConsistencyHook compares.
    priority = 'HIGHEST'

    def __init__(self, names: Optional[Dict[str, str]] = None) -> None:
        self.names = dict(names or {})

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Change the loaded weights before they go into the network."""
        if not isinstance(runner._train_loop, BaseLoop) or runner._resume:
            return
        saved_meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
        meta = getattr(runner.train_loop.dataloader.dataset, 'metainfo', None)
        if not isinstance(meta, dict) or not all(
            each.get('keypoint_id2name') for each in (saved_meta, meta)
        ):
            return
        source = list(saved_meta['keypoint_id2name'].values())
        own_names = list(meta['keypoint_id2name'].values())
        for name, other in self.names.items():
            if name not in own_names or other not in source:
                raise ConfigError(
                    f'KeypointTransferHook.names: expected a keypoint of the '
                    f'data set and its name in the checkpoint, found '
                    f'{name!r}: {other!r}; the data set has {own_names}, the '
                    f'checkpoint {source}. Correct the name.'
                )
        target = [self.names.get(name, name) for name in own_names]
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        own = model.state_dict()
        if target == source or not any(key.startswith(_HEAD) for key in own):
            return
        checkpoint['state_dict'] = transfer_keypoints(
            checkpoint['state_dict'], own, source, target
        )
        # The weights are of the data set's keypoints now.
        checkpoint['meta'] = dict(
            checkpoint['meta'],
            dataset_meta=dict(meta, classes=saved_meta.get('classes', meta['classes'])),
        )
        taken, new = [], []
        for name, other in zip(own_names, target):
            (taken if other in source else new).append(name)
        MMLogger.get_current_instance().info(
            'Keypoint head: from the checkpoint '
            f'{", ".join(taken) or "none"}; newly initialized '
            f'{", ".join(new) or "none"}'
        )
