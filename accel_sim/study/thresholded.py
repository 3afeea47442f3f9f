"""A workload whose small activations are zero, so that skipping of zeros can be seen at a stated zero fraction.

Models without ReLU leave few exact zeros. Here every activation below a site's own quantile of |x| becomes 0: one
threshold a site on real magnitudes, as TEAL prunes (arXiv 2408.14690). Tokens and channels keep their differences: a
quiet token gets more zeros than a loud one. This is magnitude thresholding, not a model of ReLU: in a ReLU network
which values are negative decides, and the network is trained with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError
from accel_sim.workload import SiteActivations, Workload, decode_workload

Activations = tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]


def thresholded(workload: Workload, zero_fraction: float) -> Workload:
    """The workload with this fraction of every site's elements zero, the smallest in magnitude.

    Sites are thresholded when they are loaded, decode steps with the thresholds of the whole site. A site keeps the
    zeros it has by itself, where those are more; equal magnitudes at the threshold all stay.
    Raises AccelSimError for a fraction that is not between 0 and 1.
    """
    if not 0 < zero_fraction < 1:
        raise AccelSimError(f"zero fraction {zero_fraction}: expected a number between 0 and 1, such as 0.8")
    return _Thresholds(workload.sites, zero_fraction).applied_to(workload)


@dataclass(frozen=True)
class _Thresholds:
    """One threshold a site, worked out when it is first needed."""

    sites: Mapping[str, SiteActivations]
    zero_fraction: float
    known: dict[str, float] = field(default_factory=dict)

    def applied_to(self, workload: Workload) -> Workload:
        how = f"magnitude-thresholded to {self.zero_fraction:.0%} zeros a site, not a ReLU model"
        return replace(
            workload,
            name=f"{workload.name}, {self.zero_fraction:.0%} zeros",
            source=f"{workload.source}; {how}",
            sites={name: replace(site, load=partial(self.load, name, site)) for name, site in workload.sites.items()},
            decode_step=workload.decode_step and partial(self._decode_step, workload),
        )

    def _decode_step(self, workload: Workload, batch: int, context: int | None) -> Workload:
        return self.applied_to(decode_workload(workload, batch, context))

    def load(self, name: str, site: SiteActivations) -> Activations:
        codes, scales = site.load()
        return np.where(_magnitudes(codes, scales) < self._of(name), np.int8(0), codes), scales

    def _of(self, name: str) -> float:
        if name not in self.known:
            magnitudes = _magnitudes(*self.sites[name].load()).ravel()
            place = min(round(self.zero_fraction * magnitudes.size), magnitudes.size - 1)
            self.known[name] = float(np.partition(magnitudes, place)[place])
        return self.known[name]


def _magnitudes(codes: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.abs(codes, dtype=np.float32) * scales[:, None]
