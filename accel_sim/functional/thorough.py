"""A validation large enough for a report: whole traces and drawn cases, pattern by pattern, nothing stopping it.

NumPy, the reference, makes some ten GOPS. So each site's first tokens and the small drawn cases are held against NumPy,
on every backend; everything else against `numba`, which has then been held against NumPy on the same layers itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from accel_sim.functional.backends import Backend
from accel_sim.functional.comparison import Comparison
from accel_sim.functional.validation import REFERENCE, validate_drawn, validate_trace
from accel_sim.pattern import Pattern
from accel_sim.trace import Site, Trace

FAST_REFERENCE = "numba"
SAMPLE_ROWS = 16
"""Tokens of each site that NumPy works out as well; a power of two, as kernels are compiled anew for odd numbers."""
ALL_KEPT = Pattern("4:4")
"""N = M, on drawn cases: nothing is pruned, and enumerative metadata has no bits."""


@dataclass(frozen=True)
class CaseResult:
    """What was compared in one case at one pattern, and the wall time of all of it."""

    name: str
    pattern: Pattern
    comparison: Comparison
    seconds: float

    @property
    def values_compared(self) -> int:
        """Elements that a backend made and that were held against the reference's, over all backends."""
        return sum(self.comparison.counts.values()) * len(self.comparison.backends)

    @property
    def int32_results(self) -> int:
        """Accumulators, counted once however many backends made them."""
        return self.comparison.counts["INT32 accumulators"]

    def gops(self) -> dict[str, float]:
        """10^9 operations a second of each backend's products, with copies to and from a device, and compilation."""
        spent = {name: taken["INT32 accumulators"] for name, taken in self.comparison.seconds.items()}
        return {name: self.comparison.operations / s / 1e9 for name, s in spent.items() if s and self.int32_results}


def validate_thoroughly(
    trace: Trace,
    patterns: Sequence[Pattern],
    backends: Mapping[str, Backend],
    *,
    sites: Sequence[Site] | None = None,
    rows: int | None = None,
    advance: Callable[[str], None] = lambda what: None,
) -> list[CaseResult]:
    """All cases at each pattern, and small drawn ones at N = M. `backends` has no reference but may have `numba`."""
    others = {name: unit for name, unit in backends.items() if name != FAST_REFERENCE}
    sampled = SAMPLE_ROWS if rows is None else min(rows, SAMPLE_ROWS)
    results: list[CaseResult] = []

    def run(name: str, pattern: Pattern, compare: Callable[[], Comparison]) -> None:
        begin = time.perf_counter()
        results.append(CaseResult(name, pattern, compare(), time.perf_counter() - begin))
        advance(f"{pattern}: {name}")

    for pattern in patterns:
        only = [pattern]
        run("drawn, small", pattern, lambda only=only: validate_drawn(only, backends, stop=False))
        run(
            f"trace, {sampled} tokens a site",
            pattern,
            lambda only=only: validate_trace(
                trace, only, backends, sites=sites, rows=sampled, weighted_products=True, stop=False
            ),
        )
        run(
            "trace",
            pattern,
            lambda only=only: validate_trace(
                trace,
                only,
                others,
                sites=sites,
                rows=rows,
                reference=FAST_REFERENCE,
                weighted_products=True,
                stop=False,
            ),
        )
        run(
            "drawn, large",
            pattern,
            lambda only=only: validate_drawn(only, others, reference=FAST_REFERENCE, large=True, stop=False),
        )
    run("drawn, small", ALL_KEPT, lambda: validate_drawn([ALL_KEPT], backends, stop=False))
    return results


def cases(patterns: Sequence[Pattern]) -> int:
    """How many results `validate_thoroughly` gives."""
    return 4 * len(patterns) + 1


__all__ = ["FAST_REFERENCE", "REFERENCE", "SAMPLE_ROWS", "CaseResult", "cases", "validate_thoroughly"]
