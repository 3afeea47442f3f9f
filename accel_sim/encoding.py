"""Metadata codecs: the bits that say where each slot's value came from, and how they are packed into bytes.

A group's metadata is a row of unsigned fields, packed least-significant bit first; each token row starts on a byte:

* `bitmap`: one field of M bits, bit j = position j is kept;
* `index`: N fields of ceil(log2 M) bits, the position of each slot, slot 0 lowest;
* `enumerative`: one field of ceil(log2 C(M, N)) bits, the rank Σ C(p_i, i+1) of the ascending positions p_0 < p_1 < …
  in the combinatorial number system (Cover, "Enumerative source encoding", IEEE Trans. Inf. Theory 19(1), 1973).

A pattern of two levels, N1:M1 of N0:M0, writes which N1 inner groups are kept as a group of N1:M1, and then, for each
of them in ascending order, which of its features are kept as a group of N0:M0.

These are the plain NumPy codecs; every other implementation is compared with them.
"""

from __future__ import annotations

from functools import cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, HierarchicalPattern, Pattern


def row_bytes(groups: int, pattern: Pattern, encoding: Encoding) -> int:
    """Bytes of metadata that one token row of `groups` groups takes."""
    return -(-groups * pattern.metadata_bits(encoding) // 8)


@cache
def binomials(level: Pattern) -> NDArray[np.uint64]:
    """C(p, i+1) as uint64 [N, M], row i for slot i, column p for position p: what a slot adds to its group's rank."""
    table = [[comb(p, i + 1) for p in range(level.m)] for i in range(level.n)]
    read_only = np.array(table, dtype=np.uint64)
    read_only.flags.writeable = False
    return read_only


def encode(positions: NDArray[np.integer], pattern: Pattern, encoding: Encoding) -> NDArray[np.uint8]:
    """Metadata bytes uint8 [T, B] of the slots' positions [T, G, N], ascending within each group.

    Of two levels, N is N1·N0, a position counts through all M1·M0 features, and N0 slots in turn share an inner group.
    """
    tokens, groups, _ = positions.shape
    if isinstance(pattern, HierarchicalPattern):
        outer, inner = pattern.outer, pattern.inner
        apart = positions.reshape(tokens, groups, outer.n, inner.n)
        inner_bits = _encode_level(apart % inner.m, inner, encoding)
        inner_bits = inner_bits.reshape(tokens, groups, outer.n * inner.metadata_bits(encoding))
        bits = np.concatenate([_encode_level(apart[..., 0] // inner.m, outer, encoding), inner_bits], axis=2)
    else:
        bits = _encode_level(positions, pattern, encoding)
    return np.packbits(bits.reshape(tokens, groups * bits.shape[2]), axis=1, bitorder="little")


def decode(metadata: NDArray[np.uint8], groups: int, pattern: Pattern, encoding: Encoding) -> NDArray[np.intp]:
    """Positions [T, G, N], ascending within each group, from metadata bytes uint8 [T, B].

    Raises AccelSimError naming token and group where the bits are no valid code word: a bitmap without exactly N ones,
    indices that do not ascend below M, or a rank of C(M, N) and above; at either level, where there are two.
    """
    tokens, width = metadata.shape[0], pattern.metadata_bits(encoding)
    bits = np.unpackbits(metadata, axis=1, count=groups * width, bitorder="little").reshape(tokens, groups, width)
    if isinstance(pattern, HierarchicalPattern):
        outer, inner = pattern.outer, pattern.inner
        outer_bits, inner_bits = np.split(bits, [outer.metadata_bits(encoding)], axis=2)
        kept, valid = _decode_level(outer_bits, outer, encoding)
        inner_bits = inner_bits.reshape(tokens, groups, outer.n, inner.metadata_bits(encoding))
        within, all_valid = _decode_level(inner_bits, inner, encoding)
        valid &= all_valid.all(axis=2)
        positions = (kept[..., None] * inner.m + within).reshape(tokens, groups, pattern.n)
    else:
        positions, valid = _decode_level(bits, pattern, encoding)
    require_valid(valid, pattern, encoding)
    return positions


def _encode_level(positions: NDArray[np.integer], level: Pattern, encoding: Encoding) -> NDArray[np.uint8]:
    """Bits uint8 [..., metadata_bits] of positions [..., N] of one level."""
    p = positions.astype(np.uint64)
    if encoding == "bitmap":
        fields = np.bitwise_or.reduce(np.uint64(1) << p, axis=-1, keepdims=True)
    elif encoding == "index":
        fields = p
    elif encoding == "enumerative":
        slots = np.arange(level.n)
        fields = binomials(level)[slots, positions].sum(axis=-1, dtype=np.uint64, keepdims=True)
    else:
        level.metadata_bits(encoding)  # raises, naming what is accepted
    bits = (fields[..., None] >> np.arange(field_bits(level, encoding), dtype=np.uint64)).astype(np.uint8) & np.uint8(1)
    return bits.reshape(*positions.shape[:-1], level.metadata_bits(encoding))


def _decode_level(
    bits: NDArray[np.uint8], level: Pattern, encoding: Encoding
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Positions [..., N] of bits uint8 [..., metadata_bits] of one level, and [...] whether they are a code word."""
    if encoding == "bitmap":
        positions = np.argsort(bits == 0, axis=-1, kind="stable")[..., : level.n]
        return positions, bits.sum(axis=-1) == level.n
    width = field_bits(level, encoding)
    weights = np.uint64(1) << np.arange(width, dtype=np.uint64)
    if encoding == "index":
        separate = bits.reshape(*bits.shape[:-1], level.n, width)
        positions = (separate * weights).sum(axis=-1, dtype=np.uint64).astype(np.intp)
        return positions, (np.diff(positions, axis=-1) > 0).all(axis=-1) & (positions[..., -1] < level.m)
    ranks = (bits * weights).sum(axis=-1, dtype=np.uint64)
    return _unrank(ranks, level), ranks < comb(level.m, level.n)


def require_valid(valid: NDArray[np.bool_], pattern: Pattern, encoding: Encoding) -> None:
    """Raise AccelSimError for the first group of `valid` bool [T, G] that is False."""
    if not valid.all():
        token, group = np.argwhere(~valid)[0]
        raise AccelSimError(f"{encoding} metadata of token {token}, group {group} is no code word of {pattern}")


def _unrank(ranks: NDArray[np.uint64], level: Pattern) -> NDArray[np.intp]:
    """Undo Σ C(p_i, i+1) greedily from the highest slot: p_i is the largest p with C(p, i+1) ≤ what is left."""
    left = ranks.copy()
    positions = np.empty((*ranks.shape, level.n), dtype=np.intp)
    for slot in reversed(range(level.n)):
        column = binomials(level)[slot]
        positions[..., slot] = np.searchsorted(column, left, side="right") - 1
        left -= column[positions[..., slot]]
    return positions


def field_bits(level: Pattern, encoding: Encoding) -> int:
    """Bits of one packed field of one level: of a group's only one, or, for `index`, of each of its N."""
    bits = level.metadata_bits(encoding)
    return bits // level.n if encoding == "index" else bits
