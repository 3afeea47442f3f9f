"""Scales as integers: the Q31 mantissas and the shift that the requantiser multiplies and shifts by.

y = acc · s_x·s_w / s_y with s_x/s_y = m_t·2^(e_t − 31) and s_w = m_f·2^(e_f − 31), both mantissas in [2^30, 2^31), so
y = acc · m / 2^(31 + shift) with m = (m_t·m_f + 2^30) >> 31 and shift = −(e_t + e_f). Multiplying a 32-bit accumulator
by a 31-bit mantissa and shifting once is how integer inference requantises (Jacob et al., arXiv 1712.05877 §2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError

LARGEST_SHIFT = 63
"""|acc·m| < 2^62, so a right shift by 63 already rounds everything to 0."""


@dataclass(frozen=True)
class Multipliers:
    """The requantiser's constants: mantissas int64 in [2^30, 2^31) and exponents int64, per token and per output."""

    token_mantissa: NDArray[np.int64]
    token_exponent: NDArray[np.int64]
    output_mantissa: NDArray[np.int64]
    output_exponent: NDArray[np.int64]


def multipliers(scale_x: NDArray[np.floating], scale_w: NDArray[np.floating], scale_y: float) -> Multipliers:
    """Constants for activation scales [T], weight scales [F] and the output's one static scale.

    Raises AccelSimError where s_x/s_y is no float64 above zero, which would leave no mantissa.
    """
    with np.errstate(over="ignore", under="ignore"):
        ratio = scale_x.astype(np.float64) / np.float64(scale_y)
    good = np.isfinite(ratio) & (ratio > 0)
    if not good.all():
        worst = int(np.argmin(good))
        raise AccelSimError(
            f"scale_x[token {worst}] / scale_y is {scale_x[worst]} / {scale_y}, which float64 cannot hold"
        )
    token = _mantissa_and_exponent(ratio)
    output = _mantissa_and_exponent(scale_w.astype(np.float64))
    return Multipliers(*token, *output)


def _mantissa_and_exponent(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    fraction, exponent = np.frexp(values)
    mantissa = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    rounded_up = mantissa == 2**31  # 0.99999999999 · 2^31 leaves the range: halve it, count one exponent up
    mantissa = np.where(rounded_up, 2**30, mantissa)
    return mantissa, exponent.astype(np.int64) + rounded_up
