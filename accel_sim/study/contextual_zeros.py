"""How many zeros in front of down_proj are not the gate's: what a sequential pipeline knows later than it is granted.

Which neurons the gate leaves active is read off the input of down_proj, where up, its own activation function or INT8
may have made further zeros. With the gate's weights the difference can be counted: the sign of an INT8 sum is exact.
"""

from __future__ import annotations

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.workload import Gemm, Workload


def zeros_behind_an_active_gate(workload: Workload) -> float:
    """Share of the (token, neuron) pairs with a positive gate whose code in front of down_proj is zero.

    Over all layers; of models whose gate goes through ReLU. Raises AccelSimError where the workload has no gate's
    weights.
    """
    active = zeros = 0
    for gate in (gemm for gemm in workload.gemms if gemm.name.endswith("gate_proj")):
        if gate.load_weights is None or gate.consumer_site is None:
            raise AccelSimError(f"workload {workload.name}: layer {gate.name}: needs its weights; capture them")
        positive = _sums(gate, workload) > 0
        codes = workload.sites[gate.consumer_site].load()[0]
        active += int(positive.sum())
        zeros += int((positive & (codes == 0)).sum())
    if not active:
        raise AccelSimError(f"workload {workload.name}: no gate_proj with an active neuron")
    return zeros / active


def _sums(gate: Gemm, workload: Workload) -> np.ndarray:
    """int64 [T, D]: the products' sums. float64 holds every INT8 dot product exactly."""
    codes = workload.sites[gate.site].load()[0].astype(np.float64)
    return np.rint(codes @ gate.load_weights().codes.astype(np.float64)).astype(np.int64)
