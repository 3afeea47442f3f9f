"""Which features a batch of tokens needs at all: the weight rows that a gathering memory fetches."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.occupancy.checks import activations, one_level
from accel_sim.occupancy.masks import REAL_MASKS, Masks
from accel_sim.pattern import Pattern


def needed_features(
    codes: ArrayLike, pattern: Pattern | str | None = None, *, masks: Masks = REAL_MASKS
) -> NDArray[np.bool_]:
    """bool [K]: the features of codes int8 [T, K] that some token keeps with a value other than zero.

    Without a pattern (None, or N = M) only natural zeros are left out. With `masks` drawn, every token needs every
    feature independently of all others, with the density that the model gives it; the union is over those.

    Raises AccelSimError for codes that are not int8 in −127 … 127, and for a pattern of two levels.
    """
    pattern = None if pattern is None else one_level(pattern)
    return masks.kept(activations(codes), pattern).any(axis=0)
