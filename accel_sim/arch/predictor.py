"""The unit that says which neurons of a gated MLP are worth fetching, before they are."""

from __future__ import annotations

from typing import Literal

from accel_sim.arch.section import Bytes, Section


class Predictor(Section):
    """Contextual sparsity in decode steps (SVDP, arXiv 2603.14110): two small products in front of every gate
    projection, a threshold a neuron, and the bits that the memory gathers by. Workloads bring the predictor
    (`--contextual`); on others this unit is idle, and nothing is gathered."""

    kind: Literal["none", "low_rank"] = "none"
    """`low_rank`: P(x) = (A·B·x + b > 0), B and A as two products (§2.1). Needs sparsity.skipping gather."""
    pipeline: Literal["sequential", "parallel"] = "sequential"
    """Which columns of the up projection are fetched. `sequential`: of the neurons that the gate, which has run on what
    was predicted, leaves active (§2.3). `parallel`: of all that were predicted, like the gate's own. The down
    projection's rows are those that are left active in both."""
    runs_on: Literal["array"] = "array"
    """The two products run on the main array by its dense rule, one after the other, in front of the gate's."""
    weight_bits: Literal[8] = 8
    """Of A and B, stored like every other weight of this machine (the paper's run in FP16)."""
    weights: Literal["dram", "sram"] = "dram"
    """Where A, B, their scales and the thresholds come from: fetched for every step like all weights, or kept on chip
    in a memory of `sram_bytes` for all layers together."""
    sram_bytes: Bytes = 4 * 1024 * 1024
    """`weights: sram`: capacity, beside all cores. A predictor that does not fit is an error."""
    sram_bytes_per_cycle: Bytes = 256
    """`weights: sram`: width of that memory's port, which fills the cores' weight buffers one transfer at a time."""

    @property
    def is_built(self) -> bool:
        return self.kind != "none"

    @property
    def holds_weights(self) -> bool:
        """Whether there is a memory for the predictor's own weights."""
        return self.is_built and self.weights == "sram"
