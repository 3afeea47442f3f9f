"""Time, cost and quality of a workload on a machine, as one result."""

from accel_sim.simulation.machine import Machine
from accel_sim.simulation.result import Result
from accel_sim.simulation.settings import Settings
from accel_sim.simulation.simulate import Simulation, run, simulate
from accel_sim.simulation.statistics import WorkloadStatistics

__all__ = ["Machine", "Result", "Settings", "Simulation", "WorkloadStatistics", "run", "simulate"]
