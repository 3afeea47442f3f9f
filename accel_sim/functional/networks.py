"""Selection networks: fixed sequences of compare-exchanges that move a group's N largest to one end."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray


@cache
def selection_network(n: int, m: int) -> NDArray[np.int64]:
    """Compare-exchanges int64 [C, 2] of wires (low, high) after which the last N of M wires hold the N largest values.

    Each one leaves the smaller value on `low` and the larger on `high`. The order among the last N, and among the
    others, is not defined. Half of an even M takes two sorted halves and one exchange between opposite ends of them:
    the maxima of a sorted sequence and a reversed one are the larger half of both (Batcher's bitonic merge). Any
    other N sorts all M.
    """
    if n == m:
        exchanges = []
    elif 2 * n == m:
        half = sorting_network(n)
        exchanges = [*half, *((low + n, high + n) for low, high in half), *((i, m - 1 - i) for i in range(n))]
    else:
        exchanges = sorting_network(m)
    network = np.array(exchanges, dtype=np.int64).reshape(len(exchanges), 2)
    network.flags.writeable = False
    return network


def sorting_network(wires: int) -> list[tuple[int, int]]:
    """Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M): ascending, any size."""
    exchanges = []
    top = 1 << max(0, (wires - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, distance = top, 0, p
        while True:
            exchanges += [(i, i + distance) for i in range(wires - distance) if i & p == r]
            if q == p:
                break
            q, r, distance = q // 2, p, q - p
        p //= 2
    return exchanges
