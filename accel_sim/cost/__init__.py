"""What a sparse tensor unit costs: area, delay and energy, every figure with its source."""

from accel_sim.cost.area import Area, area
from accel_sim.cost.band import OverheadBand, overhead_band
from accel_sim.cost.delays import Delays, Stage, delays
from accel_sim.cost.energy import Energy, energy, leakage_pj
from accel_sim.cost.processing_element import (
    ElementCost,
    ElementPart,
    area_tax,
    energy_tax,
    implied_tax,
    iso_throughput_gain,
    pe,
)
from accel_sim.cost.provenance import defaults_line, sources
from accel_sim.cost.tables import Source
from accel_sim.cost.units import UnitCost, unit

__all__ = [
    "Area",
    "Delays",
    "ElementCost",
    "ElementPart",
    "Energy",
    "OverheadBand",
    "Source",
    "Stage",
    "UnitCost",
    "area",
    "area_tax",
    "defaults_line",
    "delays",
    "energy",
    "energy_tax",
    "implied_tax",
    "iso_throughput_gain",
    "leakage_pj",
    "overhead_band",
    "pe",
    "sources",
    "unit",
]
