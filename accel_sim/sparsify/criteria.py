"""Criteria: the factor f by which an element's magnitude counts when it is scored, score = |x_j|·f_j.

A criterion is its factors: of the weights' columns (one table, made once), or of the activations' columns (made as
tokens come by). Everything that is the same for all elements of a token (a norm of the token, a factor over the whole
table) changes no selection. Factors are float64; W is [F, K] as in `torch.nn.Linear`, W_j its column of feature j.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError

WeightCriterion = Literal["amber", "amber_robust", "wina", "r_sparse", "weight_variance"]
Outliers = Literal["keep", "zero", "clip"]

OUTLIER_QUANTILES = (0.005, 0.995)
LARGEST_WITHOUT_SAMPLE = 100_000
SAMPLED_ENTRIES = 50_000
"""Of a weight with more than `LARGEST_WITHOUT_SAMPLE` entries the quantiles are those of so many, drawn at random."""


def weight_factors(criterion: WeightCriterion, weight: ArrayLike, outliers: Outliers = "keep") -> NDArray[np.float64]:
    """Factors [K] that follow from the weight [F, K] alone.

    * `amber`: ‖W_j‖₂ over the smallest of them (Amber Pruner, arXiv 2508.02128).
    * `amber_robust`: the same of the standardised weight; see `standardised`, which reads `outliers`.
    * `wina`: ‖W_j‖₂ (arXiv 2505.19427).
    * `r_sparse`: the norm of row j of V·Σ, where W = U·Σ·Vᵀ (arXiv 2504.19449). U has orthonormal columns, so that is
      ‖W_j‖₂ once more, and is computed as such.
    * `weight_variance`: the variance of W_j over the outputs (in code published with arXiv 2509.22166). It is divided
      by F, not F − 1, which changes no selection.

    A factor of 0 (a column of zeros) is left out when the smallest is sought. Raises AccelSimError for an unknown
    criterion, for another shape, and for a weight that is not finite (naming output and feature).
    """
    w = _finite(weight, "weight", ("output", "feature"))
    if criterion in ("wina", "r_sparse"):
        return _column_norms(w)
    if criterion == "amber":
        return _over_the_smallest(_column_norms(w))
    if criterion == "amber_robust":
        return _over_the_smallest(_column_norms(standardised(w, outliers)))
    if criterion == "weight_variance":
        return w.var(axis=0)
    raise AccelSimError(f"criterion {criterion!r}: weights make those of {', '.join(get_args(WeightCriterion))}")


def standardised(weight: ArrayLike, outliers: Outliers = "keep", seed: int = 0) -> NDArray[np.float64]:
    """The weight [F, K] minus mean, over standard deviation, of what lies between its 0.5 and 99.5 percentiles.

    Source: Robust-Norm scoring of Amber Pruner (arXiv 2508.02128; arXiv 2509.22166 §3.2), which does not say what
    becomes of the outliers afterwards: with `keep` they are standardised as they are (as in published code), with
    `zero` they become 0, with `clip` the nearer percentile. Of more than 100,000 entries the percentiles are those of
    50,000, drawn with replacement from a generator seeded with `seed`.

    Raises AccelSimError for an unknown treatment, and where all entries between the percentiles are equal.
    """
    w = _finite(weight, "weight", ("output", "feature"))
    if outliers not in get_args(Outliers):
        raise AccelSimError(f"outliers {outliers!r}: expected one of {', '.join(get_args(Outliers))}")
    sample = w.ravel()
    if w.size > LARGEST_WITHOUT_SAMPLE:
        sample = sample[np.random.default_rng(seed).integers(0, w.size, SAMPLED_ENTRIES)]
    low, high = np.quantile(sample, OUTLIER_QUANTILES)
    inside = (w >= low) & (w <= high)
    mean, deviation = w[inside].mean(), w[inside].std()
    if not deviation > 0:
        raise AccelSimError(
            f"weight {list(w.shape)}: all entries between its 0.5 and 99.5 percentiles are {mean:g}, and cannot be "
            "standardised"
        )
    result = ((np.clip(w, low, high) if outliers == "clip" else w) - mean) / deviation
    if outliers == "zero":
        result[~inside] = 0
    return result


def column_squares(x: ArrayLike, tokens: ArrayLike | None = None) -> NDArray[np.float64]:
    """Σ_t x_tj² as [K] of activations x [T, K]; of the tokens that `tokens` bool [T] marks (None: all), never padding.

    These add up over the parts of a sequence. Raises AccelSimError for other shapes and for what is not finite.
    """
    return np.square(_of_tokens(x, tokens)).sum(axis=0)


def clact_factors(x: ArrayLike, tokens: ArrayLike | None = None) -> NDArray[np.float64]:
    """CLACT's factors [K] for all tokens of one sequence x [T, K]: the column norms √Σ_t x_tj².

    Source: arXiv 2509.22166 eq. 4, score = |x_tj| / ‖x_t‖ · ‖X_j‖. ‖x_t‖ is the same for all elements of a token and
    left out. As published, the norm sees later tokens: this is for prefill. `tokens` bool [T] marks those that count
    (None: all), so that padding does not. With one token the selection is that by magnitude.

    Raises AccelSimError for other shapes and for what is not finite (naming token and feature).
    """
    return np.sqrt(column_squares(x, tokens))


def clact_running_factors(
    x: ArrayLike, before: ArrayLike | None = None, tokens: ArrayLike | None = None
) -> NDArray[np.float64]:
    """CLACT's factors [T, K] of a sequence x [T, K], each token's norms over it and the tokens before: causal.

    `before` [K] holds `column_squares` of what came before x (None: nothing); add those of x to it for what comes next.
    `tokens` as in `clact_factors`. The last token's factors are those of `clact_factors` over everything so far.

    Raises AccelSimError as `clact_factors`, and for a `before` that is negative, not finite, or of another shape.
    """
    x = _of_tokens(x, tokens)
    running = np.cumsum(np.square(x), axis=0)
    if before is not None:
        squares = np.asarray(before, dtype=np.float64)
        if squares.shape != x.shape[1:] or not (np.isfinite(squares) & (squares >= 0)).all():
            raise AccelSimError(
                f"squares before: got {list(squares.shape)}, expected [{x.shape[1]}] finite numbers of at least 0"
            )
        running += squares
    return np.sqrt(running)


def _of_tokens(x: ArrayLike, tokens: ArrayLike | None) -> NDArray[np.float64]:
    """x [T, K] with zeros in place of the tokens that do not count."""
    x = _finite(x, "activations", ("token", "feature"))
    if tokens is None:
        return x
    counted = np.asarray(tokens)
    if counted.dtype != np.bool_ or counted.shape != x.shape[:1]:
        raise AccelSimError(
            f"tokens: got {counted.dtype} {list(counted.shape)}, expected bool [{x.shape[0]}], true where one counts"
        )
    return np.where(counted[:, None], x, 0.0)


def _column_norms(w: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.square(w).sum(axis=0))


def _over_the_smallest(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = factors[factors > 0]
    return factors / positive.min() if positive.size else factors


def _finite(value: ArrayLike, name: str, axes: tuple[str, str]) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise AccelSimError(f"{name}: got {list(array.shape)}, expected [{', '.join(axes)}]")
    bad = ~np.isfinite(array)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        place = f"{name}[{axes[0]} {row}, {axes[1]} {column}]"
        raise AccelSimError(f"{place} is {array[row, column]}: factors need finite numbers")
    return array
