"""The unit for everything that is no matrix product."""

from __future__ import annotations

from accel_sim.arch.array import Array
from accel_sim.arch.section import Count, Section

MULTIPLIERS_PER_LANE = 32
"""INT8 multipliers of the array for every FP32 lane, when the number of lanes is left open: the ratio of NVIDIA's A100,
312·10¹² INT8 multiply-accumulates a second in its tensor cores (dense) beside 9.75·10¹² FP32 fused multiply-adds in its
vector lanes (A100 data sheet: 624 TOPS, 19.5 TFLOPS)."""


class Vector(Section):
    """A vector unit in every core: norms, softmax, rotary embedding, activation functions (`scope: model`)."""

    lanes: Count | None = None
    """FP32 lanes, each taking one operation a cycle (addition, multiplication, fused multiply-add, comparison or
    conversion; exponentials and reciprocals are made of those); null: one for every 32 multipliers of the array, as on
    an A100."""

    def lanes_beside(self, array: Array) -> int:
        """Lanes of one core, as set or by the array's multipliers; one at least."""
        return self.lanes or max(1, array.rows * array.cols * array.lanes // MULTIPLIERS_PER_LANE)
