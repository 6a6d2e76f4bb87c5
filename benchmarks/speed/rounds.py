"""Interleaved timing and paired ratios."""

from collections.abc import Callable
from statistics import median


def run_rounds(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Time every baseline once per round; each round starts with another one.

    Args:
        calls: Returns seconds, by the baseline's name.
        rounds: Number of rounds.

    Returns:
        Seconds of every round.
    """
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)  # no baseline always follows the same one
        for name in names[first:] + names[:first]:
            seconds[name].append(calls[name]())
    return seconds


def compare_pairs(seconds: dict[str, list[float]], reference: str) -> dict[str, dict]:
    """Compute medians and paired ratios.

    A machine that is slow for a while slows all baselines of a round, so the ratio within a
    round varies less than that of two medians.

    Args:
        seconds: From :func:`run_rounds`.
        reference: The baseline that the others are compared with.

    Returns:
        ``seconds``, their ``median``, and ``ratio``: the median over rounds of the seconds
        divided by the reference's. Without the reference there is no ratio.
    """
    result = {}
    for name, own in seconds.items():
        result[name] = dict(seconds=own, median=median(own))
        if reference in seconds:
            pairs = zip(own, seconds[reference], strict=True)
            result[name]['ratio'] = median(a / b for a, b in pairs)
    return result
