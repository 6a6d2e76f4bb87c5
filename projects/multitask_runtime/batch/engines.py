"""Run the shards of a dataset in this process or on a Ray cluster."""

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multitask_runtime.utils.errors import ExplainedError, InputError, MissingPackageError

from .outputs import ShardFolder, ShardReport
from .predictor import ShardPredictor
from .shards import Shard

if TYPE_CHECKING:
    from multitask_runtime.base_inferencer import BaseInferencer


def predict_here(
    load: Callable[[], 'BaseInferencer'],
    folder: ShardFolder,
    shards: Sequence[Shard],
    **options: Any,
) -> Iterator[ShardReport]:
    """Predict shards in this process.

    Args:
        load (Callable): Loads the inferencer.
        folder (ShardFolder): Where the shards are written.
        shards (Sequence[Shard]): The shards that are not done.
        options: Further ones of ``ShardPredictor``.

    Yields:
        ShardReport: As the shards are written.
    """
    predictor = ShardPredictor(load, folder, **options)
    for shard in shards:
        yield predictor(shard)


class _RayWorker:
    """Actor of Ray Data: a predictor whose input and output are rows of pickled objects."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._predictor = ShardPredictor(*args, **options)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return dict(report=self._predictor(pickle.loads(row['shard'])).model_dump_json())


def predict_on_ray(
    load: Callable[[], 'BaseInferencer'],
    folder: ShardFolder,
    shards: Sequence[Shard],
    *,
    workers: int,
    cpus: float = 1,
    gpus: float | None = None,
    address: str | None = None,
    **options: Any,
) -> Iterator[ShardReport]:
    """Predict shards by workers on the nodes of a Ray cluster, each with a model of its own.

    A worker or node that is lost costs the shards that it was at: others predict them again,
    and the run goes on with as many workers as there is room for.

    Args:
        load (Callable): Loads the inferencer; is pickled.
        folder (ShardFolder): Where the shards are written, a path that all nodes share.
        shards (Sequence[Shard]): The shards that are not done.
        workers (int): Number of workers at most.
        cpus (float): CPU cores of a worker. Defaults to 1.
        gpus (float, optional): GPUs of a worker. Defaults to 1 where the cluster has any.
        address (str, optional): Address of the cluster, 'auto' for that of this node. Defaults to
            a cluster on this machine for the time of the run.
        options: Further ones of ``ShardPredictor``.

    Yields:
        ShardReport: As the shards are written.

    Raises:
        MissingPackageError: If Ray is not installed.
        InputError: If the cluster cannot be reached, or no node has room for a worker.
        ExplainedError: If the model cannot be loaded or used.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPackageError(
            f'Ray is needed for several workers and cannot be imported ({error}). Install it: '
            "pip install 'multitask-refine[batch]'"
        ) from None
    is_own = not ray.is_initialized()
    if is_own:
        try:
            ray.init(address or 'local', log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            raise InputError(
                f'--address {address}: expected a Ray cluster, found none that answers '
                f'({str(error).splitlines()[0]}). Start one by `ray start --head`.'
            ) from None
    try:
        if gpus is None:
            gpus = int(ray.cluster_resources().get('GPU', 0) > 0)
        nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]
        if not any(has.get('CPU', 0) >= cpus and has.get('GPU', 0) >= gpus for has in nodes):
            found = '; '.join(f'{has.get("CPU", 0):g} and {has.get("GPU", 0):g}' for has in nodes)
            raise InputError(
                f'expected a node with {cpus:g} CPU cores and {gpus:g} GPUs for a worker, found '
                f'nodes of {found or "nothing"}. Lower --cpus-per-worker, or choose --device cpu.'
            )
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger('ray.data').setLevel(logging.ERROR)
        rows = ray.data.from_items(
            [dict(shard=pickle.dumps(shard)) for shard in shards], override_num_blocks=len(shards)
        )
        reports = rows.map(
            _RayWorker,
            fn_constructor_args=(load, folder),
            fn_constructor_kwargs=options,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        for row in reports.iter_rows():
            yield ShardReport.model_validate_json(row['report'])
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, ExplainedError):
            cause = getattr(cause, 'cause', None) or cause.__cause__
        if cause:
            raise cause from None
        raise
    finally:
        if is_own:
            ray.shutdown()
