"""The stored trace: what a language model's linear projections were fed, row by row, with how it was made."""

from accel_sim.trace.format import Coverage, Manifest, Projection, Site
from accel_sim.trace.reader import Trace, Weight

__all__ = ["Coverage", "Manifest", "Projection", "Site", "Trace", "Weight"]
