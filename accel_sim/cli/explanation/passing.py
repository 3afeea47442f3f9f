"""What all kinds of arrays have in common: the gap between two tiles, and what does not fill its last step."""

from __future__ import annotations

from accel_sim.simulation import Machine
from accel_sim.timing.array_time import skew


def padding(features: int, step: int, what: str) -> str:
    rest = features % step
    return f"; the last {what} holds {rest} of {step} features" if rest else ""


def gap(machine: Machine) -> int:
    """Cycles between tiles where the next one may not follow at once."""
    return 0 if machine.arch.array.fold_overlap else skew(machine.arch) or machine.latencies.compute
