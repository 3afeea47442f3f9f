"""Gains that others published, beside the ceiling of ours: context, not a comparison, since the engines differ.

VEGETA: Jeong et al., HPCA 2023, abstract: 1.09, 2.20, 3.74 and 3.28 times a dense matrix engine for CPUs (RASA) on 4:4,
2:4, 1:4 and 95 % unstructured weights. Its own dense mode already gains 1.09, so 2:4 over 4:4 is 2.20 / 1.09 = 2.02.
S2TA: Liu et al., HPCA 2022, abstract: more than 2 times a systolic array with zero gating, on convolutional networks.
"""

from __future__ import annotations

from accel_sim.arch.derived import groups_per_cycle
from accel_sim.pattern import Pattern
from benchmarks.rows import Row

GROUP = "Quoted, other engines: context only"
COMMAND = "make bench PEERS=none"
LANES = 16
VEGETA = {"4:4": 1.09, "2:4": 2.20, "1:4": 3.74}
VEGETA_UNSTRUCTURED, S2TA = 3.28, 2.0


def rows() -> list[Row]:
    """Published speed-ups; ours is the ceiling g·M / lanes of a unit with 16 lanes."""
    quoted = [
        Row(GROUP, f"VEGETA at {pattern}, against our ceiling", ceiling(Pattern(pattern)), gain, "× dense", COMMAND)
        for pattern, gain in VEGETA.items()
    ]
    unstructured, two = "VEGETA at 95 % unstructured (weights)", "S2TA over a zero-gated systolic array: more than"
    quoted.append(Row(GROUP, unstructured, None, VEGETA_UNSTRUCTURED, "× dense", COMMAND))
    return [*quoted, Row(GROUP, two, None, S2TA, "× dense", COMMAND)]


def ceiling(pattern: Pattern) -> float:
    """The most that skipping groups of `pattern` can gain: g·M / lanes."""
    return groups_per_cycle(LANES, pattern) * pattern.m / LANES
