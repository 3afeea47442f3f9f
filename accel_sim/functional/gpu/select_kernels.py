"""Triton kernels that select and compress: one read of the activations, one write of slots and metadata.

A program takes a tile of tokens and groups. From floats it quantises per token on the way (`accel_sim.quantize`): it
then takes whole rows, reads each once for its maximum and again, from cache, for its codes. A pattern of one level is
the inner one of a single inner group (OUTER_M = 1).
"""

# ruff: noqa: RUF005  (the language of the kernels has no unpacking)

from __future__ import annotations

import triton
import triton.language as tl

from accel_sim.functional.gpu.groups import (
    encoded,
    joined,
    moved_together,
    store_fields,
    top,
    with_ties_to_the_lower,
)
from accel_sim.quantize.triton_int8 import code_of, token_scale

NONE, FACTORS, MASK = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
"""What decides beside the codes: nothing, score factors uint8 [K], or a given mask int8 [T, K]."""


@triton.jit
def select_kernel(
    x, decides, mask, tokens, features,
    DECIDES: tl.constexpr, WORDS: tl.constexpr, RAGGED: tl.constexpr,
    OUTER_N: tl.constexpr, OUTER_M: tl.constexpr, INNER_N: tl.constexpr, INNER_M: tl.constexpr,
    OUTER_NETWORK: tl.constexpr, INNER_NETWORK: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """mask int8 [T, K] of x int8 [T, K]; with WORDS all three point to int32, four elements each, and 4 divides K."""
    M: tl.constexpr = OUTER_M * INNER_M
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    group = tl.program_id(1) * BLOCK_G + tl.arange(0, BLOCK_G)[None, :]
    real = token < tokens
    _, magnitudes = _codes(x, token, real, group, features, M, WORDS)
    scores = _scores(magnitudes, decides, token, real, group, features, DECIDES, WORDS, RAGGED, M)
    _, flags = _selected(
        scores, group, features, DECIDES == MASK, RAGGED,
        OUTER_N, OUTER_M, INNER_N, INNER_M, OUTER_NETWORK, INNER_NETWORK,
    )  # fmt: skip
    if WORDS:
        for quad in tl.static_range(M // 4):
            word = flags[4 * quad].to(tl.int32)
            for j in tl.static_range(1, 4):
                word = word | (flags[4 * quad + j].to(tl.int32) << (8 * j))
            place = group * (M // 4) + quad
            tl.store(mask + token * (features // 4) + place, word, mask=real & (place < features // 4))
    else:
        for j in tl.static_range(M):
            feature = group * M + j
            tl.store(mask + token * features + feature, flags[j].to(tl.int8), mask=real & (feature < features))


@triton.jit
def compress_kernel(
    x, decides, binomials, outer_binomials, scales, values, metadata,
    tokens, features, groups, value_units, metadata_units,
    QUANTIZE: tl.constexpr, DECIDES: tl.constexpr, WORDS: tl.constexpr, RAGGED: tl.constexpr, EXACT: tl.constexpr,
    OUTER_N: tl.constexpr, OUTER_M: tl.constexpr, INNER_N: tl.constexpr, INNER_M: tl.constexpr,
    OUTER_NETWORK: tl.constexpr, INNER_NETWORK: tl.constexpr,
    ENCODING: tl.constexpr, OUTER_BITS: tl.constexpr, OUTER_WIDTH: tl.constexpr,
    INNER_BITS: tl.constexpr, INNER_WIDTH: tl.constexpr,
    VALUES_TOGETHER: tl.constexpr, VALUE_UNIT: tl.constexpr,
    FIELDS_TOGETHER: tl.constexpr, METADATA_UNIT: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Slots and metadata of x [T, K]: codes int8 (int32 with WORDS), or floats with QUANTIZE, which also stores scales.

    `values` [T, G·N] and `metadata` [T, B] are int8, or wider units where a row is whole units. With QUANTIZE the grid
    has one program for BLOCK_T whole rows.
    """
    N: tl.constexpr = OUTER_N * INNER_N
    M: tl.constexpr = OUTER_M * INNER_M
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    real = token < tokens
    scale = tl.full([BLOCK_T, 1], 1.0, tl.float32)
    if QUANTIZE:
        scale = token_scale(x, token, real, features, BLOCK_T, BLOCK_K)
        tl.store(scales + token, scale, mask=real)
    for block in range(tl.program_id(1), (groups + BLOCK_G - 1) // BLOCK_G, tl.num_programs(1)):
        first = block * BLOCK_G
        group = first + tl.arange(0, BLOCK_G)[None, :]
        if QUANTIZE:
            codes, magnitudes = _quantized(x, token, real, group, features, scale, M, BLOCK_T, BLOCK_G)
        else:
            codes, magnitudes = _codes(x, token, real, group, features, M, WORDS)
        scores = _scores(magnitudes, decides, token, real, group, features, DECIDES, WORDS, RAGGED, M)
        outer, flags = _selected(
            scores, group, features, DECIDES == MASK, RAGGED,
            OUTER_N, OUTER_M, INNER_N, INNER_M, OUTER_NETWORK, INNER_NETWORK,
        )  # fmt: skip
        items = ()
        for j in tl.static_range(M):
            code = codes[j]
            if DECIDES == MASK:
                code = tl.where(scores[j] == 2, code, 0)  # what the mask does not keep holds 0
            items = items + (code,)
        slots = moved_together(items, flags, 8, N, M)
        store_fields(
            values, slots, token, real, first, value_units, 8 * N, VALUES_TOGETHER, VALUE_UNIT, BLOCK_T, BLOCK_G
        )
        if OUTER_WIDTH + INNER_WIDTH > 0:
            field = _field(
                outer, flags, binomials, outer_binomials, ENCODING,
                OUTER_N, OUTER_M, OUTER_BITS, OUTER_WIDTH, INNER_N, INNER_M, INNER_BITS, INNER_WIDTH,
            )  # fmt: skip
            if not EXACT:  # groups behind the last one share a byte with it
                inside = ()
                for word in tl.static_range((OUTER_WIDTH + OUTER_N * INNER_WIDTH + 31) // 32):
                    inside = inside + (tl.where(group < groups, field[word], 0),)
                field = inside
            WIDTH: tl.constexpr = OUTER_WIDTH + OUTER_N * INNER_WIDTH
            store_fields(
                metadata, field, token, real, first, metadata_units,
                WIDTH, FIELDS_TOGETHER, METADATA_UNIT, BLOCK_T, BLOCK_G,
            )  # fmt: skip


@triton.jit
def _codes(x, token, real, group, features, M: tl.constexpr, WORDS: tl.constexpr):
    """M tiles of x int8, as bytes in uint32 and as magnitudes int32; 0 in the padding.

    With WORDS x points to int32, four codes each.
    """
    codes = ()
    magnitudes = ()
    if WORDS:
        for quad in tl.static_range(M // 4):
            place = group * (M // 4) + quad
            word = tl.load(x + token * (features // 4) + place, mask=real & (place < features // 4), other=0)
            for j in tl.static_range(4):
                code = (word << (24 - 8 * j)) >> 24
                codes = codes + ((code & 0xFF).to(tl.uint32),)
                magnitudes = magnitudes + (tl.abs(code),)
    else:
        for j in tl.static_range(M):
            feature = group * M + j
            code = tl.load(x + token * features + feature, mask=real & (feature < features), other=0).to(tl.int32)
            codes = codes + ((code & 0xFF).to(tl.uint32),)
            magnitudes = magnitudes + (tl.abs(code),)
    return codes, magnitudes


@triton.jit
def _quantized(
    x, token, real, group, features, scale, M: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_G: tl.constexpr
):  # fmt: skip
    """M tiles of the floats x: codes as bytes in uint32, and their magnitudes int32; 0 in the padding."""
    reciprocal = 1.0 / scale.to(tl.float64)
    signed = ()
    if M % 4 == 0:
        for quad in tl.static_range(M // 4):
            feature = (group * M + 4 * quad)[:, :, None] + tl.arange(0, 4)[None, None, :]
            inside = real[:, :, None] & (feature < features)
            four = tl.load(x + token[:, :, None] * features + feature, mask=inside, other=0.0).to(tl.float32)
            even, odd = tl.split(tl.reshape(four, [BLOCK_T, BLOCK_G, 2, 2]))
            value_0, value_2 = tl.split(even)
            value_1, value_3 = tl.split(odd)
            signed = signed + (code_of(value_0, reciprocal), code_of(value_1, reciprocal))
            signed = signed + (code_of(value_2, reciprocal), code_of(value_3, reciprocal))
    else:
        for j in tl.static_range(M):
            feature = group * M + j
            value = tl.load(x + token * features + feature, mask=real & (feature < features), other=0.0)
            signed = signed + (code_of(value.to(tl.float32), reciprocal),)
    codes = ()
    magnitudes = ()
    for j in tl.static_range(M):
        codes = codes + ((signed[j] & 0xFF).to(tl.uint32),)
        magnitudes = magnitudes + (tl.abs(signed[j]),)
    return codes, magnitudes


@triton.jit
def _scores(
    magnitudes, decides, token, real, group, features,
    DECIDES: tl.constexpr, WORDS: tl.constexpr, RAGGED: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    """M tiles int32: magnitude·factor, padding −1; of a given mask what slots prefer: kept 2, padding 1, dropped 0."""
    if DECIDES == MASK:
        _, given = _codes(decides, token, real, group, features, M, WORDS)
    scores = ()
    for j in tl.static_range(M):
        feature = group * M + j
        score = given[j] * 2 if DECIDES == MASK else magnitudes[j]
        if DECIDES == FACTORS:
            score = score * tl.load(decides + feature, mask=feature < features, other=0).to(tl.int32)
        if RAGGED:
            score = tl.where(feature < features, score, 1 if DECIDES == MASK else -1)
        scores = scores + (score,)
    return scores


@triton.jit
def _selected(
    scores, group, features, GIVEN: tl.constexpr, RAGGED: tl.constexpr,
    OUTER_N: tl.constexpr, OUTER_M: tl.constexpr, INNER_N: tl.constexpr, INNER_M: tl.constexpr,
    OUTER_NETWORK: tl.constexpr, INNER_NETWORK: tl.constexpr,
):  # fmt: skip
    """Flags of the OUTER_M inner groups and of all M positions; N_inner a chosen inner group, fillers among them."""
    keys = ()
    for i in tl.static_range(OUTER_M):
        keys = keys + with_ties_to_the_lower(scores[i * INNER_M : (i + 1) * INNER_M], INNER_M)
    within = ()
    for i in tl.static_range(OUTER_M):
        within = within + top(keys[i * INNER_M : (i + 1) * INNER_M], INNER_N, INNER_M, INNER_NETWORK)
    if OUTER_M == 1:
        outer = (tl.full(within[0].shape, 1, tl.int1),)
        flags = within
    else:
        strengths = ()
        for i in tl.static_range(OUTER_M):
            strength = tl.zeros_like(scores[0])
            for j in tl.static_range(i * INNER_M, (i + 1) * INNER_M):
                if GIVEN:
                    strength = tl.maximum(strength, tl.where(scores[j] == 2, 2, 0))
                else:
                    strength += tl.where(within[j], tl.maximum(scores[j], 0), 0)
            if RAGGED:  # nothing but padding
                nothing = (group * OUTER_M + i) * INNER_M >= features
                strength = tl.where(nothing, 1 if GIVEN else -1, strength)
            strengths = strengths + (strength,)
        outer = top(with_ties_to_the_lower(strengths, OUTER_M), OUTER_N, OUTER_M, OUTER_NETWORK)
        flags = ()
        for i in tl.static_range(OUTER_M):
            for j in tl.static_range(i * INNER_M, (i + 1) * INNER_M):
                flags = flags + (within[j] & outer[i],)
    return outer, flags


@triton.jit
def _field(
    outer, flags, binomials, outer_binomials, ENCODING: tl.constexpr,
    OUTER_N: tl.constexpr, OUTER_M: tl.constexpr, OUTER_BITS: tl.constexpr, OUTER_WIDTH: tl.constexpr,
    INNER_N: tl.constexpr, INNER_M: tl.constexpr, INNER_BITS: tl.constexpr, INNER_WIDTH: tl.constexpr,
):  # fmt: skip
    """A group's metadata: the outer field where there is one, then those of the chosen inner groups, ascending."""
    if (OUTER_M == 1) and (OUTER_WIDTH == 0):
        field = encoded(flags, binomials, ENCODING, INNER_BITS, INNER_WIDTH, INNER_N, INNER_M)
    else:
        field = ()
        if OUTER_WIDTH > 0:
            field = encoded(outer, outer_binomials, ENCODING, OUTER_BITS, OUTER_WIDTH, OUTER_N, OUTER_M)
        if INNER_WIDTH > 0:
            for slot in tl.static_range(OUTER_N):
                inner = _of_chosen(outer, flags, slot, OUTER_M, INNER_M)
                more = encoded(inner, binomials, ENCODING, INNER_BITS, INNER_WIDTH, INNER_N, INNER_M)
                field = joined(field, OUTER_WIDTH + slot * INNER_WIDTH, more, INNER_WIDTH)
    return field


@triton.jit
def _of_chosen(outer, flags, SLOT: tl.constexpr, OUTER_M: tl.constexpr, INNER_M: tl.constexpr):
    """The INNER_M flags of the chosen inner group number SLOT."""
    inner = ()
    for j in tl.static_range(INNER_M):
        found = tl.zeros(flags[0].shape, tl.int1)
        before = tl.zeros(flags[0].shape, tl.int32)
        for i in tl.static_range(OUTER_M):
            found = found | (flags[i * INNER_M + j] & (before == SLOT))  # flags of inner groups not chosen are unset
            before += outer[i].to(tl.int32)
        inner = inner + (found,)
    return inner
