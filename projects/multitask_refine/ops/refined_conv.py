"""Deformable convolution layer, initialized to the identity: the report's Eq. 5.

Shape letters: B images (or RoIs), C channels, N kernel points.
"""

import math

from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from .cpu import FastCPUModule
from .deform_conv import deform_conv, deform_conv_by_mmcv
from .resample_heatmaps import bound_offsets


@MODELS.register_module()
class RefinedConv2d(FastCPUModule, nn.Conv2d):
    """Deformable convolution, initialized to the identity: it starts as the regular convolution.

    ``y(p0) = sum_n w(p_n) x(p0 + p_n + dp_n)``, where an additional convolution of the same input
    predicts the offsets dp_n (report section 3.2.2, Eq. 5; Dai et al. 2017). With ``modulated``
    each sample is also multiplied by a predicted mask between 0 and 2 (Zhu et al. 2019, whose mask
    is between 0 and 1 and so starts as half the regular convolution).

    ``weight`` and ``bias`` have the names and shapes of ``nn.Conv2d``, so the weights of a network
    without deformable convolutions can be loaded. The offsets start at 0 and the mask at 1: the
    output is then that of the regular convolution.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            ``nn.Conv2d`` (zero padding).
        deform_groups (int): Groups of input channels with offsets of their own. Defaults to 1.
        modulated (bool): Whether to predict the mask (version 2). Defaults to False.
        max_offset (float, optional): Bound of each component of an offset, in pixels of the input:
            see :func:`bound_offsets`. Defaults to no bound.
    """

    padding: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        deform_groups: int = 1,
        modulated: bool = False,
        max_offset: float | None = None,
    ) -> None:
        """Build the layer, initialized to the regular convolution."""
        padding = _pair(padding)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.deform_groups = deform_groups
        self.modulated = modulated
        self.max_offset = max_offset
        num_points = math.prod(self.kernel_size)
        self.conv_offset = nn.Conv2d(
            in_channels,
            deform_groups * (3 if modulated else 2) * num_points,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize (or reset) to the regular convolution.

        MMEngine calls this after the initialization of the whole network, which would otherwise
        fill ``conv_offset`` with random numbers.
        """
        nn.init.zeros_(self.conv_offset.weight)
        if self.conv_offset.bias is not None:
            nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H_out, W_out)."""
        if x.numel() == 0:  # mmcv's kernels do not support an empty batch
            output: Tensor = super().forward(x) + 0 * self.conv_offset(x).sum()
            return output
        offset, mask = self.predict_sampling(x)
        convolve = deform_conv if self.fast_cpu_ops else deform_conv_by_mmcv
        return convolve(
            x,
            offset,
            mask,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.deform_groups,
        )

    def predict_sampling(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict offsets and mask.

        Args:
            x (Tensor): Input, shape (B, C_in, H, W).

        Returns:
            tuple[Tensor, Tensor | None]: Offsets dp_n in pixels of ``x``, y before x for each
            point, shape (B, deform_groups * 2N, H_out, W_out); and the mask, shape
            (B, deform_groups * N, H_out, W_out), or None unless ``modulated``.
        """
        prediction = self.conv_offset(x)
        if not self.modulated:
            return bound_offsets(prediction, self.max_offset), None
        # The channels are 2N offsets and N masks of each group, as in mmcv's
        # ModulatedDeformConv2dPack.
        num_masks = prediction.shape[1] // 3
        offset = prediction[:, : 2 * num_masks].contiguous()
        mask = 2 * prediction[:, 2 * num_masks :].sigmoid()  # 1 where the prediction is 0
        return bound_offsets(offset, self.max_offset), mask
