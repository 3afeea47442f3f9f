"""The reference: the datapath step by step in plain NumPy, to be read beside docs/functional.md.

Every other backend must return exactly these bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel_sim import encoding as codec
from accel_sim.functional.fixed_point import LARGEST_SHIFT, Multipliers
from accel_sim.pattern import Encoding, HierarchicalPattern, Pattern

_KEPT, _FILLER, _DROPPED = 0, 1, 2
"""What a slot prefers to hold: what the mask keeps, then padding, then what the mask drops."""


class NumpyBackend:
    note = f"NumPy {np.__version__}, the reference: compressed slots, one after the other"

    def select(self, x: NDArray[np.int8], pattern: Pattern, factors: NDArray[np.uint8]) -> NDArray[np.bool_]:
        scores = np.abs(x.astype(np.int32)) * factors
        grouped = _by_group(scores, pattern, padding=-1)
        if isinstance(pattern, HierarchicalPattern):
            kept = _highest_of_two_levels(grouped, pattern)
        else:
            kept = _highest(grouped, pattern.n)
        return _by_feature(kept, x.shape[1])

    def compress(
        self, x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern, encoding: Encoding
    ) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
        values, positions = slots(x, mask, pattern)
        return values, codec.encode(positions, pattern, encoding)

    def decompress(
        self,
        values: NDArray[np.int8],
        metadata: NDArray[np.uint8],
        features: int,
        pattern: Pattern,
        encoding: Encoding,
    ) -> NDArray[np.int8]:
        tokens, groups, _ = values.shape
        positions = codec.decode(metadata, groups, pattern, encoding)
        dense = np.zeros((tokens, groups, pattern.m), dtype=np.int8)
        np.put_along_axis(dense, positions, values, axis=2)
        return _by_feature(dense, features)

    def multiply(
        self,
        x: NDArray[np.int8],
        mask: NDArray[np.bool_],
        w: NDArray[np.int8],
        pattern: Pattern,
        bias: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        values, positions = slots(x, mask, pattern)
        tokens, groups, _ = values.shape
        features, outputs = w.shape
        padded = np.zeros((groups * pattern.m, outputs), dtype=np.int16)
        padded[:features] = w
        acc = np.empty((tokens, outputs), dtype=np.int32)
        acc[:] = bias
        for group in range(groups):
            for slot in range(pattern.n):
                operand = padded[
                    group * pattern.m + positions[:, group, slot]
                ]  # the multiplexer: one weight row a token
                acc += values[:, group, slot, None].astype(np.int16) * operand  # 127² fits INT16
        return acc

    def requantize(self, acc: NDArray[np.int32], constants: Multipliers) -> NDArray[np.int8]:
        c = constants
        mantissa = (np.multiply.outer(c.token_mantissa, c.output_mantissa) + 2**30) >> 31
        shift = 31 - np.add.outer(c.token_exponent, c.output_exponent)
        shift = np.clip(shift, 1, LARGEST_SHIFT)  # beyond either end the result is saturated, or 0, all the same
        product = acc.astype(np.int64) * mantissa
        magnitude = (np.abs(product) + (np.int64(1) << (shift - 1))) >> shift  # rounds half away from zero
        return (np.sign(product) * np.minimum(magnitude, 127)).astype(np.int8)

    def dequantize(
        self,
        acc: NDArray[np.int32],
        scale_x: NDArray[np.float32],
        scale_w: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        product = acc.astype(np.float32) * np.multiply.outer(scale_x, scale_w)
        return product if bias is None else product + bias


def slots(x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern) -> tuple[NDArray[np.int8], NDArray[np.intp]]:
    """Values int8 [T, G, N] and positions [T, G, N] in 0 … M−1, ascending, of what the mask keeps.

    Where a group keeps fewer than N, slots are filled with the lowest padding positions; and where there is no padding
    (a mask that keeps fewer than the pattern allows), with the lowest positions that are not kept. Fillers hold 0.
    Of two levels, inner groups are filled up to N1 by the same rule, one being padding when all of it is.
    """
    preference = _by_group(np.where(mask, np.int8(_KEPT), np.int8(_DROPPED)), pattern, padding=_FILLER)
    if isinstance(pattern, HierarchicalPattern):
        positions = _preferred_of_two_levels(preference, pattern)
    else:
        positions = _preferred(preference, pattern.n)
    values = np.take_along_axis(_by_group(np.where(mask, x, np.int8(0)), pattern, padding=0), positions, axis=2)
    return values, positions


def _highest(scores: NDArray[np.int32], n: int) -> NDArray[np.bool_]:
    """Mask of the `n` highest along the last axis of scores [..., M]."""
    best_first = np.argsort(-scores, axis=-1, kind="stable")  # stable: ties stay in ascending feature order
    kept = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(kept, best_first[..., :n], True, axis=-1)
    return kept


def _highest_of_two_levels(scores: NDArray[np.int32], pattern: HierarchicalPattern) -> NDArray[np.bool_]:
    """Mask [T, G, M1·M0] of scores [T, G, M1·M0], padding −1: N0 of each inner group, then the N1 strongest groups."""
    inner = scores.reshape(*scores.shape[:2], pattern.outer.m, pattern.inner.m)
    kept = _highest(inner, pattern.inner.n)
    strength = np.where(kept, np.maximum(inner, 0), 0).sum(axis=3)
    strength[(inner < 0).all(axis=3)] = -1  # nothing but padding is never preferred over a real inner group
    return (kept & _highest(strength, pattern.outer.n)[..., None]).reshape(scores.shape)


def _preferred(preference: NDArray[np.int8], n: int) -> NDArray[np.intp]:
    """Positions [..., N], ascending, of the `n` lowest values along the last axis; equal ones by position."""
    return np.sort(np.argsort(preference, axis=-1, kind="stable")[..., :n], axis=-1)


def _preferred_of_two_levels(preference: NDArray[np.int8], pattern: HierarchicalPattern) -> NDArray[np.intp]:
    """Positions [T, G, N1·N0] in 0 … M1·M0−1, ascending, of preferences [T, G, M1·M0]."""
    outer, inner = pattern.outer, pattern.inner
    apart = preference.reshape(*preference.shape[:2], outer.m, inner.m)
    least, most = apart.min(axis=3), apart.max(axis=3)
    chosen = _preferred(np.where(least == _KEPT, _KEPT, most), outer.n)[..., None]  # all padding: most is _FILLER
    within = np.take_along_axis(_preferred(apart, inner.n), chosen, axis=2)
    return (chosen * inner.m + within).reshape(*preference.shape[:2], pattern.n)


def _by_group(array: NDArray, pattern: Pattern, padding: int) -> NDArray:
    """[T, K] → [T, G, M], the last group filled up with `padding`."""
    tokens, features = array.shape
    groups = pattern.groups(features)
    full = np.pad(array, ((0, 0), (0, groups * pattern.m - features)), constant_values=padding)
    return full.reshape(tokens, groups, pattern.m)


def _by_feature(grouped: NDArray, features: int) -> NDArray:
    """[T, G, M] → [T, K] without the padding."""
    tokens, groups, m = grouped.shape
    return np.ascontiguousarray(grouped.reshape(tokens, groups * m)[:, :features])
