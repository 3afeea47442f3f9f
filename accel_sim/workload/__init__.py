"""The matrix products of a forward pass: from a trace, from a model's published shapes, or given by hand."""

from accel_sim.workload.gemm import Gemm, SiteActivations, Weights, Workload

__all__ = ["Gemm", "SiteActivations", "Weights", "Workload"]
