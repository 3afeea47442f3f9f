"""What may be asked of an occupancy: codes, one-level patterns, and counts of hardware, refused with one line."""

from __future__ import annotations

from operator import index

from numpy import int8
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.functional.checks import activations, as_pattern
from accel_sim.pattern import HierarchicalPattern, Pattern

__all__ = ["activations", "codes_and_pattern", "one_level", "positive"]


def one_level(pattern: Pattern | str) -> Pattern:
    """The pattern, which has one level: with two, every kept slot is taken and nothing depends on the data."""
    pattern = as_pattern(pattern)
    if isinstance(pattern, HierarchicalPattern):
        raise AccelSimError(
            f"pattern {pattern}: skipping that depends on the data is defined for N:M patterns of one level, such as "
            f"{pattern.n}:{pattern.m}"
        )
    return pattern


def codes_and_pattern(codes: ArrayLike, pattern: Pattern | str) -> tuple[NDArray[int8], Pattern]:
    """Activation codes int8 [T, K] in −127 … 127, and a pattern of one level."""
    return activations(codes), one_level(pattern)


def positive(**counts: int) -> None:
    """Raises AccelSimError unless each is a whole number of at least 1."""
    for name, count in counts.items():
        try:
            good = index(count) >= 1
        except TypeError:
            good = False
        if not good:
            raise AccelSimError(f"{name}: got {count!r}, expected a whole number of at least 1")
