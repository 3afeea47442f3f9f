"""Compiled sums over groups without selecting anything: many groups side by side, one SIMD lane each.

The tie rule decides which of two equal magnitudes is kept, never how large the kept ones are. So where magnitudes alone
are scored, the sums that a pattern leaves follow from each group's N largest, and a fixed network of compare-exchanges
finds those for a thousand groups at once. A block of groups goes through five steps, all within the cache:

    codes → magnitudes, group after group → wires [M, L], one lane a group → N largest on the last N wires
          → sums of each group → sums of each token

Of two levels, M and N are those of the inner groups, and the last step but one lets the weaker inner groups go.
All sums are integers, so neither the order nor the number of threads can change a result.
"""

from __future__ import annotations

from numba import njit
from numpy import int16, int64, uint8, uint16, uint32, uint64, zeros

MOST_LANES = 1024
"""Groups that are worked on side by side: enough for the loops to run in full vectors, few enough for the cache."""


@njit(cache=True, nogil=True)
def _load(x, groups, m, first, magnitudes):
    """Magnitudes uint8 [L·M] of the groups from `first` on, tokens one after the other; all padding is 0.

    A token takes `groups` groups of `m`, which may be more than its features fill.
    """
    tokens, features = x.shape
    last = min(first + magnitudes.size // m, tokens * groups)
    for t in range(first // groups, (last - 1) // groups + 1):
        begin, end = max(first, t * groups), min(last, (t + 1) * groups)
        source = x[t, (begin - t * groups) * m : min((end - t * groups) * m, features)]
        target = magnitudes[(begin - first) * m : (end - first) * m]
        for i in range(source.size):
            target[i] = uint8(abs(int16(source[i])))
        target[source.size :] = 0
    magnitudes[(last - first) * m :] = 0


@njit(cache=True, nogil=True)
def to_wires(block, spare, m):
    """Wires [M, L] of a block [L·M] of groups one after the other, in any order of wires.

    While M is even, even and odd positions part, which are one shuffle each for a whole vector; both arrays are used.
    """
    size, wires = block.size, m
    while wires % 2 == 0:
        half = size // 2
        for start in range(0, block.size, size):
            even, odd = spare[start : start + half], spare[start + half : start + size]
            source = block[start : start + size]
            for i in range(half):
                even[i] = source[2 * i]
                odd[i] = source[2 * i + 1]
        block, spare = spare, block
        size, wires = half, wires // 2
    lanes = size // wires
    if wires > 1:
        for start in range(0, block.size, size):
            for j in range(wires):
                for i in range(lanes):
                    spare[start + j * lanes + i] = block[start + i * wires + j]
        block, spare = spare, block
    return block.reshape(m, lanes)


@njit(cache=True, nogil=True)
def _exchange(wires, network):
    """Run a network int64 [C, 2] of compare-exchanges over wires uint8 [M, L]."""
    for c in range(network.shape[0]):
        low, high = wires[network[c, 0]], wires[network[c, 1]]
        for i in range(low.size):
            a, b = low[i], high[i]
            low[i] = min(a, b)
            high[i] = max(a, b)


@njit(cache=True, nogil=True)
def _add_squares(wires, squares):
    """Add the squares of wires uint8 [·, L] to squares uint32 [L]."""
    count, lanes = wires.shape
    for j in range(0, count - 3, 4):  # four at a time: 4·127² fits 16 bits, where a vector holds twice as many
        a, b, c, d = wires[j], wires[j + 1], wires[j + 2], wires[j + 3]
        for i in range(lanes):
            four = uint16(a[i]) * uint16(a[i]) + uint16(b[i]) * uint16(b[i])
            four += uint16(c[i]) * uint16(c[i]) + uint16(d[i]) * uint16(d[i])
            squares[i] += uint32(uint16(four))
    for j in range(count - count % 4, count):
        wire = wires[j]
        for i in range(lanes):
            squares[i] += uint32(wire[i]) * uint32(wire[i])


@njit(cache=True, nogil=True)
def _count_nonzeros(wires, counts):
    """counts uint8 [L]: how many of the wires uint8 [M, L] are not zero."""
    counts[:] = 0
    for j in range(wires.shape[0]):
        wire = wires[j]
        for i in range(counts.size):
            counts[i] += uint8(wire[i] != 0)


@njit(cache=True, nogil=True)
def _strongest(wires, n, m, strongest):
    """strongest uint8 [L]: 1 for the `n` of every `m` neighbouring lanes with the largest sum of wires uint8 [N0, L].

    Ties go to the lower lane. A lane is out when at least `n` of its neighbours are stronger.
    """
    lanes = strongest.size
    sums = zeros(lanes, uint32)
    for j in range(wires.shape[0]):
        wire = wires[j]
        for i in range(lanes):
            sums[i] += uint32(wire[i])
    sums = sums.reshape(lanes // m, m).T.copy()  # [m, outer groups]: neighbours side by side, so that vectors compare
    stronger = zeros(lanes // m, uint8)
    for own in range(m):
        stronger[:] = 0
        for other in range(m):
            if other < own:
                for g in range(stronger.size):
                    stronger[g] += uint8(sums[other, g] >= sums[own, g])
            elif other > own:
                for g in range(stronger.size):
                    stronger[g] += uint8(sums[other, g] > sums[own, g])
        for g in range(stronger.size):
            strongest[g * m + own] = uint8(stronger[g] < n)


@njit(cache=True, nogil=True)
def _add_to_tokens(lanes, groups, first, sums):
    """Add lanes uint32 [L], those of the groups from `first` on, to the sums int64 [T] of their tokens."""
    last = min(first + lanes.size, sums.size * groups)
    for t in range(first // groups, (last - 1) // groups + 1):
        begin, end = max(first, t * groups), min(last, (t + 1) * groups)
        total = uint32(0)  # MOST_LANES groups of 64·127² fit
        for i in range(begin - first, end - first):
            total = uint32(total + lanes[i])
        sums[t] += int64(total)


@njit(cache=True, nogil=True)
def _total(lanes):
    """Sum of counts uint8 [L]."""
    total = uint32(0)
    for i in range(lanes.size):
        total = uint32(total + uint32(lanes[i]))
    return int64(total)


@njit(cache=True, nogil=True)
def prune_rows(x, n, m, outer_n, outer_m, network, dropped_squares, squares):
    """For each token of x int8 [T, K], as int64 [T] (zeros on entry): Σq² of what magnitude selection drops, and Σq².

    `network` is that of N of M; the outer level keeps `outer_n` of `outer_m` groups of M, 1 of 1 where there is none.
    Returns how many kept elements, and how many of all, are not zero.
    """
    tokens, features = x.shape
    groups = -(-features // (m * outer_m)) * outer_m
    lanes = min(MOST_LANES // outer_m * outer_m, tokens * groups)
    block, spare = zeros(lanes * m, uint8), zeros(lanes * m, uint8)
    lane_kept, lane_dropped = zeros(lanes, uint32), zeros(lanes, uint32)
    counts, strongest = zeros(lanes, uint8), zeros(lanes, uint8)
    kept_nonzeros = nonzeros = int64(0)
    for first in range(0, tokens * groups, max(lanes, 1)):
        _load(x, groups, m, first, block)
        wires = to_wires(block, spare, m)
        _exchange(wires, network)
        lane_kept[:] = 0
        lane_dropped[:] = 0
        _add_squares(wires[m - n :], lane_kept)
        _add_squares(wires[: m - n], lane_dropped)
        _count_nonzeros(wires, counts)
        nonzeros += _total(counts)
        for i in range(lanes):
            counts[i] = min(counts[i], uint8(n))
        if outer_n < outer_m:
            _strongest(wires[m - n :], outer_n, outer_m, strongest)
            for i in range(lanes):
                counts[i] *= strongest[i]
                lane_dropped[i] += lane_kept[i] * uint32(1 - strongest[i])
                lane_kept[i] *= uint32(strongest[i])
        kept_nonzeros += _total(counts)
        _add_to_tokens(lane_dropped, groups, first, dropped_squares)
        for i in range(lanes):
            lane_kept[i] += lane_dropped[i]
        _add_to_tokens(lane_kept, groups, first, squares)
    return kept_nonzeros, nonzeros


@njit(cache=True, nogil=True)
def count_rows(x, n, m, block, spare):
    """Over the groups of M of x int8 [T, K]: Σ min(N, non-zeros), and all non-zeros.

    `block` and `spare` are room for whole groups, as the widest unsigned integers of which some whole number makes M
    bytes: they are added as they are, up to 64 ones in every byte of them.
    """
    tokens, features = x.shape
    groups = -(-features // m)
    flags = block.view(uint8)
    kept_nonzeros = nonzeros = uint64(0)
    for first in range(0, tokens * groups, flags.size // m):
        _load(x, groups, m, first, flags)
        for i in range(flags.size):
            flags[i] = uint8(flags[i] != 0)
        sums = _add_neighbours(block, spare, m // block.itemsize)
        for i in range(sums.size):
            count = uint64(sums[i])
            count += count >> uint64(32)
            count += count >> uint64(16)
            count = (count + (count >> uint64(8))) & uint64(255)
            nonzeros += count
            kept_nonzeros += min(count, uint64(n))
    return int64(kept_nonzeros), int64(nonzeros)


@njit(cache=True, nogil=True)
def _add_neighbours(block, spare, m):
    """Sums [S] of every `m` neighbours of a block [S·m], pairs first; both arrays may be overwritten."""
    while m % 2 == 0:
        target = spare[: block.size // 2]
        for i in range(target.size):
            target[i] = block[2 * i] + block[2 * i + 1]
        block, spare = target, block
        m //= 2
    if m == 1:
        return block
    target = spare[: block.size // m]
    for i in range(target.size):
        total = block[i * m]
        for j in range(i * m + 1, (i + 1) * m):
            total += block[j]
        target[i] = total
    return target


@njit(cache=True, nogil=True)
def masked_rows(x, mask, dropped_squares, squares):
    """For each token of x int8 [T, K], as int64 [T]: Σq² outside the mask bool [T, K], and Σq².

    Returns how many kept elements, and how many of all, are not zero.
    """
    tokens, features = x.shape
    kept_nonzeros = nonzeros = int64(0)
    for t in range(tokens):
        lost = total = kept = some = int64(0)
        for k in range(features):
            square = int64(x[t, k]) * int64(x[t, k])
            total += square
            lost += square * (not mask[t, k])
            some += x[t, k] != 0
            kept += (x[t, k] != 0) & mask[t, k]
        dropped_squares[t], squares[t] = lost, total
        kept_nonzeros += kept
        nonzeros += some
    return kept_nonzeros, nonzeros
