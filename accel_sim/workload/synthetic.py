"""Sites of a workload whose activations are drawn instead of captured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError
from accel_sim.quantize.int8 import quantize_tokens
from accel_sim.trace.synthetic import Distribution, distribution_named, draw_site
from accel_sim.workload.gemm import Gemm, SiteActivations, Workload

SAMPLE_ROWS = 32
"""Rows that stand for a longer site; each holds thousands of groups."""


@dataclass(frozen=True)
class SyntheticSites:
    """Draws the sites of one workload: the distribution, the seed, and how many rows stand for a site.

    Raises AccelSimError for an unknown distribution, a negative seed, or fewer than two sample rows.
    """

    distribution: str | Distribution = "heavy_tailed"
    seed: int = 0
    sample_rows: int = SAMPLE_ROWS

    def __post_init__(self) -> None:
        object.__setattr__(self, "distribution", distribution_named(self.distribution))
        if self.seed < 0:
            raise AccelSimError(f"seed {self.seed}: expected a whole number from 0")
        if self.sample_rows < 2:
            raise AccelSimError(f"sample_rows {self.sample_rows}: expected at least 2")

    def site(self, name: str, tokens: int, features: int, repeat: int = 1) -> SiteActivations:
        """The site `name` [tokens, features]; rows of `repeat` equal sites (experts) are one population."""
        rows = min(tokens * repeat, self.sample_rows)

        def load() -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
            return quantize_tokens(draw_site(self.distribution, name, rows, features, self.seed), name)

        return SiteActivations(load=load, sampled_rows=rows if rows < tokens * repeat else None)

    def describe(self, gemms: Sequence[Gemm]) -> str:
        """One line on the sites of `gemms`: distribution, seed, sample."""
        sampled = any(self.site(gemm.site, *_shape(gemm)).sampled_rows is not None for gemm in gemms)
        rows = f"at most {self.sample_rows} sampled rows a site" if sampled else "every row"
        return f"synthetic activations, {self.distribution}, seed {self.seed}, {rows}"


def _shape(gemm: Gemm) -> tuple[int, int, int]:
    return gemm.tokens, gemm.features, gemm.repeat


def synthetic_workload(name: str, source: str, gemms: Sequence[Gemm], sites: SyntheticSites) -> Workload:
    """The workload of `gemms` with every site drawn by `sites`; `source` says where the shapes come from."""
    return Workload(
        name=name,
        source=f"{source}; {sites.describe(gemms)}",
        gemms=tuple(gemms),
        sites={gemm.site: sites.site(gemm.site, *_shape(gemm)) for gemm in gemms},
    )
