"""From a site's activations to what a machine that skips finds in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel_sim.arch import Arch
from accel_sim.arch.derived import slices
from accel_sim.arch.sparsity import GATHERS, SKIPS_ZEROS
from accel_sim.errors import AccelSimError
from accel_sim.occupancy import Masks, WindowTimes, elastic_windows, needed_features, unstructured_windows
from accel_sim.pattern import Pattern
from accel_sim.workload import Gemm

Codes = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Skipping:
    """The part of an architecture that decides what is skipped: machines that share it share the result."""

    kind: str
    rows: int = 0
    lanes: int = 0
    slices: int = 0
    elastic_lanes: int = 0
    sync_window: int = 0
    banks: int | None = None
    predictor: str = "none"
    """How a predictor's bits are used: its pipeline, where one is built."""

    @classmethod
    def of(cls, arch: Arch) -> Skipping:
        sparsity = arch.sparsity
        if sparsity.skipping in SKIPS_ZEROS:
            of_elastic = (slices(arch), sparsity.elastic_lanes) if sparsity.skipping == "elastic" else (0, 0)
            sizes = (arch.array.rows, arch.array.lanes, *of_elastic)
            return cls(sparsity.skipping, *sizes, sparsity.sync_window, sparsity.window_banks)
        return cls(sparsity.skipping, predictor=arch.predictor.pipeline if arch.predictor.is_built else "none")

    @property
    def needs_activations(self) -> bool:
        """False where times follow from shapes alone."""
        return self.kind in SKIPS_ZEROS or self.kind in GATHERS

    def outputs_site(self, gemm: Gemm) -> str | None:
        """The site that says which outputs of the product some token needs; None where all are computed.

        By an oracle the site that reads them. With a predictor its bits, and nothing where it has not spoken; a
        sequential pipeline knows behind the gate what that has left of them.
        """
        if self.kind not in ("output_gather", "gather") or gemm.consumer_site is None:
            return None
        if self.predictor == "none":
            return gemm.consumer_site
        if self.predictor == "sequential" and gemm.behind_gate:
            return gemm.consumer_site
        return gemm.predicted_site

    def gathers_outputs(self, gemm: Gemm) -> bool:
        """Whether the product leaves out the outputs that no token needs."""
        return self.outputs_site(gemm) is not None

    def gathers_features(self, gemm: Gemm) -> bool:
        """Whether it leaves out the features that no token needs: with a predictor, only those that it spoke of."""
        if self.predictor != "none":
            return gemm.predicted_site is not None and gemm.consumer_site is None
        return self.kind == "row_gather" or (self.kind == "gather" and gemm.consumer_site is None)


def windows(codes: Codes, tokens: int, pattern: Pattern, skipping: Skipping, masks: Masks) -> WindowTimes:
    """Window times of `tokens` tokens; rows are taken again from the first where there are fewer."""
    if len(codes) != tokens:
        codes = codes[np.arange(tokens) % len(codes)]
    if skipping.kind == "elastic":
        of_elastic = {"slices": skipping.slices, "elastic_lanes": skipping.elastic_lanes}
        common = {"rows": skipping.rows, "sync_window": skipping.sync_window, "masks": masks}
        return elastic_windows(codes, pattern, **of_elastic, **common)
    common = {"rows": skipping.rows, "lanes": skipping.lanes, "sync_window": skipping.sync_window}
    return unstructured_windows(codes, pattern, **common, banks=skipping.banks, masks=masks)


def needed(codes: Codes, gemm: Gemm, pattern: Pattern | None, masks: Masks) -> int:
    """How many features of `codes` at least one token of the batch needs.

    Raises AccelSimError where the site holds a sample of its rows: the union over a batch needs all of them.
    """
    if len(codes) < gemm.tokens:
        raise AccelSimError(
            f"layer {gemm.name}: gathering needs all {gemm.tokens} tokens of its site, which holds a sample of"
            f" {len(codes)}; use a decode step, which draws them all, or a trace"
        )
    return int(np.count_nonzero(needed_features(codes[: gemm.tokens], pattern, masks=masks)))
