"""The datapath as compiled loops on all cores that Numba may use (NUMBA_NUM_THREADS)."""

from __future__ import annotations

from math import comb

import numba
import numpy as np
from numpy.typing import NDArray

from accel_sim import encoding as codec
from accel_sim.functional import kernels
from accel_sim.functional.codec_kernels import BITMAP, ENUMERATIVE, INDEX, compress_rows, decompress_rows
from accel_sim.functional.fixed_point import Multipliers
from accel_sim.functional.kernels import frozen, over_rows
from accel_sim.pattern import Encoding, HierarchicalPattern, Pattern

_ENCODING_NUMBERS = {"bitmap": BITMAP, "index": INDEX, "enumerative": ENUMERATIVE}
_Level = tuple[int, int, int, int, NDArray[np.uint64], np.uint64, NDArray[np.int64]]
"""N, M, the encoding's number, bits of one field, binomials, C(M, N), bit offset of each group in a token's row."""


class NumbaBackend:
    note = f"Numba {numba.__version__}, compiled loops over the kept slots, {numba.config.NUMBA_NUM_THREADS} threads"

    def select(self, x: NDArray[np.int8], pattern: Pattern, factors: NDArray[np.uint8]) -> NDArray[np.bool_]:
        x, factors = frozen(x), frozen(factors)
        mask = np.empty(x.shape, dtype=np.bool_)
        two_levels = isinstance(pattern, HierarchicalPattern)
        inner = pattern.inner if two_levels else pattern

        def select_part(rows: slice) -> None:
            kernels.select_rows(x[rows], factors, inner.n, inner.m, mask[rows])
            if two_levels:
                kernels.keep_strongest_rows(x[rows], factors, pattern.outer.n, pattern.outer.m, inner.m, mask[rows])

        over_rows(select_part, x.shape[0])
        return mask

    def compress(
        self, x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern, encoding: Encoding
    ) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
        x, mask = frozen(x), frozen(mask)
        tokens, groups = x.shape[0], pattern.groups(x.shape[1])
        values = np.empty((tokens, groups * pattern.n), dtype=np.int8)
        metadata = np.zeros((tokens, codec.row_bytes(groups, pattern, encoding)), dtype=np.uint8)
        levels = _levels(pattern, encoding, groups)
        over_rows(lambda rows: compress_rows(x[rows], mask[rows], *levels, values[rows], metadata[rows]), tokens)
        return values.reshape(tokens, groups, pattern.n), metadata

    def decompress(
        self,
        values: NDArray[np.int8],
        metadata: NDArray[np.uint8],
        features: int,
        pattern: Pattern,
        encoding: Encoding,
    ) -> NDArray[np.int8]:
        tokens, groups, n = values.shape
        values, metadata = frozen(values.reshape(tokens, groups * n)), frozen(metadata)
        dense = np.zeros((tokens, features), dtype=np.int8)
        levels = _levels(pattern, encoding, groups)
        kept_a_group = pattern.outer.n if isinstance(pattern, HierarchicalPattern) else 1
        valid = np.empty((tokens, groups * kept_a_group), dtype=np.bool_)
        over_rows(lambda rows: decompress_rows(values[rows], metadata[rows], *levels, dense[rows], valid[rows]), tokens)
        codec.require_valid(valid.reshape(tokens, groups, kept_a_group).all(axis=2), pattern, encoding)
        return dense

    def multiply(
        self,
        x: NDArray[np.int8],
        mask: NDArray[np.bool_],
        w: NDArray[np.int8],
        pattern: Pattern,
        bias: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        x, mask, w = frozen(x), frozen(mask), frozen(w)
        slots = pattern.groups(x.shape[1]) * pattern.n
        acc = np.empty((x.shape[0], w.shape[1]), dtype=np.int32)
        acc[:] = bias
        over_rows(lambda rows: kernels.multiply_rows(x[rows], mask[rows], w, slots, acc[rows]), x.shape[0])
        return acc

    def requantize(self, acc: NDArray[np.int32], constants: Multipliers) -> NDArray[np.int8]:
        acc = frozen(acc)
        codes = np.empty(acc.shape, dtype=np.int8)
        token = frozen(constants.token_mantissa), frozen(constants.token_exponent)
        output = frozen(constants.output_mantissa), frozen(constants.output_exponent)
        over_rows(
            lambda rows: kernels.requantize_rows(acc[rows], token[0][rows], token[1][rows], *output, codes[rows]),
            acc.shape[0],
        )
        return codes

    def dequantize(
        self,
        acc: NDArray[np.int32],
        scale_x: NDArray[np.float32],
        scale_w: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        acc, scale_x, scale_w = frozen(acc), frozen(scale_x), frozen(scale_w)
        bias = frozen(np.empty(0, dtype=np.float32) if bias is None else bias)
        floats = np.empty(acc.shape, dtype=np.float32)
        over_rows(
            lambda rows: kernels.dequantize_rows(acc[rows], scale_x[rows], scale_w, bias, floats[rows]), acc.shape[0]
        )
        return floats


def _levels(pattern: Pattern, encoding: Encoding, groups: int) -> tuple[_Level, _Level]:
    """The outer and the inner level as the codec kernels take them, for rows of `groups` groups.

    A pattern of one level is the inner one, under an outer level that has no groups.
    """
    starts = np.arange(groups) * pattern.metadata_bits(encoding)
    if not isinstance(pattern, HierarchicalPattern):
        return _level(pattern, encoding, starts[:0]), _level(pattern, encoding, starts)
    fields = np.arange(pattern.outer.n) * pattern.inner.metadata_bits(encoding)
    inner_starts = np.add.outer(starts + pattern.outer.metadata_bits(encoding), fields).ravel()
    return _level(pattern.outer, encoding, starts), _level(pattern.inner, encoding, inner_starts)


def _level(level: Pattern, encoding: Encoding, offsets: NDArray[np.int64]) -> _Level:
    number, bits = _ENCODING_NUMBERS[encoding], codec.field_bits(level, encoding)
    return level.n, level.m, number, bits, codec.binomials(level), np.uint64(comb(level.m, level.n)), frozen(offsets)
