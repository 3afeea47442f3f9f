"""The timing model: tilings, the five-stage pipeline, two engines that agree cycle for cycle, and causes of cycles."""

from accel_sim.timing.activity import Activity, count_activity
from accel_sim.timing.layer import CAUSES, ENGINES, Engine, LayerTiming, bottleneck, time_layer
from accel_sim.timing.product import Nonzeros
from accel_sim.timing.site_selection import SiteSelection, select_site
from accel_sim.timing.stages import Latencies

__all__ = [
    "CAUSES",
    "ENGINES",
    "Activity",
    "Engine",
    "Latencies",
    "LayerTiming",
    "Nonzeros",
    "SiteSelection",
    "bottleneck",
    "count_activity",
    "select_site",
    "time_layer",
]
