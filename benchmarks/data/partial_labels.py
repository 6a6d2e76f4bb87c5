#!/usr/bin/env python
"""Train on partly labeled data, and on the part of it that has every label.

    python -m benchmarks.data.partial_labels --json docs/results/partial-labels.json

Three annotation files of one synthetic dataset: ``all`` has every label; in ``partial`` a random
half of the instances has no mask and another random half no keypoints; ``half`` has every label
of a random half of the images, so that it takes as many masks and keypoints to label as
``partial``. Backbone, neck and RPN start from the pretrained base, the heads from random
weights: with few images, such heads lack labels. The network is trained on each file for as many
iterations, with several seeds, which also choose the halves, and tested on the same fully
labeled images. When restarted, it skips finished runs and resumes the others.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from multitask_refine.engine import explained_errors, load_checkpoint_file, write_record
from multitask_refine.evaluation import TASKS
from multitask_refine.finetune import find_base
from multitask_runtime.utils.files import file_sha256
from tools.ablation import run_tool

CONFIG = 'configs/sample/multitask-rcnn_r26-w24_fpn-ms_regular_1xb4-base-500_sample-256.py'
# Other images than those of the base (seed 1000) and of the experiments.
DATASET = dict(seed=4000, size=256, val=200, workers=1)
VARIANTS = ('all', 'partial', 'half')


def remove_labels(content: dict, variant: str, seed: int) -> dict:
    """Remove labels from a fully labeled annotation file.

    Args:
        content: Of the file; it is not changed.
        variant: One of :data:`VARIANTS`.
        seed: Chooses the instances or images.

    Returns:
        Half of the masks and half of the keypoints (``partial``), half of the images (``half``),
        or everything (``all``).
    """
    generator = np.random.default_rng(seed)
    images, annotations = content['images'], content['annotations']
    if variant == 'half':
        order = generator.permutation(len(images))[: len(images) // 2]
        images = [images[i] for i in sorted(order)]
        ids = {image['id'] for image in images}
        annotations = [ann for ann in annotations if ann['image_id'] in ids]
    elif variant == 'partial':
        annotations = [dict(ann) for ann in annotations]  # the caller's are not changed
        # Two draws: about a quarter of the instances loses both.
        for fields in (('segmentation',), ('keypoints', 'num_keypoints')):
            order = generator.permutation(len(annotations))
            for i in order[: len(annotations) // 2]:
                for field in fields:
                    del annotations[i][field]
    return dict(content, images=images, annotations=annotations)


def train_and_test(variant: str, seed: int, args: argparse.Namespace) -> dict:
    """Train and test a network, unless it has been done before; return metrics in percent."""
    work_dir, sample = args.work_dir / f'{variant}_seed{seed}', args.work_dir / 'sample'
    metrics = work_dir / 'metrics.json'
    if not metrics.exists():
        file = sample / 'annotations/person_keypoints_train2017.json'
        labels = work_dir / 'train.json'
        work_dir.mkdir(parents=True, exist_ok=True)
        labels.write_text(json.dumps(remove_labels(json.loads(file.read_text()), variant, seed)))
        log, env = work_dir / 'output.txt', dict(os.environ, BASE_SAMPLE_ROOT=str(sample))
        settings = [
            f'load_from={args.work_dir / "start.pth"}',
            # The running statistics of the heads' norms are those of random weights.
            'model.norm_eval=False',
            'model.backbone.norm_eval=True',
            f'optim_wrapper.optimizer.lr={args.rate}',
            f'train_dataloader.dataset.ann_file={labels}',
            f'train_cfg.max_iters={args.iterations}',
            'train_cfg.val_begin=1000000000',
            'param_scheduler.0.end=100',
            'param_scheduler.1.begin=100',
            f'param_scheduler.1.end={args.iterations}',
            f'param_scheduler.1.T_max={args.iterations - 100}',
            'default_hooks.checkpoint.interval=200',
            'default_hooks.checkpoint.max_keep_ckpts=1',
        ]
        options = [f'--work-dir={work_dir}', f'--seed={seed}', '--resume']
        run_tool(log, env, 'train.py', CONFIG, *options, '--cfg-options', *settings)
        checkpoint = (work_dir / 'last_checkpoint').read_text()
        options = [f'--work-dir={work_dir}', f'--json={metrics}']
        run_tool(log, env, 'test.py', CONFIG, checkpoint, *options)
    content = json.loads(metrics.read_text())
    del content['run']
    return content


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', required=True, help='results file')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/partial_labels'),
        help='folder of dataset, checkpoints and logs (default: %(default)s)',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='default: 0 1 2')
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


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Draw the dataset, train and test on each annotation file, and average over the seeds."""
    args = parse_args(argv)
    options = [f'--{name}={value}' for name, value in dict(DATASET, train=args.images).items()]
    log, folder = args.work_dir / 'sample.txt', str(args.work_dir / 'sample')
    run_tool(log, dict(os.environ), 'dataset/make_sample.py', folder, *options)
    base, _ = find_base()
    weights = load_checkpoint_file(base, 'cpu')['state_dict']
    start = {name: value for name, value in weights.items() if not name.startswith('roi_head.')}
    torch.save(dict(state_dict=start), args.work_dir / 'start.pth')
    runs: list[dict] = []
    for seed in args.seeds:
        for variant in VARIANTS:
            metrics = train_and_test(variant, seed, args)
            runs.append(dict(variant=variant, seed=seed, metrics=metrics))
            print(variant, seed, {task: metrics[f'{task}_AP'] for task in TASKS}, flush=True)
    summary: dict[str, dict] = {variant: {} for variant in VARIANTS}
    for variant in VARIANTS:
        same = [run['metrics'] for run in runs if run['variant'] == variant]
        for task in TASKS:
            summary[variant][task] = round(mean(each[f'{task}_AP'] for each in same), 3)
    content = dict(
        config=Path(CONFIG).stem,
        base_sha256=file_sha256(base),
        images=args.images,
        iterations=args.iterations,
        rate=args.rate,
        seeds=args.seeds,
        mean_AP=summary,
        runs=runs,
    )
    write_record(args.json, content)
    print(f'Results file: {args.json}', json.dumps(summary, indent=1), sep='\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
