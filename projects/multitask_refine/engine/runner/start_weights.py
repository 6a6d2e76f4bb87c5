"""Compare the weights that a training starts from with its network."""

import re
from typing import Dict

from mmengine.model import is_model_wrapper
from torch import nn

from multitask_refine.engine.optimizers import OFFSET_LAYERS
from multitask_refine.utils.errors import ConfigError

# Layers whose size follows the numbers of classes and keypoints.
_PREDICTORS = ('fc_cls', 'fc_reg', 'conv_logits', 'heatmap_pred', 'offset_pred')


def check_start_weights(model: nn.Module, checkpoint: dict) -> None:
    """Refuse a checkpoint of another architecture as the start of a training.

    MMEngine takes what happens to fit, lists the rest in the log, and trains
    it from random weights. That stays so for what is meant to differ:
    refinements (they start as the identity), whole parts but the backbone,
    such as a mask head that one of the two lacks, and the last layers of
    heads for another number of classes or keypoints.

    Args:
        model (nn.Module): The network.
        checkpoint (dict): With a ``state_dict``, or that itself.

    Raises:
        ConfigError: If the backbone, or another part that both have, has
            weights of other names or shapes.
    """
    model = model.module if is_model_wrapper(model) else model
    own = _list_shapes(model.state_dict())
    saved = _list_shapes(checkpoint.get('state_dict', checkpoint))
    shared_parts = {'backbone'} | (set(map(_part, own)) & set(map(_part, saved)))
    differing = []
    for name in sorted(own.keys() | saved.keys()):
        expected, found = (each.get(name, 'none') for each in (own, saved))
        layer = name.split('.')[-2:-1]
        may_differ = (
            layer and layer[0] in _PREDICTORS
            if name in own and name in saved
            else layer and layer[0] in OFFSET_LAYERS
        )
        if expected != found and not may_differ and _part(name) in shared_parts:
            differing.append(f'{name} (expected {expected}, found {found})')
    if differing or own.items().isdisjoint(saved.items()):
        examples = (
            f': {len(differing)} of other names or shapes, such as {", ".join(differing[:3])}'
            if differing
            else ''
        )
        raise ConfigError(
            "load_from: expected weights of this config's network, found "
            f'those of another architecture{examples}. Start from a '
            'checkpoint whose backbone, neck and heads are those of the '
            'config (refinements may be missing), or take over single parts '
            "by their init_cfg=dict(type='Pretrained', checkpoint=FILE, "
            "prefix='backbone.')."
        )


def _list_shapes(weights: dict) -> Dict[str, str]:
    """Shapes such as '64x3x3x3' by name, but for counters of batch norm."""
    return {
        re.sub('^module[.]', '', name): 'x'.join(map(str, value.shape)) or '1'
        for name, value in weights.items()
        if hasattr(value, 'shape') and not name.endswith('num_batches_tracked')
    }


def _part(name: str) -> str:
    """Name the part of a weight: 'backbone', 'roi_head.mask_head', ..."""
    names = name.split('.')
    return '.'.join(names[: 2 if names[0] == 'roi_head' else 1])
