"""How much of the weights a decode step of a batch needs, and what statistics of the trace would say of that.

A machine that gathers fetches the weight rows (or columns) that at least one token of its batch needs: a union over
tokens. The models know a density from ALL rows of the trace, as an analyst would measure it beforehand, and say what
the union is to be expected. With B tokens, p the density of the site, p_j that of channel j, d_t that of token t:

    iid         K·(1 − (1 − p)^B)
    marginal    Σ_j (1 − (1 − p_j)^B)
    token       K·(1 − Π_t (1 − d_t)), over the tokens of the batch

"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel_sim.arch import Arch
from accel_sim.occupancy import DRAWN_MODELS, MASK_MODELS, REAL_MASKS
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine, WorkloadStatistics
from accel_sim.simulation.nonzeros import Skipping
from accel_sim.study.run import label
from accel_sim.timing import Nonzeros
from accel_sim.workload import Gemm, Workload, decode_workload

Densities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Needed:
    """What one decode step of a batch needs, by the real masks or by a statistic."""

    data: str
    """Whose zeros: the trace's own, or a thresholded variant."""
    machine: str
    batch: int
    masks: str
    """`real`, or the statistic."""
    share: float
    """Of the bytes of all weights, those that are fetched."""
    cycles: int
    """Of the step's linear projections."""


def expected_needed(channels: Densities, tokens: Densities, model: str) -> float:
    """Features that a batch is expected to need, from the densities [K] of all channels and [B] of its tokens."""
    batch = len(tokens)
    if model == "marginal":
        return float(np.sum(1 - (1 - channels) ** batch))
    empty = (1 - channels.mean()) ** batch if model == "iid" else np.prod(1 - tokens)
    return float(len(channels) * (1 - empty))


def needed_by_batch(
    data: str, arch: Arch, pattern: Pattern | None, workload: Workload, batches: Sequence[int]
) -> Iterator[Needed]:
    """One `Needed` for every batch and mask model, batch by batch.

    Raises AccelSimError for a machine without room for the step, and a batch larger than the workload can stand for.
    """
    machine, skipping = Machine(arch, pattern), Skipping.of(arch)
    channels = _ChannelDensities(workload, pattern)
    for batch in batches:
        step = WorkloadStatistics(decode_workload(workload, batch))
        products = [_Gathered.of(gemm, step, skipping, channels) for gemm in step.workload.gemms]
        weights = sum(product.weights for product in products)
        for model in MASK_MODELS:
            fetched = sum(product.weights * product.share(model) for product in products)
            cycles = sum(product.cycles(machine, model) for product in products)
            yield Needed(data, label(arch, pattern), batch, model, fetched / weights, cycles)


class _ChannelDensities:
    """How often each channel of a site is kept and not zero, over all rows of the workload."""

    def __init__(self, workload: Workload, pattern: Pattern | None) -> None:
        self.workload, self.pattern = workload, pattern
        self._known: dict[str, Densities] = {}

    def of(self, site: str) -> Densities:
        if site not in self._known:
            self._known[site] = self.kept(self.workload, site).mean(axis=0, dtype=np.float64)
        return self._known[site]

    def kept(self, workload: Workload, site: str) -> npt.NDArray[np.bool_]:
        return REAL_MASKS.kept(workload.sites[site].load()[0], self.pattern)


@dataclass(frozen=True)
class _Gathered:
    """A product of a step with what it needs by each model; nothing where it gathers nothing."""

    gemm: Gemm
    needed: dict[str, Nonzeros]

    @classmethod
    def of(cls, gemm: Gemm, step: WorkloadStatistics, skipping: Skipping, channels: _ChannelDensities) -> _Gathered:
        real = step.nonzeros(gemm, channels.pattern, skipping)
        if real is None:
            return cls(gemm, {})
        outputs = real.outputs is not None
        site = gemm.consumer_site if outputs else gemm.site
        tokens = channels.kept(step.workload, site)[: gemm.tokens].mean(axis=1, dtype=np.float64)
        found = {"real": real}
        for model in DRAWN_MODELS:
            count = round(expected_needed(channels.of(site), tokens, model))
            found[model] = Nonzeros(outputs=count) if outputs else Nonzeros(features=count)
        return cls(gemm, found)

    @property
    def weights(self) -> int:
        return self.gemm.features * self.gemm.outputs * self.gemm.repeat

    def share(self, model: str) -> float:
        """Of the product's weights, those that are needed."""
        return share_of_weights(self.gemm, self.needed.get(model))

    def cycles(self, machine: Machine, model: str) -> int:
        return machine.time(self.gemm, self.needed.get(model)).cycles * self.gemm.repeat


def share_of_weights(gemm: Gemm, needed: Nonzeros | None) -> float:
    """Of a product's weights, those in needed rows or columns: all of them where nothing is gathered."""
    if needed is None:
        return 1.0
    if needed.outputs is not None:
        return needed.outputs / gemm.outputs
    return 1.0 if needed.features is None else needed.features / gemm.features
