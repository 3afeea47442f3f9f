"""The Triton kernel that decompresses, and says whether the metadata is a code word: any encoding, one level or two."""

from __future__ import annotations

import triton
import triton.language as tl

from accel_sim.functional.gpu.groups import BITMAP, INDEX


@triton.jit
def decompress_kernel(
    values, metadata, binomials, outer_binomials, dense, valid,
    tokens, features, groups, value_bytes, metadata_bytes, words, outer_words,
    ENCODING: tl.constexpr,
    OUTER_N: tl.constexpr, OUTER_M: tl.constexpr, OUTER_BITS: tl.constexpr, OUTER_WIDTH: tl.constexpr,
    INNER_N: tl.constexpr, INNER_M: tl.constexpr, INNER_BITS: tl.constexpr, INNER_WIDTH: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """Scatter values int8 [T, G·N] into dense int8 [T, K], which holds zeros; valid int8 [T, G]: a code word?

    `words` and `outer_words` are C(M, N) of each level. Of a group that is not valid, what lands in dense is undefined.
    """
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    group = tl.program_id(1) * BLOCK_G + tl.arange(0, BLOCK_G)[None, :]
    inside = (token < tokens) & (group < groups)
    row = metadata + token * metadata_bytes
    bit = tl.zeros([BLOCK_T, BLOCK_G], tl.int32) + group * (OUTER_WIDTH + OUTER_N * INNER_WIDTH)
    if OUTER_WIDTH > 0:
        outer, good = _positions(
            row, bit, inside, metadata_bytes, outer_binomials, outer_words,
            ENCODING, OUTER_BITS, OUTER_WIDTH, OUTER_N, OUTER_M,
        )  # fmt: skip
    else:  # one level, or outer groups that keep all
        outer = tl.zeros([BLOCK_T, BLOCK_G], tl.uint64) + ((1 << OUTER_M) - 1)
        good = inside
    chosen = tl.zeros([BLOCK_T, BLOCK_G], tl.int32)
    for i in range(OUTER_M):
        here = inside & ((outer & 1) != 0) & (chosen < OUTER_N)
        outer = outer >> 1
        inner, inner_good = _positions(
            row, bit + OUTER_WIDTH + chosen * INNER_WIDTH, here, metadata_bytes, binomials, words,
            ENCODING, INNER_BITS, INNER_WIDTH, INNER_N, INNER_M,
        )  # fmt: skip
        good = good & (inner_good | (here == 0))
        slot = (group * OUTER_N + chosen) * INNER_N
        feature = (group * OUTER_M + i) * INNER_M
        end = slot + INNER_N
        for j in range(INNER_M):
            kept = here & ((inner & 1) != 0) & (slot < end)
            inner = inner >> 1
            value = tl.load(values + token * value_bytes + slot, mask=kept, other=0)
            tl.store(dense + token * features + feature + j, value, mask=kept & (feature + j < features))
            slot += kept.to(tl.int32)
        chosen += here.to(tl.int32)
    tl.store(valid + token * groups + group, good.to(tl.int8), mask=inside)


@triton.jit
def _positions(
    row, bit, inside, row_bytes, binomials, words,
    ENCODING: tl.constexpr, BITS: tl.constexpr, WIDTH: tl.constexpr, N: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    """The positions of a field at `bit` of a row as bits of an uint64, and whether it is a code word."""
    kept = tl.zeros(bit.shape, tl.uint64)
    if ENCODING == INDEX:
        good = inside
        last = tl.full(bit.shape, -1, tl.int64)
        for slot in range(N):
            position = _bits(row, bit + slot * BITS, inside, row_bytes, BITS).to(tl.int64)
            good = good & (position > last) & (position < M)
            kept = kept | (tl.full(bit.shape, 1, tl.uint64) << (position & 63).to(tl.uint64))
            last = position
    elif ENCODING == BITMAP:
        kept = _bits(row, bit, inside, row_bytes, WIDTH)
        count = tl.zeros(bit.shape, tl.int32)
        rest = kept
        for _ in range(M):
            count += (rest & 1).to(tl.int32)
            rest = rest >> 1
        good = inside & (count == N)
    else:
        # greedily from the highest slot down: the largest position whose binomial still fits
        left = _bits(row, bit, inside, row_bytes, WIDTH).to(tl.int64)
        good = inside & (left < words)
        slot = tl.full(bit.shape, N - 1, tl.int32)
        for step in range(M):
            j = M - 1 - step
            weight = tl.load(binomials + slot * M + j, mask=slot >= 0, other=0)
            fits = (slot >= 0) & (weight <= left)
            left -= tl.where(fits, weight, 0)
            kept = (kept << 1) | fits.to(tl.uint64)
            slot -= fits.to(tl.int32)
    return kept, good


@triton.jit
def _bits(row, bit, inside, row_bytes, WIDTH: tl.constexpr):
    """uint64: WIDTH bits, at most 64, from `bit` of a row on."""
    byte = bit // 8
    start = (bit % 8).to(tl.uint64)
    field = tl.zeros(bit.shape, tl.uint64)
    for i in tl.static_range((WIDTH + 14) // 8):
        piece = tl.load(row + byte + i, mask=inside & (byte + i < row_bytes), other=0).to(tl.uint64)
        if i < 8:
            field = field | (piece << (8 * i))
        else:
            ninth = piece
    field = field >> start
    if WIDTH > 57:
        field = field | ((ninth << 1) << (63 - start))
    if WIDTH < 64:
        field = field & ((1 << WIDTH) - 1)
    return field
