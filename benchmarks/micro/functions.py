#!/usr/bin/env python
"""Time single functions against alternatives with the same result.

    python -m benchmarks.micro.functions --json docs/results/performance/pieces-cpu.json

For ways that are too small to be seen in a whole network; those that are seen
are in benchmarks/speed/compare.py. The ways take turns in every round. The results
file has a list of ``pieces``: ``about``, ``reference``, and ``ways`` by name,
each with what was ``expected`` before this run, the rounds' ``seconds``,
their ``median``, ``ratio`` to the reference's, and ``difference``, the
largest from the reference's values, in the unit that ``about`` names; a way
whose library is not installed has only ``expected`` and ``missing``.
"""

import argparse
import importlib
import io
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from PIL import Image
from torch import Tensor

from benchmarks.speed.rounds import compare_pairs, run_rounds
from multitask_refine.codecs.roi_softmax import get_heatmap_maximum
from multitask_refine.engine import write_record
from multitask_refine.testing.synthetic_images import draw_image

PEOPLE, KEYPOINTS, CELLS, MASK = 20, 17, 56, 28
HEIGHT, WIDTH = 480, 640
MAX_PIXELS = 1 << 23
SEED = 7


class Variant(NamedTuple):
    """A way to compute the result.

    Attributes:
        call: Returns the values, as a tensor or an array.
        expected: What it was expected to bring.
        module: What must be installed.
    """

    call: Callable[[], Any]
    expected: str = ''
    module: str = 'torch'


class Comparison(NamedTuple):
    """Alternatives with the same result; the first is the reference."""

    about: str
    ways: dict[str, Variant]


def draw_boxes() -> Tensor:
    """xyxy in image pixels, (20, 4), inside the image."""
    random = np.random.RandomState(SEED)
    size = random.uniform([40, 80], [160, 320], (PEOPLE, 2))
    corner = random.uniform(0, [WIDTH, HEIGHT] - size)
    return torch.from_numpy(np.hstack([corner, corner + size])).float()


def masks() -> Comparison:
    generator = torch.Generator().manual_seed(SEED)
    shares = torch.rand(PEOPLE, 1, MASK, MASK, generator=generator)
    boxes = draw_boxes()

    def whole() -> Tensor:
        return _do_paste_mask(shares, boxes, HEIGHT, WIDTH, False)[0] >= 0.5

    def cropped() -> Tensor:
        result = torch.zeros(PEOPLE, HEIGHT, WIDTH, dtype=torch.bool)
        for index in range(PEOPLE):
            part, place = _do_paste_mask(
                shares[index : index + 1], boxes[index : index + 1], HEIGHT, WIDTH, True
            )
            result[(slice(index, index + 1), *place)] = part >= 0.5
        return result

    return Comparison(
        f'{PEOPLE} masks of {MASK} x {MASK} cells to {WIDTH} x {HEIGHT} '
        'pixels (difference: share of a pixel)',
        {
            'all over the image': Variant(whole),
            "each in its box's pixels, as in inference on the CPU": Variant(
                cropped, '5 times as fast: a box has a tenth of the pixels'
            ),
        },
    )


def keypoints() -> Comparison:
    generator = torch.Generator().manual_seed(SEED)
    logits = torch.randn(PEOPLE, KEYPOINTS, CELLS, CELLS, generator=generator)
    boxes = draw_boxes()
    pixels = (boxes[:, 2:] - boxes[:, :2]).ceil().long()
    return Comparison(
        f"Highest pixels of {PEOPLE} people's {KEYPOINTS} maps of {CELLS} x "
        f'{CELLS} logits (difference: height)',
        {
            "torch's bicubic interpolation, as in Detectron2": Variant(
                lambda: peaks_by_resize(logits, pixels)[1]
            ),
            'by products, person after person, as on the CPU': Variant(
                lambda: get_heatmap_maximum(logits, pixels, 1)[1], '1.7 times as fast'
            ),
            'by products, people of like size together, as on CUDA': Variant(
                lambda: get_heatmap_maximum(logits, pixels, MAX_PIXELS)[1],
                '0.8 times as fast on the CPU: all are filled up to the largest',
            ),
        },
    )


def peaks_by_resize(logits: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """What ``get_heatmap_maximum`` finds, by torch's own interpolation.

    Args:
        logits (Tensor): Shape (R, K, S, S).
        pixels (Tensor): Width and height of each RoI, int64 (R, 2).

    Returns:
        tuple: Index of the highest pixel as (x, y), shape (R, K, 2), and its
        height, shape (R, K).
    """
    index = torch.empty_like(logits[..., 0, 0], dtype=torch.long)
    peaks = torch.empty_like(logits[..., 0, 0])
    logits = logits.contiguous()
    for i, (width, height) in enumerate(pixels.tolist()):
        resized = F.interpolate(
            logits[i : i + 1], size=(height, width), mode='bicubic', align_corners=False
        )
        peaks[i], index[i] = resized[0].flatten(1).max(1)
    width = pixels[:, :1]
    return torch.stack([index % width, index // width], -1).to(peaks), peaks


def buffers(side: int, expected: str) -> Comparison:
    generator = torch.Generator().manual_seed(SEED)
    one, other = (
        torch.randn(36, *shape, generator=generator) for shape in ((side, 64), (64, 256))
    )
    buffer = torch.empty(36, side, 256)
    return Comparison(
        f'A product of {buffer.numel() * 4 / 2**20:.0f} MiB (difference: value)',
        {
            'in new memory': Variant(lambda: one @ other),
            'in a buffer that is there': Variant(
                lambda: torch.bmm(one, other, out=buffer), expected
            ),
        },
    )


def products() -> Comparison:
    generator = torch.Generator().manual_seed(SEED)
    one, other = (
        torch.randn(*shape, generator=generator) for shape in ((1568, 4608), (4608, 512))
    )
    prepared = lay_out(other, len(one))
    factors = [lay_out(factor, len(one) // 2) for factor in prepare_quarters(other)]
    return Comparison(
        'Samples of 8 RoIs times the weights of a deformable convolution, '
        '(1568, 4608) by (4608, 512) (difference: value)',
        {
            '`@`, as on the CPU with AVX2': Variant(lambda: one @ other),
            'oneDNN': Variant(
                lambda: multiply_by_onednn(one, other.T), 'slower with AVX2, faster with AVX-512'
            ),
            'oneDNN, the weights laid out once, as with AVX-512': Variant(
                lambda: prepared(one), '0.9 times as fast with AVX2, 1.1 times with AVX-512'
            ),
            "Strassen's products, seven for eight, by oneDNN": Variant(
                lambda: multiply_quarters(one, factors),
                '1.1 times as fast, less what the sums take',
            ),
        },
    )


def multiply_by_onednn(one: Tensor, turned: Tensor) -> Tensor:
    """Matrices (a, b) and (c, b) to (a, c)."""
    return torch.ops.mkldnn._linear_pointwise(one, turned, None, 'none', [], '')


def lay_out(other: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Products of matrices (rows, b) with one (b, c), which oneDNN lays out
    for itself once."""
    packed = torch.ops.mkldnn._reorder_linear_weight(other.T, rows)
    return lambda one: multiply_by_onednn(one, packed)


def transforms() -> Comparison:
    generator = torch.Generator().manual_seed(SEED)
    matrix, rows = (torch.randn(36, width, generator=generator) for width in (36, 1 << 16))
    return Comparison(
        "Winograd's transform of a strip, (36, 36) by (36, 65536) (difference: value)",
        {
            '`@`': Variant(lambda: matrix @ rows),
            'oneDNN, as on the CPU': Variant(
                lambda: multiply_by_onednn(matrix, rows.T), '1.3 times as fast'
            ),
        },
    )


def quarter(matrix: Tensor) -> list[Tensor]:
    """Upper left, upper right, lower left, lower right."""
    return [part for half in matrix.chunk(2) for part in half.chunk(2, 1)]


def prepare_quarters(other: Tensor) -> list[Tensor]:
    """The second factors of Strassen's products in Winograd's form (Higham,
    "Accuracy and Stability of Numerical Algorithms", 2002, section 23.1)."""
    first, right, below, last = quarter(other)
    one = right - first
    two = last - one
    return [
        first.contiguous(),
        below.contiguous(),
        last.contiguous(),
        two - below,
        one,
        two,
        last - right,
    ]


def multiply_quarters(matrix: Tensor, factors: list[Callable[[Tensor], Tensor]]) -> Tensor:
    """``matrix`` (a, b) by the matrix (b, c) of :func:`prepare_quarters`,
    each of whose factors is given as what multiplies by it; a, b and c are
    even."""
    first, right, below, last = quarter(matrix)
    one = below + last
    two = one - first
    lefts = (
        first.contiguous(),
        right.contiguous(),
        right - two,
        last.contiguous(),
        one,
        two,
        first - below,
    )
    p1, p2, p3, p4, p5, p6, p7 = (
        factor(left) for factor, left in zip(factors, lefts, strict=True)
    )
    u2 = p1 + p6
    u3 = u2 + p7
    return torch.cat([torch.cat([p1 + p2, u2 + p5 + p3], 1), torch.cat([u3 - p4, u3 + p5], 1)])


def gradients() -> Comparison:
    generator = torch.Generator().manual_seed(SEED)
    samples, grad = (torch.randn(1568, width, generator=generator) for width in (4608, 512))
    return Comparison(
        "The gradient of those weights, the samples' transpose by (1568, 512) (difference: value)",
        {
            '`@`, as on the CPU': Variant(lambda: samples.T @ grad),
            'oneDNN': Variant(
                lambda: multiply_by_onednn(samples.T, grad.T),
                '0.7 times as fast: it lays out its factors anew',
            ),
        },
    )


def photos() -> Comparison:
    # Smooth like a photo: noise has far more bits than any camera's file.
    drawn = cv2.GaussianBlur(draw_image(SEED, HEIGHT, WIDTH), (0, 0), 2)
    content = cv2.imencode('.jpg', drawn)[1].tobytes()

    def pillow() -> np.ndarray:
        image = Image.open(io.BytesIO(content)).convert('RGB')
        return np.ascontiguousarray(np.asarray(image)[..., ::-1])

    def simplejpeg() -> np.ndarray:
        library = importlib.import_module('simplejpeg')
        return library.decode_jpeg(content, 'BGR')

    return Comparison(
        f'A JPEG file of {WIDTH} x {HEIGHT} pixels (difference: of 255)',
        {
            'OpenCV, as in the pipelines': Variant(
                lambda: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            ),
            'Pillow': Variant(pillow, '0.8 times as fast: the same decoder, and a copy'),
            'simplejpeg': Variant(
                simplejpeg, 'no faster: all three use libjpeg-turbo', 'simplejpeg'
            ),
        },
    )


def all_comparisons() -> list[Comparison]:
    return [
        masks(),
        keypoints(),
        products(),
        gradients(),
        transforms(),
        photos(),
        buffers(256, '1.0 times as fast: the C library gives the same memory again'),
        buffers(1088, '1.5 times as fast: new memory is mapped page by page'),
    ]


def measure(comparison: Comparison, rounds: int, repeats: int) -> dict:
    """Run a comparison and return its entry of the results file."""
    reference = next(iter(comparison.ways))
    found = {name: dict(expected=variant.expected) for name, variant in comparison.ways.items()}
    calls, values = {}, {}
    for name, variant in comparison.ways.items():
        try:
            importlib.import_module(variant.module)
        except ImportError:
            found[name]['missing'] = variant.module
            continue
        values[name] = np.asarray(variant.call()).astype(float)
        calls[name] = _timer(variant.call, repeats)
    seconds = run_rounds(calls, rounds)
    for name, numbers in compare_pairs(seconds, reference).items():
        difference = np.abs(values[name] - values[reference]).max()
        found[name].update(numbers, difference=float(difference))
    return dict(about=comparison.about, reference=reference, ways=found)


def _timer(call: Callable[[], Any], repeats: int) -> Callable[[], float]:
    """Seconds of one call, the mean of some."""

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) / repeats

    return timed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--repeats', type=int, default=10, help='calls of a round')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    found = []
    with torch.no_grad():
        for comparison in all_comparisons():
            found.append(measure(comparison, args.rounds, args.repeats))
            print(
                comparison.about,
                {name: numbers.get('ratio') for name, numbers in found[-1]['ways'].items()},
                file=sys.stderr,
                flush=True,
            )
    write_record(args.json, dict(rounds=args.rounds, repeats=args.repeats, pieces=found))
    print(f'{args.json} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
