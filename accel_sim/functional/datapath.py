"""The exact datapath: select → compress → multiply → requantise or dequantise, the same bits on every backend.

Tokens are rows of X [T, K], features its columns and the rows of W [K, F]; Y = X·W is [T, F]. Every array is checked
before anything runs, and what cannot be used raises AccelSimError. docs/functional.md gives the semantics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.functional import checks
from accel_sim.functional.backends import backend as backend_named
from accel_sim.functional.compressed import Compressed
from accel_sim.functional.fixed_point import multipliers
from accel_sim.pattern import Encoding, Pattern


def hardware_factors(factors: ArrayLike) -> NDArray[np.uint8]:
    """A criterion's float factors g [K] as the selector holds them: f = clip(round_half_even(255·g / max g), 1, 255).

    Raises AccelSimError unless every g is finite and not negative. All-zero factors give all ones.
    """
    g = np.asarray(factors, dtype=np.float64)
    good = np.isfinite(g) & (g >= 0)
    if g.ndim != 1 or g.size == 0 or not good.all():
        what = (
            f"feature {np.argmin(good)} is {g[np.argmin(good)]}" if g.ndim == 1 and g.size else f"got {list(g.shape)}"
        )
        raise AccelSimError(f"factors: {what}, expected one finite number of at least 0 for each feature")
    g = np.ldexp(g, -np.frexp(g.max())[1])  # a power of two cancels, and 255·g cannot overflow
    largest = g.max()
    scaled = 255 * g / largest if largest > 0 else g
    return np.clip(np.rint(scaled), 1, 255).astype(np.uint8)


def select(
    x: ArrayLike, pattern: Pattern | str, *, factors: ArrayLike | None = None, backend: str = "numpy"
) -> NDArray[np.bool_]:
    """Which elements of the codes x int8 [T, K] the pattern keeps: a mask bool [T, K].

    The N highest scores |x|·factor of every aligned group of M features are kept, ties going to the lower feature.
    Of a last group with r < M features min(N, r) are kept: padding is never preferred. `factors` is uint8 [K]
    (see `hardware_factors`), all ones when None; scores are therefore at most 127·255, within 16 bits.

    Of two levels, N1:M1 of N0:M0, every inner group of M0 keeps its N0 highest, and then of every M1 inner groups only
    the N1 with the largest sum of kept scores, ties going to the lower one and padding to nobody (two-level sparsity as
    in HighLight, Wu et al., MICRO 2023).

    Raises AccelSimError for another dtype or shape, for a code of −128 (naming token and feature: |−128| does not fit
    INT8, and the quantiser never makes it), and for a backend that is not there.
    """
    x, pattern = checks.activations(x), checks.as_pattern(pattern)
    return backend_named(backend).select(x, pattern, checks.selection_factors(factors, x.shape[1]))


def compress(
    x: ArrayLike,
    mask: ArrayLike,
    pattern: Pattern | str,
    encoding: Encoding = "bitmap",
    *,
    backend: str = "numpy",
) -> Compressed:
    """Codes x int8 [T, K] under a mask bool [T, K] → exactly N slots a group, and their metadata.

    A mask may keep fewer than N of a group; the missing slots take the lowest padding positions, or, without padding,
    the lowest positions that are not kept, and hold 0. Raises AccelSimError where it keeps more than N. Of two levels
    both rules hold at each: for the inner groups of an outer one, and for the features of an inner one.
    """
    x, pattern = checks.activations(x), checks.as_pattern(pattern)
    pattern.metadata_bits(encoding)  # refuses an unknown encoding before anything runs
    mask = checks.selection_mask(mask, x, pattern)
    values, metadata = backend_named(backend).compress(x, mask, pattern, encoding)
    return Compressed(values, metadata, x.shape, pattern, encoding)


def decompress(compressed: Compressed, *, backend: str = "numpy") -> NDArray[np.int8]:
    """The dense codes int8 [T, K], 0 where nothing was kept. Raises AccelSimError for metadata that is no code word."""
    c = compressed
    return backend_named(backend).decompress(c.values, c.metadata, c.shape[1], c.pattern, c.encoding)


def sparse_matmul(
    x: ArrayLike,
    w: ArrayLike,
    pattern: Pattern | str,
    *,
    factors: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    backend: str = "numpy",
) -> NDArray[np.int32]:
    """Exact accumulators int32 [T, F] of the pruned codes x int8 [T, K] times the codes w int8 [K, F].

    `bias` int32 [F] starts the accumulators. Raises AccelSimError for another dtype or shape, for codes of −128, and
    where |bias| + K·127² could overflow INT32 (without bias: K above 133,144), before anything runs.
    """
    x, pattern = checks.activations(x), checks.as_pattern(pattern)
    w = checks.weights(w, x.shape[1])
    start = checks.accumulator_start(bias, *w.shape)
    chosen = backend_named(backend)
    mask = chosen.select(x, pattern, checks.selection_factors(factors, x.shape[1]))
    return chosen.multiply(x, mask, w, pattern, start)


def requantize(
    acc: ArrayLike, scale_x: ArrayLike, scale_w: ArrayLike, scale_y: float, *, backend: str = "numpy"
) -> NDArray[np.int8]:
    """Output codes int8 [T, F] of accumulators int32 [T, F]: acc · s_x·s_w / s_y in fixed point, clipped to ±127.

    `scale_x` is float32 [T], `scale_w` float32 [F] (either may be one number for all), `scale_y` the output's one
    static scale. Integer arithmetic in INT64 with Q31 mantissas and ONE rounding, half away from zero; see
    `accel_sim.functional.fixed_point`. Raises AccelSimError for other dtypes or shapes, a scale that is not above 0,
    and scales whose ratio leaves float64.
    """
    acc = checks.matrix("acc", acc, np.int32, ("token", "output"))
    scale_x = checks.scales("scale_x", scale_x, acc.shape[0], "token")
    scale_w = checks.scales("scale_w", scale_w, acc.shape[1], "output")
    (output_scale,) = checks.scales("scale_y", float(scale_y), 1, "site")
    return backend_named(backend).requantize(acc, multipliers(scale_x, scale_w, output_scale))


def dequantize(
    acc: ArrayLike,
    scale_x: ArrayLike,
    scale_w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    backend: str = "numpy",
) -> NDArray[np.float32]:
    """Floats float32 [T, F] of accumulators int32 [T, F]: float32(acc) · float32(s_x·s_w), then + bias float32 [F].

    Each step is rounded to float32 by itself: no fused multiply-add. Raises AccelSimError for other dtypes or shapes.
    """
    acc = checks.matrix("acc", acc, np.int32, ("token", "output"))
    scale_x = checks.scales("scale_x", scale_x, acc.shape[0], "token").astype(np.float32)
    scale_w = checks.scales("scale_w", scale_w, acc.shape[1], "output").astype(np.float32)
    if bias is not None:
        bias = np.asarray(bias)
        if bias.dtype != np.float32 or bias.shape != (acc.shape[1],):
            raise AccelSimError(f"bias: got {bias.dtype} {list(bias.shape)}, expected float32 [{acc.shape[1]}]")
    return backend_named(backend).dequantize(acc, scale_x, scale_w, bias)
