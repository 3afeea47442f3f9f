"""What the machines need to know of the activations, computed once for every (site, pattern) however many ask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_sim.functional import output_loss, pruning_statistics
from accel_sim.pattern import Pattern
from accel_sim.workload import Gemm, Workload

NOTHING_PRUNED = Pattern("1:1")


@dataclass(frozen=True)
class SiteStatistics:
    """One site under one pattern (None: dense)."""

    zero_fraction: float
    """Zeros among the activations, before selection."""
    zero_slots: float
    """Slots that hold a zero or padding, as a fraction of all slots."""
    input_loss: float
    """‖X − X̂‖²/‖X‖²."""
    input_loss_error: float | None
    """Standard error of `input_loss` over the sampled rows; None when all rows are there."""


class WorkloadStatistics:
    """The statistics of one workload, kept as they are computed so that several machines share them."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._sites: dict[tuple[str, Pattern | None], SiteStatistics] = {}
        self._outputs: dict[tuple[str, Pattern], float] = {}

    @property
    def holds_all_weights(self) -> bool:
        return all(gemm.load_weights is not None for gemm in self.workload.gemms)

    def site(self, name: str, pattern: Pattern | None) -> SiteStatistics:
        """Statistics of a site under a pattern; reads the site's activations the first time."""
        key = (name, pattern)
        if key not in self._sites:
            self._sites[key] = self._measure(name, pattern)
        return self._sites[key]

    def output_loss(self, gemm: Gemm, pattern: Pattern) -> float:
        """‖XW − X̂W‖²/‖XW‖² of a projection whose weights are there."""
        key = (gemm.name, pattern)
        if key not in self._outputs:
            codes, scales = self.workload.sites[gemm.site].load()
            weights = gemm.load_weights()
            error, norm = output_loss(codes, scales, weights.codes, weights.scales, pattern)
            self._outputs[key] = error / norm if norm else 0.0
        return self._outputs[key]

    def _measure(self, name: str, pattern: Pattern | None) -> SiteStatistics:
        site = self.workload.sites[name]
        codes, scales = site.load()
        tokens, features = codes.shape
        sums = pruning_statistics(codes, scales, pattern or NOTHING_PRUNED)
        slots = tokens * (features if pattern is None else pattern.groups(features) * pattern.n)
        error = None
        if site.sampled_rows is not None and pattern is not None:
            error = _standard_error(codes, scales, pattern)
        return SiteStatistics(sums.zeros / sums.elements, 1 - sums.kept_nonzeros / slots, sums.loss, error)


def _standard_error(codes: np.ndarray, scales: np.ndarray, pattern: Pattern) -> float:
    """Standard error of the ratio Σ error / Σ norm over independent rows (the delta method's first term)."""
    rows = [pruning_statistics(codes[t : t + 1], scales[t : t + 1], pattern) for t in range(len(codes))]
    error = np.array([row.squared_error for row in rows])
    norm = np.array([row.squared_norm for row in rows])
    ratio = error.sum() / norm.sum() if norm.sum() else 0.0
    spread = np.std(error - ratio * norm, ddof=1)
    return float(spread / (norm.mean() * np.sqrt(len(rows)))) if norm.sum() else 0.0
