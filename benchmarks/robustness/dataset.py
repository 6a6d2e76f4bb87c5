#!/usr/bin/env python
"""Predict a dataset on a cluster whose workers, nodes and driver are killed.

    python -m benchmarks.robustness.dataset model.onnx --json docs/results/performance/dataset.json

Ray starts several nodes on this machine. `multitask predict-dataset` predicts image files, tar
and Parquet files, among them damaged images: once in one process, once on the cluster, where a
worker and then a node are killed with SIGKILL, and once on the remaining nodes, where the driver
is killed and the same command is repeated. Each run must have written every image exactly once,
and the same bytes as the one process. Needs the extra `batch`.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow
import pyarrow.parquet
from ray.cluster_utils import Cluster

from multitask_refine.utils.results_file import write_record
from multitask_runtime.utils.files import file_sha256

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / 'docs/images/000000000009.jpg'
SIZES = ((240, 320), (320, 240), (256, 256))
SHARD_SIZE = 8


def make_dataset(folder: Path, images: int) -> tuple[list[str], list[str]]:
    """Write image files, a tar file per shard and a Parquet file, a third of the images each.

    Returns:
        The inputs of the command, and the names of the images, of which each third has one that
        is damaged.
    """
    source = cv2.imread(str(IMAGE))
    contents = {}
    for index in range(images):
        height, width = SIZES[index % len(SIZES)]
        image = cv2.resize(np.roll(source, 5 * index, 1), (width, height))
        contents[f'{index:06d}.jpg'] = cv2.imencode('.jpg', image)[1].tobytes()
    names = list(contents)
    third = images // 3
    for start in range(0, images, third):
        contents[names[start + 1]] = contents[names[start + 1]][:1000]  # truncated
    files, tars, parquet = folder / 'files', folder / 'tars', folder / 'images.parquet'
    files.mkdir()
    tars.mkdir()
    for name in names[:third]:
        (files / name).write_bytes(contents[name])
    for start in range(third, 2 * third, SHARD_SIZE):
        with tarfile.open(tars / f'{start:06d}.tar', 'w') as archive:
            for name in names[start : min(start + SHARD_SIZE, 2 * third)]:
                member = tarfile.TarInfo(name)
                member.size = len(contents[name])
                archive.addfile(member, io.BytesIO(contents[name]))
    rows = [dict(image=dict(bytes=contents[name], path=name)) for name in names[2 * third :]]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, parquet, row_group_size=SHARD_SIZE)
    return [str(files), str(tars), str(parquet)], names


def start(model: Path, inputs: Sequence[str], out_dir: Path, *options: str) -> subprocess.Popen:
    """Start `multitask predict-dataset`."""
    command = [sys.executable, '-m', 'multitask_cli', 'predict-dataset', str(model), *inputs]
    command += [
        f'--out-dir={out_dir}',
        f'--shard-size={SHARD_SIZE}',
        '--device=cpu',
        '--threads=1',
        *options,
    ]
    with out_dir.with_suffix('.txt').open('a') as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def wait_for_shards(process: subprocess.Popen, out_dir: Path, number: int) -> bool:
    """Wait until a number of shards is done; return whether the process still runs then."""
    while process.poll() is None and len(list(out_dir.glob('done/0*.json'))) < number:
        time.sleep(0.02)
    return process.poll() is None


def check(out_dir: Path, names: Sequence[str], expected: Path | None = None) -> dict[str, Any]:
    """Compare what a run wrote with the names of the images and the files of another run."""
    parts = sorted(out_dir.glob('part-*.jsonl'))
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    found = [row['file_name'] for row in rows]
    result = dict(
        shards=len(parts),
        images=len(found),
        bad_images=sum(row['error'] is not None for row in rows),
        instances=sum(len(row['annotations']) for row in rows),
        missing=len(set(names) - set(found)),
        repeated=len(found) - len(set(found)),
        leftovers=len(list(out_dir.glob('**/.*.part'))),
    )
    done = sorted(each.stat().st_mtime for each in out_dir.glob('done/0*.json'))
    after_first = result['images'] * (len(done) - 1) / len(done)
    result['images_per_second_after_first_shard'] = round(after_first / (done[-1] - done[0]), 2)
    result['exactly_once'] = sorted(found) == sorted(names) and not result['leftovers']
    if expected:
        result['same_bytes'] = {part.name: part.read_bytes() for part in parts} == {
            part.name: part.read_bytes() for part in expected.glob('part-*.jsonl')
        }
    return result


def find_workers(cluster: Cluster) -> list[psutil.Process]:
    """Return the processes of the nodes that hold a model."""
    raylets = [
        info.process.pid
        for node in cluster.list_all_nodes()
        for info in node.all_processes.get('raylet', ())
    ]
    return [
        child
        for pid in raylets
        for child in psutil.Process(pid).children(recursive=True)
        if 'MapWorker' in ' '.join(child.cmdline())
    ]


def time_run(run: Callable[[], int]) -> dict[str, Any]:
    """Run a command and measure it."""
    begin, load = time.monotonic(), os.getloadavg()[0]
    status = run()
    seconds = time.monotonic() - begin
    return dict(status=status, seconds=round(seconds, 1), load_average=round(load, 1))


def run_test(model: Path, folder: Path, images: int, nodes: int) -> dict[str, Any]:
    """Predict the dataset three times and check what was written.

    Returns:
        The content of the results file.
    """
    inputs, names = make_dataset(folder, images)
    one, lost, stopped, whole = (folder / name for name in ('one', 'lost', 'stopped', 'whole'))
    found = dict(one_process=time_run(start(model, inputs, one).wait))
    found['one_process'].update(check(one, names))
    shards = found['one_process']['shards']
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1))
    try:
        others = [cluster.add_node(num_cpus=1) for _ in range(nodes - 1)]
        cluster.wait_for_nodes()
        options = [f'--address={cluster.address}', f'--workers={nodes}']
        found['cluster'] = time_run(start(model, inputs, whole, *options).wait)
        found['cluster'].update(check(whole, names, one))
        killed = dict(workers=0, nodes=0, drivers=0)

        def lose_worker_and_node() -> int:
            process = start(model, inputs, lost, *options)
            if wait_for_shards(process, lost, shards // 5):
                find_workers(cluster)[0].kill()
                killed['workers'] += 1
            if wait_for_shards(process, lost, shards // 2):
                cluster.remove_node(others[-1], allow_graceful=False)
                killed['nodes'] += 1
            return process.wait()

        found['worker_and_node_killed'] = time_run(lose_worker_and_node)
        found['worker_and_node_killed'].update(check(lost, names, one))

        def lose_driver() -> int:
            process = start(model, inputs, stopped, *options)
            if wait_for_shards(process, stopped, shards // 3):
                process.send_signal(signal.SIGKILL)
                killed['drivers'] += 1
            process.wait()
            return start(model, inputs, stopped, *options).wait()

        found['driver_killed_and_repeated'] = time_run(lose_driver)
        found['driver_killed_and_repeated'].update(check(stopped, names, one))
    finally:
        cluster.shutdown()
    for each in found.values():
        each['images_per_second'] = round(each['images'] / each['seconds'], 2)
    return dict(
        model_sha256=file_sha256(model),
        images_made=images,
        damaged_images=3,
        nodes=nodes,
        cpu_cores=len(os.sched_getaffinity(0)),
        runs=found,
        killed=killed,
        # Status 1: some images are bad.
        passed=killed == dict(workers=1, nodes=1, drivers=1)
        and all(
            each['exactly_once'] and each['bad_images'] == 3 and each['status'] == 1
            for each in found.values()
        )
        and all(each.get('same_bytes', True) for each in found.values()),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the test; return 1 if it does not pass."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', type=Path, help='exported model')
    parser.add_argument('--images', type=int, default=240, help='default: %(default)s')
    parser.add_argument('--nodes', type=int, default=3, help='default: %(default)s')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = run_test(args.model.resolve(), Path(folder), args.images, args.nodes)
        except BaseException:
            for log in Path(folder).glob('*.txt'):
                print(f'{log.name}:\n{log.read_text()}', file=sys.stderr)
            raise
    write_record(args.json, result)
    print(f'Results file: {args.json}; {"passed" if result["passed"] else "NOT passed"}')
    return int(not result['passed'])


if __name__ == '__main__':
    sys.exit(main())
