#!/usr/bin/env python
"""Measure what two networks as one cost: time, weights and memory beside each alone.

    python -m benchmarks.speed.combined --json docs/results/performance/combined-cpu.json

Keypoint R-CNN, Mask R-CNN and both as one (``CombinedRCNN``), ResNet-50 FPN, with drawn weights
on a drawn image, by the inferencer. They take turns in every round. The results file has for each
name ``seconds`` of processor time for an image in each round (one thread, so that other work on
the machine does not count), their ``median``, ``parameters`` and ``megabytes`` of the checkpoint.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from multitask_refine.apis import MultitaskInferencer
from multitask_refine.pretrained.checkpoints import combine_configs
from multitask_refine.testing.synthetic_images import draw_image
from multitask_refine.testing.synthetic_weights import draw_state_dict
from multitask_refine.utils.config import read_config
from multitask_refine.utils.results_file import write_record
from multitask_runtime.model_index import load_index

ROOT = Path(__file__).resolve().parents[2]
NAMES = ('keypoint-rcnn_r50_fpn_3x', 'mask-rcnn_r50_fpn_3x', 'keypoint+mask-rcnn_r50_fpn_3x')
HEIGHT, WIDTH, SEED = 480, 640, 0


def load_inferencer(name: str, folder: Path) -> tuple[MultitaskInferencer, dict[str, float]]:
    """Load the network of a public model with drawn weights.

    Args:
        name (str): Name of the model.
        folder (Path): Folder for its checkpoint.

    Returns:
        tuple: The inferencer, and the number of parameters and the megabytes of the checkpoint.
    """
    entry = load_index()[name]
    cfg: Config = read_config(ROOT / entry.config)
    if entry.combines:
        combine_configs(cfg)
    model = MODELS.build(cfg.model)
    weights = draw_state_dict(model, SEED)
    model.load_state_dict(weights, strict=False)  # without batch counters
    path = folder / f'{name}.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    size = dict(
        parameters=sum(each.numel() for each in model.parameters()),
        megabytes=round(path.stat().st_size / 1e6, 1),
    )
    return MultitaskInferencer(cfg, path, 'cpu', show_progress=False), size


def measure(rounds: int) -> dict[str, dict]:
    """Measure all networks in turn."""
    image = draw_image(SEED, HEIGHT, WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        loaded = {name: load_inferencer(name, Path(folder)) for name in NAMES}
    found = {name: dict(size, seconds=[]) for name, (_, size) in loaded.items()}
    for round_ in range(rounds + 1):  # the first warms up
        for name, (inferencer, _) in loaded.items():
            gc.collect()
            start = time.process_time()
            (result,) = inferencer(image)
            seconds = time.process_time() - start
            found[name]['people'] = len(result['scores'])
            if round_:
                found[name]['seconds'].append(round(seconds, 3))
    for each in found.values():
        each['median'] = statistics.median(each['seconds'])
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', required=True, help='results file')
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    write_record(args.json, dict(image=[HEIGHT, WIDTH], networks=measure(args.rounds)))
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
