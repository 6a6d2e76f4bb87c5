#!/usr/bin/env python
r"""Compare what runs a network: AP, latency, memory and size of one and the same file.

    python -m benchmarks.onnx.runtimes --images FOLDER --json docs/results/onnx/runtimes.json \
        --network CONFIG CHECKPOINT --network CONFIG synthetic

Each network is exported once. PyTorch runs the checkpoint, onnxruntime and OpenVINO the file, or
what tools/deployment/quantize_onnx.py makes of it. tools/test.py measures AP. Latency is that of
benchmarks/speed/compare.py: each form has a process of its own and is timed once in each round,
on the same drawn images of 4:3, masks pasted; the ratio is the median of the rounds' ratios to
the reference. That is the first form, PyTorch, or, for a config of configs/converted with
synthetic weights, the framework where these weights come from (Detectron2, torchvision), if it is
installed in --baseline-python. Synthetic weights have no AP. Forms that the processor lacks
instructions for are left out and named. The results file::

    threads: of each form
    load_average: processes that ran or waited in the minute before the benchmark
    networks: list of
      config, checkpoint_sha256 (None: synthetic), reference
      forms: {FORM: {bbox_AP, segm_AP, keypoints_AP, images (of trained networks),
                     bytes (of files), runtime,
                     sides: {SIDE: see the tasks of benchmarks/speed/compare.py}}}
      left_out: {FORM: reason}
    run: command, commit, date, machine and versions
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import multitask_refine  # noqa: F401 (registers the networks)
from benchmarks.speed.client import ROOT, WorkerProcess
from benchmarks.speed.compare import DETECTIONS, log, measure_task
from benchmarks.speed.inputs import image_names
from benchmarks.speed.parts import MULTITASK, PARTS, Part
from multitask_refine.deployment import export
from multitask_refine.deployment.quantize import quantize
from multitask_refine.engine import explained_errors, write_record
from multitask_refine.evaluation import TASKS
from multitask_refine.utils.config import read_config
from multitask_runtime.onnx.session import count_bytes, load_session
from multitask_runtime.utils.errors import OnnxError
from multitask_runtime.utils.files import file_sha256

EXPORTED = 'benchmarks.speed.baselines.exported_net:ExportedNet'
SYNTHETIC = 'synthetic'
PYTORCH = 'PyTorch float32'


class Form(NamedTuple):
    """How a file is run.

    Attributes:
        file: Name of the file; its stem is the kind of quantization.
        backend: As in ``load_session``.
        precision: The same.
    """

    file: str
    backend: str
    precision: str = 'float32'


FORMS = {
    'onnxruntime float32': Form('float32.onnx', 'onnxruntime'),
    'onnxruntime int8': Form('int8-static.onnx', 'onnxruntime'),
    'OpenVINO float32': Form('float32.onnx', 'openvino'),
    'OpenVINO bfloat16': Form('float32.onnx', 'openvino', 'bfloat16'),
    'OpenVINO int8': Form('int8-static.xml', 'openvino'),
    "OpenVINO int8, onnxruntime's file": Form('int8-static.onnx', 'openvino'),
}


def find_part(config: Path) -> Part | None:
    """Return the part of the speed benchmark that compares a config with another framework."""
    for part in PARTS.values():
        if part.converter:
            own = ROOT / 'configs' / part.baselines['multitask_refine'].options['config']
            if own == config.resolve():
                return part
    return None


def start_worker(
    name: str, stack: ExitStack, baseline: str, options: dict, *environment: str
) -> tuple[WorkerProcess, dict]:
    """Start a worker process and build its baseline.

    Returns:
        The process and what the baseline says of itself, see ``Worker.build``.
    """
    worker = stack.enter_context(WorkerProcess(name, *environment))
    return worker, worker.ask('build', baseline=baseline, options=options)


def draw_checkpoint(
    config: Path, folder: Path, args: argparse.Namespace, stack: ExitStack
) -> tuple[str, dict[str, WorkerProcess]]:
    """Draw synthetic weights, in the layout of another framework where there is one.

    Returns:
        Checkpoint of the config, and the worker of the framework by its name, if it is installed.

    Raises:
        RuntimeError: If the framework's weights cannot be converted.
    """
    drawn, checkpoint = str(folder / 'drawn.pth'), str(folder / 'checkpoint.pth')
    options = dict(detections=DETECTIONS, score_threshold=0.0)
    part = find_part(config)
    if part:
        spec = part.baselines[part.reference]
        search_path = os.pathsep.join(filter(None, [str(ROOT / 'projects'), args.detectron2]))
        environment = (args.baseline_python, search_path) if spec.is_external else ()
        worker, answer = start_worker(
            part.reference, stack, spec.baseline, {**spec.options, **options}, *environment
        )
        if 'not_installed' not in answer:
            worker.ask('save_weights', path=drawn)
            with redirect_stdout(sys.stderr):  # converters print what they rename
                status = import_module(part.converter).main([str(config), drawn, checkpoint])
            if status:
                raise RuntimeError(f'{part.converter} cannot convert the weights, see above')
            return checkpoint, {part.reference: worker}
        log(f'  {part.reference} is left out: {answer["not_installed"]} is not installed')
    with ExitStack() as short:
        worker, _ = start_worker('PyTorch', short, MULTITASK, dict(options, config=str(config)))
        worker.ask('save_weights', path=checkpoint)
    return checkpoint, {}


def write_files(
    exported: Path, forms: list[str], images: str | None
) -> tuple[dict[str, Path], dict[str, str]]:
    """Quantize the exported file as the forms need it.

    Returns:
        Files by form, and why forms are left out.
    """
    files, left_out = {}, {}
    for name in forms:
        form = FORMS[name]
        path = exported.with_name(form.file)
        try:
            if not path.exists():
                quantize(exported, path, path.stem, images)
            load_session(path, backend=form.backend, precision=form.precision)
        except OnnxError as error:
            left_out[name] = str(error).replace(f'{exported.parent}/', '')
            log(f'  {name} is left out: {error}')
        else:
            files[name] = path
    return files, left_out


def evaluate(config: Path, weights: str, folder: Path, options: list[str]) -> dict:
    """Return AP of the tasks in percent, and the number of images, from tools/test.py."""
    metrics = folder / 'metrics.json'
    command = [sys.executable, 'tools/test.py', str(config), weights, f'--work-dir={folder}']
    subprocess.run([*command, f'--json={metrics}', *options], check=True, cwd=ROOT)
    content = json.loads(metrics.read_text())
    found = {name: content[name] for name in (f'{task}_AP' for task in TASKS) if name in content}
    return dict(found, images=content['run']['num_images'])


def measure(config: str, checkpoint: str, args: argparse.Namespace) -> dict:
    """Measure all forms of a network: its entry in the results file."""
    path, is_trained = Path(config).resolve(), checkpoint != SYNTHETIC
    cfg = read_config(path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers: dict[str, WorkerProcess] = {}
        test_cfg = cfg.model.test_cfg.rcnn
        if not is_trained:
            test_cfg.update(max_per_img=DETECTIONS, score_thr=0.0)
            checkpoint, workers = draw_checkpoint(path, folder, args, stack)
        exported = folder / 'float32.onnx'
        export(cfg, checkpoint, exported)
        names = [name for name in args.forms if name != PYTORCH]
        files, left_out = write_files(exported, names, args.images)
        forms: dict[str, dict] = {name: dict(sides={}) for name in workers}
        if PYTORCH in args.forms:
            options = dict(
                config=str(path),
                weights=checkpoint,
                prepare=True,
                detections=test_cfg.max_per_img,
                score_threshold=test_cfg.score_thr,
            )
            workers[PYTORCH], answer = start_worker(PYTORCH, stack, MULTITASK, options)
            runtime = f'torch {answer["versions"]["torch"]}, float32'
            forms[PYTORCH] = dict(runtime=runtime, sides={})
        for name, file in files.items():
            form = FORMS[name]
            options = dict(
                file=str(file),
                backend=form.backend,
                precision=form.precision,
                threads=args.threads,
            )
            workers[name], answer = start_worker(name, stack, EXPORTED, options)
            forms[name] = dict(bytes=count_bytes(file), runtime=answer['runtime'], sides={})
        reference = next(iter(workers))
        for side in args.sides:
            found = measure_task(
                workers,
                reference,
                'predict',
                image_names(side, 1),
                args.rounds,
                None if is_trained else DETECTIONS,
            )
            for name, numbers in found.items():
                forms[name]['sides'][str(side)] = numbers
                log(f'  {name}, {side} pixels: {numbers["median"]:.3f} s')
        if is_trained and not args.no_ap:
            if PYTORCH in forms:
                forms[PYTORCH].update(evaluate(path, checkpoint, folder, []))
            for name, file in files.items():
                form = FORMS[name]
                runtime = [f'--backend={form.backend}', f'--precision={form.precision}']
                forms[name].update(evaluate(path, str(file), folder, runtime))
        digest = file_sha256(checkpoint) if is_trained else None
    return dict(
        config=path.name,
        checkpoint_sha256=digest,
        reference=reference,
        forms=forms,
        left_out=left_out,
    )


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Measure all networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--network',
        nargs=2,
        action='append',
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help=f'may be repeated; {SYNTHETIC} in the place of CHECKPOINT draws weights',
    )
    every_form = [PYTORCH, *FORMS]
    parser.add_argument(
        '--forms',
        nargs='+',
        choices=every_form,
        default=every_form,
        metavar='FORM',
        help=f'default: {", ".join(every_form)}',
    )
    parser.add_argument(
        '--images', metavar='FOLDER', help='images with people, not those of the test, for int8'
    )
    parser.add_argument(
        '--sides',
        type=int,
        nargs='+',
        default=[480, 800],
        help='shorter sides of the images in pixels (default: 480 800)',
    )
    parser.add_argument(
        '--rounds', type=int, default=5, help='number of rounds (default: %(default)s)'
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=len(os.sched_getaffinity(0)),
        help='of each form (default: %(default)s, the number of cores)',
    )
    parser.add_argument('--no-ap', action='store_true', help='measure only latency and memory')
    parser.add_argument(
        '--baseline-python',
        default=sys.executable,
        help='interpreter with torchvision and the dependencies of Detectron2 (default: this one)',
    )
    parser.add_argument(
        '--detectron2',
        type=lambda path: str(Path(path).resolve()),
        metavar='CHECKOUT',
        help='checkout of Detectron2, if --baseline-python does not have it',
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    os.environ['OMP_NUM_THREADS'] = str(args.threads)  # of PyTorch in the worker processes
    load_average = round(os.getloadavg()[0], 1)
    networks = [measure(*network, args) for network in args.network]
    content = dict(threads=args.threads, load_average=load_average, networks=networks)
    write_record(args.json, content)
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
