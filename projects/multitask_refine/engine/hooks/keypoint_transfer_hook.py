"""Initialize a keypoint head from weights that were trained on other keypoints."""

from collections.abc import Mapping, Sequence

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from multitask_refine.utils.errors import ConfigError

_HEAD = 'roi_head.keypoint_head.'
# Layers with one (heatmap) or two (offset) output channels per keypoint.
_LAYERS = (f'{_HEAD}heatmap_pred', f'{_HEAD}offset_pred')


def transfer_keypoints(
    saved: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    source: Sequence[str],
    target: Sequence[str],
) -> dict[str, Tensor]:
    """Reorder the output channels of a keypoint head by keypoint names.

    Args:
        saved (Mapping[str, Tensor]): ``state_dict`` of a model with the keypoints ``source``;
            not modified.
        own (Mapping[str, Tensor]): Initial ``state_dict`` of the model to load into, which has
            the keypoints ``target``.
        source (Sequence[str]): Names of the K_s keypoints of ``saved``.
        target (Sequence[str]): Names of the K_t keypoints of ``own``.

    Returns:
        dict[str, Tensor]: ``saved`` with heatmap and offset layers for ``target``: channels of
        common keypoints from ``saved``, those of new ones from ``own``. A layer that one of
        the two lacks, or with another number of input channels, stays as it is.
    """
    result = dict(saved)
    common = [i for i, name in enumerate(target) if name in source]
    origins = [source.index(target[i]) for i in common]
    for name in saved.keys() & own.keys():
        if not name.startswith(_LAYERS):
            continue
        # Axis 1 of a transposed convolution's weight holds its output channels.
        axis = 1 if saved[name].dim() == 4 else 0
        old = saved[name].movedim(axis, 0)
        new = own[name].detach().cpu().movedim(axis, 0).clone()
        if old.shape[1:] != new.shape[1:]:
            continue
        channels = len(new) // len(target)  # x and y of an offset stay together
        old = old.unflatten(0, (len(source), channels))  # (K_s, channels, ...)
        new = new.unflatten(0, (len(target), channels))  # (K_t, channels, ...)
        new[common] = old[origins].to(new)
        result[name] = new.flatten(0, 1).movedim(0, axis).contiguous()
    return result


@HOOKS.register_module()
class KeypointTransferHook(Hook):
    """Transfer the keypoint head of ``load_from`` by keypoint names.

    When a training starts from a checkpoint of other keypoints, or of the same ones in another
    order, heatmap and offset channels of common keypoints start with the weights of the
    checkpoint, new ones as initialized; see :func:`transfer_keypoints`. Resuming and testing
    are not affected.

    Args:
        names (dict[str, str], optional): Names in the checkpoint of keypoints that are named
            differently there, such as ``dict(head='nose')``.

    Raises:
        ConfigError: If ``names`` has a keypoint that the dataset or the checkpoint lacks.
    """

    # Before ConsistencyHook compares.
    priority = 'HIGHEST'

    def __init__(self, names: dict[str, str] | None = None) -> None:
        self.names = dict(names or {})

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Modify the loaded weights before they are copied into the model."""
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
                    f'dataset and its name in the checkpoint, found '
                    f'{name!r}: {other!r}; the dataset has {own_names}, the '
                    f'checkpoint {source}. Correct the name.'
                )
        target = [self.names.get(name, name) for name in own_names]
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own = model.state_dict()
        if target == source or not any(key.startswith(_HEAD) for key in own):
            return
        checkpoint['state_dict'] = transfer_keypoints(
            checkpoint['state_dict'], own, source, target
        )
        # From here on the checkpoint has the keypoints of the dataset.
        checkpoint['meta'] = dict(
            checkpoint['meta'],
            dataset_meta=dict(meta, classes=saved_meta.get('classes', meta['classes'])),
        )
        taken, new = [], []
        for name, other in zip(own_names, target, strict=True):
            (taken if other in source else new).append(name)
        runner.logger.info(
            'Keypoint head: from the checkpoint '
            f'{", ".join(taken) or "none"}; newly initialized '
            f'{", ".join(new) or "none"}'
        )
