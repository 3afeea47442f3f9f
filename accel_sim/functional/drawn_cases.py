"""Drawn inputs that provoke what goes wrong: ties, saturation, zeros, padding, one token, biases near the limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel_sim.functional.checks import LARGEST_CODE, LARGEST_INT32
from accel_sim.functional.steps import Operand
from accel_sim.pattern import Pattern

STYLES = ("any", "ties", "largest", "equal", "zero")
_LARGE = (("any", 1021), ("largest", 512))
"""Style and features of large cases; 1021 is a prime."""
_LARGE_TOKENS, _LARGE_OUTPUTS = 2048, 4096


@dataclass(frozen=True)
class Case:
    """One input of the whole datapath: codes x int8 [T, K], factors uint8 [K], scales float32 [T], and weights."""

    name: str
    x: NDArray[np.int8]
    factors: NDArray[np.uint8]
    scales: NDArray[np.float32]
    thinned: NDArray[np.bool_]
    """bool [T, K], to keep fewer than N of some groups."""
    weight: Operand


def drawn_cases(pattern: Pattern, large: bool, seed: int = 0) -> Iterator[Case]:
    """Cases for one pattern, the same ones each time: small ones in every style, or a few large ones."""
    if large:
        for style, features in _LARGE:
            yield _case(style, _LARGE_TOKENS, features, _LARGE_OUTPUTS, seed)
        return
    for style in STYLES:
        yield _case(style, 1, pattern.m + 1, 19, seed)  # one token, a group and a remainder
        yield _case(style, 37, 601, 40, seed)  # nothing aligned


def _case(style: str, tokens: int, features: int, outputs: int, seed: int) -> Case:
    draw = np.random.default_rng([seed, STYLES.index(style), tokens, features])
    w = draw.choice([-LARGEST_CODE, LARGEST_CODE], (features, outputs)) if style == "largest" else None
    w = draw.integers(-LARGEST_CODE, LARGEST_CODE + 1, (features, outputs)) if w is None else w
    room = LARGEST_INT32 - features * LARGEST_CODE**2
    weight = Operand(
        codes=w.astype(np.int8),
        scales=draw.uniform(1e-3, 1, outputs).astype(np.float32),
        start=draw.integers(-room, room + 1, outputs).astype(np.int32),
        bias=draw.standard_normal(outputs).astype(np.float32),
    )
    return Case(
        name=f"drawn {style} {tokens}x{features}x{outputs}",
        x=_codes(style, (tokens, features), draw),
        factors=draw.integers(1, 256, features).astype(np.uint8),
        scales=draw.uniform(1e-3, 1, tokens).astype(np.float32),
        thinned=draw.random((tokens, features)) < 0.6,
        weight=weight,
    )


def _codes(style: str, shape: tuple[int, int], draw: np.random.Generator) -> NDArray[np.int8]:
    if style == "any":
        x = draw.integers(-LARGEST_CODE, LARGEST_CODE + 1, shape)
    elif style == "ties":
        x = draw.integers(-2, 3, shape)
    elif style == "largest":
        x = draw.choice([-LARGEST_CODE, LARGEST_CODE], shape)
    elif style == "equal":
        x = np.full(shape, draw.integers(-LARGEST_CODE, LARGEST_CODE + 1))
    else:
        x = np.zeros(shape)
    return x.astype(np.int8)
