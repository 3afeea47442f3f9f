"""What the functional tests share: inputs that provoke ties, padding and saturation; which backends are there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from accel_sim.errors import AccelSimError
from accel_sim.functional.backends import backend

PATTERNS = ("1:1", "1:4", "2:4", "3:4", "4:4", "4:8", "7:16", "8:16", "1:32", "16:32", "31:64")
TWO_LEVELS = (
    "1:2 of 4:8",
    "2:4 of 2:4",
    "1:4 of 2:4",
    "3:4 of 8:16",
    "2:2 of 4:8",
    "1:2 of 8:8",
    "2:3 of 3:5",
    "1:1 of 2:4",
)
OTHER_BACKENDS = ("numba", "torch", pytest.param("torch:cuda", marks=pytest.mark.gpu))


def require_backend(name: str) -> str:
    """The name, or a skipped test where the backend is not there."""
    try:
        backend(name)
    except AccelSimError as missing:
        pytest.skip(str(missing))
    return name


def codes(shape: tuple[int, int], style: str, seed: int) -> np.ndarray:
    """Activation codes int8 of one of the `STYLES`."""
    draw = np.random.default_rng(seed)
    made = {
        "any": lambda: draw.integers(-127, 128, shape),
        "ties": lambda: draw.integers(-2, 3, shape),
        "largest": lambda: draw.choice([-127, 127], shape),
        "equal": lambda: np.full(shape, draw.integers(-127, 128)),
        "zero": lambda: np.zeros(shape),
    }[style]()
    return made.astype(np.int8)


STYLES = ("any", "ties", "largest", "equal", "zero")
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 150))
all_codes = st.builds(codes, shapes, st.sampled_from(STYLES), seeds)


@st.composite
def patterns(draw, largest: int = 64) -> str:
    """Any N:M: the usual ones, and anything up to the largest M."""
    m = draw(st.integers(1, largest))
    return draw(st.sampled_from(PATTERNS) | st.integers(1, m).map(lambda n: f"{n}:{m}"))


@st.composite
def two_levels(draw) -> str:
    """Any N1:M1 of N0:M0 with M1·M0 ≤ 64, the usual ones among them."""
    outer = draw(st.integers(1, 16))
    inner = draw(st.integers(1, 64 // outer))
    made = f"{draw(st.integers(1, outer))}:{outer} of {draw(st.integers(1, inner))}:{inner}"
    return draw(st.sampled_from((*TWO_LEVELS, made)))


def all_patterns() -> st.SearchStrategy[str]:
    """Patterns of one level and of two."""
    return patterns() | two_levels()


def factors_for(features: int, seed: int) -> np.ndarray | None:
    """Score factors uint8 [K], or None for every third seed."""
    return None if seed % 3 == 0 else np.random.default_rng(seed).integers(1, 256, features).astype(np.uint8)
