"""One operation of the workload on both machines, before it is put into the result."""

from __future__ import annotations

from dataclasses import dataclass

from accel_sim import cost
from accel_sim.pattern import Pattern
from accel_sim.simulation.machine import Machine
from accel_sim.simulation.result import QualityLoss
from accel_sim.timing import Activity, LayerTiming
from accel_sim.workload import Gemm, VectorOperation


@dataclass(frozen=True)
class Side:
    """What one machine did for an operation, all its repeats together."""

    activity: Activity
    breakdown: dict[str, int]
    energy: cost.Energy

    @classmethod
    def of(cls, machine: Machine, activity: Activity, breakdown: dict[str, int], repeat: int) -> Side:
        """From the activity of all repeats and the breakdown of one."""
        scaled = {cause: cycles * repeat for cause, cycles in breakdown.items()}
        return cls(activity, scaled, machine.energy(activity))

    @property
    def cycles(self) -> int:
        return self.activity.cycles

    @property
    def dram_bytes(self) -> int:
        return self.activity.dram_read_bytes + self.activity.dram_write_bytes


@dataclass(frozen=True)
class Layer:
    """One matrix product."""

    gemm: Gemm
    pattern: Pattern | None
    tiling: str
    dense_timing: LayerTiming
    sparse: Side
    dense: Side
    quality_loss: QualityLoss | None
    input_loss: QualityLoss | None
    zero_fraction: float

    @property
    def kind(self) -> str:
        return self.gemm.kind


@dataclass(frozen=True)
class VectorLayer:
    """One operation of the vector unit."""

    operation: VectorOperation
    sparse: Side
    dense: Side

    @property
    def kind(self) -> str:
        return self.operation.kind
