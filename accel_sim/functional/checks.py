"""What may enter the datapath: dtypes, shapes and ranges, each refused with one line that says where and what else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.pattern import HierarchicalPattern, Pattern, parse_pattern

LARGEST_CODE = 127
"""INT8 codes are symmetric: −128 never comes out of the quantiser, and |−128| does not fit INT8."""
LARGEST_INT32 = 2**31 - 1


def as_pattern(pattern: Pattern | str) -> Pattern:
    """The pattern itself, or the one that the text spells."""
    return pattern if isinstance(pattern, Pattern) else parse_pattern(pattern)


def matrix(name: str, value: ArrayLike, dtype: type, axes: tuple[str, str]) -> NDArray[Any]:
    """`value` as a two-dimensional array of exactly `dtype` with at least one column; `axes` name its dimensions."""
    array = np.asarray(value)
    if array.dtype != dtype or array.ndim != 2 or array.shape[1] == 0:
        raise AccelSimError(
            f"{name}: got {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} [{', '.join(axes)}]"
        )
    return array


def codes(name: str, value: ArrayLike, axes: tuple[str, str]) -> NDArray[np.int8]:
    """An int8 matrix whose codes lie in −127 … 127."""
    array = matrix(name, value, np.int8, axes)
    if array.size and array.min() < -LARGEST_CODE:
        row, column = np.argwhere(array < -LARGEST_CODE)[0]
        raise AccelSimError(
            f"{name}[{axes[0]} {row}, {axes[1]} {column}] is -128: INT8 codes are symmetric, clip them to -127 … 127"
        )
    return array


def activations(x: ArrayLike) -> NDArray[np.int8]:
    """Activation codes int8 [T, K]."""
    return codes("x", x, ("token", "feature"))


def weights(w: ArrayLike, features: int) -> NDArray[np.int8]:
    """Weight codes int8 [K, F] whose rows are the features of x."""
    array = codes("w", w, ("feature", "output"))
    if array.shape[0] != features:
        raise AccelSimError(f"w has {array.shape[0]} features (rows), x has {features} (columns): they must be equal")
    return array


def selection_mask(mask: ArrayLike, x: NDArray[np.int8], pattern: Pattern) -> NDArray[np.bool_]:
    """A mask bool [T, K] shaped like x that keeps at most N of every group; at both levels, where there are two."""
    array = matrix("mask", mask, np.bool_, ("token", "feature"))
    if array.shape != x.shape:
        raise AccelSimError(f"mask is {list(array.shape)}, x is {list(x.shape)}: they must be equal")
    if isinstance(pattern, HierarchicalPattern):
        kept = _count_at_most(array, pattern.inner, "{} of token {}, inner group {}", pattern)
        _count_at_most(kept > 0, pattern.outer, "{} inner groups of token {}, group {}", pattern)
    else:
        _count_at_most(array, pattern, "{} of token {}, group {}", pattern)
    return array


def _count_at_most(kept: NDArray[np.bool_], level: Pattern, what: str, pattern: Pattern) -> NDArray[np.uint8]:
    """How many of every M columns of kept bool [T, ·] are True; AccelSimError where that is more than N."""
    counts = np.add.reduceat(kept, np.arange(0, kept.shape[1], level.m), axis=1, dtype=np.uint8)
    if (counts > level.n).any():
        token, group = np.argwhere(counts > level.n)[0]
        found = what.format(counts[token, group], token, group)
        raise AccelSimError(f"mask keeps {found}: {pattern} has {level.n} slots a group there")
    return counts


def selection_factors(factors: ArrayLike | None, features: int) -> NDArray[np.uint8]:
    """The score factors uint8 [K]; all ones (plain magnitude) when None."""
    if factors is None:
        return np.ones(features, dtype=np.uint8)
    array = np.asarray(factors)
    if array.dtype != np.uint8 or array.shape != (features,):
        raise AccelSimError(
            f"factors: got {array.dtype} {list(array.shape)}, expected uint8 [{features}], one a feature "
            "(hardware_factors makes them from floats)"
        )
    return array


def accumulator_start(bias: ArrayLike | None, features: int, outputs: int) -> NDArray[np.int32]:
    """The accumulators' first value int32 [F] (zeros when bias is None), after the overflow guard.

    Raises AccelSimError unless max|bias| + K·127² fits INT32, so that no order of additions can overflow.
    """
    start = np.zeros(outputs, dtype=np.int32) if bias is None else np.asarray(bias)
    if start.dtype != np.int32 or start.shape != (outputs,):
        raise AccelSimError(f"bias: got {start.dtype} {list(start.shape)}, expected int32 [{outputs}], one an output")
    largest_bias = int(np.abs(start.astype(np.int64)).max(initial=0))
    room = LARGEST_INT32 - largest_bias
    if features * LARGEST_CODE**2 > room:
        raise AccelSimError(
            f"{features} features and |bias| up to {largest_bias} may overflow the INT32 accumulator: "
            f"|bias| + K*127^2 must be at most {LARGEST_INT32}, here K at most {max(room, 0) // LARGEST_CODE**2}"
        )
    return start


def scales(name: str, value: ArrayLike, count: int, axis: str) -> NDArray[np.floating]:
    """Positive finite scales, one for each of `count` (or one number for all), as float32 or float64 [count]."""
    array = np.asarray(value)
    if array.dtype not in (np.float32, np.float64) or array.shape not in ((), (count,)):
        raise AccelSimError(
            f"{name}: got {array.dtype} {list(array.shape)}, expected float32 [{count}], one for each {axis}"
        )
    good = np.isfinite(array) & (array > 0)
    if not good.all():
        where = f"[{axis} {np.argmin(good)}]" if array.ndim else ""
        raise AccelSimError(f"{name}{where} is {array.ravel()[np.argmin(good)]}: scales are positive and finite")
    return np.broadcast_to(array, (count,))
