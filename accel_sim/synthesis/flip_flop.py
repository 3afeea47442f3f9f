"""What one bit of register costs in a library: the mapper's flip-flop, measured like any other unit."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_sim.synthesis.liberty import Library
from accel_sim.synthesis.power import STREAMS, simulate
from accel_sim.synthesis.streams import to_words
from accel_sim.synthesis.timing import analyse, typical_slew_ns
from accel_sim.synthesis.yosys import Flow, synthesise

_CYCLES = 256


class RegisterBit(wiring.Component):
    """One bit, a cycle later."""

    latency = 1

    def __init__(self) -> None:
        super().__init__({"given": In(1), "held": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(reset_less=True)
        m.d.sync += held.eq(self.given)
        m.d.comb += self.held.eq(held)
        return m


def measure_flip_flop(library: Library, flow: Flow) -> dict[str, str | float]:
    """Cell, area, energies (a clock cycle with its clock pin; a random bit loaded), leakage, clock to Q and set-up."""
    component = RegisterBit()
    netlist = synthesise(component, library, flow).netlist
    timing = analyse(netlist)
    bits = np.random.default_rng(0).integers(0, 2, (_CYCLES, STREAMS))
    activity = simulate(netlist, to_words(component, {"given": bits}), 1, timing)
    cell = next(cell for cell in netlist.cells if cell.flip_flop)
    assert cell.flip_flop
    slew = typical_slew_ns(library)
    constraints = [arc.tables for arc in cell.pins[cell.flip_flop.next_state].timing if arc.kind == "setup_rising"]
    setup = [table.at(slew, slew) for tables in constraints for table in tables.values()]
    return {
        "cell": cell.name,
        "area_um2": cell.area_um2,
        "clock_energy_pj": activity.clock_pj,
        "data_energy_pj": activity.switching_pj + activity.internal_pj,
        "leakage_nw": cell.leakage_nw,
        "clock_to_q_ns": timing.delay_ns,
        "setup_ns": max(setup, default=0.0),
    }
