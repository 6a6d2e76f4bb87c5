#!/usr/bin/env python
"""Check operators on a device against their float64 results on the CPU.

    python -m benchmarks.cuda.ops --json docs/results/performance/cuda-ops.json

Values and gradients are compared, in float32 and in half precision. An operator passes if its
largest error, relative to the largest value, is within the tolerance of the data type.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from mmcv.ops import nms
from torch import Tensor

from benchmarks.micro.functions import peaks_by_resize
from multitask_refine import codecs, ops
from multitask_refine.codecs import roi_softmax
from multitask_refine.engine import write_record

# Relative to the largest value. In half precision the sampling locations are rounded, too.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
FLOAT32 = (torch.float32,)


class Case(NamedTuple):
    """An operator and its inputs.

    Attributes:
        on_device: The implementation that the device uses.
        exact: The implementation on the CPU in float64.
        inputs: Float64 tensors.
        dtypes: Data types to check.
        num_grads: Number of inputs, from the first, whose gradients are compared.
    """

    on_device: Callable[..., Tensor]
    exact: Callable[..., Tensor]
    inputs: Sequence[Tensor]
    dtypes: Sequence[torch.dtype] = tuple(TOLERANCES)
    num_grads: int = 1


def draw_offsets(*shape: int) -> Tensor:
    """Draw offsets at least a quarter of a pixel away from whole pixels.

    The gradient jumps at whole pixels, where rounding would decide for a side.
    """
    return torch.randint(-3, 3, shape).double() + 0.25 + 0.5 * torch.rand(*shape).double()


def draw_rois(number: int) -> Tensor:
    """Draw RoIs in a batch of two images: (number, 5), index and xyxy in pixels."""
    corners = 150 * torch.rand(number, 2, dtype=torch.double) - 10
    # Some RoIs reach over the border of the image, 160 x 192 pixels at stride 4.
    sizes = 4 + 60 * torch.rand(number, 2, dtype=torch.double)
    indices = torch.randint(0, 2, (number, 1)).double()
    return torch.cat([indices, corners, corners + sizes], 1)


def draw_sampling_cases() -> dict[str, Case]:
    """Draw inputs of the operators that sample feature maps at learned locations."""
    torch.manual_seed(0)
    settings = (1, 1), (1, 1), (1, 1), 1, 1  # stride, padding, dilation, groups, offset groups
    shapes = (3, 16, 20, 24), (8, 16, 3, 3), (8,), (2, 16, 40, 48)
    x, weight, bias, features = (torch.randn(*shape, dtype=torch.double) for shape in shapes)
    # Offsets (B, 2 x 9, H, W) and modulation masks (B, 9, H, W) of a 3 x 3 kernel.
    offset, mask = draw_offsets(3, 18, 20, 24), 2 * torch.rand(3, 9, 20, 24, dtype=torch.double)
    rois, roi_offset = draw_rois(60), 0.5 * torch.randn(60, 2, 7, 7, dtype=torch.double)

    def deform_conv(
        x: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, *mask: Tensor
    ) -> Tensor:
        return ops.deform_conv(x, offset, mask[0] if mask else None, weight, bias, *settings)

    inputs = x, weight, bias, offset
    cases = {
        'deformable convolution': Case(deform_conv, deform_conv, inputs, num_grads=4),
        'modulated deformable convolution (v2)': Case(
            deform_conv, deform_conv, (*inputs, mask), num_grads=5
        ),
        # The gradient of the offsets is not compared: outside the map it differs by definition.
        'deformable RoI pooling': Case(
            lambda x, offset, rois: ops.deform_roi_pool_by_mmcv(x, rois, offset, 7, 1 / 4, 2),
            lambda x, offset, rois: ops.deform_roi_pool_by_grid_sample(
                x, rois, offset, 7, 1 / 4, 2
            ),
            (features, roi_offset, rois),
            FLOAT32,
        ),
        'resampling of heatmaps': Case(
            ops.resample_heatmaps,
            ops.resample_heatmaps,
            (torch.rand(5, 17, 56, 56, dtype=torch.double), draw_offsets(5, 34, 56, 56)),
            FLOAT32,
            num_grads=2,
        ),
    }
    for ratio in (0, 2):
        align = ops.SeparableRoIAlign(7, 1 / 4, ratio)
        cases[f'RoIAlign, sampling ratio {ratio}'] = Case(align, align, (features, rois), FLOAT32)
    return cases


def draw_decoding_cases() -> dict[str, Case]:
    """Draw inputs of the operators that decode boxes and keypoints, without gradients."""
    torch.manual_seed(0)
    boxes, scores = draw_rois(300)[:, 1:], torch.rand(300, dtype=torch.double)
    logits, rois = torch.randn(8, 17, 56, 56, dtype=torch.double), draw_rois(8)[:, 1:]
    pixels = (rois[:, 2:] - rois[:, :2]).clamp(min=1).ceil().long()

    def keep_boxes(boxes: Tensor, scores: Tensor) -> Tensor:
        # mmcv's CPU operator takes float32 only.
        return nms(boxes.float(), scores.float(), 0.5)[1].double()

    def decode(logits: Tensor) -> Tensor:
        return codecs.RoISoftmaxCodec(56).decode(logits, rois.to(logits))[0]

    def find_peaks(logits: Tensor) -> Tensor:
        return roi_softmax.get_heatmap_maximum(logits, pixels.to(logits.device), 2**22)[1]

    return {
        'NMS': Case(keep_boxes, keep_boxes, (boxes, scores), FLOAT32, num_grads=0),
        'softmax keypoints': Case(decode, decode, (logits,), FLOAT32, num_grads=0),
        'maxima of resized heatmaps': Case(
            find_peaks,
            lambda logits: peaks_by_resize(logits, pixels)[1],
            (logits,),
            FLOAT32,
            num_grads=0,
        ),
    }


def largest_errors(case: Case, dtype: torch.dtype, device: str) -> dict[str, float]:
    """Compute the errors of value and gradients, relative to the largest exact value."""
    # Both get the values as rounded to the data type: the rounding of inputs is no error.
    results = []
    for operator, target in (
        (case.exact, ('cpu', torch.double)),
        (case.on_device, (device, dtype)),
    ):
        leaves = [
            each.to(dtype).to(*target).detach().requires_grad_(index < case.num_grads)
            for index, each in enumerate(case.inputs)
        ]
        value = operator(*leaves)
        results.append([value.detach()])
        if case.num_grads:
            # Weights that do not cancel out.
            weights = torch.linspace(-1, 1, value.numel(), dtype=torch.double)
            loss = (value * weights.to(value).view_as(value)).sum()
            results[-1] += torch.autograd.grad(loss, leaves[: case.num_grads])
    names = ['value', *(f'gradient {index}' for index in range(case.num_grads))]
    return {
        name: float(
            (found.cpu().double() - exact).abs().max() / exact.abs().max().clamp(min=1e-12)
        )
        for name, exact, found in zip(names, *results, strict=True)
    }


def main(argv: list[str] | None = None) -> int:
    """Check all operators; return 1 if one does not pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda', help='default: %(default)s')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    rows, failed = [], []
    for name, case in (draw_sampling_cases() | draw_decoding_cases()).items():
        for dtype in case.dtypes:
            row = dict(operator=name, type=str(dtype).split('.')[1], tolerance=TOLERANCES[dtype])
            try:
                row['errors'] = largest_errors(case, dtype, args.device)
                row['passed'] = max(row['errors'].values()) <= TOLERANCES[dtype]
            except RuntimeError as error:  # such as a data type that the device does not support
                row.update(passed=False, failure=str(error).splitlines()[0])
            if not row['passed']:
                failed.append(f'{name} ({row["type"]})')
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    write_record(args.json, dict(operators=rows))
    print(f'Results file: {args.json}; {len(rows) - len(failed)} of {len(rows)} checks passed')
    print(*(f'Failed: {name}' for name in failed), sep='\n')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
