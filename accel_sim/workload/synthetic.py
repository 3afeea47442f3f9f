"""Sites of a workload whose activations are drawn instead of captured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.quantize.int8 import quantize_tokens
from accel_sim.trace.synthetic import Distribution, distribution_named, draw_site, sampling_error
from accel_sim.workload.gemm import Gemm, SiteActivations, Workload

SAMPLE_ROWS = 32
"""Rows that stand for a longer site; each holds thousands of groups."""
ERROR_PATTERN = Pattern("8:16")
"""The pattern whose retained error the stated sampling error speaks of."""


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
        """The site `name` [tokens, features]; `repeat` equal sites (experts) are represented by one."""
        rows = min(tokens, self.sample_rows)

        def load() -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
            return quantize_tokens(draw_site(self.distribution, name, rows, features, self.seed), name)

        return SiteActivations(load=load, sampled_rows=rows if rows < tokens or repeat > 1 else None)

    def describe(self, gemms: Sequence[Gemm]) -> str:
        """One line on the sites of `gemms`: distribution, seed, sample and its error.

        The error is that of the sampled site with the fewest elements: the others are known better.
        """
        line = f"synthetic activations, {self.distribution}, seed {self.seed}"
        sampled = {gemm.site: gemm for gemm in gemms if self.site(gemm.site, *_shape(gemm)).sampled_rows is not None}
        if not sampled:
            return f"{line}, every row"
        line += f", at most {self.sample_rows} sampled rows a site"
        smallest = min(sampled.values(), key=lambda gemm: (min(gemm.tokens, self.sample_rows), gemm.features))
        rows = min(smallest.tokens, self.sample_rows)
        if rows < 2:
            return f"{line} (one row of some: sampling error unknown)"
        drawn = draw_site(self.distribution, smallest.site, rows, smallest.features, self.seed)
        error = sampling_error(drawn, ERROR_PATTERN)
        return f"{line} (standard error of a site's {ERROR_PATTERN} pruning error: at most {error:.1%})"


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
