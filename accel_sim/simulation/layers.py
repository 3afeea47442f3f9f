"""One operation of the workload on both machines, before it is put into the result."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    def of(
        cls, machine: Machine, activity: Activity, breakdown: dict[str, int], repeat: int, methods_pj: float = 0.0
    ) -> Side:
        """From the activity of all repeats and the breakdown of one; `methods_pj` is of all repeats too."""
        scaled = {cause: cycles * repeat for cause, cycles in breakdown.items()}
        return cls(activity, scaled, machine.energy(activity, methods_pj))

    def __add__(self, other: Side) -> Side:
        """Both, one after the other."""
        energies, others = self.energy.components_pj, other.energy.components_pj
        bands = zip(self.energy.wires_band_pj, other.energy.wires_band_pj, strict=True)
        energy = cost.Energy({part: energies[part] + others[part] for part in energies}, tuple(map(sum, bands)))
        breakdown = {cause: cycles + other.breakdown[cause] for cause, cycles in self.breakdown.items()}
        return Side(self.activity + other.activity, breakdown, energy)

    def idle(self) -> Side:
        """Nothing done, with the same names."""
        nothing = cost.Energy(dict.fromkeys(self.energy.components_pj, 0.0), (0.0, 0.0))
        return Side(self.activity.times(0), dict.fromkeys(self.breakdown, 0), nothing)

    @property
    def cycles(self) -> int:
        return self.activity.cycles

    @property
    def dram_bytes(self) -> int:
        return self.activity.dram_read_bytes + self.activity.dram_write_bytes


@dataclass(frozen=True)
class MethodShare:
    """What one method adds to an operation, all its repeats together."""

    cycles: int
    energy_pj: float


@dataclass(frozen=True)
class Layer:
    """One matrix product."""

    gemm: Gemm
    pattern: Pattern | None
    tiling: str
    dense_timing: LayerTiming | None
    """None of what the dense machine does not run: a predictor's products."""
    sparse: Side
    dense: Side
    quality_loss: QualityLoss | None
    input_loss: QualityLoss | None
    zero_fraction: float
    methods: dict[str, MethodShare] = field(default_factory=dict)
    """By name, in order."""

    @property
    def kind(self) -> str:
        return self.gemm.kind


@dataclass(frozen=True)
class VectorLayer:
    """One operation of the vector unit."""

    operation: VectorOperation
    sparse: Side
    dense: Side
    methods: dict[str, MethodShare] = field(default_factory=dict)
    """Of selecting what the operation makes, where it does so."""

    @property
    def kind(self) -> str:
        return self.operation.kind
