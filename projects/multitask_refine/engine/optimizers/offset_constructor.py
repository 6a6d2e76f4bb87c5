"""Learning rates of the layers that predict offsets."""

import difflib

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from multitask_refine.utils.errors import ConfigError

OFFSET_LAYERS = ('conv_offset', 'offset_pred')


# Under the second name it is the default of all configs of mmdet's scope.
@OPTIM_WRAPPER_CONSTRUCTORS.register_module(
    name=['OffsetOptimWrapperConstructor', 'DefaultOptimWrapperConstructor']
)
class OffsetOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, whose ``dcn_offset_lr_mult`` acts on every
    layer that predicts offsets.

    MMEngine applies it to mmcv's deformable convolutions alone. Here it is a
    custom key of each layer in :data:`OFFSET_LAYERS`: the convolutions'
    and RoI poolings' ``conv_offset`` and the keypoint head's
    ``offset_pred``. As for other custom keys, the longest one that matches
    a parameter's name wins. ``bias_decay_mult`` holds for their biases, too.

    Arguments as in MMEngine's ``DefaultOptimWrapperConstructor``.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of a model.

        Raises:
            ConfigError: If a custom key matches no parameter, or
                ``dcn_offset_lr_mult`` is set and nothing predicts offsets.
        """
        names = [name for name, _ in model.named_parameters()]
        cfg = self.paramwise_cfg
        for key in cfg.get('custom_keys', {}):
            if not any(key in name for name in names):
                parts = {part for name in names for part in name.split('.')}
                near = difflib.get_close_matches(key, parts | set(names))
                raise ConfigError(
                    f'optim_wrapper.paramwise_cfg.custom_keys: {key!r} is '
                    "expected to be a part of a parameter's name, found none "
                    "of the model's with it. Remove it, or correct it"
                    f'{": near are " + ", ".join(near) if near else ""}.'
                )
        if cfg.get('dcn_offset_lr_mult') is not None:
            layers = [layer for layer in OFFSET_LAYERS if any(layer in name for name in names)]
            if not layers:
                raise ConfigError(
                    'optim_wrapper.paramwise_cfg.dcn_offset_lr_mult: expected '
                    'a model with layers that predict offsets '
                    f'({", ".join(OFFSET_LAYERS)}), found none. Remove it, or '
                    'switch a refinement on.'
                )
            rate = dict(lr_mult=cfg['dcn_offset_lr_mult'])
            rates = dict.fromkeys(layers, rate)
            if cfg.get('bias_decay_mult') is not None:
                # MMEngine applies it to no parameter with a custom key.
                rates.update(
                    {
                        f'{layer}.bias': dict(rate, decay_mult=cfg['bias_decay_mult'])
                        for layer in layers
                    }
                )
            self.paramwise_cfg = dict(cfg, custom_keys={**rates, **cfg.get('custom_keys', {})})
        return super().__call__(model)
