"""Contestants in turn, and the arithmetic of paired ratios."""

from collections.abc import Callable
from statistics import median


def run_rounds(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each baseline once a round, each round beginning with another.

    Args:
        calls (dict): Each baseline's call, which returns seconds.
        rounds (int): How often.

    Returns:
        dict[str, list[float]]: The seconds of every round.
    """
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(calls[name]())
    return seconds


def compare_pairs(seconds: dict[str, list[float]], reference: str) -> dict[str, dict]:
    """Medians and paired ratios.

    A machine that is slow for a while is slow for all baselines of a
    round: the ratio within a round is steadier than that of two medians.

    Args:
        seconds (dict): Of every round, as :func:`run_rounds` gives them.
        reference (str): Whom the others are compared with.

    Returns:
        dict[str, dict]: ``seconds``, their ``median``, and ``ratio``, the
        median over rounds of the baseline's seconds divided by the
        reference's; no ratio where the reference is not among them.
    """
    result = {}
    for name, own in seconds.items():
        result[name] = dict(seconds=own, median=median(own))
        if reference in seconds:
            result[name]['ratio'] = median(
                a / b for a, b in zip(own, seconds[reference], strict=True)
            )
    return result
