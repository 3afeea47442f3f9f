"""The datapath as compiled loops on all cores that Numba may use (NUMBA_NUM_THREADS)."""

from __future__ import annotations

from math import comb

import numba
import numpy as np
from numpy.typing import NDArray

from accel_sim import encoding as codec
from accel_sim.functional import kernels
from accel_sim.functional.fixed_point import Multipliers
from accel_sim.functional.kernels import frozen, over_rows
from accel_sim.pattern import Encoding, Pattern

_ENCODING_NUMBERS = {
    "bitmap": kernels.BITMAP,
    "index": kernels.INDEX,
    "enumerative": kernels.ENUMERATIVE,
}


class NumbaBackend:
    note = f"Numba {numba.__version__}, compiled loops over the kept slots, {numba.config.NUMBA_NUM_THREADS} threads"

    def select(self, x: NDArray[np.int8], pattern: Pattern, factors: NDArray[np.uint8]) -> NDArray[np.bool_]:
        x, factors = frozen(x), frozen(factors)
        mask = np.empty(x.shape, dtype=np.bool_)
        over_rows(lambda rows: kernels.select_rows(x[rows], factors, pattern.n, pattern.m, mask[rows]), x.shape[0])
        return mask

    def compress(
        self, x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern, encoding: Encoding
    ) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
        x, mask = frozen(x), frozen(mask)
        tokens, groups = x.shape[0], pattern.groups(x.shape[1])
        values = np.empty((tokens, groups, pattern.n), dtype=np.int8)
        metadata = np.zeros((tokens, codec.row_bytes(groups, pattern, encoding)), dtype=np.uint8)
        layout = _layout(pattern, encoding)
        over_rows(
            lambda rows: kernels.compress_rows(x[rows], mask[rows], *layout, values[rows], metadata[rows]), tokens
        )
        return values, metadata

    def decompress(
        self,
        values: NDArray[np.int8],
        metadata: NDArray[np.uint8],
        features: int,
        pattern: Pattern,
        encoding: Encoding,
    ) -> NDArray[np.int8]:
        values, metadata = frozen(values), frozen(metadata)
        dense = np.zeros((values.shape[0], features), dtype=np.int8)
        valid = np.empty(values.shape[:2], dtype=np.bool_)
        layout, code_words = _layout(pattern, encoding), np.uint64(comb(pattern.m, pattern.n))
        over_rows(
            lambda rows: kernels.decompress_rows(
                values[rows], metadata[rows], *layout, code_words, dense[rows], valid[rows]
            ),
            values.shape[0],
        )
        codec.require_valid(valid, pattern, encoding)
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


def _layout(pattern: Pattern, encoding: Encoding) -> tuple[int, int, int, int, NDArray[np.uint64]]:
    """What the codec kernels take: N, M, the encoding's number, bits of one field, and the binomials."""
    number, bits = _ENCODING_NUMBERS[encoding], codec.field_bits(pattern, encoding)
    return pattern.n, pattern.m, number, bits, codec.binomials(pattern)
