"""What a pattern costs in quality, from the codes alone: sums over a whole site without materialising a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.functional import checks
from accel_sim.functional.backends import backend
from accel_sim.pattern import HierarchicalPattern, Pattern

NOTHING_PRUNED = Pattern("64:64")
"""Stands for every pattern with N = M: what they keep does not depend on M, and wide groups are fewer."""
_BYTES_TO_COUNT, _BYTES_TO_PRUNE = 2**20, 2**18
"""Activations that are worth another thread: about 50 microseconds of work, twice what handing it over takes."""


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


@dataclass(frozen=True)
class ZeroStatistics:
    """How many elements of one site of T tokens and K features are zero, before selection and after it."""

    zeros: int
    """Elements that quantisation made zero by itself, kept or not."""
    kept_nonzeros: int
    """Elements that are kept and are not zero."""
    elements: int
    """T·K."""


def pruning_statistics(
    codes: ArrayLike, scales: ArrayLike, pattern: Pattern | str, *, factors: ArrayLike | None = None
) -> PruningStatistics:
    """Statistics of a site's codes int8 [T, K] with scales float32 [T].

    Sums over a token are exact integers and tokens are summed in one fixed order, so the result does not depend on the
    number of threads. Plain magnitude needs no mask: the sums follow from each group's N largest. `factors` uint8 [K]
    are the selector's (see `select`), and take the mask. Raises AccelSimError as `select` does.
    """
    x, pattern = checks.activations(codes), checks.as_pattern(pattern)
    squared_scale = checks.scales("scales", scales, x.shape[0], "token").astype(np.float64) ** 2
    if factors is None:
        sums = _sums_by_magnitude(x, pattern)
    else:
        sums = _sums_under_mask(x, backend("numba").select(x, pattern, checks.selection_factors(factors, x.shape[1])))
    return PruningStatistics(
        squared_error=float((sums.dropped_squares * squared_scale).sum()),
        squared_norm=float((sums.squares * squared_scale).sum()),
        kept_nonzeros=sums.kept_nonzeros,
        zeros=x.size - sums.nonzeros,
        elements=x.size,
    )


def zero_statistics(codes: ArrayLike, pattern: Pattern | str) -> ZeroStatistics:
    """The zeros of a site's codes int8 [T, K], and what is left of the others when magnitudes are selected.

    One level needs no selection: of a group, min(N, non-zeros) are kept. Of two levels the inner groups compete with
    their sums, as `select` lets them. Raises AccelSimError as `select` does.
    """
    from accel_sim.functional import kernels
    from accel_sim.functional.statistics_kernels import MOST_LANES, count_rows

    x, pattern = checks.activations(codes), checks.as_pattern(pattern)
    pattern = NOTHING_PRUNED if pattern.keeps_all else pattern
    if isinstance(pattern, HierarchicalPattern):
        sums = _sums_by_magnitude(x, pattern)
        return ZeroStatistics(x.size - sums.nonzeros, sums.kept_nonzeros, x.size)
    x = kernels.frozen(x)
    word = np.dtype(f"u{gcd(pattern.m, 8)}")
    lanes = max(1, min(MOST_LANES, x.shape[0] * pattern.groups(x.shape[1])))
    length = lanes * pattern.m // word.itemsize

    def count(rows: slice) -> tuple[int, int]:
        block, spare = np.empty(length, word), np.empty(length, word)
        return count_rows(x[rows], pattern.n, pattern.m, block, spare)

    kept_nonzeros, nonzeros = map(sum, zip(*_over_tokens(count, x, _BYTES_TO_COUNT), strict=True))
    return ZeroStatistics(x.size - nonzeros, kept_nonzeros, x.size)


@dataclass(frozen=True)
class _Sums:
    """What pruning leaves of codes int8 [T, K], in exact integers."""

    dropped_squares: NDArray[np.int64]
    """[T]: Σq² of what is not kept."""
    squares: NDArray[np.int64]
    """[T]: Σq²."""
    kept_nonzeros: int
    nonzeros: int


def _sums_by_magnitude(x: NDArray[np.int8], pattern: Pattern) -> _Sums:
    """Selection by plain magnitude, without finding out where the kept elements are."""
    from accel_sim.functional import kernels
    from accel_sim.functional.networks import selection_network
    from accel_sim.functional.statistics_kernels import prune_rows

    pattern = NOTHING_PRUNED if pattern.keeps_all else pattern
    two_levels = isinstance(pattern, HierarchicalPattern)
    inner, outer = (pattern.inner, pattern.outer) if two_levels else (pattern, Pattern("1:1"))
    x = kernels.frozen(x)
    network = selection_network(inner.n, inner.m)
    dropped_squares, squares = np.zeros((2, x.shape[0]), dtype=np.int64)

    def prune(rows: slice) -> tuple[int, int]:
        return prune_rows(x[rows], inner.n, inner.m, outer.n, outer.m, network, dropped_squares[rows], squares[rows])

    kept_nonzeros, nonzeros = map(sum, zip(*_over_tokens(prune, x, _BYTES_TO_PRUNE), strict=True))
    return _Sums(dropped_squares, squares, kept_nonzeros, nonzeros)


def _sums_under_mask(x: NDArray[np.int8], mask: NDArray[np.bool_]) -> _Sums:
    from accel_sim.functional import kernels
    from accel_sim.functional.statistics_kernels import masked_rows

    x, mask = kernels.frozen(x), kernels.frozen(mask)
    dropped_squares, squares = np.zeros((2, x.shape[0]), dtype=np.int64)

    def add(rows: slice) -> tuple[int, int]:
        return masked_rows(x[rows], mask[rows], dropped_squares[rows], squares[rows])

    kept_nonzeros, nonzeros = map(sum, zip(*_over_tokens(add, x, _BYTES_TO_PRUNE), strict=True))
    return _Sums(dropped_squares, squares, kept_nonzeros, nonzeros)


def _over_tokens(
    work: Callable[[slice], tuple[int, int]], x: NDArray[np.int8], least_bytes: int
) -> list[tuple[int, int]]:
    """`work` shared out over the tokens of x int8 [T, K], at least `least_bytes` of it a thread."""
    from accel_sim.functional.kernels import over_rows

    return over_rows(work, x.shape[0], least=-(-least_bytes // x.shape[1]))


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
