"""Compare the weights that a training starts from with its model."""

import re

from mmengine.model import is_model_wrapper
from torch import nn

from multitask_refine.engine.optimizers import OFFSET_LAYERS
from multitask_refine.utils.errors import ConfigError

# Layers whose size depends on the numbers of anchors, classes and keypoints.
_PREDICTORS = (
    'rpn_cls',
    'rpn_reg',
    'fc_cls',
    'fc_reg',
    'conv_logits',
    'heatmap_pred',
    'offset_pred',
)


def check_start_weights(model: nn.Module, checkpoint: dict) -> None:
    """Refuse to start a training from a checkpoint of another architecture.

    MMEngine loads the weights that happen to fit, lists the others in the log, and trains them
    from random values. That remains so for expected differences: refinements (they start as the
    identity), whole parts other than the backbone, such as a mask head that one of the two
    lacks, and the last layers of heads for another number of anchors, classes or keypoints.

    Args:
        model (nn.Module): The model.
        checkpoint (dict): A checkpoint with a ``state_dict``, or a ``state_dict``.

    Raises:
        ConfigError: If weights of the backbone, or of another part that both have, differ in
            name or shape.
    """

    def list_shapes(weights: dict) -> dict[str, str]:
        return {
            re.sub('^module[.]', '', name): 'x'.join(map(str, value.shape)) or '1'
            for name, value in weights.items()
            if hasattr(value, 'shape') and not name.endswith('num_batches_tracked')
        }

    def get_part(name: str) -> str:  # 'backbone', 'roi_head.mask_head', ...
        names = name.split('.')
        return '.'.join(names[: 2 if names[0] == 'roi_head' else 1])

    model = model.module if is_model_wrapper(model) else model
    own = list_shapes(model.state_dict())
    saved = list_shapes(checkpoint.get('state_dict', checkpoint))
    shared_parts = {'backbone'} | (set(map(get_part, own)) & set(map(get_part, saved)))
    differing = []
    for name in sorted(own.keys() | saved.keys()):
        expected, found = (each.get(name, 'none') for each in (own, saved))
        may_differ = _PREDICTORS if name in own and name in saved else OFFSET_LAYERS
        if (
            expected != found
            and get_part(name) in shared_parts
            and not any(layer in may_differ for layer in name.split('.')[-2:-1])
        ):
            differing.append(f'{name} (expected {expected}, found {found})')
    if differing or own.items().isdisjoint(saved.items()):
        examples = (
            f': {len(differing)} with other names or shapes, such as {", ".join(differing[:3])}'
            if differing
            else ''
        )
        raise ConfigError(
            "load_from: expected weights of this config's model, found "
            f'those of another architecture{examples}. Start from a '
            'checkpoint with the backbone, neck and heads of the '
            'config (refinements may be missing), leave out modules by '
            "default_hooks=dict(partial_load=dict(type='PartialLoadHook', skip=['neck'])), "
            "or load single ones by their init_cfg=dict(type='Pretrained', checkpoint=FILE, "
            "prefix='backbone.')."
        )
