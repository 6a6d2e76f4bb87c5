"""A convolution that learns where to sample: the report's Eq. 5.

Shape letters: B images (or RoIs), C channels, N points of the kernel.
"""

import math
from typing import Optional, Tuple, Union

from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from .deform_conv import deform_conv
from .resample_heatmaps import bound_offsets


@MODELS.register_module()
class RefinedConv2d(nn.Conv2d):
    """Deformable convolution that starts as the ordinary one.

    ``y(p0) = sum_n w(p_n) x(p0 + p_n + dp_n)``, where an extra convolution on
    the same feature predicts the offsets dp_n (report section 3.2.2, Eq. 5;
    Dai et al. 2017). With ``modulated`` each sample is also weighted by a
    predicted factor between 0 and 2 (Zhu et al. 2019, whose factor goes from
    0 to 1 and therefore starts at one half of the ordinary convolution).

    ``weight`` and ``bias`` have the names and shapes of ``nn.Conv2d``, so the
    weights of an unrefined network load here; the offsets start at zero and
    the factors at one, so the result is then the unrefined one.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias: As in ``nn.Conv2d`` (zero padding).
        deform_groups (int): Groups of input channels with offsets of their
            own. Defaults to 1.
        modulated (bool): Predict the factors too (version 2).
            Defaults to False.
        max_offset (float, optional): Bound of each component of an offset,
            in pixels of the feature: see :func:`bound_offsets`. Defaults to
            none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Union[int, Tuple[int, int]],
        stride: Union[int, Tuple[int, int]] = 1,
        padding: Union[int, Tuple[int, int]] = 0,
        dilation: Union[int, Tuple[int, int]] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        deform_groups: int = 1,
        modulated: bool = False,
        max_offset: Optional[float] = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=_pair(padding),
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
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Start (or start again) as the ordinary convolution.

        MMEngine calls this after the initialisation of the whole network,
        which would otherwise fill ``conv_offset`` with random numbers.
        """
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H_out, W_out)."""
        if x.numel() == 0:  # not every kernel takes an empty batch
            empty = super().forward(x)
            return empty + 0 * self.conv_offset(x).sum()
        offset, factor = self.predict_sampling(x)
        return deform_conv(
            x,
            offset,
            factor,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.deform_groups,
        )

    def predict_sampling(self, x: Tensor) -> Tuple[Tensor, Union[Tensor, None]]:
        """Predict where the kernel samples.

        Args:
            x (Tensor): Feature, shape (B, C_in, H, W).

        Returns:
            tuple: Offsets dp_n in pixels of ``x``, shape
            (B, deform_groups * 2N, H_out, W_out), y before x for each point;
            and the factors, shape (B, deform_groups * N, H_out, W_out), or
            None when not ``modulated``.
        """
        prediction = self.conv_offset(x)
        if not self.modulated:
            return bound_offsets(prediction, self.max_offset), None
        num_factors = prediction.shape[1] // 3
        offset = prediction[:, : 2 * num_factors].contiguous()
        return bound_offsets(offset, self.max_offset), 2 * prediction[
            :, 2 * num_factors :
        ].sigmoid()
