"""Mitigations of pruning as the hardware does them, on INT8 codes: a shift before selection and its way back behind the
product, and a variance scale on a token's scale.

A shift η is a code, or one for each token, or one for each feature: y = (clip(x − η) kept)·W + η·(1·W). Source: D-, S-
and L-PTS and VAR of arXiv 2509.22166 (§3.3, eq. 5). What `accel_sim.rtl.epilogue` builds returns these integers;
docs/functional.md says where the two part.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.functional import checks
from accel_sim.functional.backends import backend as backend_named
from accel_sim.functional.datapath import dequantize
from accel_sim.pattern import Pattern

Shift = Literal["none", "median", "mean"]


def shift(codes: ArrayLike, eta: ArrayLike) -> NDArray[np.int8]:
    """clip(codes − η, −127, 127) as int8 [T, K], of codes int8 [T, K]: what is scored, selected and multiplied.

    `eta` is one whole number, or int8 [T, 1] (one a token) or [K] (one a feature), all within ±127. Raises
    AccelSimError for other dtypes, shapes and ranges.
    """
    x = checks.activations(codes)
    return _shifted(x, _checked_eta(eta, *x.shape))


def token_means(codes: ArrayLike) -> NDArray[np.int8]:
    """η int8 [T, 1]: the mean of each token's codes int8 [T, K], an exact sum over K, rounded half to even."""
    x = checks.activations(codes)
    # float64 holds the sum exactly, and no quotient by K < 2^17 other than a half is rounded to one
    return np.rint(x.sum(axis=1, dtype=np.int64, keepdims=True) / x.shape[1]).astype(np.int8)


def token_medians(codes: ArrayLike) -> NDArray[np.int8]:
    """η int8 [T, 1]: the lower median of each token's codes int8 [T, K], the ceil(K/2)-th smallest, itself a code."""
    x = checks.activations(codes)
    middle = (x.shape[1] - 1) // 2
    return np.partition(x, middle, axis=1)[:, middle, None]


def rank_one(acc: ArrayLike, eta: ArrayLike, w: ArrayLike) -> NDArray[np.int32]:
    """acc + Σ_k η·w_k as int32 [T, F], exact: accumulators int32 [T, F], `eta` as in `shift`, weight codes int8 [K, F].

    Where η is the same for all features that is acc + η·(1·W), an outer product with the column sums of W. Raises
    AccelSimError for other dtypes, shapes and ranges, and where a sum leaves INT32, naming token and output; of the
    accumulators of K ≤ 66,572 features none can.
    """
    acc = checks.matrix("acc", acc, np.int32, ("token", "output"))
    w = checks.codes("w", w, ("feature", "output"))
    if w.shape[1] != acc.shape[1]:
        raise AccelSimError(f"w has {w.shape[1]} outputs (columns), acc has {acc.shape[1]}: they must be equal")
    corrected = acc + _way_back(_checked_eta(eta, acc.shape[0], w.shape[0]), w)
    if corrected.size and max(corrected.max(), -corrected.min()) > checks.LARGEST_INT32:
        token, output = np.argwhere(np.abs(corrected) > checks.LARGEST_INT32)[0]
        raise AccelSimError(
            f"accumulator of token {token}, output {output} is {corrected[token, output]} with its shift: "
            f"it must be within ±{checks.LARGEST_INT32}"
        )
    return corrected.astype(np.int32)


def variance_scales(codes: ArrayLike, mask: ArrayLike) -> NDArray[np.float32]:
    """ν = √(Var[x] / Var[x kept]) of each token, float32 [T], of codes int8 [T, K] (shifted already) and mask bool.

    Both variances are over all K features, zeros included, so their ratio is one of the integers K·Σx² − (Σx)², and is
    rounded only by division, root and float32. 1 where either variance is 0, and there is nothing to restore. ν
    multiplies into the token's scale. Raises AccelSimError for other dtypes and shapes.
    """
    x = checks.activations(codes)
    kept = checks.matrix("mask", mask, np.bool_, ("token", "feature"))
    if kept.shape != x.shape:
        raise AccelSimError(f"mask is {list(kept.shape)}, codes are {list(x.shape)}: they must be equal")
    before, after = _spread(x), _spread(np.where(kept, x, np.int8(0)))
    vary = (before > 0) & (after > 0)
    return np.sqrt(np.where(vary, before, 1) / np.where(vary, after, 1)).astype(np.float32)


def treated_outputs(
    codes: ArrayLike,
    scales: ArrayLike,
    w: ArrayLike,
    w_scales: ArrayLike,
    pattern: Pattern | str,
    *,
    factors: ArrayLike | None = None,
    shift: Shift | ArrayLike = "none",
    variance: bool = False,
    bias: ArrayLike | None = None,
    backend: str = "numpy",
) -> NDArray[np.float32]:
    """What a projection puts out, float32 [T, F]: ν·(x̂·W) + η·(1·W) + bias, by codes int8 [T, K] and w int8 [K, F].

    `scales` float32 [T] and `w_scales` float32 [F] are those of the codes; `factors` uint8 [K] those of the score. The
    codes are shifted by each token's `median` or `mean`, or by an η as in :func:`shift`; then `pattern` selects. With
    `variance`, ν multiplies into each token's scale. The shift comes back in the accumulators; with ν, which must not
    scale it, behind them, as a term of its own. `bias` float32 [F] is added last.

    Raises AccelSimError as `select`, `sparse_matmul` and `dequantize` do, and for an unknown shift.
    """
    x, pattern = checks.activations(codes), checks.as_pattern(pattern)
    w = checks.weights(w, x.shape[1])
    start = checks.accumulator_start(None, *w.shape)
    scales = checks.scales("scales", scales, x.shape[0], "token").astype(np.float32)
    eta = _chosen_eta(shift, x)
    chosen = backend_named(backend)
    if eta is not None:
        x = _shifted(x, _checked_eta(eta, *x.shape))
    mask = chosen.select(x, pattern, checks.selection_factors(factors, x.shape[1]))
    acc = chosen.multiply(x, mask, w, pattern, start)
    if not variance:
        acc = acc if eta is None else rank_one(acc, eta, w)
        return dequantize(acc, scales, w_scales, bias, backend=backend)
    scaled = dequantize(acc, scales * variance_scales(x, mask), w_scales, bias, backend=backend)
    if eta is None:
        return scaled
    return scaled + dequantize(rank_one(np.zeros_like(acc), eta, w), scales, w_scales, backend=backend)


def _chosen_eta(shift: Shift | ArrayLike, x: NDArray[np.int8]) -> ArrayLike | None:
    if not isinstance(shift, str):
        return shift
    if shift not in get_args(Shift):
        raise AccelSimError(f"shift {shift!r}: expected one of {', '.join(get_args(Shift))}, a code, or codes")
    return {"none": lambda _: None, "median": token_medians, "mean": token_means}[shift](x)


def _checked_eta(eta: ArrayLike, tokens: int, features: int) -> NDArray[np.int64]:
    """η as int64 [1, 1], [T, 1] or [1, K]."""
    array = np.asarray(eta)
    whole = array.ndim == 0 and np.issubdtype(array.dtype, np.integer)
    if not whole and (array.dtype != np.int8 or array.shape not in ((tokens, 1), (features,))):
        raise AccelSimError(
            f"shift: got {array.dtype} {list(array.shape)}, expected one whole number, "
            f"int8 [{tokens}, 1] (one a token) or [{features}] (one a feature)"
        )
    array = array.astype(np.int64)
    if array.size and np.abs(array).max() > checks.LARGEST_CODE:
        raise AccelSimError(f"shift: {array.ravel()[np.abs(array).argmax()]} is not a code, which lie in -127 … 127")
    return array.reshape(1, -1) if array.ndim < 2 else array


def _shifted(x: NDArray[np.int8], eta: NDArray[np.int64]) -> NDArray[np.int8]:
    return np.clip(x.astype(np.int16) - eta.astype(np.int16), -checks.LARGEST_CODE, checks.LARGEST_CODE).astype(np.int8)


def _way_back(eta: NDArray[np.int64], w: NDArray[np.int8]) -> NDArray[np.int64]:
    """Σ_k η·w_k as int64 [1 or T, F]."""
    if eta.shape[1] == 1:
        return eta * w.sum(axis=0, dtype=np.int64)
    return eta @ w.astype(np.int64)


def _spread(x: NDArray[np.int8]) -> NDArray[np.int64]:
    """K·Σx² − (Σx)² of each token, K·(K − 1) times its unbiased variance."""
    wide = x.astype(np.int64)
    return x.shape[1] * np.square(wide).sum(axis=1) - np.square(wide.sum(axis=1))
