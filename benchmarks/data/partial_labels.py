#!/usr/bin/env python
"""Train on partly labeled data, and on the part that has every label.

    python -m benchmarks.data.partial_labels --json docs/results/partial-labels.json

Three annotation files of one drawn sample: ``all`` has every label; in
``partial`` a random half of the instances lost its mask and another random half
its keypoints; ``half`` has every label, but of a random half of the images, so
that it costs as many masks and keypoints to label as ``partial``. Backbone, neck
and RPN start from the pretrained base, the box, mask and keypoint heads from
random weights: with few images, it is labels that such heads lack. The network is
trained on each file, as many iterations, with several seeds, which also choose
the halves, and tested on the same fully labeled images. Stopped and started
again, it goes on where it was.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from mmengine.config import Config

from multitask_refine.engine import load_checkpoint_file, write_record
from multitask_refine.evaluation.predictions import file_sha256
from tools.ablation import run_tool

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'configs/sample/multitask-rcnn_r26-w24_fpn-ms_regular_1xb4-base-1000_sample-256.py'
# Other images than those of the base (1000) and of the experiments.
SEED, SIZE, VAL_IMAGES = 4000, 256, 200
VARIANTS = ('all', 'partial', 'half')
TASKS = ('bbox', 'segm', 'keypoints')


def remove_labels(content: dict, variant: str, seed: int) -> dict:
    """Remove labels from a fully labeled annotation file.

    Args:
        content (dict): Of a COCO file; is not changed.
        variant (str): One of :data:`VARIANTS`.
        seed (int): Chooses the instances or images.

    Returns:
        dict: With half of the masks and half of the keypoints ('partial'),
        with half of the images ('half'), or as it was ('all').
    """
    generator = np.random.default_rng(seed)
    images, annotations = content['images'], content['annotations']
    if variant == 'half':
        order = generator.permutation(len(images))[: len(images) // 2]
        images = [images[i] for i in sorted(order)]
        ids = {image['id'] for image in images}
        annotations = [ann for ann in annotations if ann['image_id'] in ids]
    elif variant == 'partial':
        annotations = [dict(ann) for ann in annotations]
        for fields in (('segmentation',), ('keypoints', 'num_keypoints')):
            order = generator.permutation(len(annotations))
            for i in order[: len(annotations) // 2]:
                for field in fields:
                    del annotations[i][field]
    return dict(content, images=images, annotations=annotations)


def write_start(path: Path) -> str:
    """Write the weights of the base without those of its RoI heads.

    Returns:
        str: SHA-256 of the base.
    """
    base = ROOT / Config.fromfile(ROOT / 'configs/_base_/base_checkpoint.py').load_from
    weights = load_checkpoint_file(str(base), 'cpu')['state_dict']
    torch.save(
        dict(
            state_dict={
                name: value for name, value in weights.items() if not name.startswith('roi_head.')
            }
        ),
        path,
    )
    return file_sha256(str(base))


def train_and_test(variant: str, seed: int, args: argparse.Namespace) -> dict:
    """Train one network; return its metrics in percent."""
    work_dir = args.work_dir / f'{variant}_seed{seed}'
    result = work_dir / 'metrics.json'
    if not result.exists():
        sample = args.work_dir / 'sample'
        file = sample / 'annotations/person_keypoints_train2017.json'
        labels = work_dir / 'train.json'
        work_dir.mkdir(parents=True, exist_ok=True)
        labels.write_text(json.dumps(remove_labels(json.loads(file.read_text()), variant, seed)))
        log, env = work_dir / 'output.txt', dict(os.environ, BASE_SAMPLE_ROOT=str(sample))
        options = [
            f'load_from={args.work_dir / "start.pth"}',
            # The heads' statistics are those of random weights.
            'model.norm_eval=False',
            'model.backbone.norm_eval=True',
            f'optim_wrapper.optimizer.lr={args.rate}',
            f'train_dataloader.dataset.ann_file={labels}',
            f'train_cfg.max_iters={args.iterations}',
            'train_cfg.val_interval=1000000',
            f'param_scheduler.1.end={args.iterations}',
            f'param_scheduler.1.T_max={args.iterations - 100}',
            'default_hooks.checkpoint.interval=200',
            'default_hooks.checkpoint.max_keep_ckpts=1',
        ]
        run_tool(
            log,
            env,
            'train.py',
            CONFIG,
            '--work-dir',
            str(work_dir),
            '--seed',
            str(seed),
            '--resume',
            '--cfg-options',
            *options,
        )
        checkpoint = (work_dir / 'last_checkpoint').read_text()
        run_tool(
            log,
            env,
            'test.py',
            CONFIG,
            checkpoint,
            '--work-dir',
            str(work_dir),
            '--json',
            str(result),
        )
    metrics = json.loads(result.read_text())
    return {name: value for name, value in metrics.items() if name != 'run'}


def summarise(runs: list[dict]) -> dict[str, dict[str, float]]:
    """Average each task's AP over the seeds, by variant, in percent."""
    return {
        variant: {
            task: round(
                mean(run['metrics'][f'{task}_AP'] for run in runs if run['variant'] == variant), 3
            )
            for task in TASKS
        }
        for variant in VARIANTS
    }


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', required=True, help='results file')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/partial_labels'),
        help='folder of the sample, checkpoints and logs',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--images', type=int, default=40, help='training images (default: %(default)s)'
    )
    parser.add_argument(
        '--iterations', type=int, default=1000, help='of 4 images each (default: %(default)s)'
    )
    parser.add_argument(
        '--rate', type=float, default=5e-4, help='learning rate (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    args.work_dir = args.work_dir.resolve()
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    run_tool(
        args.work_dir / 'sample.txt',
        dict(os.environ),
        'dataset/make_sample.py',
        str(args.work_dir / 'sample'),
        '--seed',
        str(SEED),
        '--size',
        str(SIZE),
        '--train',
        str(args.images),
        '--val',
        str(VAL_IMAGES),
        '--workers',
        '1',
    )
    base = write_start(args.work_dir / 'start.pth')
    runs = []
    for seed in args.seeds:
        for variant in VARIANTS:
            runs.append(
                dict(variant=variant, seed=seed, metrics=train_and_test(variant, seed, args))
            )
            print(
                variant,
                seed,
                {task: runs[-1]['metrics'][f'{task}_AP'] for task in TASKS},
                flush=True,
            )
    summary = summarise(runs)
    write_record(
        args.json,
        dict(
            config=Path(CONFIG).stem,
            base_sha256=base,
            images=args.images,
            iterations=args.iterations,
            rate=args.rate,
            seeds=args.seeds,
            mean_AP=summary,
            runs=runs,
        ),
    )
    print(json.dumps(summary, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
