"""Pieces of the Triton kernels that work on groups: the top N of M, slots in order, metadata fields, packed bytes.

A tile [BLOCK_T, BLOCK_G] holds one number of every group of some tokens, and a group is a *tuple* of M such tiles, one
a position. So all M elements of a group lie in one thread, and nothing below crosses threads but the last halvings of
`store_fields`. A bit field of any width is a tuple of uint32 tiles, the lowest 32 bits first.
"""

# ruff: noqa: RUF005  (the language of the kernels has no unpacking)

from __future__ import annotations

import triton
import triton.language as tl

BITMAP, INDEX, ENUMERATIVE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def top(keys, N: tl.constexpr, M: tl.constexpr, NETWORK: tl.constexpr):
    """M flags: is a key among the N highest? Keys must differ.

    The exchanges of NETWORK (`networks.selection_network`) leave the N highest on the last wires; the least of these is
    the bound. For 16:32 that is a fifth of the comparisons of counting ranks pair by pair.
    """
    wires = keys
    for i in tl.static_range(len(NETWORK)):
        low = wires[NETWORK[i][0]]
        high = wires[NETWORK[i][1]]
        before = wires[: NETWORK[i][0]] + (tl.minimum(low, high),) + wires[NETWORK[i][0] + 1 : NETWORK[i][1]]
        wires = before + (tl.maximum(low, high),) + wires[NETWORK[i][1] + 1 :]
    bound = wires[M - N]
    for i in tl.static_range(M - N + 1, M):
        bound = tl.minimum(bound, wires[i])
    flags = ()
    for j in tl.static_range(M):
        flags = flags + (keys[j] >= bound,)
    return flags


@triton.jit
def with_ties_to_the_lower(scores, M: tl.constexpr):
    """Keys that differ, from scores int32: of two equal scores the lower position has the larger key."""
    keys = ()
    for j in tl.static_range(M):
        keys = keys + (scores[j] * M + (M - 1 - j),)
    return keys


@triton.jit
def moved_together(items, flags, BITS: tl.constexpr, N: tl.constexpr, M: tl.constexpr):
    """A field of N·BITS bits: the items uint32 below 2^BITS that are flagged (exactly N), the lowest position first."""
    words = ()
    for _ in tl.static_range((N * BITS + 31) // 32):
        words = words + (tl.zeros_like(items[0]),)
    for step in tl.static_range(M):  # from the highest position down, each flagged item pushes the others up
        below = items[M - 1 - step]
        pushed = ()
        for word in tl.static_range((N * BITS + 31) // 32):
            if word * 32 < (step + 1) * BITS:  # words above are still empty
                upper = (words[word] << BITS) | below
                below = words[word] >> (32 - BITS)
                pushed = pushed + (tl.where(flags[M - 1 - step], upper, words[word]),)
            else:
                pushed = pushed + (words[word],)
        words = pushed
    return words


@triton.jit
def encoded(
    flags, binomials, ENCODING: tl.constexpr, BITS: tl.constexpr, WIDTH: tl.constexpr, N: tl.constexpr, M: tl.constexpr
):
    """The metadata field of WIDTH > 0 bits of M flags, N of them set. BITS: of one index; binomials int64 [N, M]."""
    if ENCODING == INDEX:
        positions = ()
        for j in tl.static_range(M):
            positions = positions + (tl.full(flags[0].shape, j, tl.uint32),)
        words = moved_together(positions, flags, BITS, N, M)
    elif ENCODING == BITMAP:
        words = ()
        for word in tl.static_range((WIDTH + 31) // 32):
            bits = tl.zeros(flags[0].shape, tl.uint32)
            for bit in tl.static_range(32):
                if word * 32 + bit < M:
                    bits = bits | (flags[word * 32 + bit].to(tl.uint32) << bit)
            words = words + (bits,)
    else:
        rank = tl.zeros(flags[0].shape, tl.int64)
        slot = tl.zeros(flags[0].shape, tl.int32)
        for j in tl.static_range(M):
            rank += tl.load(binomials + slot * M + j, mask=flags[j], other=0)
            slot += flags[j].to(tl.int32)
        words = ((rank & 0xFFFFFFFF).to(tl.uint32),)
        if WIDTH > 32:
            words = words + ((rank >> 32).to(tl.uint32),)
    return words


@triton.jit
def joined(low, LOW_BITS: tl.constexpr, high, HIGH_BITS: tl.constexpr):
    """One field of two: `high` above the LOW_BITS bits of `low`."""
    both = ()
    for word in tl.static_range((LOW_BITS + HIGH_BITS + 31) // 32):
        bits = tl.zeros_like(high[0])
        if word * 32 < LOW_BITS:
            bits = bits | low[word]
        if (word >= LOW_BITS // 32) and ((word - LOW_BITS // 32) * 32 < HIGH_BITS):
            bits = bits | (high[word - LOW_BITS // 32] << (LOW_BITS % 32))
        if (LOW_BITS % 32 > 0) and (word > LOW_BITS // 32):
            bits = bits | (high[word - LOW_BITS // 32 - 1] >> (32 - LOW_BITS % 32))
        both = both + (bits,)
    return both


@triton.jit
def store_fields(
    target, words, token, real, first, row_units,
    WIDTH: tl.constexpr, TOGETHER: tl.constexpr, UNIT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """Pack the groups' fields of WIDTH bits into rows of `row_units` units of UNIT bytes, which `target` points to.

    TOGETHER (a power of two) neighbouring groups make whole units, so their fields are joined before they are stored.
    `token` and `real` are [BLOCK_T, 1], `first` is the tile's first group, a multiple of TOGETHER. Fields of groups
    behind a row's last one must be 0.
    """
    # 1, 2, 4, … groups at a time: the two neighbours of each pair become the low and the high part of one field
    for doubling in tl.static_range(6):
        if (2 << doubling) <= TOGETHER:
            low = ()
            high = ()
            for word in tl.static_range(((WIDTH << doubling) + 31) // 32):
                pairs = tl.reshape(words[word], [BLOCK_T, BLOCK_G >> (doubling + 1), 2])
                even, odd = tl.split(pairs)
                low = low + (even,)
                high = high + (odd,)
            words = joined(low, WIDTH << doubling, high, WIDTH << doubling)
    COUNT: tl.constexpr = WIDTH * TOGETHER // (8 * UNIT)
    field = first // TOGETHER + tl.arange(0, BLOCK_G // TOGETHER)[None, :]
    row = target + token * row_units
    if (UNIT == 4) and (COUNT == 2):
        _store_vector(row, tl.join(words[0], words[1]), field, real, row_units, 2)
    elif (UNIT == 4) and (COUNT == 4):
        four = tl.join(tl.join(words[0], words[2]), tl.join(words[1], words[3]))
        shape: tl.constexpr = [BLOCK_T, BLOCK_G // TOGETHER, 4]
        _store_vector(row, tl.reshape(four, shape), field, real, row_units, 4)
    else:
        for unit in tl.static_range(COUNT):
            piece = words[unit * UNIT // 4] >> (unit * UNIT % 4 * 8)
            place = field * COUNT + unit
            tl.store(row + place, piece.to(target.dtype.element_ty), mask=real & (place < row_units))


@triton.jit
def _store_vector(row, tile, field, real, row_units, COUNT: tl.constexpr):
    """Store COUNT neighbouring units a field at once."""
    place = field[:, :, None] * COUNT + tl.arange(0, COUNT)[None, None, :]
    mask = real[:, :, None] & (place < row_units)
    tl.store(row[:, :, None] + place, tile.to(row.dtype.element_ty), mask=mask)
