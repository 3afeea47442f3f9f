"""The machine's bill of materials: which circuit stands in it how often. Area, clock and leakage are sums over it."""

from __future__ import annotations

from functools import cache

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost.bill import LOGIC_COMPONENTS, Part
from accel_sim.cost.datapath import datapath
from accel_sim.cost.gathering import gathering_parts
from accel_sim.cost.predicting import prediction_parts
from accel_sim.cost.sparse import pattern_parts, selector_parts

__all__ = ["LOGIC_COMPONENTS", "Part", "parts", "register_bits"]


@cache
def parts(arch: Arch) -> tuple[Part, ...]:
    """All logic of one core. A flexible unit holds the largest of each component that one of its patterns needs."""
    built = [*datapath(arch), *gathering_parts(arch), *prediction_parts(arch)]
    built += _largest([list(pattern_parts(arch, pattern)) for pattern in derived.array_patterns(arch)])
    selected = [pattern for pattern in arch.sparsity.patterns if derived.selects(arch, pattern)]
    built += _largest([list(selector_parts(arch, pattern)) for pattern in selected])
    return tuple(built)


def _largest(options: list[list[Part]]) -> list[Part]:
    """Component by component, the parts of the option that needs most of it."""
    chosen: list[Part] = []
    for component in LOGIC_COMPONENTS:
        alternatives = [[part for part in option if part.component == component] for option in options]
        chosen += max(alternatives, key=lambda option: sum(part.area_um2 for part in option), default=[])
    return chosen


def register_bits(arch: Arch) -> float:
    """Flip-flops of one core, those inside other circuits included: all are clocked in every cycle."""
    return sum(part.count * part.unit.flip_flops for part in parts(arch))
