#!/usr/bin/env python
"""Evaluate networks as checkpoint, as ONNX file, and in smaller numbers.

    python -m benchmarks.onnx.evaluation --network CONFIG CHECKPOINT \
        --forms pytorch float32 --json docs/results/onnx/evaluation.json

Each form goes through tools/test.py. Files have their sizes, too, and the
seconds that onnxruntime takes for an image of --images with its own number
of threads, with masks brought into the image: the files take turns on each
image, and the median is written.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import multitask_refine  # noqa: F401
from multitask_refine.deployment import export
from multitask_refine.deployment.quantize import KINDS, quantize
from multitask_refine.engine import explained_errors, write_record
from multitask_refine.evaluation.predictions import file_sha256
from multitask_refine.utils.config import read_config
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.resize import Resizer
from multitask_runtime.onnx.onnx_model import OnnxModel

ROOT = Path(__file__).resolve().parents[2]
FORMS = ('pytorch', 'float32', *KINDS)
METRICS = ('bbox_AP', 'segm_AP', 'keypoints_AP')


def write_forms(
    config: str, checkpoint: str, forms: list[str], images: str | None, folder: Path
) -> dict[str, str]:
    """Export a network and quantize the file.

    Returns:
        dict[str, str]: The weights' file of each form.
    """
    exported = folder / 'float32.onnx'
    export(read_config(config), checkpoint, exported)
    files = dict(pytorch=checkpoint, float32=str(exported))
    for kind in set(forms) & set(KINDS):
        files[kind] = str(folder / f'{kind}.onnx')
        quantize(exported, files[kind], kind, images if kind == 'int8-static' else None)
    return {form: files[form] for form in forms}


def evaluate(config: str, weights: str, folder: Path) -> dict:
    """Run tools/test.py.

    Returns:
        dict: AP of each task in percent, and the number of images.
    """
    path = folder / 'metrics.json'
    subprocess.run(
        [
            sys.executable,
            'tools/test.py',
            config,
            weights,
            '--work-dir',
            str(folder),
            '--json',
            str(path),
        ],
        check=True,
        cwd=ROOT,
    )
    content = json.loads(path.read_text())
    return dict({name: content[name] for name in METRICS}, images=content['run']['num_images'])


def time_files(files: dict[str, str], images: str, count: int) -> dict[str, float]:
    """Median seconds an image; the files take turns.

    Args:
        files (dict[str, str]): ONNX files by form.
        images (str): A folder of images.
        count (int): How many of them.
    """
    networks = {form: OnnxModel(path) for form, path in files.items()}
    seconds: dict[str, list[float]] = {form: [] for form in files}
    for source in collect(images).sources[:count]:
        for form, network in networks.items():
            said = network.metadata
            image = ImageFile(said['image_backend'])(source.value)
            pixels = Resizer(said['resize'])(image)
            height, width = image.shape[:2]
            factor = pixels.shape[1] / width, pixels.shape[0] / height
            start = time.perf_counter()
            network(pixels.transpose(2, 0, 1), factor, (height, width))
            seconds[form].append(time.perf_counter() - start)
    return {form: round(median(all_), 5) for form, all_ in seconds.items()}


def measure(
    config: str, checkpoint: str, forms: list[str], images: str | None, count: int
) -> dict:
    """All figures of one network.

    Returns:
        dict: Config, checksum of the checkpoint and ``forms``: of each form
        the figures of :func:`evaluate`, of files ``bytes`` and perhaps
        ``seconds``, too.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_forms(config, checkpoint, forms, images, folder)
        rows = {form: evaluate(config, path, folder) for form, path in files.items()}
        files.pop('pytorch', None)
        for form, path in files.items():
            rows[form]['bytes'] = Path(path).stat().st_size
        if images:
            for form, value in time_files(files, images, count).items():
                rows[form]['seconds'] = value
    return dict(config=Path(config).name, checkpoint_sha256=file_sha256(checkpoint), forms=rows)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--network', nargs=2, action='append', required=True, metavar=('CONFIG', 'CHECKPOINT')
    )
    parser.add_argument('--forms', nargs='+', choices=FORMS, default=list(FORMS))
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help='images with people, not those of the test: int8-static '
        'measures ranges in them, and the first are timed',
    )
    parser.add_argument('--count', type=int, default=50, help='images to time')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    with explained_errors():
        networks = [
            measure(*network, args.forms, args.images, args.count) for network in args.network
        ]
    write_record(args.json, dict(networks=networks))
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
