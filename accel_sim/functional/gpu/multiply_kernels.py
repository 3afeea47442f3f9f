"""The Triton kernel of the product: N:M-compressed activations times dense INT8 weights, exact INT32 sums.

The compressed operand is followed tile by tile. For each quad of four features a thread takes the quad's four bits of
the group's bitmap, finds by the bits below them at which slot the quad starts, and deals the slots from there on to
the features whose bits are set; the others get 0. The dense tile that this makes exists in registers and shared memory
only, and the tensor cores multiply it with the dense weights: they have no multiplexer that follows a bitmap of 8:16.
So HBM sees the compressed operand, and the arithmetic is dense.

`expand_kernel` does the same once for the whole matrix. That costs memory of the dense size, and pays off where many
tiles of outputs would expand the same activations again.
"""

# ruff: noqa: RUF005  (the language of the kernels has no unpacking)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def multiply_kernel(
    values, fields, weights, bias, acc, tokens, features, outputs, slot_bytes, row_fields,
    EXPANDED: tl.constexpr, N: tl.constexpr, M: tl.constexpr, BIASED: tl.constexpr, GROUP_ROWS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """acc int32 [T, F] = bias int32 [F] + what `values` and `fields` hold, times weights [K, F], stored as int8 [F, K].

    `features` is K, a multiple of M; M is 4, 8, 16, 32 or 64. `values` are the slots [T, slot_bytes] as int32 words
    with eight bytes to spare at the end, `fields` the bitmaps [T, row_fields]: uint8 (two groups a byte at M = 4) or
    one uint of M bits a group. With EXPANDED `values` is the dense int8 [T, K], and `fields` is not read.
    """
    # programs that share weights or activations run side by side: GROUP_ROWS tiles of tokens for each tile of outputs
    row_tiles, column_tiles = tl.cdiv(tokens, BLOCK_T), tl.cdiv(outputs, BLOCK_F)
    program = tl.program_id(0)
    first_row = program // (GROUP_ROWS * column_tiles) * GROUP_ROWS
    rows_here = tl.minimum(row_tiles - first_row, GROUP_ROWS)
    within = program % (GROUP_ROWS * column_tiles)
    token = ((first_row + within % rows_here) * BLOCK_T).to(tl.int64) + tl.arange(0, BLOCK_T)[:, None]
    output = ((within // rows_here) * BLOCK_F).to(tl.int64) + tl.arange(0, BLOCK_F)[None, :]
    real_token, real_output = token < tokens, output < outputs

    total = tl.zeros([BLOCK_T, BLOCK_F], tl.int32)
    for first in range(0, features, BLOCK_K):
        feature = first + tl.arange(0, BLOCK_K)
        if EXPANDED:
            inside = real_token & (feature < features)[None, :]
            left = tl.load(values + token * features + feature[None, :], mask=inside, other=0)
        else:
            left = _expanded(
                values, fields, token, real_token, first, features, slot_bytes, row_fields, N, M, BLOCK_T, BLOCK_K
            )
        inside = real_output & (feature < features)[:, None]
        right = tl.load(weights + output * features + feature[:, None], mask=inside, other=0)
        total = tl.dot(left, right, total, out_dtype=tl.int32)
    if BIASED:
        total += tl.load(bias + output, mask=real_output, other=0)
    tl.store(acc + token * outputs + output, total, mask=real_token & real_output)


@triton.jit
def expand_kernel(
    values, fields, dense, tokens, features, slot_bytes, row_fields,
    N: tl.constexpr, M: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dense int8 [T, K] of the same `values` and `fields`."""
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    first = tl.program_id(1) * BLOCK_K
    feature = first + tl.arange(0, BLOCK_K)[None, :]
    real = token < tokens
    tile = _expanded(values, fields, token, real, first, features, slot_bytes, row_fields, N, M, BLOCK_T, BLOCK_K)
    tl.store(dense + token * features + feature, tile, mask=real & (feature < features))


@triton.jit
def _expanded(
    values, fields, token, real, first, features, slot_bytes, row_fields,
    N: tl.constexpr, M: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The dense int8 [BLOCK_T, BLOCK_K] from feature `first` on, 0 where no slot belongs."""
    quad = first // 4 + tl.arange(0, BLOCK_K // 4)[None, :]
    group = quad // (M // 4)
    inside = real & (quad * 4 < features)
    if M == 4:
        byte = tl.load(fields + token * row_fields + group // 2, mask=inside, other=0)
        wanted = (byte.to(tl.uint32) >> (group % 2 * 4).to(tl.uint32)) & 15
        slot = group * N
    else:
        field = tl.load(fields + token * row_fields + group, mask=inside, other=0)
        shift = (quad % (M // 4) * 4).to(tl.uint64)
        wanted = ((field.to(tl.uint64) >> shift) & 15).to(tl.uint32)
        below = field.to(tl.uint64) & ((tl.full(shift.shape, 1, tl.uint64) << shift) - 1)
        slot = group * N + _ones((below & 0xFFFFFFFF).to(tl.uint32))
        if M == 64:
            slot += _ones((below >> 32).to(tl.uint32))
    # the quad's slots start at any byte: two words that hold them, moved down
    byte = token * slot_bytes + slot
    low = tl.load(values + byte // 4, mask=inside, other=0).to(tl.uint32, bitcast=True)
    high = tl.load(values + byte // 4 + 1, mask=inside, other=0).to(tl.uint32, bitcast=True)
    start = (byte % 4 * 8).to(tl.uint32)
    slots = (low >> start) | ((high << 1) << (31 - start))
    dense = ()
    for j in tl.static_range(4):
        here = ((wanted >> j) & 1) != 0
        dense = dense + (tl.where(here, slots, 0).to(tl.int8),)
        slots = tl.where(here, slots >> 8, slots)
    four = tl.join(tl.join(dense[0], dense[2]), tl.join(dense[1], dense[3]))
    return tl.reshape(four, [BLOCK_T, BLOCK_K])


@triton.jit
def _ones(bits):
    """How many bits of an uint32 are set, int32."""
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) >> 24).to(tl.int32)
