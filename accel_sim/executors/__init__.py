"""Executors of a conditional gated FFN at decode: only the neurons that a mask and the computed gate leave are fetched.

SVDP (arXiv 2603.14110) §3.3, Alg. 3 and 4. `run` chooses one by name; `accel_sim.executors.live.attach` puts one into
a model of transformers. The NumPy and Numba executors need no torch; docs/executors.md says what equals what.
"""

from accel_sim.executors.choose import EXECUTORS, run
from accel_sim.executors.ffn import GatedFFN
from accel_sim.executors.masks import PIPELINES, FetchedRows, Outcome, Pipeline
from accel_sim.executors.numba_executor import NumbaExecutor
from accel_sim.executors.predictor import LowRank
from accel_sim.executors.quantized import QuantizedFFN

__all__ = [
    "EXECUTORS",
    "PIPELINES",
    "FetchedRows",
    "GatedFFN",
    "LowRank",
    "NumbaExecutor",
    "Outcome",
    "Pipeline",
    "QuantizedFFN",
    "run",
]
