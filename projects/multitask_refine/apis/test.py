"""Evaluate a checkpoint: a table of the three tasks, and a results file."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from multitask_refine.deployment.onnx_detector import OnnxDetector
from multitask_refine.evaluation import add_run
from multitask_refine.models import flip_tta_pipeline
from multitask_refine.utils.config import list_evaluators, load_config, require_settings
from multitask_refine.utils.errors import ConfigError
from multitask_refine.utils.results_file import describe_run, write_results
from multitask_runtime.onnx.session import is_exported

from .vis_backends import require_vis_backends


def evaluate_model(
    config: str,
    checkpoint: str,
    *,
    results_file: str | None = None,
    out: str | None = None,
    **options: Any,
) -> None:
    """Evaluate a checkpoint, and write the metrics with their provenance.

    Args:
        config (str): The config that the model was trained with.
        checkpoint (str): Its weights, or an exported file.
        results_file (str, optional): File of the metrics. Defaults to ``metrics.json`` in the
            work dir.
        out (str, optional): File to dump the predictions to, ``.pkl``.
        options: As of :func:`configure_test`.

    Raises:
        FileNotFoundError: If a file does not exist.
        ConfigError: If the weights are those of another model, or an option does not fit.
    """
    start = time.perf_counter()
    cfg = configure_test(config, checkpoint, **options)
    metrics, num_images, runtime = run_test(cfg, checkpoint, out)
    if not is_main_process():
        return
    run = describe_run(cfg, checkpoint, num_images, time.perf_counter() - start)
    run.update(runtime)
    # --format-only gives no metrics.
    name = 'metrics.json' if metrics else 'submission.json'
    path = results_file or str(Path(cfg.work_dir) / name)
    # From <dataset>/<prefix>/<task>_<name> to <dataset>/<task>_<name>.
    parts = {key: key.split('/') for key in metrics}
    metrics = {'/'.join([*parts[k][:-2], parts[k][-1]]): v for k, v in metrics.items()}
    write_results(path, metrics, run)
    print(f'Results file: {path}')
    predictions = options.get('predictions')
    if predictions:
        add_run(predictions, run)
        print(f'Predictions: {predictions}')


def configure_test(
    config: str,
    checkpoint: str,
    *,
    format_only: bool = False,
    predictions: str | None = None,
    tta: bool = False,
    show_dir: str | None = None,
    show: bool = False,
    score_thr: float = 0.3,
    wait_time: float = 2,
    runtime: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Config:
    """Read a config and turn the test options into its settings.

    Args:
        config (str): The config file.
        checkpoint (str): The weights, or an exported file.
        format_only (bool): Do not evaluate: write the zip files that COCO's evaluation server
            takes. Defaults to False.
        predictions (str, optional): File to write the predictions to, in COCO's format.
        tta (bool): Average over each image and its mirror image. Defaults to False.
        show_dir (str, optional): Folder of drawn images, ground truth on the left.
        show (bool): Show the drawn images in a window. Defaults to False.
        score_thr (float): Instances with a lower score are not drawn. Defaults to 0.3.
        wait_time (float): Seconds for which an image is shown. Defaults to 2.
        runtime (Mapping): Of an exported file, further arguments of ``OnnxDetector``.
        options: As of ``load_config``.

    Returns:
        Config: Ready for ``Runner.from_cfg``.

    Raises:
        FileNotFoundError: If the config does not exist.
        ConfigError: If an option needs a single metric and the config has several, or the
            config names an experiment tracker that is not installed.
    """
    cfg = load_config(config, **options)
    require_settings(cfg, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
    require_vis_backends(cfg)
    metric, *others = list_evaluators(cfg)
    if (format_only or predictions) and any(
        each.get('type') == metric.get('type') for each in others
    ):
        raise ConfigError(
            f'{config}: test_evaluator: expected one {metric.type} for '
            f'--format-only and --predictions, found {1 + len(others)} '
            'metrics. Test the datasets one by one: set test_dataloader and '
            'test_evaluator to one of them.'
        )
    if format_only:
        metric.format_only = True
    if metric.get('format_only'):
        # '_' separates the parts of the file names.
        name = Path(config).stem.replace('_', '-')
        metric.setdefault('outfile_prefix', f'{cfg.work_dir}/{name}')
    if predictions:
        metric.predictions_file = predictions
    if tta:
        cfg.model = dict(cfg.get('tta_model') or dict(type='MultitaskTTAModel'), module=cfg.model)
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = cfg.get('tta_pipeline') or flip_tta_pipeline(dataset.pipeline)
    if is_exported(checkpoint):
        cfg.model = dict(type=OnnxDetector.__name__, file=checkpoint, **runtime)
        cfg.load_from = None
    if show or show_dir:
        hooks = cfg.default_hooks or {}
        hook = dict(
            hooks.get('visualization') or dict(type='DetVisualizationHook'),
            draw=True,
            show=show,
            wait_time=wait_time,
            score_thr=score_thr,
        )
        if show_dir:
            hook['test_out_dir'] = str(Path(show_dir).absolute())
        cfg.default_hooks = dict(hooks, visualization=hook)
        cfg.visualizer = cfg.get('visualizer') or dict(type='MultitaskVisualizer')
    return cfg


def run_test(cfg: Config, checkpoint: str, out: str | None = None) -> tuple[dict, int, dict]:
    """Load all weights and evaluate the model.

    Args:
        cfg (Config): The config.
        checkpoint (str): Its weights; an exported file is the model itself.
        out (str, optional): File to dump the predictions to.

    Returns:
        tuple[dict, int, dict]: The metrics, the number of images and, of an exported file,
        ``runtime``, what ran it.

    Raises:
        ConfigError: If the weights are those of another model.
    """
    runner = Runner.from_cfg(cfg)
    try:
        if not is_exported(checkpoint):
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
    runtime = dict(runtime=runner.model.runtime) if is_exported(checkpoint) else {}
    return runner.test(), len(runner.test_dataloader.dataset), runtime
