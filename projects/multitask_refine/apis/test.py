"""Evaluate a checkpoint: a table of the three tasks, and a results file."""

import argparse
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from multitask_refine.deployment.onnx_detector import OnnxDetector
from multitask_refine.evaluation import add_run
from multitask_refine.models import flip_tta_pipeline
from multitask_refine.utils.config import (
    add_common_options,
    list_evaluators,
    load_config,
    require_settings,
)
from multitask_refine.utils.errors import ConfigError, explained_errors
from multitask_refine.utils.results_file import describe_run, write_results
from multitask_runtime.onnx.session import is_onnx


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line of ``tools/test.py``."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_options(parser)
    parser.add_argument(
        'checkpoint', help='checkpoint file, or MODEL.onnx: an exported model, run by onnxruntime'
    )
    parser.add_argument('--json', help='results file (default: metrics.json in the work dir)')
    parser.add_argument(
        '--format-only',
        action='store_true',
        help='do not evaluate: write the zip files of masks and keypoints '
        "that COCO's evaluation server takes, in the work dir",
    )
    parser.add_argument('--out', help='also dump the predictions to this .pkl')
    parser.add_argument(
        '--predictions',
        metavar='FILE.json',
        help="also write the predictions in COCO's format with all that "
        'tools/analysis_tools/report.py needs',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: average over each image and its mirror '
        'image; takes twice as long',
    )
    parser.add_argument('--show-dir', help='write drawn images here, ground truth on the left')
    parser.add_argument('--show', action='store_true', help='show the drawn images in a window')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='instances with a lower score are not drawn'
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds for which an image is shown'
    )
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out: expected a .pkl file, got {args.out}')
    if args.predictions and not args.predictions.endswith('.json'):
        parser.error(f'--predictions: expected a .json file, got {args.predictions}')
    if args.tta and is_onnx(args.checkpoint):
        parser.error(
            '--tta: an ONNX file sees each image once; expected a '
            f'checkpoint, got {args.checkpoint}'
        )
    if args.launcher != 'none' and is_onnx(args.checkpoint):
        parser.error(f'--launcher: an ONNX file is evaluated by one process, got {args.launcher}')
    return args


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Turn the test options into settings of the config.

    Args:
        cfg (Config): The config; modified.
        args (argparse.Namespace): From :func:`parse_args`.

    Raises:
        ConfigError: If an option needs a single metric and the config has several.
    """
    metric, *others = list_evaluators(cfg)
    if (args.format_only or args.predictions) and any(
        each.get('type') == metric.get('type') for each in others
    ):
        raise ConfigError(
            f'{args.config}: test_evaluator: expected one {metric.type} for '
            f'--format-only and --predictions, found {1 + len(others)} '
            'metrics. Test the datasets one by one: set test_dataloader and '
            'test_evaluator to one of them.'
        )
    if args.format_only:
        metric.format_only = True
    if metric.get('format_only'):
        # '_' separates the parts of the file names.
        name = Path(args.config).stem.replace('_', '-')
        metric.setdefault('outfile_prefix', f'{cfg.work_dir}/{name}')
    if args.predictions:
        metric.predictions_file = args.predictions
    if args.tta:
        cfg.model = dict(cfg.get('tta_model') or dict(type='MultitaskTTAModel'), module=cfg.model)
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = cfg.get('tta_pipeline') or flip_tta_pipeline(dataset.pipeline)
    if is_onnx(args.checkpoint):
        cfg.model = dict(type=OnnxDetector.__name__, file=args.checkpoint)
        cfg.load_from = None
    if args.show or args.show_dir:
        hooks = cfg.default_hooks or {}
        hook = dict(
            hooks.get('visualization') or dict(type='DetVisualizationHook'),
            draw=True,
            show=args.show,
            wait_time=args.wait_time,
            score_thr=args.score_thr,
        )
        if args.show_dir:
            hook['test_out_dir'] = str(Path(args.show_dir).absolute())
        cfg.default_hooks = dict(hooks, visualization=hook)
        cfg.visualizer = cfg.get('visualizer') or dict(type='MultitaskVisualizer')


def evaluate(cfg: Config, checkpoint: str, out: str | None = None) -> tuple[dict, int]:
    """Load all weights and evaluate the model.

    Args:
        cfg (Config): The config.
        checkpoint (str): Its weights; an ONNX file is the model itself.
        out (str, optional): File to dump the predictions to.

    Returns:
        tuple[dict, int]: The metrics and the number of images.

    Raises:
        ConfigError: If the weights are those of another model.
    """
    runner = Runner.from_cfg(cfg)
    try:
        if not is_onnx(checkpoint):
            runner.load_checkpoint(checkpoint, strict=True)
    except RuntimeError as error:
        # The list of weights is long: the conclusion comes last.
        raise ConfigError(
            f'{error}\n{checkpoint}: these are not the weights of this '
            f"config's model ({Path(cfg.filename).name}). Test it with the "
            'config that it was trained with.'
        ) from None
    if out:
        runner.test_evaluator.metrics.append(DumpResults(out))
    return runner.test(), len(runner.test_dataloader.dataset)


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run ``tools/test.py``.

    Args:
        argv (list[str], optional): Arguments. Defaults to those of the process.

    Returns:
        int: The exit status.
    """
    args = parse_args(argv)
    start = time.perf_counter()
    cfg = load_config(args)
    require_settings(cfg, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
    apply_options(cfg, args)
    metrics, num_images = evaluate(cfg, args.checkpoint, args.out)
    if is_main_process():
        run = describe_run(cfg, args.checkpoint, num_images, time.perf_counter() - start)
        # --format-only gives no metrics.
        name = 'metrics.json' if metrics else 'submission.json'
        path = args.json or str(Path(cfg.work_dir) / name)
        # From <dataset>/<prefix>/<task>_<name> to <dataset>/<task>_<name>.
        parts = {key: key.split('/') for key in metrics}
        metrics = {'/'.join([*parts[k][:-2], parts[k][-1]]): v for k, v in metrics.items()}
        write_results(path, metrics, run)
        print(f'Results file: {path}')
        if args.predictions:
            add_run(args.predictions, run)
            print(f'Predictions: {args.predictions}')
    return 0
