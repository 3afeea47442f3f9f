"""What a forward pass computes: from a trace, from a model's published shapes, or given by hand."""

from accel_sim.workload.attention import AttentionOptions
from accel_sim.workload.by_hand import gemm_workload
from accel_sim.workload.contextual import ContextualOptions, contextual_workload, drawn_contextual_workload
from accel_sim.workload.decode import decode_workload
from accel_sim.workload.from_trace import workload_from_trace
from accel_sim.workload.gemm import Gemm, Operation, Scope, SiteActivations, Weights, WholeModel, Workload
from accel_sim.workload.neurons import DrawnNeurons, NeuronMasks
from accel_sim.workload.policy import Policy, load_policy, shipped_policies
from accel_sim.workload.presets import preset_workload, presets
from accel_sim.workload.vector import VectorOperation

__all__ = [
    "AttentionOptions",
    "ContextualOptions",
    "DrawnNeurons",
    "Gemm",
    "NeuronMasks",
    "Operation",
    "Policy",
    "Scope",
    "SiteActivations",
    "VectorOperation",
    "Weights",
    "WholeModel",
    "Workload",
    "contextual_workload",
    "decode_workload",
    "drawn_contextual_workload",
    "gemm_workload",
    "load_policy",
    "preset_workload",
    "presets",
    "shipped_policies",
    "workload_from_trace",
]
