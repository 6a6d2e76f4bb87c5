"""What each stage of a network takes, and the least that it could take.

A stage is a method of a module. Its time is exclusive: what a stage inside
another takes counts for the inner one only, and what is in no stage is
``rest``. Operations and bytes are attributed in the same way, in runs of
their own, so nothing of the counting is in the times.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.machine_rates import measure_rates

Calls = list[tuple[Any, str, str]]  # object, method, stage
REST = 'rest'


class StageMeter:
    """Gives what a reading gains to the innermost stage that runs.

    Args:
        read (Callable): The reading, such as the time.
        between (Callable): What was gained from one reading to a later one.
    """

    def __init__(self, read: Callable[[], Any], between: Callable[[Any, Any], float]) -> None:
        self.read, self.between = read, between
        self.running = [REST]
        self.marks: list[tuple[Any, str]] = []

    def mark(self) -> None:
        """Read; what was gained belongs to the stage that runs."""
        self.marks.append((self.read(), self.running[-1]))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The stage runs within."""
        self.mark()
        self.running.append(name)
        try:
            yield
        finally:
            self.mark()
            self.running.pop()

    def totals(self) -> dict[str, float]:
        """What each stage gained between the first and the last mark."""
        gained: dict[str, float] = defaultdict(float)
        for (start, _), (end, name) in pairwise(self.marks):
            gained[name] += self.between(start, end)
        return dict(gained)


@contextmanager
def observed(meter: StageMeter, calls: Calls) -> Iterator[None]:
    """The methods are stages of the meter within."""
    with ExitStack() as stack:
        for owner, method, stage in calls:
            original = getattr(owner, method)
            stack.callback(setattr, owner, method, original)
            setattr(owner, method, _as_stage(meter, stage, original))
        yield


def _as_stage(meter: StageMeter, stage: str, method: Callable) -> Callable:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with meter.stage(stage):
            return method(*args, **kwargs)

    return call


def measure_stages(baseline: Any, run: Callable[[], Any], rounds: int) -> dict:
    """Run a task with its stages observed.

    Args:
        baseline: Knows its ``stage_calls``, ``model`` and ``device``.
        run (Callable): The task.
        rounds (int): How often it is timed.

    Returns:
        dict: ``rates`` of the machine, the better of those before and after
        the work, and ``stages``: of each the median ``seconds``,
        ``operations``, ``bytes`` (inputs, outputs and weights of convolutions
        and linear layers in the forward pass), and from those
        ``floor_seconds``, the longer of both by the rates, and ``ratio``, how
        many times the floor the seconds are.
    """
    calls = baseline.stage_calls()
    before = measure_rates(baseline.device)
    timed = [_time(baseline.device, calls, run) for _ in range(rounds)]
    operations = _count_operations(calls, run)
    sizes = _count_bytes(baseline.model, calls, run)
    # A neighbour on the machine slows one of them at times.
    after = measure_rates(baseline.device)
    rates = {name: max(before[name], after[name]) for name in before}
    stages = {
        name: _describe(
            median(times.get(name, 0.0) for times in timed),
            operations.get(name, 0),
            sizes.get(name, 0),
            rates,
        )
        for name in timed[0]
    }
    return dict(rates=rates, stages=stages)


def _describe(seconds: float, operations: float, size: float, rates: dict[str, float]) -> dict:
    floor = max(operations / rates['operations_per_second'], size / rates['bytes_per_second'])
    return dict(
        seconds=seconds,
        operations=operations,
        bytes=size,
        floor_seconds=floor,
        ratio=seconds / floor if floor else None,
    )


def _metered(meter: StageMeter, calls: Calls, run: Callable[[], Any]) -> StageMeter:
    with observed(meter, calls):
        meter.mark()
        run()
        meter.mark()
    return meter


def _time(device: torch.device, calls: Calls, run: Callable[[], Any]) -> dict[str, float]:
    if device.type != 'cuda':
        meter = StageMeter(time.perf_counter, lambda a, b: b - a)
        return _metered(meter, calls, run).totals()

    def record() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    meter = StageMeter(record, lambda a, b: a.elapsed_time(b) / 1000)
    _metered(meter, calls, run)
    torch.cuda.synchronize(device)
    return meter.totals()


def _count_operations(calls: Calls, run: Callable[[], Any]) -> dict[str, float]:
    formulas = {
        torch.ops.aten._embedding_bag: _bag_operations,
        torch.ops.aten._embedding_bag_forward_only: _bag_operations,
    }
    if hasattr(torch.ops.mkldnn, '_linear_pointwise'):
        formulas[torch.ops.mkldnn._linear_pointwise] = _linear_operations
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        meter = StageMeter(counter.get_total_flops, lambda a, b: b - a)
        return _metered(meter, calls, run).totals()


def _linear_operations(x: tuple[int, ...], weight: tuple[int, ...], *_: Any, **__: Any) -> int:
    """Of (a, b) times the transposed (c, b)."""
    return 2 * x[0] * x[1] * weight[0]


def _bag_operations(table: tuple[int, ...], rows: tuple[int, ...], *_: Any, **__: Any) -> int:
    """Of weighted rows, (N), of a table (rows, C)."""
    return 2 * rows[0] * table[1]


def _count_bytes(model: nn.Module, calls: Calls, run: Callable[[], Any]) -> dict[str, float]:
    total = [0]

    def add(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        for tensor in (inputs[0], output, layer.weight):
            total[0] += tensor.numel() * tensor.element_size()

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    meter = StageMeter(lambda: total[0], lambda a, b: b - a)
    with ExitStack() as stack:
        for layer in model.modules():
            if isinstance(layer, kinds):
                handle = layer.register_forward_hook(add)
                stack.callback(handle.remove)
        return _metered(meter, calls, run).totals()
