"""Elastic skipping beside fixed on data as ReLU leaves them: what zeros that are there anyway can add to a pattern.

S2TA's gains (see `quoted`) are on such data, of convolutional networks. Every figure states the share of zeros and the
window after which rows wait for each other; the zeros are independent, and every row is drawn, none sampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel_sim.arch import load_arch
from accel_sim.simulation import Result, WorkloadStatistics, simulate
from accel_sim.workload import Workload
from accel_sim.workload.by_hand import gemm_workload
from benchmarks.rows import Row
from benchmarks.versions import versions

GROUP = "Elastic skipping (ours) beside fixed (peer), ReLU-like data, 8:16, 512 × 4096 × 4096, wide memory"
COMMAND = "make bench PEERS=none"
PRODUCT, TOKENS = "512x4096x4096", 512
MEMORY = "dram.bytes_per_cycle=1024"
"""Wide enough that the array decides, for both."""
ZEROS = (0.5, 0.75, 0.9)
WINDOWS = (32, 128)
"""Groups between two waits."""


@dataclass(frozen=True)
class Relu:
    """Gaussian values of which the smallest share `zeros` is cut to zero."""

    zeros: float

    def draw(self, generator: np.random.Generator, rows: int, features: int) -> npt.NDArray[np.float32]:
        values = generator.standard_normal((rows, features), dtype=np.float32)
        return np.maximum(values - np.quantile(values, self.zeros).astype(np.float32), 0)

    def __str__(self) -> str:
        return f"ReLU-like, {self.zeros:.0%} zeros"


def rows() -> list[Row]:
    """Speed-up over dense of elastic (ours) and fixed skipping (peer), at equal multipliers and at equal area."""
    compared = []
    for zeros in ZEROS:
        workload = gemm_workload([PRODUCT], distribution=Relu(zeros), sample_rows=TOKENS)
        statistics = WorkloadStatistics(workload)
        fixed = simulate(load_arch("8x16.yaml", [MEMORY]), workload, statistics=statistics)
        for window in WINDOWS:
            compared += _window_rows(zeros, window, fixed, elastic(workload, window, statistics))
    return compared


def elastic(workload: Workload, window: int, statistics: WorkloadStatistics) -> Result:
    """The workload on the same unit with elastic skipping, which needs the full multiplexer."""
    keys = {"skipping": "elastic", "operand_mux": "full", "sync_window": window}
    arch = load_arch("8x16.yaml", [MEMORY, *(f"sparsity.{key}={value}" for key, value in keys.items())])
    return simulate(arch, workload, statistics=statistics)


def _window_rows(zeros: float, window: int, fixed: Result, skipping: Result) -> list[Row]:
    measured = f"{skipping.layers[0].zero_fraction:.1%} zeros ({zeros:.0%} and what rounds to zero)"
    name = f"{measured}, window of {window} groups"
    return [
        Row(GROUP, f"{name}: {what}", getattr(skipping, key), getattr(fixed, key), "× dense", COMMAND, versions())
        for key, what in (("speedup", "equal multipliers"), ("speedup_iso_area", "equal area"))
    ]
