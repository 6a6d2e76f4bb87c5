"""Optimizer constructor with a learning rate for the layers that predict offsets."""

import difflib

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from multitask_refine.utils.errors import ConfigError

OFFSET_LAYERS = ('conv_offset', 'offset_pred')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OffsetOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor with ``dcn_offset_lr_mult`` for every offset layer.

    MMEngine applies it to mmcv's deformable convolutions alone. Here it is a custom key of each
    layer in :data:`OFFSET_LAYERS`: ``conv_offset`` of convolutions and RoI pooling, and
    ``offset_pred`` of the keypoint head. As for other custom keys, the longest one that matches
    the name of a parameter wins. ``bias_decay_mult`` applies to their biases, too.

    Arguments as in MMEngine's ``DefaultOptimWrapperConstructor``, under whose name the package
    registers this class, too.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of a model.

        Args:
            model (nn.Module): The model.

        Returns:
            OptimWrapper: The wrapper with one parameter group per parameter.

        Raises:
            ConfigError: If a custom key matches no parameter, or ``dcn_offset_lr_mult`` is set
                for a model without offset layers.
        """
        names = [name for name, _ in model.named_parameters()]
        cfg = self.paramwise_cfg
        for key in cfg.get('custom_keys', {}):
            # as MMEngine matches them: anywhere in the name
            if not any(key in name for name in names):
                parts = {part for name in names for part in name.split('.')}
                close = difflib.get_close_matches(key, parts | set(names))
                raise ConfigError(
                    f'optim_wrapper.paramwise_cfg.custom_keys: expected a part of a '
                    f'parameter name, found {key!r}, which matches no parameter of the '
                    'model. Remove or correct it'
                    f'{"; close matches: " + ", ".join(close) if close else ""}.'
                )
        if cfg.get('dcn_offset_lr_mult') is not None:
            layers = [layer for layer in OFFSET_LAYERS if any(layer in name for name in names)]
            if not layers:
                raise ConfigError(
                    'optim_wrapper.paramwise_cfg.dcn_offset_lr_mult: expected '
                    'a model with layers that predict offsets '
                    f'({", ".join(OFFSET_LAYERS)}), found none. Remove it, or '
                    'enable a refinement.'
                )
            offset_keys = {}
            for layer in layers:
                offset_keys[layer] = dict(lr_mult=cfg['dcn_offset_lr_mult'])
                if cfg.get('bias_decay_mult') is not None:
                    # MMEngine applies it to no parameter with a custom key.
                    offset_keys[f'{layer}.bias'] = dict(
                        offset_keys[layer], decay_mult=cfg['bias_decay_mult']
                    )
            custom_keys = {**offset_keys, **cfg.get('custom_keys', {})}
            self.paramwise_cfg = dict(cfg, custom_keys=custom_keys)
        return super().__call__(model)
