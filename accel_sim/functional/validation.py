"""Run a trace's sites, or drawn cases, through every backend; compare each result with the reference, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from accel_sim.functional.backends import Backend
from accel_sim.functional.checks import accumulator_start, codes
from accel_sim.functional.comparison import Comparison, Divergence, Everywhere
from accel_sim.functional.datapath import hardware_factors
from accel_sim.functional.drawn_cases import Case, drawn_cases
from accel_sim.functional.steps import Operand, compare_encodings, compare_masks, compare_products
from accel_sim.pattern import Pattern
from accel_sim.trace import Site, Trace, Weight

__all__ = ["REFERENCE", "Comparison", "Divergence", "validate_drawn", "validate_trace"]

REFERENCE = "numpy"
_TOKENS_AT_ONCE = 512
"""Rows that are held as masks, slots and accumulators at one time, so that memory does not grow with the trace."""


def validate_trace(
    trace: Trace,
    patterns: Sequence[Pattern],
    backends: Mapping[str, Backend],
    *,
    sites: Sequence[Site] | None = None,
    rows: int | None = None,
    reference: str = REFERENCE,
    weighted_products: bool = False,
    stop: bool = True,
    advance: Callable[[str], None] = lambda site: None,
) -> Comparison:
    """Compare what `backends` make of a trace with the `reference`: masks, bytes, INT32 sums, INT8 codes, floats.

    Of each of `sites` (None: all of the trace) the first `rows` tokens are used (None: all). `weighted_products`
    multiplies under the masks of weighted scores as well. `advance` is called with each site's name when it is done.
    Raises Divergence at the first difference (or, without `stop`, counts them), and AccelSimError naming the site or
    projection whose codes the datapath does not take.
    """
    everywhere = Everywhere(backends, reference, stop)
    comparison = everywhere.comparison
    for site in trace.sites if sites is None else sites:
        x = codes(site.name, trace.codes(site.name)[:rows], ("token", "feature"))
        scales = trace.scales(site.name)[:rows]
        weights = {p.name: _operand(trace.weight(p.name), p.name) for p in site.projections if p.has_weight}
        comparison.sites += 1
        comparison.tokens += x.shape[0]
        comparison.projections += len(weights)
        comparison.without_weights += [p.name for p in site.projections if not p.has_weight]
        for first in range(0, x.shape[0], _TOKENS_AT_ONCE):
            part = slice(first, first + _TOKENS_AT_ONCE)
            everywhere.first_token = first
            # any factors will do: these are real
            factors = hardware_factors(np.linalg.norm(x[part].astype(np.float64), axis=0))
            for pattern in patterns:
                mask, weighted = compare_masks(everywhere, site.name, x[part], factors, pattern)
                compare_encodings(everywhere, site.name, x[part], mask, pattern)
                for name, weight in weights.items():
                    for kept in (mask, weighted) if weighted_products else (mask,):
                        compare_products(everywhere, name, x[part], scales[part], kept, weight, pattern)
        advance(site.name)
    return comparison


def validate_drawn(
    patterns: Sequence[Pattern],
    backends: Mapping[str, Backend],
    *,
    reference: str = REFERENCE,
    large: bool = False,
    stop: bool = True,
    advance: Callable[[str], None] = lambda case: None,
) -> Comparison:
    """The same on drawn cases (`drawn_cases`); of `large` ones the encodings are left out."""
    everywhere = Everywhere(backends, reference, stop)
    for pattern in patterns:
        for case in drawn_cases(pattern, large):
            _compare_case(everywhere, case, pattern, encodings=not large)
        advance(str(pattern))
    return everywhere.comparison


def _compare_case(everywhere: Everywhere, case: Case, pattern: Pattern, encodings: bool) -> None:
    everywhere.comparison.tokens += case.x.shape[0]
    masks = compare_masks(everywhere, case.name, case.x, case.factors, pattern)
    fewer = masks[0] & case.thinned
    if encodings:
        compare_encodings(everywhere, case.name, case.x, masks[0], pattern)
        compare_encodings(everywhere, case.name, case.x, fewer, pattern)
    for mask in (masks[1], fewer) if encodings else masks[1:]:
        compare_products(everywhere, case.name, case.x, case.scales, mask, case.weight, pattern)


def _operand(weight: Weight, projection: str) -> Operand:
    codes(projection, weight.codes, ("feature", "output"))
    return Operand(weight.codes, weight.scales, accumulator_start(None, *weight.codes.shape), weight.bias)
