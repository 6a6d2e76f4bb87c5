"""ONNX operators in the place of mmcv's.

While the graph is recorded each of these runs once on the CPU; the file gets
the standard operator that ``symbolic`` names.

Which boxes are chosen does not change the graph. While it is recorded the
first stand for them, so that no head is recorded without a box.

Shape letters: R RoIs, C channels, P side of the pooled feature, N boxes.
"""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.autograd import Function

from multitask_refine.ops import RefinedConv2d, deform_conv, separable_roi_align

_SHOWN = 3  # boxes while the graph is recorded


class _DeformConv(Function):
    @staticmethod
    def forward(
        ctx, x, offset, factor, weight, bias, stride, padding, dilation, groups, deform_groups
    ):
        return deform_conv(
            x, offset, factor, weight, bias, stride, padding, dilation, groups, deform_groups
        )

    @staticmethod
    def symbolic(
        g, x, offset, factor, weight, bias, stride, padding, dilation, groups, deform_groups
    ):
        return g.op(
            'DeformConv',
            x,
            weight,
            offset,
            bias,
            factor,
            kernel_shape_i=weight.type().sizes()[2:],
            strides_i=stride,
            pads_i=[*padding, *padding],
            dilations_i=dilation,
            group_i=groups,
            offset_group_i=deform_groups,
        )


class OnnxRefinedConv2d(nn.Module):
    """A ``RefinedConv2d`` that is recorded as ONNX's DeformConv.

    Args:
        conv (RefinedConv2d): What it computes.
    """

    def __init__(self, conv: RefinedConv2d) -> None:
        super().__init__()
        self.conv = conv
        if conv.bias is None:
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H_out, W_out)."""
        conv = self.conv
        offset, factor = conv.predict_sampling(x)
        if factor is None:
            num_factors = offset.shape[1] // 2
            factor = torch.ones_like(offset[:, :num_factors])
        return _DeformConv.apply(
            x,
            offset,
            factor,
            conv.weight,
            conv.bias,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            conv.deform_groups,
        )


class _RoIAlign(Function):
    @staticmethod
    def forward(ctx, x, boxes, images, size, scale, ratio, aligned):
        rois = torch.cat([images[:, None].to(boxes), boxes], 1)
        return separable_roi_align(x, rois, size, scale, ratio, aligned)

    @staticmethod
    def symbolic(g, x, boxes, images, size, scale, ratio, aligned):
        mode = 'half_pixel' if aligned else 'output_half_pixel'
        return g.op(
            'RoiAlign',
            x,
            boxes,
            images,
            output_height_i=size,
            output_width_i=size,
            spatial_scale_f=scale,
            sampling_ratio_i=ratio,
            coordinate_transformation_mode_s=mode,
        )


def roi_align(
    x: Tensor, boxes: Tensor, size: int, scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Pool a feature (1, C, H, W) of boxes (R, 4) to (R, C, P, P); the
    other arguments as in ``separable_roi_align``."""
    images = boxes[:, 0].long() * 0
    return _RoIAlign.apply(x, boxes, images, size, scale, ratio, aligned)


class _NMS(Function):
    @staticmethod
    def forward(ctx, boxes, scores, overlap, most, least_score):
        first = torch.arange(min(_SHOWN, boxes.shape[1]))
        return torch.stack([0 * first, 0 * first, first], 1)

    @staticmethod
    def symbolic(g, boxes, scores, overlap, most, least_score):
        constants = [
            torch.tensor([most], dtype=torch.int64),
            torch.tensor([overlap], dtype=torch.float32),
        ]
        if least_score is not None:
            constants.append(torch.tensor([least_score], dtype=torch.float32))
        return g.op(
            'NonMaxSuppression',
            boxes,
            scores,
            *[g.op('Constant', value_t=each) for each in constants],
        )


def nms(
    boxes: Tensor, scores: Tensor, overlap: float, most: int, least_score: Optional[float] = None
) -> Tensor:
    """Find the boxes that no better one covers.

    Args:
        boxes (Tensor): xyxy, shape (N, 4).
        scores (Tensor): Shape (N).
        overlap (float): A box goes if its IoU with a better one is greater.
        most (int): How many may stay.
        least_score (float, optional): Only boxes with a greater score stay.

    Returns:
        Tensor: Indices of those that stay, best first, int64.
    """
    chosen = _NMS.apply(boxes[None], scores[None, None], overlap, most, least_score)
    return chosen[:, 2]


class _NonZero(Function):
    @staticmethod
    def forward(ctx, mask):
        return torch.arange(min(_SHOWN, len(mask)))[None]

    @staticmethod
    def symbolic(g, mask):
        return g.op('NonZero', mask)


def find_rows(mask: Tensor) -> Tensor:
    """Indices where a mask (N) is true, int64."""
    return _NonZero.apply(mask)[0]
