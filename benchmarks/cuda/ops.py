#!/usr/bin/env python
"""Compare every operator with its float64 result on the CPU.

    python -m benchmarks.cuda.ops --json docs/results/performance/cuda-ops.json

Values and gradients, in float32 and in half precision. An operator passes if
its largest error, as a share of the largest value, stays within what the type
allows.
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

# Share of the largest value. Half precision also rounds the positions.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


class Case(NamedTuple):
    """One operator on drawn input.

    Attributes:
        on_device: Takes the tensors; the way that the device uses.
        exact: The same on the CPU in float64.
        inputs: The tensors, float64.
        types: In which types it is checked.
        learned: How many of the inputs, from the first, get a gradient.
    """

    on_device: Callable[..., Tensor]
    exact: Callable[..., Tensor]
    inputs: Sequence[Tensor]
    types: Sequence[torch.dtype] = tuple(TOLERANCES)
    learned: int = 1


def draw_cases() -> dict[str, Case]:
    """All operators that differ between the devices."""
    torch.manual_seed(0)
    return {**_deformable(), **_pooling(), **_maps(), **_boxes()}


def _deformable() -> dict[str, Case]:
    settings = (1, 1), (1, 1), (1, 1), 1, 1
    x, weight, bias = _draw(3, 16, 20, 24), _draw(8, 16, 3, 3), _draw(8)
    offset = _draw_moves(3, 18, 20, 24)
    factor = torch.rand(3, 9, 20, 24, dtype=torch.double) * 2

    def version_1(x, offset, weight, bias):
        return ops.deform_conv(x, offset, None, weight, bias, *settings)

    def version_2(x, offset, factor, weight, bias):
        return ops.deform_conv(x, offset, factor, weight, bias, *settings)

    return {
        'deformable convolution': Case(version_1, version_1, (x, offset, weight, bias), learned=4),
        'deformable convolution, version 2': Case(
            version_2, version_2, (x, offset, factor, weight, bias), learned=5
        ),
    }


def _pooling() -> dict[str, Case]:
    x, rois = _draw(2, 16, 40, 48), _draw_rois(60)
    cases = {}
    for ratio in (0, 2):
        pool = ops.SeparableRoIAlign(7, 1 / 4, ratio)
        cases[f'RoIAlign, sampling ratio {ratio}'] = Case(pool, pool, (x, rois), (torch.float32,))
    moved = 0.5 * _draw(60, 2, 7, 7)

    def by_mmcv(x, moved, rois):
        return ops.deform_roi_pool_by_mmcv(x, rois, moved, 7, 1 / 4, 2)

    def by_grid_sample(x, moved, rois):
        return ops.deform_roi_pool_by_grid_sample(x, rois, moved, 7, 1 / 4, 2)

    # The gradient of the moves is not compared: beyond the border it differs
    # by definition.
    cases['deformable RoI pooling'] = Case(
        by_mmcv, by_grid_sample, (x, moved, rois), (torch.float32,)
    )
    return cases


def _maps() -> dict[str, Case]:
    maps = torch.rand(5, 17, 56, 56, dtype=torch.double)
    return {
        'refinement of the heatmaps': Case(
            ops.resample_heatmaps,
            ops.resample_heatmaps,
            (maps, _draw_moves(5, 34, 56, 56)),
            (torch.float32,),
            learned=2,
        )
    }


def _boxes() -> dict[str, Case]:
    boxes = _draw_rois(300)[:, 1:]
    scores = torch.rand(300, dtype=torch.double)
    logits, rois = _draw(8, 17, 56, 56), _draw_rois(8)[:, 1:]
    pixels = (rois[:, 2:] - rois[:, :2]).clamp(min=1).ceil().long()

    def suppressed(boxes, scores):  # mmcv's CPU operator takes float32 only
        return nms(boxes.float(), scores.float(), 0.5)[1].double()

    def keypoints(logits):
        return codecs.RoISoftmaxCodec(56).decode(logits, rois.to(logits))[0]

    def peaks(logits):
        return peaks_by_resize(logits, pixels)[1]

    def peaks_on_device(logits):
        return roi_softmax.get_heatmap_maximum(logits, pixels.to(logits.device), 2**22)[1]

    single = (torch.float32,)
    return {
        'suppression of boxes': Case(suppressed, suppressed, (boxes, scores), single, learned=0),
        'keypoints of the softmax': Case(keypoints, keypoints, (logits,), single, learned=0),
        'resized peaks of the softmax': Case(peaks_on_device, peaks, (logits,), single, learned=0),
    }


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double)


def _draw_moves(*shape: int) -> Tensor:
    """Offsets that stay away from whole pixels: there the gradient jumps, and
    rounding would decide on which side."""
    whole = torch.randint(-3, 3, shape).double()
    return whole + 0.25 + 0.5 * torch.rand(*shape, dtype=torch.double)


def _draw_rois(number: int) -> Tensor:
    corners = 150 * torch.rand(number, 2, dtype=torch.double) - 10
    extent = 4 + 60 * torch.rand(number, 2, dtype=torch.double)
    image = torch.randint(0, 2, (number, 1)).double()
    return torch.cat([image, corners, corners + extent], 1)


def largest_errors(case: Case, dtype: torch.dtype, device: str) -> dict[str, float]:
    """Errors of value and gradients as shares of the largest exact value."""
    rounded = [part.to(dtype) for part in case.inputs]
    exact = _run(case.exact, [p.double() for p in rounded], case.learned)
    found = _run(case.on_device, [p.to(device) for p in rounded], case.learned)
    names = ['value', *(f'gradient {i}' for i in range(case.learned))]
    return {
        name: float((a.cpu().double() - b).abs().max() / b.abs().max().clamp(min=1e-12))
        for name, a, b in zip(names, found, exact, strict=True)
    }


def _run(operator: Callable, inputs: list[Tensor], learned: int) -> list[Tensor]:
    leaves = [part.detach().clone().requires_grad_(i < learned) for i, part in enumerate(inputs)]
    value = operator(*leaves)
    if not learned:
        return [value.detach()]
    # Weights that do not cancel out.
    weights = torch.linspace(-1, 1, value.numel(), dtype=torch.double)
    loss = (value * weights.to(value).view_as(value)).sum()
    return [value.detach(), *torch.autograd.grad(loss, leaves[:learned])]


def check(device: str) -> list[dict]:
    """A row for each operator and type; ``passed`` says what came out."""
    rows = []
    for name, case in draw_cases().items():
        for dtype in case.types:
            row = dict(operator=name, type=str(dtype).split('.')[1], tolerance=TOLERANCES[dtype])
            try:
                row['errors'] = largest_errors(case, dtype, device)
                row['passed'] = max(row['errors'].values()) <= TOLERANCES[dtype]
            except RuntimeError as error:
                row.update(passed=False, failure=str(error).splitlines()[0])
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    rows = check(args.device)
    write_record(args.json, dict(operators=rows))
    failed = [f'{row["operator"]} ({row["type"]})' for row in rows if not row['passed']]
    print(
        f'{len(rows) - len(failed)} of {len(rows)} passed'
        + (f'; failed: {", ".join(failed)}' if failed else '')
    )
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
