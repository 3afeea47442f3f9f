"""The architecture description: schema, loading, and what follows from it."""

from accel_sim.arch.load import load_arch, shipped_archs
from accel_sim.arch.schema import Arch

__all__ = ["Arch", "load_arch", "shipped_archs"]
