"""The matrix products of a forward pass: from a trace, from a model's published shapes, or given by hand."""

from accel_sim.workload.by_hand import gemm_workload
from accel_sim.workload.from_trace import workload_from_trace
from accel_sim.workload.gemm import Gemm, SiteActivations, Weights, Workload
from accel_sim.workload.presets import preset_workload, presets

__all__ = [
    "Gemm",
    "SiteActivations",
    "Weights",
    "Workload",
    "gemm_workload",
    "preset_workload",
    "presets",
    "workload_from_trace",
]
