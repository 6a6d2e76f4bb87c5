"""How fast this process multiplies and copies: the ground of the floors."""

import time
from typing import Callable, Dict

import torch

from multitask_refine.ops import mkldnn_linear

REPEATS = 20
SIDES = dict(cpu=2048, cuda=8192)  # of the matrices
COPIED = 1 << 28  # bytes


def measure_rates(device: torch.device) -> Dict[str, float]:
    """The best of some tries, in float32 and with torch's threads.

    Returns:
        dict: ``operations_per_second`` of a large matrix product, by the
        faster of torch's libraries, a multiplication and an addition being
        two, and ``bytes_per_second`` of a large copy, reading and writing
        counted.
    """
    side = SIDES[device.type]
    one = torch.rand(side, side, device=device)
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    product = min(_best(lambda: one @ one, device), _best(lambda: mkldnn_linear(one, one), device))
    return dict(
        operations_per_second=2 * side**3 / product,
        bytes_per_second=2 * COPIED / _best(lambda: target.copy_(source), device),
    )


def _best(call: Callable, device: torch.device) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
