"""Profile of a network by stages, beside the roofline of the machine.

A stage is a method of a module. Its time is exclusive: that of a nested stage counts for the
inner one only, and what is in no stage is ``rest``. Operations and bytes are attributed in the
same way in runs of their own, so that counting them does not cost time.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import wraps
from itertools import pairwise
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from multitask_refine.ops import mkldnn_linear

REST = 'rest'
MATRIX_SIDE = dict(cpu=2048, cuda=8192)
COPIED_BYTES = 1 << 28
Calls = Sequence[tuple[Any, str, str]]  # owner, method, stage


def attribute_to_stages(
    calls: Calls,
    run: Callable[[], object],
    read: Callable[[], Any],
    subtract: Callable[[Any, Any], float] = lambda end, start: end - start,
) -> dict[str, float]:
    """Run a task and attribute the increments of a counter to the innermost running stage.

    Args:
        calls: Owner, method name and stage of each call to observe.
        run: The task.
        read: Reads the counter, such as the time.
        subtract: Subtracts an earlier reading from a later one.

    Returns:
        Increment by stage.
    """
    running, readings = [REST], []

    def observe(method: Callable, stage: str) -> Callable:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            readings.append((read(), running[-1]))
            running.append(stage)
            try:
                return method(*args, **kwargs)
            finally:
                readings.append((read(), running.pop()))

        return call

    with ExitStack() as stack:
        for owner, method, stage in calls:
            observed = observe(getattr(owner, method), stage)
            stack.enter_context(mock.patch.object(owner, method, observed))
        readings.append((read(), REST))
        run()
        readings.append((read(), REST))
    # Each reading names the stage that ran since the previous one.
    totals: dict[str, float] = defaultdict(float)
    for (start, _), (end, stage) in pairwise(readings):
        totals[stage] += subtract(end, start)
    return dict(totals)


def time_stages(device: torch.device, calls: Calls, run: Callable[[], object]) -> dict[str, float]:
    """Measure the seconds of each stage, on CUDA by events that do not stall the device."""
    if device.type != 'cuda':
        return attribute_to_stages(calls, run, time.perf_counter)

    def record() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def subtract(end: torch.cuda.Event, start: torch.cuda.Event) -> float:
        end.synchronize()
        return start.elapsed_time(end) / 1000

    return attribute_to_stages(calls, run, record, subtract)


def count_operations(calls: Calls, run: Callable[[], object]) -> dict[str, float]:
    """Count the floating-point operations of each stage; a multiply-add is two."""
    aten, mkldnn = torch.ops.aten, torch.ops.mkldnn

    def embedding_bag(table: Sequence[int], indices: Sequence[int], *_: Any, **__: Any) -> int:
        return 2 * indices[0] * table[1]  # a weighted sum of N rows of C values

    def linear(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
        return 2 * x[0] * x[1] * weight[0]  # (M, K) by the transpose of (N, K)

    # PyTorch's counter does not know these operators.
    formulas = {
        aten._embedding_bag: embedding_bag,
        aten._embedding_bag_forward_only: embedding_bag,
    }
    if hasattr(mkldnn, '_linear_pointwise'):
        formulas[mkldnn._linear_pointwise] = linear
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        return attribute_to_stages(calls, run, counter.get_total_flops)


def count_bytes(model: nn.Module, calls: Calls, run: Callable[[], object]) -> dict[str, float]:
    """Count the bytes that convolutions and linear layers read and write in the forward pass."""
    total = 0

    def add(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        nonlocal total
        total += sum(each.nbytes for each in (inputs[0], output, layer.weight))

    with ExitStack() as stack:
        for layer in model.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                stack.callback(layer.register_forward_hook(add).remove)
        return attribute_to_stages(calls, run, lambda: total)


def measure_rates(device: torch.device) -> dict[str, float]:
    """Measure the peak rates of the machine in float32, with PyTorch's threads.

    Returns:
        ``operations_per_second`` of a large matrix product, by the faster of PyTorch's
        libraries, and ``bytes_per_second`` of a large copy, read and written.
    """
    side = MATRIX_SIDE[device.type]
    matrix = torch.rand(side, side, device=device)
    # Larger than the caches.
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    variables = dict(x=matrix, linear=mkldnn_linear, source=source, target=source.clone())
    product, linear, copy = (
        # The shortest time: other processes can only make it longer.
        min(
            Timer(statement, globals=variables, num_threads=torch.get_num_threads())
            .blocked_autorange(min_run_time=1)
            .times
        )
        for statement in ('x @ x', 'linear(x, x)', 'target.copy_(source)')
    )
    return dict(
        operations_per_second=2 * side**3 / min(product, linear),
        bytes_per_second=2 * COPIED_BYTES / copy,
    )


def measure_stages(baseline: Any, run: Callable[[], object], rounds: int) -> dict:
    """Profile a task by stages.

    Args:
        baseline: Has ``stage_calls``, ``model`` and ``device``.
        run: The task.
        rounds: Number of timed runs.

    Returns:
        ``rates`` of the machine, and ``stages``: the median ``seconds`` of each, its
        ``operations``, ``bytes``, ``floor_seconds``, the lower bound by the rates, and
        ``ratio`` of the seconds to that bound, None if it is 0.
    """
    calls = baseline.stage_calls()
    before = measure_rates(baseline.device)
    timed = [time_stages(baseline.device, calls, run) for _ in range(rounds)]
    operations = count_operations(calls, run)
    sizes = count_bytes(baseline.model, calls, run)
    # Other processes may slow down one of the two measurements.
    after = measure_rates(baseline.device)
    rates = {name: max(before[name], after[name]) for name in before}
    stages = {}
    for name in timed[0]:
        seconds = median(times.get(name, 0.0) for times in timed)
        counts = operations.get(name, 0), sizes.get(name, 0)
        floor = max(count / rate for count, rate in zip(counts, rates.values(), strict=True))
        stages[name] = dict(
            seconds=seconds,
            operations=counts[0],
            bytes=counts[1],
            floor_seconds=floor,
            ratio=seconds / floor if floor else None,
        )
    return dict(rates=rates, stages=stages)
