"""The configurations that the unit is proven on: patterns, sizes, supplies, and what limits each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.proof.cycles import Configuration, Stalls
from accel_sim.proof.job import Operands
from accel_sim.rtl.shape import UnitShape
from accel_sim.trace import Trace

PATTERNS = {None: 4, "1:4": 2, "2:4": 4, "3:4": 3, "2:8": 4, "4:8": 4, "4:16": 4, "8:16": 8, "16:32": 16}
"""Each with its lanes: one group a cycle, or two."""


def configurations() -> list[Configuration]:
    """Every pattern under every supply; then what the unit's other parameters change."""
    found = [one for text, lanes in PATTERNS.items() for one in _supplies(text, lanes)]
    return found + _parameters()


def quick() -> list[Configuration]:
    """A few of them, for every run of the tests."""
    return [_supplies("2:4", 4)[0], _supplies(None, 4)[2], _supplies("4:8", 4)[3], _supplies("2:8", 4)[4]]


def _supplies(text: str | None, lanes: int) -> list[Configuration]:
    """One unit fed by a wide bus, by a narrow one, by ones that stall, and one that waits for its requantisers."""
    pattern = None if text is None else Pattern(text)
    m = 4 if pattern is None else pattern.m
    shape = UnitShape(rows=4, cols=4, lanes=lanes, pattern=pattern, features=4 * m, weight_panels=1, bus_bytes=4)
    wide = replace(shape, bus_bytes=2 * shape.chunk if shape.chunk < 32 else shape.chunk, requantisers=4)
    tokens, features, outputs = 32, shape.features, 8
    return [
        Configuration(wide, tokens, features, outputs),
        Configuration(shape, tokens // 2, features, outputs),
        Configuration(wide, tokens, features, outputs, stalls=Stalls(4, 1)),
        Configuration(wide, tokens, features, outputs, stalls=Stalls(8, 3, random=True)),
        Configuration(replace(wide, requantisers=1), tokens, features, outputs),
    ]


def _parameters() -> list[Configuration]:
    """Buffers, tiles that are not full, registers, selectors, encodings."""
    unit = UnitShape(4, 4, 4, features=32, pattern=Pattern("4:8"), bus_bytes=8, requantisers=2, weight_panels=1)
    larger = UnitShape(8, 8, 8, features=64, pattern=Pattern("8:16"), bus_bytes=16, requantisers=8, weight_panels=1)
    dense = replace(unit, pattern=None)
    every = [
        Configuration(replace(unit, activation_panels=4), 16, 32, 16),  # all activations stay
        Configuration(replace(unit, activation_panels=1), 16, 32, 8),  # no second half
        Configuration(replace(unit, activation_panels=1, weight_panels=2), 16, 32, 16, held="activations"),
        Configuration(replace(dense, activation_panels=1, weight_panels=2), 16, 32, 16, held="activations"),
        Configuration(replace(dense, activation_panels=4), 16, 32, 16),
        Configuration(
            replace(unit, selector_rows=2), 14, 24, 6
        ),  # tiles that are not full, features that are no whole number of chunks
        Configuration(dense, 14, 24, 6),
        Configuration(replace(unit, requantisers=1), 1, 32, 16),  # one token: the other rows' selectors idle
        Configuration(replace(unit, requantisers=1, selector_rows=1), 1, 32, 16),
        Configuration(replace(unit, selector_rows=1), 16, 32, 8),  # four rows share a selector
        Configuration(replace(unit, selector_rows=2), 16, 32, 8),
        Configuration(larger, 32, 64, 32),
        Configuration(replace(larger, operand_mux_register=True), 32, 64, 16, stalls=Stalls(16, 5)),
        Configuration(replace(larger, pattern=None), 32, 64, 16),
        Configuration(replace(larger, requantisers=2), 24, 48, 24),
    ]
    resident = replace(unit, features=128, bus_bytes=32, activation_panels=4, requantisers=4)
    every += [
        Configuration(resident, 16, 128, 16),  # the array limits: activations stay, and the bus brings four rows a beat
        Configuration(replace(resident, pattern=None, bus_bytes=16), 16, 128, 16),
        Configuration(replace(resident, operand_mux_register=True), 16, 128, 16, stalls=Stalls(8, 3, random=True)),
        Configuration(
            replace(resident, features=8, bus_bytes=4, activation_panels=8), 32, 8, 32
        ),  # the bus is as busy with stores as with loads
    ]
    smaller = tuple(Pattern(text) for text in ("2:4", "4:8", "8:16"))
    flexible = UnitShape(2, 2, 16, 64, Pattern("16:32"), smaller, bus_bytes=16, requantisers=2, weight_panels=1)
    every += [Configuration(flexible, 8, 48, 4, mode=mode) for mode in range(len(flexible.modes))]
    for mux in ("restricted", "full"):
        every.append(Configuration(replace(unit, operand_mux=mux), 16, 32, 8))
    for metadata in ("index", "enumerative"):
        every.append(Configuration(replace(unit, metadata=metadata), 16, 32, 8))
    for selector in ("sort", "cascade", "radix"):
        every.append(Configuration(replace(unit, selector=selector, pipelined_selector=True), 16, 32, 8))
    return every


def real_operands(trace: Trace, configuration: Configuration) -> Operands:
    """Captured rows and the weights of a projection they feed, cut to the configuration's size, with their scales.

    The output's static scale is the power of two that the products just fit. Raises AccelSimError where the trace
    holds no weights of at least that size.
    """
    c = configuration
    for site in trace.sites:
        for projection in site.projections:
            large = projection.features >= c.features and projection.outputs >= c.outputs
            if projection.has_weight and large and site.tokens >= c.tokens:
                return _cut(trace, site.name, projection.name, c)
    raise AccelSimError(
        f"{trace.path}: no projection with weights for {c.tokens} tokens × {c.features} features × {c.outputs} outputs"
    )


def _cut(trace: Trace, site: str, projection: str, c: Configuration) -> Operands:
    weight = trace.weight(projection)
    x = np.array(trace.codes(site)[: c.tokens, : c.features])
    w = np.array(weight.codes[: c.features, : c.outputs])
    token_scales, output_scales = trace.scales(site)[: c.tokens], weight.scales[: c.outputs]
    products = (x.astype(np.float64) @ w) * token_scales[:, None] * output_scales
    step = np.exp2(np.ceil(np.log2(np.abs(products).max() / 127)))
    return Operands(x, w, (token_scales / step).astype(np.float32), output_scales.astype(np.float32))
