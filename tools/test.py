#!/usr/bin/env python
"""Evaluate a checkpoint: a table of the three tasks, and a results file."""
import argparse
import sys
import time
from pathlib import Path
from typing import List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config  # noqa: E402
from mmengine.dist import is_main_process  # noqa: E402
from mmengine.evaluator import DumpResults  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from projects.multitask_refine.engine import (  # noqa: E402
    add_common_options, describe_run, load_config, write_results)


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_options(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--json',
        help='results file (default: metrics.json in the work dir)')
    parser.add_argument('--out', help='also dump the predictions to this .pkl')
    parser.add_argument(
        '--show-dir',
        help='write pictures here, ground truth on the left')
    parser.add_argument(
        '--show', action='store_true', help='show the pictures in a window')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='people with a lower score are not drawn')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds a picture shows')
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out: expected a .pkl file, got {args.out}')
    return args


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Turn the drawing options into settings of the config."""
    if not (args.show or args.show_dir):
        return
    hook = cfg.default_hooks.visualization
    hook.update(
        draw=True,
        show=args.show,
        wait_time=args.wait_time,
        score_thr=args.score_thr)
    if args.show_dir:
        hook.test_out_dir = str(Path(args.show_dir).absolute())


def run(cfg: Config, checkpoint: str, out: Optional[str]) -> dict:
    """Load the weights, all of them, and evaluate."""
    runner = Runner.from_cfg(cfg)
    try:
        runner.load_checkpoint(checkpoint, strict=True)
    except RuntimeError as error:
        raise SystemExit(
            f'{checkpoint}: these are not the weights of this config\'s '
            f'network ({Path(cfg.filename).name}). Test it with the config '
            f'that it was trained with.\n{error}') from None
    if out:
        runner.test_evaluator.metrics.append(DumpResults(out))
    return runner.test(), len(runner.test_dataloader.dataset)


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    cfg = load_config(args)
    apply_options(cfg, args)
    start = time.perf_counter()
    metrics, num_images = run(cfg, args.checkpoint, args.out)
    if is_main_process():
        path = args.json or str(Path(cfg.work_dir) / 'metrics.json')
        flat = {name.split('/')[-1]: value for name, value in metrics.items()}
        write_results(
            path, flat,
            describe_run(cfg, args.checkpoint, num_images,
                         time.perf_counter() - start))
        print(f'Results file: {path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
