"""ONNX operators in place of mmcv's.

While the graph is traced each ``forward`` runs once on the CPU; the file gets the
standard operator that ``symbolic`` names. Which boxes are selected does not change
the graph: during tracing the first ones stand for them, so that no head is traced
without a box.

Shape letters: R RoIs, N boxes, C channels, P side of the pooled feature.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from multitask_refine.ops import RefinedConv2d, deform_conv, separable_roi_align

_TRACED_BOXES = 3


class _DeformConv(Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        return deform_conv(*args)

    @staticmethod
    def symbolic(
        g, x, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups
    ):
        return g.op(
            'DeformConv',
            x,
            weight,
            offset,
            bias,
            mask,
            kernel_shape_i=weight.type().sizes()[2:],
            strides_i=stride,
            pads_i=[*padding, *padding],
            dilations_i=dilation,
            group_i=groups,
            offset_group_i=deform_groups,
        )


class OnnxRefinedConv2d(nn.Module):
    """``RefinedConv2d`` that is exported as ONNX's DeformConv.

    Args:
        conv (RefinedConv2d): The convolution.
    """

    def __init__(self, conv: RefinedConv2d) -> None:
        super().__init__()
        self.conv = conv
        if conv.bias is None:
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C_in, H, W) to (B, C_out, H_out, W_out)."""
        conv = self.conv
        offset, mask = conv.predict_sampling(x)
        if mask is None:
            # (B, 2N, H, W) -> (B, N, H, W): version 1 has no modulation
            mask = torch.ones_like(offset[:, : offset.shape[1] // 2])
        return _DeformConv.apply(
            x,
            offset,
            mask,
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
    def forward(ctx, x, boxes, batch_ids, size, scale, ratio, aligned):
        rois = torch.cat([batch_ids[:, None].to(boxes), boxes], 1)  # (R, 5)
        return separable_roi_align(x, rois, size, scale, ratio, aligned)

    @staticmethod
    def symbolic(g, x, boxes, batch_ids, size, scale, ratio, aligned):
        return g.op(
            'RoiAlign',
            x,
            boxes,
            batch_ids,
            output_height_i=size,
            output_width_i=size,
            spatial_scale_f=scale,
            sampling_ratio_i=ratio,
            coordinate_transformation_mode_s='half_pixel' if aligned else 'output_half_pixel',
        )


def roi_align(
    x: Tensor, boxes: Tensor, size: int, scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Pool boxes from a feature map with RoIAlign.

    Args:
        x (Tensor): Feature map, shape (1, C, H, W).
        boxes (Tensor): xyxy in image pixels, shape (R, 4).
        size (int): P.
        scale (float): Cells per image pixel.
        ratio (int): Samples per bin and axis; 0 for as many as there are cells.
        aligned (bool): Whether the half-pixel shift is applied.

    Returns:
        Tensor: Shape (R, C, P, P).
    """
    batch_ids = boxes[:, 0].long() * 0
    return _RoIAlign.apply(x, boxes, batch_ids, size, scale, ratio, aligned)


class _NMS(Function):
    @staticmethod
    def forward(ctx, boxes, scores, iou_threshold, max_num, score_thr):
        first = torch.arange(min(_TRACED_BOXES, boxes.shape[1]))
        return torch.stack([0 * first, 0 * first, first], 1)  # (N, 3): image, class, box

    @staticmethod
    def symbolic(g, boxes, scores, iou_threshold, max_num, score_thr):
        constants = [torch.tensor([max_num], dtype=torch.int64)]
        constants += [
            torch.tensor([value], dtype=torch.float32)
            for value in (iou_threshold, score_thr)
            if value is not None
        ]
        inputs = [g.op('Constant', value_t=each) for each in constants]
        return g.op('NonMaxSuppression', boxes, scores, *inputs)


def nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_num: int,
    score_thr: float | None = None,
) -> Tensor:
    """Apply non-maximum suppression.

    Args:
        boxes (Tensor): xyxy, shape (N, 4).
        scores (Tensor): Shape (N).
        iou_threshold (float): Boxes with a greater IoU with a better one are removed.
        max_num (int): Greatest number of boxes to keep.
        score_thr (float, optional): Boxes must have a greater score.

    Returns:
        Tensor: Indices of the kept boxes, best first, int64.
    """
    keep = _NMS.apply(boxes[None], scores[None, None], iou_threshold, max_num, score_thr)
    return keep[:, 2]  # (N, 3) -> (N)


class _NonZero(Function):
    @staticmethod
    def forward(ctx, mask):
        return torch.arange(min(_TRACED_BOXES, len(mask)))[None]

    @staticmethod
    def symbolic(g, mask):
        return g.op('NonZero', mask)


def find_rows(mask: Tensor) -> Tensor:
    """Return the indices, int64, where a mask (N) is true."""
    return _NonZero.apply(mask)[0]
