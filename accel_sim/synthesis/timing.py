"""Static timing of a mapped netlist with the library's own delay tables (NLDM).

Loads are the capacitances of the pins that a net drives and a wire for each of them; there is no layout. Transitions
and arrivals are the worst over all causes at every net, as timing signs-off before layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import sqrt

import numpy as np

from accel_sim.synthesis import kernels
from accel_sim.synthesis.cell_arrays import NO_TABLE, CellArrays, cell_arrays
from accel_sim.synthesis.liberty import Library
from accel_sim.synthesis.netlist import CLOCK, Netlist

WIRE_PF_45NM = 0.001
"""1 fF a sink at 45 nm, the usual pre-layout figure, …"""
NAND2_UM2_45NM = 0.798
"""… where the NAND2 has 0.798 µm² (Nangate). A wire has the same capacitance a µm in every node, to first order, and
its length follows the pitch of the cells: the square root of their area."""


def wire_pf(library: Library) -> float:
    """Capacitance of the wire to one sink: 1 fF at 45 nm, scaled with the pitch of the library's cells."""
    return WIRE_PF_45NM * sqrt(library.nand2.area_um2 / NAND2_UM2_45NM)


@cache
def typical_slew_ns(library: Library) -> float:
    """Transition of input ports and of the clock: of an inverter that drives four of its kind, driven by the same."""
    inverter = library.inverter
    source, target = inverter.inputs[0], inverter.outputs[0]
    load = 4 * (inverter.pins[source].capacitance_pf + wire_pf(library))
    tables = inverter.pins[target].timing[0].tables
    slew = 0.0
    for _ in range(20):
        slew = float(np.mean([tables[name].at(slew, load) for name in ("rise_transition", "fall_transition")]))
    return slew


@dataclass(frozen=True)
class Timing:
    """Static timing of one netlist."""

    delay_ns: float
    """The longest path: from clock or input to a flip-flop's data pin (set-up time included) or an output."""
    transition: np.ndarray
    """float64 [nets, 2]: rising and falling transition in ns."""
    load_pf: np.ndarray
    """float64 [nets]: what drives the net sees."""
    own_pf: np.ndarray
    """float64 [nets]: of that, what belongs to the netlist (without what stands behind its output ports)."""


def loads(netlist: Netlist, arrays: CellArrays) -> tuple[np.ndarray, np.ndarray]:
    """Load and own capacitance of every net in pF. An output port drives one inverter of the library and its wire."""
    wire = wire_pf(netlist.library)
    own = np.zeros(netlist.net_count)
    capacitances = [
        np.array(
            [
                cell.pins[pin].capacitance_pf + wire if pin in cell.inputs else 0.0
                for pin in (*cell.inputs, *cell.outputs)
            ]
        )
        for cell in netlist.cells
    ]
    if len(netlist.kind):
        np.add.at(own, netlist.nets, np.concatenate([capacitances[kind] for kind in netlist.kind]))
    load = own.copy()
    inverter = netlist.library.inverter
    for nets in netlist.outputs.values():
        np.add.at(load, nets, inverter.pins[inverter.inputs[0]].capacitance_pf + wire)
    return load, own


def analyse(netlist: Netlist, arrays: CellArrays | None = None) -> Timing:
    """Static timing of a netlist: ideal clock, input ports changing at its edge."""
    arrays = arrays or cell_arrays(netlist.cells, netlist.library.voltage_v)
    slew = typical_slew_ns(netlist.library)
    load, own = loads(netlist, arrays)
    starts = _join(netlist.inputs)
    tables = arrays.tables
    arrival, transition = kernels.propagate(
        starts, slew, netlist.kind, netlist.first_pin, netlist.nets, netlist.net_count, netlist.combinational, load,
        arrays.arc_of, arrays.arcs, tables.first, tables.shape, tables.numbers,
    )  # fmt: skip
    latest = [0.0]
    ends = _join(netlist.outputs)
    ends = ends[ends != CLOCK]
    latest.append(float(arrival[ends].max(initial=0.0)))
    for at in range(netlist.combinational, len(netlist.kind)):
        kind = netlist.kind[at]
        net = netlist.nets[netlist.first_pin[at] + arrays.data_pin[kind]]
        for edge in range(2):
            table = arrays.setup[kind, edge]
            if arrival[net, edge] == -np.inf or table == NO_TABLE:
                continue
            setup = kernels.look_up(tables.first, tables.shape, tables.numbers, table, transition[net, edge], slew)
            latest.append(arrival[net, edge] + setup)
    return Timing(max(latest), transition, load, own)


def _join(ports: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int32), *ports.values()])
