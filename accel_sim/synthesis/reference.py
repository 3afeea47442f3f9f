"""What each measured circuit must return, in NumPy: every netlist is compared with it on its own operand streams.

Arrays are [cycles, 64 streams, …]; the last axes are those of a port. Semantics are those of `accel_sim.functional`.
"""

from __future__ import annotations

from math import comb

import numpy as np

from accel_sim.pattern import Encoding, Pattern


def accumulate(products: np.ndarray, clear: np.ndarray) -> np.ndarray:
    """Running sums over cycles of products [cycles, 64], started anew where `clear` is 1."""
    total = np.zeros(products.shape[1], np.int64)
    sums = np.empty_like(products)
    for cycle in range(len(products)):
        total = np.where(clear[cycle], 0, total) + products[cycle]
        sums[cycle] = total
    return sums


def picked(weights: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Each slot's operand: weights [..., groups · M], positions [..., groups, N] → [..., groups · N]."""
    groups, slots = positions.shape[-2:]
    window = weights.reshape(*weights.shape[:-1], groups, -1)
    return np.take_along_axis(window, positions, axis=-1).reshape(*weights.shape[:-1], groups * slots)


def bitmap(positions: np.ndarray) -> np.ndarray:
    """Bitmaps as integers of positions [..., N]."""
    return (np.int64(1) << positions).sum(axis=-1)


def metadata(positions: np.ndarray, pattern: Pattern, encoding: Encoding) -> np.ndarray:
    """The metadata word of positions [..., N]; Python integers where it is wider than 63 bits."""
    if encoding == "bitmap":
        return bitmap(positions)
    if encoding == "enumerative":
        table = np.array([[comb(p, slot + 1) for p in range(pattern.m)] for slot in range(pattern.n)], np.int64)
        return table[np.arange(pattern.n), positions].sum(axis=-1)
    width = (pattern.m - 1).bit_length()
    wide = positions.astype(object) if pattern.n * width > 63 else positions
    return sum(wide[..., slot] << (slot * width) for slot in range(pattern.n))


def lines(positions: np.ndarray, operand_mux: str) -> np.ndarray:
    """Select lines of each slot [..., N]."""
    if operand_mux == "full":
        return positions
    offset = positions - np.arange(positions.shape[-1])
    return offset if operand_mux == "restricted" else np.int64(1) << offset


def top_n(scores: np.ndarray, pattern: Pattern) -> np.ndarray:
    """Positions [..., N] of the highest scores [..., M], ties to the lower one, ascending."""
    return np.sort(np.argsort(-scores, axis=-1, kind="stable")[..., : pattern.n], axis=-1)


def requantised(values: dict[str, np.ndarray]) -> np.ndarray:
    """INT8 codes of the requantiser's inputs: one rounding, half away from zero."""
    product = values["token_mantissa"].astype(object) * values["output_mantissa"] + (1 << 30)
    shift = np.clip(31 - (values["token_exponent"] + values["output_exponent"]), 1, 63).astype(object)
    scaled = values["accumulator"].astype(object) * (product >> 31)
    magnitude = (np.abs(scaled) + (1 << (shift - 1))) >> shift
    return np.clip(np.where(scaled < 0, -magnitude, magnitude), -127, 127).astype(np.int64)


def scaled_mantissa(mantissa: np.ndarray, by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Product of two mantissas in [2^30, 2^31) rounded half up to 31 bits, and what its exponent loses (0 or 1)."""
    product = mantissa.astype(object) * by
    upper = product >= 1 << 61
    rounded = np.where(upper, (product + (1 << 30)) >> 31, (product + (1 << 29)) >> 30)
    carried = rounded == 1 << 31  # which only a product below 2^61 can, and then its exponent stays
    loses = np.where(upper | carried, 0, 1).astype(np.int64)
    return np.where(carried, 1 << 30, rounded).astype(np.int64), loses
