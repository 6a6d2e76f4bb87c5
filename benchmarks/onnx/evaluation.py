#!/usr/bin/env python
r"""Evaluate networks as checkpoint, as ONNX file and as quantized ONNX file.

    python -m benchmarks.onnx.evaluation --network CONFIG CHECKPOINT \
        --forms pytorch float32 --json docs/results/onnx/evaluation.json

Each form is tested by tools/test.py. Of files also the size is measured and, on the images of
--images, the latency in ONNX Runtime with its default number of threads, including mask pasting:
the files are timed in turns, and the results file has the median over images.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import multitask_refine  # noqa: F401 (registers the networks)
from multitask_refine.deployment import export
from multitask_refine.deployment.quantize import KINDS, quantize
from multitask_refine.engine import explained_errors, write_record
from multitask_refine.evaluation import TASKS
from multitask_refine.utils.config import read_config
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.resize import Resizer
from multitask_runtime.onnx.onnx_model import OnnxModel, ResizedImage
from multitask_runtime.utils.files import file_sha256

ROOT = Path(__file__).resolve().parents[2]
FORMS = ('pytorch', 'float32', *KINDS)


def time_files(files: dict[str, str], images: str, count: int) -> dict[str, float]:
    """Measure the median latency in seconds per image; the files are timed in turns.

    Args:
        files: ONNX files by form.
        images: Folder of images.
        count: Number of images.
    """
    models = {form: OnnxModel(path, backend='onnxruntime') for form, path in files.items()}
    seconds: dict[str, list[float]] = {form: [] for form in files}
    for source in collect(images).sources[:count]:
        for form, model in models.items():
            image = ImageFile(model.metadata['image_backend'])(source.value)
            pixels = Resizer(model.metadata['resize'])(image)
            height, width = image.shape[:2]
            scale_factor = pixels.shape[1] / width, pixels.shape[0] / height
            resized = ResizedImage(pixels.transpose(2, 0, 1), scale_factor, (height, width))
            start = time.perf_counter()
            # Boxes, keypoints and masks come back in pixels of the original image.
            model([resized])
            seconds[form].append(time.perf_counter() - start)
    return {form: round(median(values), 5) for form, values in seconds.items()}


def measure(config: str, checkpoint: str, args: argparse.Namespace) -> dict:
    """Export and quantize a network, and evaluate every form.

    Returns:
        Config, SHA-256 of the checkpoint and ``forms``: of each form AP of the tasks in percent
        and the number of ``images``; of files also ``bytes`` and, with --images, ``seconds``.
    """
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported, metrics = folder / 'float32.onnx', folder / 'metrics.json'
        export(read_config(config), checkpoint, exported)
        # Quantization starts from the float32 file, which may not be asked for itself.
        files = {form: str(folder / f'{form}.onnx') for form in args.forms if form != 'pytorch'}
        for kind in set(args.forms) & set(KINDS):
            quantize(exported, files[kind], kind, args.images if kind == 'int8-static' else None)
        for form in args.forms:
            command = [sys.executable, 'tools/test.py', config, files.get(form, checkpoint)]
            options = [f'--work-dir={folder}', f'--json={metrics}']
            if form in files:
                options.append('--backend=onnxruntime')
            subprocess.run([*command, *options], check=True, cwd=ROOT)
            content = json.loads(metrics.read_text())
            rows[form] = {name: content[name] for name in (f'{task}_AP' for task in TASKS)}
            rows[form]['images'] = content['run']['num_images']
        for form, path in files.items():
            rows[form]['bytes'] = Path(path).stat().st_size
        if args.images:
            for form, seconds in time_files(files, args.images, args.count).items():
                rows[form]['seconds'] = seconds
    return dict(config=Path(config).name, checkpoint_sha256=file_sha256(checkpoint), forms=rows)


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Evaluate all networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--network',
        nargs=2,
        action='append',
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='may be repeated',
    )
    parser.add_argument('--forms', nargs='+', choices=FORMS, default=list(FORMS))
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help='images with people, not those of the test: they calibrate int8-static, and the '
        'first ones are timed',
    )
    parser.add_argument(
        '--count', type=int, default=50, help='images to time (default: %(default)s)'
    )
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    networks = [measure(*network, args) for network in args.network]
    write_record(args.json, dict(networks=networks))
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
