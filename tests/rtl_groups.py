"""Groups that tests of selectors share: codes that provoke ties and padding, and what the reference makes of them."""

from __future__ import annotations

import numpy as np

from accel_sim.encoding import encode
from accel_sim.functional.backends import backend
from accel_sim.functional.numpy_backend import slots
from accel_sim.pattern import Encoding, Pattern


def adversarial_codes(groups: int, m: int, seed: int) -> np.ndarray:
    """Codes int8 [about 4·groups, M]: any, many ties, only ±127, all zero, all equal, ascending, descending."""
    draw = np.random.default_rng(seed)
    ramp = np.linspace(-127, 127, m).round()
    return np.concatenate(
        [
            draw.integers(-127, 128, (groups, m)),
            draw.integers(-2, 3, (groups, m)),
            draw.choice([-127, 0, 127], (groups, m)),
            draw.choice([-1, 1], (groups, m)) * draw.integers(100, 103, (groups, m)),
            np.zeros((2, m)),
            np.full((2, m), -127),
            [ramp, -ramp, np.abs(ramp), np.abs(ramp)[::-1], np.arange(m) - m // 2],
        ]
    ).astype(np.int8)


def padded_counts(groups: int, m: int, seed: int) -> np.ndarray:
    """How many elements of each group are real: [groups] of 1 … M, all of them in every other group."""
    counts = np.random.default_rng(seed).integers(1, m + 1, groups)
    counts[::2] = m
    return counts


def factors_like(codes: np.ndarray, channel_factors: bool, seed: int) -> np.ndarray:
    """Factors uint8 like the codes: few different ones and the largest, or all ones."""
    if not channel_factors:
        return np.ones(codes.shape, dtype=np.uint8)
    return np.random.default_rng(seed).choice([1, 2, 4, 127, 254, 255], codes.shape).astype(np.uint8)


def operand_inputs(unit, codes: np.ndarray, valid: np.ndarray, factors: np.ndarray) -> dict[str, np.ndarray]:
    """What a selector is given: behind the real elements whatever the codes hold, or 0 where it masks no padding."""
    real = np.arange(codes.shape[1]) < valid[:, None]
    masked = {"values": codes, "valid_count": valid} if unit.masked_padding else {"values": np.where(real, codes, 0)}
    return masked | ({"factors": factors} if unit.channel_factors else {})


def reference_groups(
    codes: np.ndarray, factors: np.ndarray, valid: np.ndarray, pattern: Pattern, encoding: Encoding
) -> dict[str, np.ndarray]:
    """kept [groups, N], bitmap and metadata [groups] of groups [groups, M] whose first `valid` elements are real."""
    kept, bitmaps, metadata = [], [], []
    for row, of_row, count in zip(codes, factors, valid, strict=True):
        x = np.where(np.arange(pattern.m) < count, row, 0).astype(np.int8)[None, : max(1, count)]
        # A group of nothing but padding keeps the same positions as one with a real zero does.
        values, positions = slots(x, backend("numpy").select(x, pattern, of_row[: max(1, count)]), pattern)
        kept.append(values[0, 0])
        bitmaps.append(sum(1 << int(position) for position in positions[0, 0]))
        metadata.append(int.from_bytes(encode(positions, pattern, encoding).tobytes(), "little"))
    return {
        "kept": np.array(kept),
        "bitmap": np.array(bitmaps, dtype=object),
        "metadata": np.array(metadata, dtype=object),
    }
