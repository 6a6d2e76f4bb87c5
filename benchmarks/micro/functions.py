#!/usr/bin/env python
"""Micro-benchmarks of single functions beside alternatives with the same result.

    python -m benchmarks.micro.functions --json docs/results/performance/micro-cpu.json

For optimizations that are too small to show in a whole network; the others are in
benchmarks/speed/compare.py. The variants are timed in turns. The results file has a list of
``functions``: ``about``, ``reference``, and ``variants`` by name, each with the result
``expected`` before the run, the ``seconds`` of each round, their ``median``, the ``ratio`` to the
reference, and ``difference``, the largest from the reference's values, in the unit that ``about``
names. If a library is not installed, there are only ``expected`` and ``missing``.
"""

import argparse
import importlib
import io
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from PIL import Image
from torch import Tensor
from torch.utils.benchmark import Timer

from benchmarks.speed.rounds import compare_pairs, run_rounds
from multitask_refine.codecs.roi_softmax import get_heatmap_maximum
from multitask_refine.engine import write_record
from multitask_refine.testing.synthetic_images import draw_image

PEOPLE, KEYPOINTS, HEATMAP_SIZE, MASK_SIZE = 20, 17, 56, 28
HEIGHT, WIDTH = 480, 640
MAX_PIXELS = 1 << 23
SEED = 7


class Variant(NamedTuple):
    """An implementation.

    Attributes:
        call: Returns the result, a tensor or an array.
        expected: The expected speed.
        module: The module that must be installed.
    """

    call: Callable[[], Any]
    expected: str = ''
    module: str = 'torch'


class Comparison(NamedTuple):
    """Implementations of the same function; the first one is the reference."""

    about: str
    variants: dict[str, Variant]


def draw_boxes() -> Tensor:
    """Draw boxes inside the image: xyxy in pixels, (20, 4)."""
    random = np.random.RandomState(SEED)
    size = random.uniform([40, 80], [160, 320], (PEOPLE, 2))
    # Sizes first: a corner is at most its box's size away from the border.
    corner = random.uniform(0, [WIDTH, HEIGHT] - size)
    return torch.from_numpy(np.hstack([corner, corner + size])).float()


def draw_normal(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Draw tensors from the normal distribution, the same in each call."""
    generator = torch.Generator().manual_seed(SEED)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def compare_mask_pasting() -> Comparison:
    """Compare pasting masks into the whole image and into their boxes."""
    (logits,) = draw_normal((PEOPLE, 1, MASK_SIZE, MASK_SIZE))
    probabilities, boxes = logits.sigmoid(), draw_boxes()

    def paste_into_boxes() -> Tensor:
        result = torch.zeros(PEOPLE, HEIGHT, WIDTH, dtype=torch.bool)
        for index in range(PEOPLE):
            one = slice(index, index + 1)
            # (1, h, w) and the slices of the image that it covers.
            part, window = _do_paste_mask(probabilities[one], boxes[one], HEIGHT, WIDTH, True)
            result[(one, *window)] = part >= 0.5
        return result

    return Comparison(
        f'Pasting {PEOPLE} masks of {MASK_SIZE} x {MASK_SIZE} cells into {WIDTH} x {HEIGHT} '
        'pixels (difference: fraction of a pixel)',
        {
            'over the whole image': Variant(
                lambda: _do_paste_mask(probabilities, boxes, HEIGHT, WIDTH, False)[0] >= 0.5
            ),
            "each within its box's pixels, as in inference on the CPU": Variant(
                paste_into_boxes, '5 times as fast: a box has a tenth of the pixels'
            ),
        },
    )


def peaks_by_resize(logits: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Find the maxima of resized heatmaps by PyTorch's bicubic interpolation.

    Args:
        logits: (R, K, S, S).
        pixels: Width and height of each RoI in pixels, int64 (R, 2).

    Returns:
        x and y of the highest pixel, (R, K, 2), and its value, (R, K), as
        ``get_heatmap_maximum`` returns them.
    """
    locations, peaks = [], []
    for maps, (width, height) in zip(logits.contiguous(), pixels.tolist(), strict=True):
        resized = F.interpolate(
            maps[None], size=(height, width), mode='bicubic', align_corners=False
        )
        peak, index = resized[0].flatten(1).max(1)  # (K, height * width) to (K)
        locations.append(torch.stack([index % width, index // width], -1))
        peaks.append(peak)
    return torch.stack(locations).to(logits), torch.stack(peaks)


def compare_heatmap_maxima() -> Comparison:
    """Compare variants that find the maxima of heatmaps that are resized to their RoIs."""
    (logits,) = draw_normal((PEOPLE, KEYPOINTS, HEATMAP_SIZE, HEATMAP_SIZE))
    boxes = draw_boxes()
    pixels = (boxes[:, 2:] - boxes[:, :2]).ceil().long()
    return Comparison(
        f'Maxima of the {KEYPOINTS} heatmaps of {HEATMAP_SIZE} x {HEATMAP_SIZE} cells of {PEOPLE} '
        'people at the resolution of the image (difference: value)',
        {
            "PyTorch's bicubic interpolation, as in Detectron2": Variant(
                lambda: peaks_by_resize(logits, pixels)[1]
            ),
            'matrix products, one person at a time, as on the CPU': Variant(
                lambda: get_heatmap_maximum(logits, pixels, 1)[1], '1.7 times as fast'
            ),
            'matrix products, people of similar size in a batch, as on CUDA': Variant(
                lambda: get_heatmap_maximum(logits, pixels, MAX_PIXELS)[1],
                '0.8 times as fast on the CPU: all are padded to the largest',
            ),
        },
    )


def linear_by_mkldnn(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (M, K) by the transpose of ``weight``, (N, K) or prepacked, by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, 'none', [], '')


def prepare_strassen(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Prepare products (M, K) by (K, N) by Strassen's method in Winograd's form.

    See Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 23.1. M, K and N
    are even.

    Args:
        weight: (K, N).
        rows: M.

    Returns:
        Function of the left matrix.
    """
    pack = torch.ops.mkldnn._reorder_linear_weight
    (b11, b12), (b21, b22) = (half.chunk(2, 1) for half in weight.chunk(2))
    # The sums of the right factors depend on the weights only.
    t1 = b12 - b11
    t2 = b22 - t1
    rights = b11, b21, b22, t2 - b21, t1, t2, b22 - b12
    packed = [pack(right.T.contiguous(), rows // 2) for right in rights]

    def multiply(matrix: Tensor) -> Tensor:
        (a11, a12), (a21, a22) = (half.chunk(2, 1) for half in matrix.chunk(2))
        s1 = a21 + a22
        s2 = s1 - a11
        lefts = a11, a12, a12 - s2, a22, s1, s2, a11 - a21
        p1, p2, p3, p4, p5, p6, p7 = (
            linear_by_mkldnn(left.contiguous(), right)
            for left, right in zip(lefts, packed, strict=True)
        )
        u2 = p1 + p6
        u3 = u2 + p7
        upper = torch.cat([p1 + p2, u2 + p5 + p3], 1)
        return torch.cat([upper, torch.cat([u3 - p4, u3 + p5], 1)])

    return multiply


def compare_products() -> list[Comparison]:
    """Compare libraries for the matrix products of the CPU operators."""
    # 1568 = 8 RoIs x 14 x 14 positions, 4608 = 3 x 3 samples x 512 channels.
    samples, weight, grad = draw_normal((1568, 4608), (4608, 512), (1568, 512))
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.T, len(samples))
    strassen = prepare_strassen(weight, len(samples))
    transform, strip = draw_normal((36, 36), (36, 1 << 16))
    return [
        Comparison(
            'Samples of 8 RoIs times the weights of a deformable convolution, (1568, 4608) by '
            '(4608, 512) (difference: value)',
            {
                '`@`, as on the CPU with AVX2': Variant(lambda: samples @ weight),
                'oneDNN': Variant(
                    lambda: linear_by_mkldnn(samples, weight.T),
                    'slower with AVX2, faster with AVX-512',
                ),
                'oneDNN with prepacked weights, as with AVX-512': Variant(
                    lambda: linear_by_mkldnn(samples, packed),
                    '0.9 times as fast with AVX2, 1.1 times with AVX-512',
                ),
                "Strassen's method, seven products for eight, by oneDNN": Variant(
                    lambda: strassen(samples), '1.1 times as fast, less what the sums take'
                ),
            },
        ),
        Comparison(
            "Gradient of those weights, the samples' transpose by (1568, 512) (difference: value)",
            {
                '`@`, as on the CPU': Variant(lambda: samples.T @ grad),
                'oneDNN': Variant(
                    lambda: linear_by_mkldnn(samples.T, grad.T),
                    '0.7 times as fast: it packs its operands anew',
                ),
            },
        ),
        Comparison(
            "Winograd's transform of a strip, (36, 36) by (36, 65536) (difference: value)",
            {
                '`@`': Variant(lambda: transform @ strip),
                'oneDNN, as on the CPU': Variant(
                    lambda: linear_by_mkldnn(transform, strip.T), '1.3 times as fast'
                ),
            },
        ),
    ]


def compare_buffers(side: int, expected: str) -> Comparison:
    """Compare batched products into new memory and into a buffer."""
    left, right = draw_normal((36, side, 64), (36, 64, 256))
    buffer = torch.empty(36, side, 256)  # 36: elements of a Winograd tile of 6 x 6
    return Comparison(
        f'Batched product of {buffer.nbytes / 2**20:.0f} MiB (difference: value)',
        {
            'into new memory': Variant(lambda: left @ right),
            'into a preallocated buffer': Variant(
                lambda: torch.bmm(left, right, out=buffer), expected
            ),
        },
    )


def compare_jpeg_decoders() -> Comparison:
    """Compare libraries that decode JPEG files."""
    # Smooth like a photo: noise has far more bits than any camera's file.
    drawn = cv2.GaussianBlur(draw_image(SEED, HEIGHT, WIDTH), (0, 0), 2)
    content = cv2.imencode('.jpg', drawn)[1].tobytes()
    return Comparison(
        f'Decoding a JPEG file of {WIDTH} x {HEIGHT} pixels (difference: of 255)',
        {
            'OpenCV, as in the pipelines': Variant(
                lambda: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            ),
            'Pillow': Variant(
                lambda: np.ascontiguousarray(
                    np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))[..., ::-1]
                ),
                '0.8 times as fast: the same decoder, and a copy',
            ),
            'simplejpeg': Variant(
                lambda: importlib.import_module('simplejpeg').decode_jpeg(content, 'BGR'),
                'no faster: all three use libjpeg-turbo',
                'simplejpeg',
            ),
        },
    )


def measure(comparison: Comparison, rounds: int, repeats: int) -> dict:
    """Time the variants in turns, and compare their results with the reference's."""
    reference = next(iter(comparison.variants))
    found = {
        name: dict(expected=variant.expected) for name, variant in comparison.variants.items()
    }
    timers, values = {}, {}
    for name, variant in comparison.variants.items():
        try:
            importlib.import_module(variant.module)
        except ImportError:
            found[name]['missing'] = variant.module
            continue
        values[name] = np.asarray(variant.call()).astype(float)  # also the warm-up
        timers[name] = Timer(
            'call()', globals=dict(call=variant.call), num_threads=torch.get_num_threads()
        )
    calls = {
        name: lambda timer=timer: timer.timeit(repeats).mean for name, timer in timers.items()
    }
    for name, numbers in compare_pairs(run_rounds(calls, rounds), reference).items():
        difference = np.abs(values[name] - values[reference]).max()
        found[name].update(numbers, difference=float(difference))
    return dict(about=comparison.about, reference=reference, variants=found)


def main(argv: list[str] | None = None) -> int:
    """Measure all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--rounds', type=int, default=9, help='number of rounds (default: %(default)s)'
    )
    parser.add_argument(
        '--repeats', type=int, default=10, help='calls per round (default: %(default)s)'
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    comparisons = [
        compare_mask_pasting(),
        compare_heatmap_maxima(),
        *compare_products(),
        compare_jpeg_decoders(),
        compare_buffers(256, '1.0 times as fast: the C library gives the same memory again'),
        compare_buffers(1088, '1.5 times as fast: new memory is mapped page by page'),
    ]
    found = []
    with torch.no_grad():  # as in inference
        for comparison in comparisons:
            found.append(measure(comparison, args.rounds, args.repeats))
            ratios = {
                name: numbers.get('ratio') for name, numbers in found[-1]['variants'].items()
            }
            print(comparison.about, ratios, file=sys.stderr, flush=True)
    write_record(args.json, dict(rounds=args.rounds, repeats=args.repeats, functions=found))
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
