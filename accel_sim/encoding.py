"""Metadata codecs: the bits that say where each slot's value came from, and how they are packed into bytes.

A group's metadata is a row of unsigned fields, packed least-significant bit first; each token row starts on a byte:

* `bitmap`: one field of M bits, bit j = position j is kept;
* `index`: N fields of ceil(log2 M) bits, the position of each slot, slot 0 lowest;
* `enumerative`: one field of ceil(log2 C(M, N)) bits, the rank Σ C(p_i, i+1) of the ascending positions p_0 < p_1 < …
  in the combinatorial number system (Cover, "Enumerative source encoding", IEEE Trans. Inf. Theory 19(1), 1973).

These are the plain NumPy codecs; every other implementation is compared with them.
"""

from __future__ import annotations

from functools import cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, Pattern


def row_bytes(groups: int, pattern: Pattern, encoding: Encoding) -> int:
    """Bytes of metadata that one token row of `groups` groups takes."""
    return -(-groups * pattern.metadata_bits(encoding) // 8)


@cache
def binomials(pattern: Pattern) -> NDArray[np.uint64]:
    """C(p, i+1) as uint64 [N, M], row i for slot i, column p for position p: what a slot adds to its group's rank."""
    table = [[comb(p, i + 1) for p in range(pattern.m)] for i in range(pattern.n)]
    read_only = np.array(table, dtype=np.uint64)
    read_only.flags.writeable = False
    return read_only


def encode(positions: NDArray[np.integer], pattern: Pattern, encoding: Encoding) -> NDArray[np.uint8]:
    """Metadata bytes uint8 [T, B] of the slots' positions [T, G, N], ascending within each group."""
    tokens, groups, _ = positions.shape
    p = positions.astype(np.uint64)
    if encoding == "bitmap":
        fields = np.bitwise_or.reduce(np.uint64(1) << p, axis=2)
    elif encoding == "index":
        fields = p.reshape(tokens, groups * pattern.n)
    elif encoding == "enumerative":
        slots = np.arange(pattern.n)
        fields = binomials(pattern)[slots, positions].sum(axis=2, dtype=np.uint64)
    else:
        pattern.metadata_bits(encoding)  # raises, naming what is accepted
    return _pack(fields, field_bits(pattern, encoding))


def decode(metadata: NDArray[np.uint8], groups: int, pattern: Pattern, encoding: Encoding) -> NDArray[np.intp]:
    """Positions [T, G, N], ascending within each group, from metadata bytes uint8 [T, B].

    Raises AccelSimError naming token and group where the bits are no valid code word: a bitmap without exactly N ones,
    indices that do not ascend below M, or a rank of C(M, N) and above.
    """
    tokens = metadata.shape[0]
    bits = field_bits(pattern, encoding)
    if encoding == "index":
        positions = _unpack(metadata, groups * pattern.n, bits).astype(np.intp).reshape(tokens, groups, pattern.n)
        valid = (np.diff(positions, axis=2) > 0).all(axis=2) & (positions[..., -1] < pattern.m)
    elif encoding == "bitmap":
        fields = _unpack(metadata, groups, bits)
        kept = (fields[..., None] >> np.arange(pattern.m, dtype=np.uint64)) & np.uint64(1)
        valid = kept.sum(axis=2) == pattern.n
        positions = np.argsort(kept == 0, axis=2, kind="stable")[..., : pattern.n]
    else:
        ranks = _unpack(metadata, groups, bits)
        valid = ranks < comb(pattern.m, pattern.n)
        positions = _unrank(ranks, pattern)
    require_valid(valid, pattern, encoding)
    return positions


def require_valid(valid: NDArray[np.bool_], pattern: Pattern, encoding: Encoding) -> None:
    """Raise AccelSimError for the first group of `valid` bool [T, G] that is False."""
    if not valid.all():
        token, group = np.argwhere(~valid)[0]
        raise AccelSimError(f"{encoding} metadata of token {token}, group {group} is no code word of {pattern}")


def _unrank(ranks: NDArray[np.uint64], pattern: Pattern) -> NDArray[np.intp]:
    """Undo Σ C(p_i, i+1) greedily from the highest slot: p_i is the largest p with C(p, i+1) ≤ what is left."""
    left = ranks.copy()
    positions = np.empty((*ranks.shape, pattern.n), dtype=np.intp)
    for slot in reversed(range(pattern.n)):
        column = binomials(pattern)[slot]
        positions[..., slot] = np.searchsorted(column, left, side="right") - 1
        left -= column[positions[..., slot]]
    return positions


def field_bits(pattern: Pattern, encoding: Encoding) -> int:
    """Bits of one packed field: of a group's only one, or, for `index`, of each of its N."""
    bits = pattern.metadata_bits(encoding)
    return bits // pattern.n if encoding == "index" else bits


def _pack(fields: NDArray[np.uint64], bits: int) -> NDArray[np.uint8]:
    """Fields uint64 [T, C] of `bits` bits each → bytes uint8 [T, ceil(C·bits/8)], least-significant bit first."""
    single = (fields[..., None] >> np.arange(bits, dtype=np.uint64)).astype(np.uint8) & np.uint8(1)
    return np.packbits(single.reshape(fields.shape[0], fields.shape[1] * bits), axis=1, bitorder="little")


def _unpack(packed: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.uint64]:
    single = np.unpackbits(packed, axis=1, count=count * bits, bitorder="little")
    weights = np.uint64(1) << np.arange(bits, dtype=np.uint64)
    return (single.reshape(packed.shape[0], count, bits) * weights).sum(axis=2, dtype=np.uint64)
