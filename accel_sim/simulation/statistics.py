"""What the machines need to know of the activations, computed once however many ask."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel_sim.arch.sparsity import GATHERS
from accel_sim.functional import output_loss, pruning_statistics, zero_statistics
from accel_sim.occupancy import MaskModel, Masks
from accel_sim.pattern import Pattern
from accel_sim.simulation.nonzeros import Skipping, needed, windows
from accel_sim.simulation.recipe_quality import loss
from accel_sim.sparsify import Treatment
from accel_sim.timing import Nonzeros
from accel_sim.workload import Gemm, SiteActivations, Weights, Workload

NOTHING_PRUNED = Pattern("1:1")


@dataclass(frozen=True)
class SiteZeros:
    """Zeros of one site under one pattern (None: dense)."""

    zero_fraction: float
    """Zeros among the activations, before selection."""
    zero_slots: float
    """Slots that hold a zero or padding, as a fraction of all slots."""


@dataclass(frozen=True)
class InputLoss:
    """What selection throws away of one site."""

    value: float
    """‖X − X̂‖²/‖X‖²."""
    standard_error: float | None
    """Standard error of `value` over the sampled rows; None when all rows are there."""


class WorkloadStatistics:
    """The statistics of one workload, kept as they are computed so that several machines share them."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._known: dict[Hashable, Any] = {}
        self._last: tuple[str, tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def holds_all_weights(self) -> bool:
        """Of the linear projections."""
        return all(gemm.load_weights is not None for gemm in self.workload.gemms if gemm.kind == "linear")

    def zeros(self, site: str, pattern: Pattern | None) -> SiteZeros:
        """Zeros of a site; reads the site's activations the first time."""
        return self._once(("zeros", site, pattern), lambda: self._zeros(site, pattern))

    def input_loss(self, site: str, pattern: Pattern | None) -> InputLoss:
        """Loss of a site under a pattern."""
        if pattern is None:
            return InputLoss(0.0, None)
        return self._once(("input loss", site, pattern), lambda: self._input_loss(site, pattern))

    def output_loss(self, gemm: Gemm, pattern: Pattern) -> float:
        """‖XW − X̂W‖²/‖XW‖² of a projection whose weights are there."""
        return self._once(("output loss", gemm.name, pattern), lambda: self._output_loss(gemm, pattern))

    def treated_loss(self, gemm: Gemm, pattern: Pattern, treatment: Treatment) -> float:
        """‖Y − Y′‖²/‖Y‖² of a projection whose weights are there, Y′ with a recipe's criterion and mitigations."""
        how = (treatment.criterion, treatment.outliers, treatment.shift, treatment.variance)

        def compute() -> float:
            codes, scales = self._activations(gemm.site)
            return loss(codes, scales, gemm.load_weights(), pattern, treatment)

        return self._once(("treated loss", gemm.name, pattern, how), compute)

    def predictor_loss(self, gemm: Gemm, weights: Weights | None = None) -> float | None:
        """What a predictor's misses take from a product's input, ‖X − X′‖²/‖X‖²; with `weights` from its output,
        ‖XW − X′W‖²/‖XW‖². None where the workload does not know them."""
        original = self.workload.unpredicted[gemm.site]
        if original is None:
            return None
        key = ("predictor loss", gemm.name, weights is not None)
        return self._once(key, lambda: self._predictor_loss(gemm, original, weights))

    def weight_loss(self, gemm: Gemm, pattern: Pattern) -> float:
        """‖XW − XŴ‖²/‖XW‖², the weights of every output pruned by magnitude, each scaled as it is stored."""
        return self._once(("weight loss", gemm.name, pattern), lambda: self._weight_loss(gemm, pattern))

    def nonzeros(
        self, gemm: Gemm, pattern: Pattern | None, skipping: Skipping, model: MaskModel = "real", seed: int = 0
    ) -> Nonzeros | None:
        """What `skipping` finds in the activations of a product, or in ones drawn from a statistic of them.

        None where its time does not depend on them. Raises AccelSimError where a sample of rows is not enough.
        """
        if not skipping.needs_activations or gemm.site not in self.workload.sites or not gemm.prunable:
            return None
        site = skipping.outputs_site(gemm) or gemm.site
        if site not in self.workload.sites:
            return None
        key = ("non-zeros", site, gemm.tokens, pattern, skipping, model, seed)
        masks = Masks(model, site, seed)
        if skipping.gathers_outputs(gemm):
            return Nonzeros(outputs=self._once(key, lambda: needed(self._codes(site), gemm, pattern, masks)))
        if skipping.gathers_features(gemm):
            return Nonzeros(features=self._once(key, lambda: needed(self._codes(site), gemm, pattern, masks)))
        if pattern is None or skipping.kind in GATHERS:
            return None
        return Nonzeros(
            windows=self._once(key, lambda: windows(self._codes(site), gemm.tokens, pattern, skipping, masks))
        )

    def _once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def _activations(self, site: str) -> tuple[np.ndarray, np.ndarray]:
        """Codes and scales of a site; the last one is kept, as projections that share a site follow each other."""
        if self._last is None or self._last[0] != site:
            self._last = site, self.workload.sites[site].load()
        return self._last[1]

    def _codes(self, site: str) -> np.ndarray:
        return self._activations(site)[0]

    def _zeros(self, name: str, pattern: Pattern | None) -> SiteZeros:
        codes = self._codes(name)
        tokens, features = codes.shape
        sums = zero_statistics(codes, pattern or NOTHING_PRUNED)
        slots = tokens * (features if pattern is None else pattern.groups(features) * pattern.n)
        return SiteZeros(sums.zeros / sums.elements, 1 - sums.kept_nonzeros / slots)

    def _input_loss(self, name: str, pattern: Pattern) -> InputLoss:
        codes, scales = self._activations(name)
        error = None if self.workload.sites[name].sampled_rows is None else _standard_error(codes, scales, pattern)
        return InputLoss(pruning_statistics(codes, scales, pattern).loss, error)

    def _output_loss(self, gemm: Gemm, pattern: Pattern) -> float:
        codes, scales = self._activations(gemm.site)
        weights = gemm.load_weights()
        error, norm = output_loss(codes, scales, weights.codes, weights.scales, pattern)
        return error / norm if norm else 0.0

    def _predictor_loss(self, gemm: Gemm, original: SiteActivations, weights: Weights | None) -> float:
        codes, scales = original.load()
        whole, missed = (part * scales[:, None].astype(np.float64) for part in (codes, codes - self._codes(gemm.site)))
        if weights is not None:
            floats = weights.codes * weights.scales.astype(np.float64)
            whole, missed = whole @ floats, missed @ floats
        norm = np.square(whole).sum()
        return float(np.square(missed).sum() / norm) if norm else 0.0

    def _weight_loss(self, gemm: Gemm, pattern: Pattern) -> float:
        """The same sums with the operands' parts exchanged: (XW)ᵀ = WᵀXᵀ, and it is Wᵀ that is pruned."""
        codes, scales = self._activations(gemm.site)
        weights = gemm.load_weights()
        pruned, other = np.ascontiguousarray(weights.codes.T), np.ascontiguousarray(codes.T)
        error, norm = output_loss(pruned, weights.scales, other, scales, pattern)
        return error / norm if norm else 0.0


def _standard_error(codes: np.ndarray, scales: np.ndarray, pattern: Pattern) -> float:
    """Standard error of the ratio Σ error / Σ norm over independent rows (the delta method's first term)."""
    rows = [pruning_statistics(codes[t : t + 1], scales[t : t + 1], pattern) for t in range(len(codes))]
    error = np.array([row.squared_error for row in rows])
    norm = np.array([row.squared_norm for row in rows])
    ratio = error.sum() / norm.sum() if norm.sum() else 0.0
    spread = np.std(error - ratio * norm, ddof=1)
    return float(spread / (norm.mean() * np.sqrt(len(rows)))) if norm.sum() else 0.0
