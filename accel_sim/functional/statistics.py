"""What a pattern costs in quality, from the codes alone: sums over a whole site without materialising a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from accel_sim.functional import checks
from accel_sim.functional.backends import backend
from accel_sim.pattern import Pattern


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

    Products are exact INT32 sums and tokens are summed in one fixed order, so the result does not depend on the number
    of threads. Raises AccelSimError as `select` and `sparse_matmul` do.
    """
    from accel_sim.functional import kernels

    x, pattern = checks.activations(codes), checks.as_pattern(pattern)
    w = checks.weights(weight_codes, x.shape[1])
    checks.accumulator_start(None, *w.shape)  # the overflow guard
    squared_scale = checks.scales("scales", scales, x.shape[0], "token").astype(np.float64) ** 2
    column_scale = checks.scales("weight_scales", weight_scales, w.shape[1], "output").astype(np.float64)
    kept = backend("numba").select(x, pattern, checks.selection_factors(factors, x.shape[1]))
    x, w, kept, dropped, column_scale = (kernels.frozen(array) for array in (x, w, kept, ~kept, column_scale))
    groups = pattern.groups(x.shape[1])
    error, norm = np.empty(x.shape[0]), np.empty(x.shape[0])

    def sum_rows(rows: slice) -> None:
        acc = np.zeros((x[rows].shape[0], w.shape[1]), dtype=np.int32)
        kernels.multiply_rows(x[rows], dropped[rows], w, groups * (pattern.m - pattern.n), acc)
        kernels.weighted_squares_rows(acc, column_scale, error[rows])
        kernels.multiply_rows(
            x[rows], kept[rows], w, groups * pattern.n, acc
        )  # what was dropped plus what was kept: XW
        kernels.weighted_squares_rows(acc, column_scale, norm[rows])

    kernels.over_rows(sum_rows, x.shape[0])
    return float((error * squared_scale).sum()), float((norm * squared_scale).sum())
