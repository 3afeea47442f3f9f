"""One unit of the catalogue, mapped, checked and measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from amaranth.lib import wiring

from accel_sim.errors import AccelSimError
from accel_sim.synthesis.liberty import Library
from accel_sim.synthesis.netlist import Netlist
from accel_sim.synthesis.operands import Operands
from accel_sim.synthesis.power import Activity, simulate
from accel_sim.synthesis.streams import from_words, to_words
from accel_sim.synthesis.timing import Timing, analyse
from accel_sim.synthesis.unit import Unit
from accel_sim.synthesis.yosys import AREA, Flow, synthesise

MEASURED_CYCLES = 160
"""Cycles of each of the 64 streams that energies are the mean of."""


@dataclass(frozen=True)
class Measurement:
    """The figures of one unit. `failure` says why there are none, or is empty."""

    key: str
    area_um2: float | None = None
    cells: int | None = None
    flip_flops: int | None = None
    delay_ns: float | None = None
    mapper_delay_ns: float | None = None
    energy_pj: float | None = None
    random_energy_pj: float | None = None
    leakage_nw: float | None = None
    remapped_um2: list[float] = field(default_factory=list)
    """Areas of the same netlist mapped again in other orders."""
    wall_s: float = 0.0
    failure: str = ""


def measure(
    unit: Unit,
    library: Library,
    real: Operands,
    uniform: Operands,
    flow: Flow = AREA,
    remappings: int = 0,
) -> Measurement:
    """Map a unit, compare it with the reference on both kinds of operands, and measure it.

    A unit that the mapper does not manage comes back with its `failure`. Raises AccelSimError for a netlist that
    returns other bits than the reference, naming port, cycle and stream.
    """
    started = time.monotonic()
    component = unit.build()
    try:
        mapped = synthesise(component, library, flow, remappings)
    except AccelSimError as error:
        return Measurement(unit.key, wall_s=time.monotonic() - started, failure=str(error))
    netlist = mapped.netlist
    timing = analyse(netlist)
    energies = [check(unit, component, netlist, timing, operands).energy_pj for operands in (real, uniform)]
    return Measurement(
        key=unit.key,
        area_um2=netlist.area_um2,
        cells=len(netlist.kind),
        flip_flops=netlist.flip_flops,
        delay_ns=timing.delay_ns,
        mapper_delay_ns=mapped.mapper_delay_ns,
        energy_pj=energies[0],
        random_energy_pj=energies[1],
        leakage_nw=netlist.leakage_nw,
        remapped_um2=mapped.remapped_um2,
        wall_s=time.monotonic() - started,
    )


def check(unit: Unit, component: wiring.Component, netlist: Netlist, timing: Timing, operands: Operands) -> Activity:
    """Simulate a netlist on operand streams and compare every output with the reference.

    Raises AccelSimError at the first difference, naming port, cycle and stream.
    """
    latency = getattr(component, "latency", 0)  # a front end with handshakes has none: its reference keeps its state
    warm_up = latency + 1
    inputs, wanted = unit.drive(operands, MEASURED_CYCLES + warm_up)
    activity = simulate(netlist, to_words(component, inputs), warm_up, timing)
    made = from_words(component, activity.outputs)
    for port, values in wanted.items():
        got = made[port][latency:]
        expected = values[: len(got)].reshape(got.shape)
        if not np.array_equal(got, expected):
            cycle, stream, *_ = np.argwhere(got != expected)[0]
            raise AccelSimError(
                f"{unit.key}: the mapped netlist is wrong: port {port}, cycle {cycle}, stream {stream}: "
                f"{got[cycle, stream].tolist()} instead of {expected[cycle, stream].tolist()}"
            )
    return activity
