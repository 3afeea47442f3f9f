"""Compiled selection over rows of float32 scores: which elements stay, and what is left of the activations.

Scores are finite and not negative, so their bits, read as integers, are in the order of their values. Of a pattern N:M
many groups go side by side, one SIMD lane each, through a network that finds each one's N-th largest score; of a whole
token that score is built bit by bit. What lies above it stays, and of what equals it the lowest features. A block of
groups goes through four steps, all within the cache:

    scores, group after group → wires [M, L], one lane a group → the N-th largest [L] → flags, group after group

Rows are independent: neither the order nor the number of threads can change a result. `factors` is float32 [T, K],
[1, K] for all tokens, or [1, 0] where scores are magnitudes. What stays goes to `out` float32 [T, K], with 0 elsewhere,
and to `mask` bool [T, K]; either may be empty.
"""

from __future__ import annotations

from numba import njit
from numpy import empty, float32, int32, uint8, uint32, zeros

from accel_sim.functional.statistics_kernels import to_wires

BLOCK = 4096
"""Scores that are worked on at one time: 16 KiB in each of three arrays."""
_INFINITY = uint32(0x7F800000)
"""Bits of +inf. What is not below it, as an unsigned integer, is infinite, NaN, or negative."""


@njit(cache=True, nogil=True)
def _score(x, factors, scores):
    """scores float32 [S] of x float32 [S]: its magnitude, times factors float32 [S] unless they are empty."""
    if factors.size:
        for i in range(x.size):
            scores[i] = abs(x[i]) * factors[i]
    else:
        for i in range(x.size):
            scores[i] = abs(x[i])


@njit(cache=True, nogil=True)
def _all_good(scores):
    """Whether all scores float32 [S] are finite and not negative (−0 is)."""
    bits = scores.view(uint32)
    largest = uint32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i])
    return largest < _INFINITY


@njit(cache=True, nogil=True)
def _load(x, factors, groups, m, first, scores):
    """Scores float32 [L·M] of the groups from `first` on, tokens one after the other; all padding is 0."""
    tokens, features = x.shape
    last = min(first + scores.size // m, tokens * groups)
    for t in range(first // groups, (last - 1) // groups + 1):
        begin, end = max(first, t * groups), min(last, (t + 1) * groups)
        left, right = (begin - t * groups) * m, min((end - t * groups) * m, features)
        target = scores[(begin - first) * m : (end - first) * m]
        own = factors[t if factors.shape[0] > 1 else 0]
        _score(x[t, left:right], own[left:right], target)
        target[right - left :] = 0
    scores[(last - first) * m :] = 0


@njit(cache=True, nogil=True)
def _lowest_kept(wires, n, network, lowest):
    """lowest int32 [L]: the N-th largest of each lane of wires int32 [M, L], which the network reorders."""
    for c in range(network.shape[0]):
        low, high = wires[network[c, 0]], wires[network[c, 1]]
        for i in range(low.size):
            a, b = low[i], high[i]
            low[i] = min(a, b)
            high[i] = max(a, b)
    m = wires.shape[0]
    lowest[:] = wires[m - n]
    for j in range(m - n + 1, m):
        wire = wires[j]
        for i in range(lowest.size):
            lowest[i] = min(lowest[i], wire[i])


@njit(cache=True, nogil=True)
def _flag(bits, lowest, n, flags):
    """flags uint8 [S]: 1 for the `n` largest of bits int32 [S], whose n-th largest is `lowest`; ties to the lower."""
    kept = int32(0)
    for i in range(bits.size):
        flags[i] = uint8(bits[i] >= lowest)
        kept += bits[i] >= lowest
    if kept > n:  # ties, which only now are worth a second look
        room = int32(n)
        for i in range(bits.size):
            room -= bits[i] > lowest
        for i in range(bits.size):
            if bits[i] == lowest:
                flags[i] = uint8(room > 0)
                room -= room > 0


@njit(cache=True, nogil=True)
def _flag_groups(bits, lowest, n, limits, flags):
    """flags uint8 [L·M]: 1 for the `n` largest of each group of bits int32 [L·M], `lowest` int32 [L] being the n-th.

    `limits` int32 [L·M] is room. Where no group of the block has a tie, one pass in full vectors is all.
    """
    m = bits.size // lowest.size
    for b in range(lowest.size):
        for i in range(b * m, (b + 1) * m):
            limits[i] = lowest[b]
    kept = int32(0)
    for i in range(bits.size):
        flags[i] = uint8(bits[i] >= limits[i])
        kept += bits[i] >= limits[i]
    if kept > n * lowest.size:
        for b in range(lowest.size):
            _flag(bits[b * m : (b + 1) * m], lowest[b], n, flags[b * m : (b + 1) * m])


@njit(cache=True, nogil=True)
def _write(x, groups, m, first, flags, out, mask):
    """Put flags uint8 [L·M], those of the groups from `first` on, into mask bool [T, K], and x or 0 into out float32.

    Either of the two may be empty, and is then left alone.
    """
    tokens, features = x.shape
    last = min(first + flags.size // m, tokens * groups)
    for t in range(first // groups, (last - 1) // groups + 1):
        begin, end = max(first, t * groups), min(last, (t + 1) * groups)
        left, right = (begin - t * groups) * m, min((end - t * groups) * m, features)
        own = flags[(begin - first) * m : (end - first) * m]
        if out.size:
            source, target = x[t, left:right], out[t, left:right]
            for i in range(source.size):
                target[i] = source[i] if own[i] else float32(0)
        if mask.size:
            kept = mask[t, left:right]
            for i in range(kept.size):
                kept[i] = own[i] != 0


@njit(cache=True, nogil=True)
def select_of_groups(x, factors, n, m, network, out, mask):
    """Of every group of `m` features of x float32 [T, K] the `n` highest scores stay.

    `network` is int64 [C, 2], that of N of M. Returns whether all scores are finite and not negative; if not, what was
    written means nothing.
    """
    tokens, features = x.shape
    groups = -(-features // m)
    lanes = min(max(BLOCK // m, 1), tokens * groups)
    scores, block, spare = zeros(lanes * m, float32), empty(lanes * m, int32), empty(lanes * m, int32)
    bits, lowest, flags = scores.view(int32), zeros(lanes, int32), zeros(lanes * m, uint8)
    good = True
    for first in range(0, tokens * groups, max(lanes, 1)):
        _load(x, factors, groups, m, first, scores)
        good &= _all_good(scores)
        block[:] = bits
        _lowest_kept(to_wires(block, spare, m), n, network, lowest)
        _flag_groups(bits, lowest, n, block, flags)
        _write(x, groups, m, first, flags, out, mask)
    return good


@njit(cache=True, nogil=True)
def _nth_largest(bits, n):
    """Of bits int32 [S], none negative: a value that exactly n of them reach, or, where ties allow none, the n-th."""
    largest = int32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i])
    place = 0
    while (largest >> place) > 0:
        place += 1
    found = int32(0)
    for bit in range(place - 1, -1, -1):
        candidate = int32(found | (1 << bit))
        number = int32(0)
        for i in range(bits.size):
            number += bits[i] >= candidate
        if number >= n:
            found = candidate
        if number == n:  # bits further down would change nothing
            break
    return found


@njit(cache=True, nogil=True)
def select_of_tokens(x, factors, n, out, mask):
    """Of every token of x float32 [T, K] the `n` highest scores stay. Returns as `select_of_groups` does."""
    tokens, features = x.shape
    scores, flags = zeros(features, float32), zeros(features, uint8)
    bits = scores.view(int32)
    good = True
    for t in range(tokens):
        _load(x, factors, 1, features, t, scores)
        good &= _all_good(scores)
        _flag(bits, _nth_largest(bits, n), n, flags)
        _write(x, 1, features, t, flags, out, mask)
    return good


@njit(cache=True, nogil=True)
def select_above(x, factors, threshold, out, mask):
    """Of x float32 [T, K] every score above float32 `threshold` stays. Returns as `select_of_groups` does."""
    tokens, features = x.shape
    scores, flags = zeros(features, float32), zeros(features, uint8)
    good = True
    for t in range(tokens):
        _load(x, factors, 1, features, t, scores)
        good &= _all_good(scores)
        for i in range(features):
            flags[i] = uint8(scores[i] > threshold)
        _write(x, 1, features, t, flags, out, mask)
    return good


@njit(cache=True, nogil=True)
def _ordered(bits, keys):
    """keys int32 [S] in the order of the floats with these bits int32 [S]: of negative ones all bits but the sign turn.

    Twice is nothing.
    """
    for i in range(bits.size):
        keys[i] = bits[i] ^ ((bits[i] >> 31) & int32(0x7FFFFFFF))


@njit(cache=True, nogil=True)
def _bound(keys, n):
    """Of keys int32 [S] of either sign: a value that exactly n of them reach, or, where ties allow none, the n-th."""
    found = int32(-(2**31))
    for bit in range(31, -1, -1):
        candidate = int32(found + (1 << bit))
        number = int32(0)
        for i in range(keys.size):
            number += keys[i] >= candidate
        if number >= n:
            found = candidate
        if number == n:
            break
    return found


@njit(cache=True, nogil=True)
def _least_from(keys, bound):
    """The smallest of keys int32 [S] that reaches the bound."""
    least = int32(2**31 - 1)
    for i in range(keys.size):
        least = min(least, keys[i] if keys[i] >= bound else int32(2**31 - 1))
    return least


@njit(cache=True, nogil=True)
def medians_of_tokens(x, medians):
    """medians float32 [T]: of each token of x float32 [T, K] the ceil(K/2)-th smallest value.

    A NaN counts as larger than every number, or, with its sign set, as smaller.
    """
    tokens, features = x.shape
    reached_by = features - (features - 1) // 2
    values, keys = zeros(features, float32), zeros(features, int32)
    bits, found = medians.view(int32), zeros(1, int32)
    for t in range(tokens):
        values[:] = x[t]
        _ordered(values.view(int32), keys)
        found[0] = _least_from(keys, _bound(keys, reached_by))
        _ordered(found, bits[t : t + 1])
