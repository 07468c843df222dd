"""The assignment of greatest sum: Kuhn's Hungarian method with potentials, in O(n³)."""

from __future__ import annotations

import numpy as np

from qdeploy.types import Array


def best_assignment(gains: Array) -> Array:
    """The column of each row such that the sum of the chosen gains is greatest.

    Rows are taken in one after the other; each finds the cheapest path of exchanges to a free
    column, measured in costs that potentials keep from becoming negative (Kuhn 1955; Jonker and
    Volgenant 1987 for the order of the steps).

    Args:
        gains: float [n, n], finite.

    Returns:
        int64 [n], a permutation.

    >>> best_assignment(np.array([[1.0, 9.0], [2.0, 8.0]])).tolist()
    [1, 0]
    """
    n = len(gains)
    costs = -np.asarray(gains, np.float64)
    rows, columns = np.zeros(n), np.zeros(n + 1)  # potentials; column n stands for "not yet"
    owner = np.full(n + 1, -1)  # the row that a column belongs to
    for row in range(n):
        owner[n] = row
        at = n
        cheapest = np.full(n, np.inf)  # of a path that ends in a column
        came_from = np.full(n, n)
        visited = np.zeros(n + 1, bool)
        while owner[at] >= 0:
            visited[at] = True
            free = ~visited[:n]
            reduced = costs[owner[at]] - rows[owner[at]] - columns[:n]
            better = free & (reduced < cheapest)
            cheapest[better] = reduced[better]
            came_from[better] = at
            following = int(np.argmin(np.where(free, cheapest, np.inf)))
            step = cheapest[following]
            rows[owner[visited]] += step
            columns[visited] -= step
            cheapest[free] -= step
            at = following
        while at != n:  # exchange along the path
            owner[at] = owner[came_from[at]]
            at = int(came_from[at])
    chosen = np.empty(n, np.int64)
    chosen[owner[:n]] = np.arange(n)
    return chosen
