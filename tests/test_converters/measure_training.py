"""Measure how far training steps are from those of other frameworks.

    python -m tests.test_converters.measure_training --json docs/results/training-parity.json

The steps are those of ``test_training.py``, which compares them with tolerances.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from multitask_refine.engine import write_record
from tests.test_converters.test_training import (
    GOLDEN,
    SOURCES,
    compare_with_golden,
    compare_with_mmdet,
    relative_errors,
)


def measure(name: str, folder: Path) -> dict:
    """Return the largest relative differences of a source's steps.

    Args:
        name: One of ``SOURCES``, or 'mmdet-mask'.
        folder: For the images.
    """
    versions = {}
    if name == 'mmdet-mask':
        config = 'r50_fpn_mmdet-mask'
        expected, found = compare_with_mmdet(folder)
    else:
        config, path = SOURCES[name], GOLDEN / f'training-{name}.npz'
        expected, found = compare_with_golden(name, path, folder)
        with np.load(path) as file:
            versions = json.loads(str(file['about']))['versions']
    assert found.parameters == expected.parameters
    losses = abs(found.losses / expected.losses - 1)
    updates = [
        relative_errors(*pair).max() for pair in zip(found.updates, expected.updates, strict=True)
    ]
    return dict(
        source=name,
        config=f'multitask-rcnn_{config}_8xb2-90k_coco',
        versions=versions,
        num_losses=losses.shape[1],
        num_parameters=len(found.parameters),
        losses_first_step=losses[0].max(),
        losses_all_steps=losses.max(),
        gradients=relative_errors(found.gradients, expected.gradients).max(),
        weights_first_step=updates[0],
        weights_all_steps=updates[1],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args()
    sources = []
    for name in [*SOURCES, 'mmdet-mask']:
        with tempfile.TemporaryDirectory() as folder:
            sources.append(measure(name, Path(folder)))
        print(sources[-1], flush=True)
    write_record(args.json, dict(sources=sources))


if __name__ == '__main__':
    main()
