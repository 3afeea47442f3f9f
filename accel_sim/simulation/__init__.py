"""Time, cost and quality of a workload on a machine, as one result."""

from accel_sim.simulation.result import Result
from accel_sim.simulation.simulate import Machine, run, simulate
from accel_sim.simulation.statistics import WorkloadStatistics

__all__ = ["Machine", "Result", "WorkloadStatistics", "run", "simulate"]
