"""Backbones of timm."""

from collections.abc import Sequence

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from multitask_refine.utils.errors import ConfigError


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """Any model of timm that can return feature maps.

    The maps of its stages are the inputs of the neck: ``neck.in_channels`` must be their numbers
    of channels, and the strides of anchors and RoI extractors theirs.

    Args:
        model_name (str): Name of the model in timm, e.g. 'convnextv2_tiny'.
        out_indices (Sequence[int]): Stages whose features are returned. Defaults to those of
            stride 8, 16 and 32 of models with a stem of stride 4.
        pretrained (bool): Whether timm loads its weights when the network is initialized for a
            training. Defaults to False.
        kwargs: Further arguments of ``timm.create_model``.

    Raises:
        ConfigError: If timm cannot be imported, or has no such model.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] = (1, 2, 3),
        pretrained: bool = False,
        **kwargs,
    ) -> None:
        """Build the model."""
        super().__init__()
        try:
            import timm
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
            raise ConfigError(
                f'model.backbone.type=TimmBackbone: timm cannot be imported ({error}). Install it '
                'with a torchvision that is built for your torch: '
                "pip install 'multitask-refine[timm]'."
            ) from None
        self.settings = dict(
            kwargs, model_name=model_name, features_only=True, out_indices=tuple(out_indices)
        )
        self.pretrained = pretrained
        try:
            self.model = timm.create_model(**self.settings)
        except (RuntimeError, AssertionError, IndexError, TypeError) as error:
            raise ConfigError(
                f'model.backbone: expected a model of timm with feature maps {list(out_indices)}, '
                f'found model_name={model_name!r} ({error}). timm.list_models() lists the names.'
            ) from None
        self.channels_last = getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC'

    def init_weights(self) -> None:
        """Load timm's weights if ``pretrained``; otherwise keep its random initialization."""
        if self.pretrained:
            import timm

            source = timm.create_model(**self.settings, pretrained=True)
            self.model.load_state_dict(source.state_dict())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps (B, C, H / stride, W / stride) of the stages."""
        outputs = self.model(x)
        if self.channels_last:  # (B, H, W, C), e.g. of timm's Swin
            outputs = [each.permute(0, 3, 1, 2).contiguous() for each in outputs]
        return tuple(outputs)
