"""ConvNeXt with the names of MMPretrain's weights.

Shape letters: B images, C channels.
"""

from collections.abc import Sequence

import torch
from mmcv.cnn.bricks import DropPath
from mmdet.registry import MODELS
from mmengine.model import BaseModule, trunc_normal_init
from torch import Tensor, nn

from multitask_refine.utils.errors import ConfigError


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each pixel."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution and a perceptron of each pixel, as a residual.

    Args:
        channels (int): C.
        drop_path_rate (float): Probability with which training skips the residual of an image.
        layer_scale (float): Initial factor of the residual.
    """

    def __init__(self, channels: int, drop_path_rate: float, layer_scale: float) -> None:
        """Build the layers."""
        super().__init__()
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pointwise_conv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pointwise_conv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(layer_scale * torch.ones(channels))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block; the shape (B, C, H, W) stays."""
        residual = self.norm(self.depthwise_conv(x).permute(0, 2, 3, 1))  # (B, H, W, C)
        residual = self.pointwise_conv2(self.act(self.pointwise_conv1(residual)))
        return x + self.drop_path((self.gamma * residual).permute(0, 3, 1, 2))


@MODELS.register_module()
class ConvNeXt(BaseModule):
    """ConvNeXt (Liu et al. 2022), by default the tiny one.

    The parameters have the names of MMPretrain's ``ConvNeXt``, whose ImageNet weights load with
    ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.

    Args:
        depths (Sequence[int]): Number of blocks of each stage. Defaults to (3, 3, 9, 3).
        channels (Sequence[int]): Channels of each stage. Defaults to (96, 192, 384, 768).
        out_indices (Sequence[int]): Stages whose normalized features are returned; their strides
            are 4, 8, 16 and 32. Defaults to all.
        drop_path_rate (float): Stochastic depth of the last block; it grows linearly from 0.
            Defaults to 0.
        layer_scale (float): Initial factor of the residuals. Defaults to 1.
        init_cfg (dict, optional): MMEngine's initialization. Defaults to truncated normals.

    Raises:
        ConfigError: If ``depths`` and ``channels`` are not equally many.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 9, 3),
        channels: Sequence[int] = (96, 192, 384, 768),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        layer_scale: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        """Build the layers."""
        super().__init__(init_cfg=init_cfg)
        if len(depths) != len(channels):
            raise ConfigError(
                'ConvNeXt: depths and channels: expected as many of one as of the other, found '
                f'{len(depths)} and {len(channels)}'
            )
        self.out_indices = tuple(out_indices)
        last = max(sum(depths) - 1, 1)
        rates = iter([drop_path_rate * i / last for i in range(sum(depths))])
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        for i, (depth, width) in enumerate(zip(depths, channels, strict=True)):
            if i == 0:
                stem = nn.Conv2d(3, width, 4, stride=4)
                layers = [stem, LayerNorm2d(width, eps=1e-6)]
            else:
                norm = LayerNorm2d(channels[i - 1], eps=1e-6)
                layers = [norm, nn.Conv2d(channels[i - 1], width, 2, stride=2)]
            self.downsample_layers.append(nn.Sequential(*layers))
            blocks = [ConvNeXtBlock(width, next(rates), layer_scale) for _ in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            if i in self.out_indices:
                self.add_module(f'norm{i}', LayerNorm2d(width, eps=1e-6))

    def init_weights(self) -> None:
        """Load pretrained weights, or draw them from truncated normals."""
        if self.init_cfg:
            super().init_weights()
            return
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                trunc_normal_init(module, std=0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features of the stages ``out_indices``.

        Args:
            x (Tensor): Images, shape (B, 3, H, W).

        Returns:
            tuple[Tensor]: Shape (B, C, H / stride, W / stride) each.
        """
        outputs = []
        for i, (downsample, stage) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True)
        ):
            x = stage(downsample(x))
            if i in self.out_indices:
                outputs.append(getattr(self, f'norm{i}')(x))
        return tuple(outputs)
