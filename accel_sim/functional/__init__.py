"""The exact functional mode: the sparse datapath to the bit, on interchangeable backends.

`numpy` is the reference; `numba`, `torch`, `torch:cuda` and `triton` return the same bits faster. No torch is imported.
"""

from accel_sim.functional.backends import BACKENDS, backend_notes
from accel_sim.functional.compressed import Compressed
from accel_sim.functional.datapath import (
    compress,
    decompress,
    dequantize,
    hardware_factors,
    requantize,
    select,
    sparse_matmul,
)
from accel_sim.functional.mitigations import (
    rank_one,
    shift,
    token_means,
    token_medians,
    treated_outputs,
    variance_scales,
)
from accel_sim.functional.statistics import (
    PruningStatistics,
    ZeroStatistics,
    output_loss,
    pruning_statistics,
    zero_statistics,
)

__all__ = [
    "BACKENDS",
    "Compressed",
    "PruningStatistics",
    "ZeroStatistics",
    "backend_notes",
    "compress",
    "decompress",
    "dequantize",
    "hardware_factors",
    "output_loss",
    "pruning_statistics",
    "rank_one",
    "requantize",
    "select",
    "shift",
    "sparse_matmul",
    "token_means",
    "token_medians",
    "treated_outputs",
    "variance_scales",
    "zero_statistics",
]
