"""The timing model: tilings, the five-stage pipeline, two engines that agree cycle for cycle, and causes of cycles."""

from accel_sim.timing.activity import Activity, count_activity
from accel_sim.timing.layer import CAUSES, ENGINES, Engine, LayerTiming, bottleneck, time_layer
from accel_sim.timing.product import Nonzeros
from accel_sim.timing.software import SoftwareSelection, software_selection
from accel_sim.timing.stages import Latencies

__all__ = [
    "CAUSES",
    "ENGINES",
    "Activity",
    "Engine",
    "Latencies",
    "LayerTiming",
    "Nonzeros",
    "SoftwareSelection",
    "bottleneck",
    "count_activity",
    "software_selection",
    "time_layer",
]
