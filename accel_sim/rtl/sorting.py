"""Selection networks in layers: fixed compare-exchanges that move the N highest of M wires to the last N."""

from __future__ import annotations

Layer = tuple[tuple[int, int], ...]
"""Compare-exchanges (low, high) that share no wire: `low` gets the smaller key, `high` the larger one."""


def selection_network(n: int, m: int) -> list[Layer]:
    """Layers after which the last N of M wires hold the N highest keys, in no particular order; 1 ≤ N < M.

    Half of an even M takes two halves sorted side by side, and one exchange between opposite ends of them: the maxima
    of a sorted sequence and a reversed one are the higher half of both (the first step of Batcher's bitonic merge).
    Any other N sorts all M by Batcher's odd-even merges, without the exchanges that do not reach the last N.
    """
    if 2 * n == m:
        halves = [tuple([*layer, *((low + n, high + n) for low, high in layer)]) for layer in sorting_network(n)]
        return [*halves, tuple((wire, m - 1 - wire) for wire in range(n))]
    wanted, layers = set(range(m - n, m)), []
    for layer in reversed(sorting_network(m)):
        reaching = tuple(pair for pair in layer if not wanted.isdisjoint(pair))
        wanted.update(wire for pair in reaching for wire in pair)
        layers.insert(0, reaching)
    return [layer for layer in layers if layer]


def sorting_network(wires: int) -> list[Layer]:
    """Batcher's merge exchange, ascending, for any number of wires (Knuth, TAOCP 3, 5.2.2, Algorithm M)."""
    passes = []
    top = 1 << max(0, (wires - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, distance = top, 0, p
        while True:
            passes.append(tuple((low, low + distance) for low in range(wires - distance) if low & p == r))
            if q == p:
                break
            q, r, distance = q // 2, p, q - p
        p //= 2
    return [layer for layer in passes if layer]
