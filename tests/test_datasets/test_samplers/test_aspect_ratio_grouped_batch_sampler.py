"""Groups of the batch sampler."""

from types import SimpleNamespace

import numpy as np
import pytest

from multitask_refine.datasets import AspectRatioGroupedBatchSampler

SIZES = [(100, 200), (100, 100), (200, 100), (100, 201), (101, 100), (100, 119)]  # height, width


class _Sampler(list):
    """Indices, and a data set that knows their sizes."""

    dataset = SimpleNamespace(
        get_data_info=lambda index: dict(zip(('height', 'width'), SIZES[index], strict=True))
    )


@pytest.mark.parametrize(
    'boundaries, expected',
    [
        # mmdet: square images, 1, with wide ones
        (None, [[0, 1], [2, 4], [3, 5]]),
        # Detectron2: with tall ones
        ([1.0], [[1, 2], [0, 3], [4], [5]]),
        # torchvision: 0.5, 0.63, 0.79, 1, 1.26, 1.59, 2; of 0.84 there is only image 5
        (list(2 ** np.linspace(-1, 1, 7)), [[1, 4], [0], [2], [3], [5]]),
    ],
)
def test_groups(boundaries, expected):
    batches = list(AspectRatioGroupedBatchSampler(_Sampler(range(6)), 2, boundaries=boundaries))
    full, rest = [b for b in batches if len(b) == 2], [b for b in batches if len(b) == 1]
    assert full + sorted(rest) == expected
