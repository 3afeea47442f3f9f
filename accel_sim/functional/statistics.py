"""What a pattern costs in quality, from the codes alone: sums over a whole site without materialising a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.functional import checks
from accel_sim.functional.backends import backend
from accel_sim.pattern import Pattern

EXACT_FLOAT32_FEATURES = 1024
"""1,024 products of at most 127² stay below 2^24, so float32 sums them exactly, in any order."""
_TOKENS_AT_ONCE = 512


@dataclass(frozen=True)
class PruningStatistics:
    """Sums over one site of T tokens and K features under one pattern."""

    squared_error: float
    """‖X − X̂‖² in float64, X the codes times their token's scale and X̂ what selection keeps of it."""
    squared_norm: float
    """‖X‖² in float64."""
    kept_nonzeros: int
    """Elements that are kept and are not zero: the useful work of the array's slots."""
    zeros: int
    """Elements that quantisation made zero by itself, kept or not."""
    elements: int
    """T·K."""

    @property
    def loss(self) -> float:
        """‖X − X̂‖² / ‖X‖²; 0 for an all-zero site."""
        return self.squared_error / self.squared_norm if self.squared_norm else 0.0


def pruning_statistics(
    codes: ArrayLike, scales: ArrayLike, pattern: Pattern | str, *, factors: ArrayLike | None = None
) -> PruningStatistics:
    """Statistics of a site's codes int8 [T, K] with scales float32 [T], in one compiled pass.

    Sums over a token are exact integers and tokens are summed in one fixed order, so the result does not depend on the
    number of threads. `factors` uint8 [K] are the selector's (see `select`). Raises AccelSimError as `select` does.
    """
    from accel_sim.functional import kernels  # Numba takes a third of a second to import

    x, pattern = checks.activations(codes), checks.as_pattern(pattern)
    squared_scale = checks.scales("scales", scales, x.shape[0], "token").astype(np.float64) ** 2
    x = kernels.frozen(x)
    factors = kernels.frozen(checks.selection_factors(factors, x.shape[1]))
    sums = np.empty((4, x.shape[0]), dtype=np.int64)
    kernels.over_rows(
        lambda rows: kernels.prune_statistics_rows(x[rows], factors, pattern.n, pattern.m, *sums[:, rows]), x.shape[0]
    )
    dropped_squares, squares, kept_nonzeros, zeros = sums
    return PruningStatistics(
        squared_error=float((dropped_squares * squared_scale).sum()),
        squared_norm=float((squares * squared_scale).sum()),
        kept_nonzeros=int(kept_nonzeros.sum()),
        zeros=int(zeros.sum()),
        elements=x.size,
    )


def output_loss(
    codes: ArrayLike,
    scales: ArrayLike,
    weight_codes: ArrayLike,
    weight_scales: ArrayLike,
    pattern: Pattern | str,
    *,
    factors: ArrayLike | None = None,
) -> tuple[float, float]:
    """(‖XW − X̂W‖², ‖XW‖²) in float64 for codes int8 [T, K], scales [T], weight codes int8 [K, F], scales [F].

    The products are exact (integers, by float32 BLAS in steps of K that cannot round), so the result does not depend on
    the BLAS or its threads. Raises AccelSimError as `select` and `sparse_matmul` do.
    """
    x, pattern = checks.activations(codes), checks.as_pattern(pattern)
    w = checks.weights(weight_codes, x.shape[1])
    row_scale = checks.scales("scales", scales, x.shape[0], "token").astype(np.float64)
    column_scale = checks.scales("weight_scales", weight_scales, w.shape[1], "output").astype(np.float64)
    factors = checks.selection_factors(factors, x.shape[1])
    float_weights = w.astype(np.float32)
    error = norm = 0.0
    for first in range(0, x.shape[0], _TOKENS_AT_ONCE):
        rows = slice(first, first + _TOKENS_AT_ONCE)
        dropped = np.where(backend("numba").select(x[rows], pattern, factors), np.int8(0), x[rows])
        error += _weighted_squares(_exact_product(dropped, float_weights), row_scale[rows], column_scale)
        norm += _weighted_squares(_exact_product(x[rows], float_weights), row_scale[rows], column_scale)
    return error, norm


def _exact_product(x: NDArray[np.int8], w: NDArray[np.float32]) -> NDArray[np.float64]:
    """x [T, K] times w [K, F] without rounding, as float64 [T, F]."""
    total = np.zeros((x.shape[0], w.shape[1]))
    for first in range(0, x.shape[1], EXACT_FLOAT32_FEATURES):
        features = slice(first, first + EXACT_FLOAT32_FEATURES)
        total += x[:, features].astype(np.float32) @ w[features]
    return total


def _weighted_squares(
    product: NDArray[np.float64], row_scale: NDArray[np.float64], column_scale: NDArray[np.float64]
) -> float:
    """Σ (s_t · product · s_f)², in an order that does not depend on threads."""
    product *= column_scale
    np.square(product, out=product)
    return float((product.sum(axis=1) * row_scale**2).sum())
