"""What sites look like to a pattern: zeros, magnitudes, non-zeros a group, and how masks of neighbours agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.functional.datapath import select
from accel_sim.pattern import Pattern
from accel_sim.trace import Site, Trace
from accel_sim.trace.statistics import kept_overlap, pooled, site_statistics

QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class SiteSummary:
    """One site, or several of one kind taken together, under one pattern, of one level or two."""

    name: str
    sites: int
    """How many were taken together."""
    rows: int
    """Token rows of all of them."""
    features: int
    """K."""
    zero_fraction: float
    """Share of codes that are zero."""
    magnitude_quantiles: dict[float, int]
    """Quantile → the smallest |code| (of 127) that this share of the codes does not exceed."""
    group_nonzeros: tuple[int, ...]
    """How many groups of M features have 0, 1, … M non-zeros; padding of a last group counts as zeros."""
    mean_group_nonzeros: float
    whole_groups: float
    """Share of groups that the pattern leaves whole: it drops nothing but zeros there."""
    kept_overlap: float | None
    """Jaccard index of the kept sets of neighbouring tokens, mean over all pairs; None without a pair."""


def summarize(trace: Trace, name: str, sites: Sequence[Site], pattern: Pattern) -> SiteSummary:
    """Summarise `sites` of `trace` together, as `name`; one site is in memory at a time.

    Raises AccelSimError when none of them has a token, and for codes that the datapath does not take.
    """
    statistics = []
    overlap, pairs, whole = 0.0, 0, 0
    for site in sites:
        if not site.tokens:
            continue
        codes, sequences = trace.codes(site.name), trace.sequences(site.name)
        statistics.append(site_statistics(codes, (pattern.m,)))
        mask = select(codes, pattern, backend="numba")
        dropped = np.logical_or.reduceat((codes != 0) & ~mask, np.arange(0, site.features, pattern.m), axis=1)
        whole += int(np.count_nonzero(~dropped))
        neighbours = int(np.count_nonzero(sequences[1:] == sequences[:-1]))
        if neighbours:
            overlap += neighbours * kept_overlap(mask, sequences)
            pairs += neighbours
    if not statistics:
        raise AccelSimError(f"{trace.path}: {name}: no token to describe")
    together = pooled(statistics)
    counts = together.group_nonzeros[pattern.m]
    return SiteSummary(
        name=name,
        sites=len(sites),
        rows=together.tokens,
        features=together.features,
        zero_fraction=together.zero_fraction,
        magnitude_quantiles={q: together.magnitude_quantile(q) for q in QUANTILES},
        group_nonzeros=tuple(counts.tolist()),
        mean_group_nonzeros=float(counts @ np.arange(pattern.m + 1) / counts.sum()),
        whole_groups=whole / int(counts.sum()),
        kept_overlap=overlap / pairs if pairs else None,
    )
