"""Who goes with whom, so that all pairs together are worth the most."""

from typing import List, Tuple

import numpy as np


def assign(worth: np.ndarray) -> List[Tuple[int, int]]:
    """Pair rows with columns by the Hungarian method.

    Each row of the smaller side gets a partner of its own. scipy has the same
    as ``linear_sum_assignment``; this spares the package.

    Args:
        worth (np.ndarray): (T, N), finite.

    Returns:
        list[tuple[int, int]]: min(T, N) pairs (row, column).
    """
    if len(worth) > worth.shape[1]:
        return [(row, column) for column, row in assign(worth.T)]
    cost = -worth.astype(float)
    num_rows, num_columns = cost.shape
    # One more column, from which each row starts.
    row_of = np.full(num_columns + 1, -1)
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns + 1)
    for row in range(num_rows):
        row_of[-1] = row
        _find_partner(cost, row_of, row_price, column_price)
    return [(int(row), column) for column, row in enumerate(row_of[:-1]) if row >= 0]


def _find_partner(
    cost: np.ndarray, row_of: np.ndarray, row_price: np.ndarray, column_price: np.ndarray
) -> None:
    """Give the row of the last column a partner, along the cheapest chain of
    rows that change theirs; all but ``cost`` is changed in place."""
    last = column = cost.shape[1]
    distance = np.full(last, np.inf)
    before = np.full(last, last)
    visited = np.zeros(last + 1, bool)
    while row_of[column] >= 0:
        visited[column] = True
        row, is_open = row_of[column], ~visited[:-1]
        reduced = cost[row] - row_price[row] - column_price[:-1]
        closer = is_open & (reduced < distance)
        distance[closer], before[closer] = reduced[closer], column
        column = int(np.where(is_open, distance, np.inf).argmin())
        step = distance[column]
        row_price[row_of[visited]] += step
        column_price[visited] -= step
        distance[is_open] -= step
    while column != last:
        row_of[column] = row_of[before[column]]
        column = before[column]
