"""Circuits that find the non-zeros among what a row keeps, and bring their operands together.

They stand at the array's rows and are shared by all columns: zero detectors where groups arrive, finders of the next
non-zeros, and multiplexers for the values and positions found.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import ceil, log2

from accel_sim.cost import circuits
from accel_sim.cost.tables import constant
from accel_sim.cost.units import Library, UnitCost


@cache
def finder(library: Library, picks: int, places: int) -> UnitCost | None:
    """Which are the next `picks` non-zeros of `places`; None where one cycle takes them all.

    Area: a leading-one encoder over all places for every pick (the bitmap decoder of the table with one slot). Delay: a
    prefix count, log2(places) levels of adders that wide.
    """
    if picks >= places:
        return None
    one = library.unit("decode_bitmap_index", 1, places)
    found = one.times(picks, f"next {picks} of {places} finder", rule=f"{picks} leading-one encoders")
    levels = ceil(log2(places))
    count = circuits.adder(library, levels, "prefix count")
    return replace(found, delay_ns=levels * count.delay_ns, source=f"{found.source}; delay of {levels} prefix levels")


def zero_detector(library: Library) -> UnitCost:
    """Whether an INT8 value is zero."""
    return circuits.random_gates(library, constant("zero_gating_detector_gates"), "zero detector")


def position_bits(positions: int) -> int:
    """Bits that name one of so many positions."""
    return ceil(log2(positions)) if positions > 1 else 0
