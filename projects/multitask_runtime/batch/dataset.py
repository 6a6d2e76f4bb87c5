"""Predict a dataset: list its shards, run those that are not done, and sum up."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tqdm import tqdm

from .engines import predict_here
from .outputs import Settings, ShardFolder, ShardReport, Summary
from .shards import list_shards

if TYPE_CHECKING:
    from multitask_runtime.base_inferencer import BaseInferencer

Engine: TypeAlias = Callable[..., Iterator[ShardReport]]


def predict_dataset(
    load: 'Callable[[], BaseInferencer]',
    inputs: Sequence[str],
    out_dir: str | Path,
    *,
    model: str,
    format: Literal['jsonl', 'parquet'] = 'jsonl',
    score_thr: float = 0.0,
    batch_size: int = 1,
    shard_size: int = 1000,
    image_column: str | None = None,
    name_column: str | None = None,
    engine: Engine = predict_here,
    show_progress: bool = True,
) -> Summary:
    """Predict all images of a dataset that are not done yet.

    A run that was stopped goes on when it is called again in the same way.

    Args:
        load (Callable): Loads the inferencer.
        inputs (Sequence[str]): As of :func:`list_shards`.
        out_dir (str | Path): Folder of the predictions, see :class:`ShardFolder`.
        model (str): What identifies the model, such as the digest of its file.
        format (str): 'jsonl' or 'parquet'.
        score_thr (float): Instances with a lower score are left out.
        batch_size (int): As of :class:`ShardPredictor`.
        shard_size (int): As of :func:`list_shards`.
        image_column (str, optional): As of :func:`list_shards`.
        name_column (str, optional): As of :func:`list_shards`.
        engine (Callable): :func:`predict_here`, or a ``functools.partial`` of
            :func:`predict_on_ray`.
        show_progress (bool): Whether to show progress on stderr. Defaults to True.

    Returns:
        Summary: Of all shards, those of earlier runs included.

    Raises:
        InputError: If the inputs hold no images, or the folder something else.
        ExplainedError: If the model cannot be used, or a package is missing.
        OSError: If a file cannot be read or written.
    """
    folder = ShardFolder(out_dir, format)
    shards = list_shards(inputs, shard_size, image_column, name_column)
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(json.dumps(asdict(shard)).encode())
    folder.start(
        Settings(
            format=format,
            model=model,
            score_thr=score_thr,
            shards=len(shards),
            inputs_sha256=digest.hexdigest(),
        )
    )
    reports = [report for report in map(folder.read_report, shards) if report]
    done = {report.shard for report in reports}
    rest = [shard for shard in shards if shard.number not in done]
    options: dict[str, Any] = dict(batch_size=batch_size, score_thr=score_thr)
    bar = tqdm(
        total=len(shards),
        initial=len(done),
        unit='shard',
        file=sys.stderr,
        disable=not show_progress,
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
    )
    with bar:
        if rest:
            for report in engine(load, folder, rest, **options):
                reports.append(report)
                bar.update()
    return folder.finish(reports)
