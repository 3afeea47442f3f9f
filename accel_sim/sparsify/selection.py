"""Which elements of a token stay: N of every M features, a share of the token, or what lies above a threshold.

One rule for all criteria: a score per element, |x|·f with a factor f, and ties go to the LOWER feature. Scores are
float32. `keep_reference` says what is meant; `keep` and `prune` are compiled and return the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.functional.kernels import frozen, over_rows
from accel_sim.functional.networks import selection_network
from accel_sim.pattern import HierarchicalPattern, Pattern
from accel_sim.sparsify import selection_kernels as kernels
from accel_sim.sparsify.kept import Kept, Unstructured

_PADDING = -1.0
"""Below every score, so that of a last group with r < M features min(N, r) stay."""
_LEAST_ELEMENTS = 1 << 14
"""What a second thread has to gain before it is woken."""


def keep_reference(scores: ArrayLike, kept: Kept, threshold: float | None = None) -> NDArray[np.bool_]:
    """Mask bool [T, K] of scores [T, K] of any float type, in plain NumPy: what `keep` must return.

    Of every aligned group of M consecutive features the N highest stay (of a last group with r < M features min(N, r));
    of an unstructured share by token, each token's `kept.kept_of(K)` highest; ties go to the lower feature. By
    threshold, what is strictly above it, compared as float32.

    Raises AccelSimError for scores that are negative or not finite (naming token and feature), for a pattern of two
    levels, and for a threshold that is missing, or given where none is used.
    """
    scores = _matrix("scores", scores)
    threshold = checked_threshold(kept, threshold)
    _require_good(scores)
    if threshold is not None:
        return scores > threshold
    tokens, features = scores.shape
    n, m = slots(kept, features)
    padded = np.pad(scores, ((0, 0), (0, -features % m)), constant_values=_PADDING).reshape(tokens, -1, m)
    best_first = np.argsort(-padded, axis=2, kind="stable")  # stable: ties stay in ascending feature order
    mask = np.zeros(padded.shape, dtype=np.bool_)
    np.put_along_axis(mask, best_first[:, :, :n], True, axis=2)
    return np.ascontiguousarray(mask.reshape(tokens, -1)[:, :features])


def keep(scores: ArrayLike, kept: Kept, threshold: float | None = None) -> NDArray[np.bool_]:
    """Mask bool [T, K] of scores float32 [T, K], compiled, on all cores that Numba may use; see `keep_reference`.

    Raises AccelSimError as that does, and for scores of another dtype.
    """
    scores = _matrix("scores", scores, np.float32)
    if scores.min(initial=0) < 0:
        _require_good(scores)
    mask = np.empty(scores.shape, dtype=np.bool_)
    _run(scores, kept, None, threshold, np.empty((0, 0), np.float32), mask)
    return mask


def prune(
    x: ArrayLike, kept: Kept, factors: ArrayLike | None = None, threshold: float | None = None
) -> NDArray[np.float32]:
    """x float32 [T, K] where its score |x|·factor stays, and 0 elsewhere; a new array float32 [T, K].

    `factors` is None (magnitude), one for each feature [K], or one for each element [T, K]; they are taken as float32,
    and the product is rounded to float32. `threshold` is that of an `Unstructured` by threshold, which needs one.

    Raises AccelSimError for another dtype or shape, for scores that are negative or not finite (naming token and
    feature), for a pattern of two levels, and for a threshold that is missing, or given where none is used.
    """
    x = _matrix("x", x, np.float32)
    pruned = np.empty_like(x, order="C")
    _run(x, kept, factors, threshold, pruned, np.empty((0, 0), np.bool_))
    return pruned


def calibrated_threshold(x: ArrayLike, pruned: float, factors: ArrayLike | None = None) -> float:
    """The least threshold that prunes at least the share `pruned` of x float32 [T, K]: a quantile of its own scores.

    Source: TEAL, arXiv 2408.14690, which reads it from a histogram; here it is one of the scores, exactly. Where many
    scores equal it, more than the share is pruned. `factors` as in `prune`. Raises AccelSimError as that does, for a
    share not between 0 and 1, and where there is no token.
    """
    x = _matrix("x", x, np.float32)
    if not 0 < pruned < 1:
        raise AccelSimError(f"threshold: share to prune is {pruned}, expected between 0 and 1, both excluded")
    if not x.size:
        raise AccelSimError("threshold: there are no activations to take a quantile of")
    scores = _scores(x, _score_factors(factors, x.shape))
    _require_good(scores)
    place = int(np.ceil(pruned * scores.size)) - 1
    return float(np.partition(scores, place, axis=None)[place])


def medians(x: ArrayLike) -> NDArray[np.float32]:
    """The lower median of each token of x float32 [T, K], the ceil(K/2)-th smallest value, as float32 [T, 1]; compiled.

    NaN counts as larger than every number, or, with its sign set, as smaller. Raises AccelSimError for another dtype or
    shape.
    """
    x = frozen(_matrix("x", x, np.float32))
    found = np.empty(x.shape[0], np.float32)
    least = max(1, _LEAST_ELEMENTS // x.shape[1])
    over_rows(lambda rows: kernels.medians_of_tokens(x[rows], found[rows]), x.shape[0], least)
    return found[:, None]


def slots(kept: Kept, features: int) -> tuple[int, int]:
    """N and M: how many of how many consecutive features stay, M being all of a token where the share is by token.

    Raises AccelSimError for a pattern of two levels.
    """
    if isinstance(kept, HierarchicalPattern):
        raise AccelSimError(f"pattern {kept}: floats are selected by patterns of one level, such as 8:16")
    if isinstance(kept, Pattern):
        return kept.n, kept.m
    return kept.kept_of(features), features


def checked_threshold(kept: Kept, threshold: float | None) -> np.float32 | None:
    """The threshold as float32 where `kept` asks for one, else None.

    Raises AccelSimError where it is missing, not finite or negative, or given to a pattern or a share by token.
    """
    by_threshold = isinstance(kept, Unstructured) and kept.by == "threshold"
    if not by_threshold:
        if threshold is not None:
            raise AccelSimError(f"threshold: {kept} takes none, got {threshold}")
        return None
    if threshold is None or not 0 <= threshold < np.inf:
        raise AccelSimError(
            f"threshold: {kept} needs a finite one of at least 0 (calibration gives it), got {threshold}"
        )
    return np.float32(threshold)


def _run(
    x: NDArray[np.float32],
    kept: Kept,
    factors: ArrayLike | None,
    threshold: float | None,
    out: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> None:
    """Write what stays into `out` and `mask`, either of which may be empty."""
    threshold = checked_threshold(kept, threshold)
    tokens, features = x.shape
    rows, weights = frozen(x), frozen(_score_factors(factors, x.shape))
    per_token = weights.shape[0] > 1

    def select(part: slice) -> bool:
        given = rows[part], weights[part] if per_token else weights
        results = out[part] if out.size else out, mask[part] if mask.size else mask
        if threshold is not None:
            return kernels.select_above(*given, threshold, *results)
        n, m = slots(kept, features)
        if isinstance(kept, Unstructured):
            return kernels.select_of_tokens(*given, n, *results)
        return kernels.select_of_groups(*given, n, m, selection_network(n, m), *results)

    if not all(over_rows(select, tokens, max(1, _LEAST_ELEMENTS // features))):
        _require_good(_scores(x, weights))


def _matrix(name: str, value: ArrayLike, dtype: type | None = None) -> NDArray:
    """`value` as an array of two dimensions with at least one column, of `dtype`, or of any float type."""
    array = np.asarray(value)
    good_type = np.issubdtype(array.dtype, np.floating) if dtype is None else array.dtype == dtype
    if not good_type or array.ndim != 2 or array.shape[1] == 0:
        wanted = "floats" if dtype is None else np.dtype(dtype)
        raise AccelSimError(f"{name}: got {array.dtype} {list(array.shape)}, expected {wanted} [token, feature]")
    return array


def _score_factors(factors: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Factors float32 [1, K] or [T, K]; [1, 0] when None, which stands for ones."""
    if factors is None:
        return np.empty((1, 0), np.float32)
    array = np.asarray(factors)
    if not np.issubdtype(array.dtype, np.floating) or array.shape not in (shape, shape[1:]):
        raise AccelSimError(
            f"factors: got {array.dtype} {list(array.shape)}, expected floats [{shape[1]}], one for each feature, "
            f"or {list(shape)}"
        )
    with np.errstate(over="ignore"):  # what overflows is found, and named, as a score that is not finite
        return array.astype(np.float32, copy=False).reshape(-1, shape[1])


def _scores(x: NDArray[np.float32], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.abs(x) * factors if factors.size else np.abs(x)


def _require_good(scores: NDArray[np.floating]) -> None:
    """Raises AccelSimError, naming the first place, unless all scores [T, K] are finite and at least 0."""
    good = np.isfinite(scores) & (scores >= 0)
    if not good.all():
        token, feature = np.argwhere(~good)[0]
        value = scores[token, feature]
        raise AccelSimError(f"score of token {token}, feature {feature} is {value:g}, expected finite and at least 0")
