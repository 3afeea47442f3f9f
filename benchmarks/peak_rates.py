"""Peak rates of two GPUs' INT8 tensor cores, from their numbers of units and our rates.

Units and clocks: NVIDIA A100 Tensor Core GPU Architecture (whitepaper, 2020): 108 SMs of 4 tensor cores, 256 FP16 and
so 512 INT8 fused multiply-adds a clock each, 1,410 MHz, 624 and 1,248 TOPS. NVIDIA H100 Tensor Core GPU Architecture
(whitepaper, 2022): 132 SMs (SXM5) of 4 tensor cores at twice that rate, 1,830 MHz, 1,979 and 3,958 TOPS. H200 has the
same GPU and the same rates (NVIDIA H200 data sheet). How a tensor core's multipliers are arranged is not
published; only their number matters here.
"""

from __future__ import annotations

from dataclasses import dataclass

from accel_sim.arch import Arch
from accel_sim.arch.derived import tile_row_cycles
from accel_sim.pattern import Pattern
from benchmarks.rows import Row, Wanted

GROUP = "Peak rates of GPUs"
COMMAND = "make bench PEERS=none"
SPARSE = Pattern("2:4")
FEATURES = 2**16


@dataclass(frozen=True)
class Gpu:
    """A GPU's INT8 tensor cores and what its maker says they reach."""

    name: str
    tensor_cores: int
    rows: int
    cols: int
    lanes: int
    """rows · cols · lanes multiply-adds a tensor core and clock."""
    clock_hz: float
    dense_tops: float
    sparse_tops: float


GPUS = (
    Gpu("A100", 108 * 4, 8, 4, 16, 1.410e9, 624, 1248),
    Gpu("H200 (H100 SXM)", 132 * 4, 8, 4, 32, 1.830e9, 1979, 3958),
)


def rows() -> list[Row]:
    """Each GPU's published dense and sparse rate."""
    compared = []
    for gpu in GPUS:
        for name, pattern, published in (("dense", None, gpu.dense_tops), ("2:4", SPARSE, gpu.sparse_tops)):
            ours = peak_tops(gpu, pattern)
            compared.append(
                Row(GROUP, f"{gpu.name}, INT8 {name}", ours, published, "TOPS", COMMAND, wanted=Wanted("within", 0.001))
            )
    return compared


def peak_tops(gpu: Gpu, pattern: Pattern | None) -> float:
    """10¹² operations a second (two a multiply-add, those that 2:4 skips counted too) on a long reduction dimension."""
    arch = Arch(name="tensor-core", array={"rows": gpu.rows, "cols": gpu.cols, "lanes": gpu.lanes})
    features_per_cycle = FEATURES / tile_row_cycles(arch.array.lanes, FEATURES, pattern)
    return 2 * gpu.tensor_cores * arch.array.rows * arch.array.cols * features_per_cycle * gpu.clock_hz / 1e12
