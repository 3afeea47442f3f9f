"""OpenSTA's view of a mapped netlist, for tests that compare with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from accel_sim.synthesis.netlist import CLOCK, FIRST_NET, Netlist
from accel_sim.synthesis.timing import Timing, typical_slew_ns

PERIOD_NS = 100


def run_opensta(netlist: Netlist, timing: Timing, activities: dict[str, tuple[float, float]], folder: Path) -> str:
    """The report of `report_checks` and `report_power`, with the same loads and transitions.

    `activities`: transitions a clock period and share of ones of input ports, which it carries through the logic.
    """
    names = _net_names(netlist)
    (folder / "library.lib").write_text(netlist.library.mapping_text())
    (folder / "netlist.v").write_text(_verilog(netlist, names))
    (folder / "wires.spef").write_text(_spef(netlist, timing, names))
    slew = typical_slew_ns(netlist.library)
    lines = [
        f"read_liberty {folder}/library.lib",
        f"read_verilog {folder}/netlist.v",
        "link_design top",
        "set_units -time ns -capacitance pF",
        f"create_clock -name clk -period {PERIOD_NS} [get_ports clk]",
        f"set_clock_transition {slew} [get_clocks clk]",
        f"read_spef {folder}/wires.spef",
    ]
    for name in _flat(netlist.inputs):
        lines += [f"set_input_delay 0 -clock clk [get_ports {name}]", f"set_input_transition {slew} [get_ports {name}]"]
    for name in _flat(netlist.outputs):
        lines.append(f"set_output_delay 0 -clock clk [get_ports {name}]")
    for name, (activity, duty) in activities.items():
        lines.append(f"sta::set_power_input_port_activity [get_ports {name}] {activity} {duty}")
    lines += ["report_checks -path_delay max -digits 5", "report_power -digits 6", "exit"]
    (folder / "check.tcl").write_text("\n".join(lines) + "\n")
    command = ["sta", "-exit", f"{folder}/check.tcl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout + done.stderr


def _instances(netlist: Netlist):
    for at, kind in enumerate(netlist.kind):
        yield at, netlist.cells[kind], netlist.nets[netlist.first_pin[at] : netlist.first_pin[at + 1]].tolist()


def _flat(ports: dict[str, np.ndarray]) -> list[str]:
    return [f"{name}_{bit}" for name, nets in ports.items() for bit in range(len(nets))]


def _net_names(netlist: Netlist) -> list[str]:
    """Nets are called as the ports on them are, so that none needs an assignment."""
    names = [f"n{net}" for net in range(netlist.net_count)]
    names[:FIRST_NET] = ["1'b0", "1'b1", "clk"]
    for ports in (netlist.outputs, netlist.inputs):
        for port, nets in ports.items():
            for bit, net in enumerate(nets):
                assert net >= FIRST_NET, "an output that is constant"
                names[net] = f"{port}_{bit}"
    return names


def _verilog(netlist: Netlist, names: list[str]) -> str:
    inputs, outputs = _flat(netlist.inputs), _flat(netlist.outputs)
    lines = [f"module top ({', '.join(['clk', *inputs, *outputs])});", "  input clk;"]
    lines += [f"  input {name};" for name in inputs] + [f"  output {name};" for name in outputs]
    lines += [f"  wire {name};" for name in set(names[FIRST_NET:]) - {*inputs, *outputs}]
    for at, cell, pins in _instances(netlist):
        pin_names = (*cell.inputs, *cell.outputs)
        joined = ", ".join(f".{pin}({names[net]})" for pin, net in zip(pin_names, pins, strict=True))
        lines.append(f"  {cell.name} u{at} ({joined});")
    return "\n".join([*lines, "endmodule", ""])


def _spef(netlist: Netlist, timing: Timing, names: list[str]) -> str:
    """Each net's wires, and what stands behind its output ports, as one capacitance at its driver."""
    pins = np.zeros(netlist.net_count)
    ends: dict[int, list[str]] = {net: [] for net in range(CLOCK, netlist.net_count)}
    for ports, direction in ((netlist.inputs, "I"), (netlist.outputs, "O")):
        for port, nets in ports.items():
            for bit, net in enumerate(nets.tolist()):
                ends[net].append(f"*P {port}_{bit} {direction}")
    ends[CLOCK].append("*P clk I")
    for at, cell, nets in _instances(netlist):
        for name, net in zip((*cell.inputs, *cell.outputs), nets, strict=True):
            pins[net] += cell.pins[name].capacitance_pf
            if net >= CLOCK:
                end = f"*I u{at}:{name} {'I' if name in cell.inputs else 'O'}"
                ends[net].insert(len(ends[net]) if name in cell.inputs else 0, end)
    header = ["SPEF", "DESIGN", "DATE", "VENDOR", "PROGRAM", "VERSION", "DESIGN_FLOW"]
    lines = [f'*{name} "x"' for name in header]
    lines += ["*DIVIDER /", "*DELIMITER :", "*BUS_DELIMITER [ ]", "*T_UNIT 1 NS", "*C_UNIT 1 PF", "*R_UNIT 1 OHM"]
    lines.append("*L_UNIT 1 HENRY")
    for net, points in ends.items():
        extra = timing.load_pf[net] - pins[net]
        if extra > 1e-12 and points:
            driver, *others = [point.split()[1] for point in points]
            lines += [f"*D_NET {names[net]} {extra:.9f}", "*CONN", *points, "*CAP", f"1 {driver} {extra:.9f}", "*RES"]
            lines += [f"{place} {driver} {other} 0.001" for place, other in enumerate(others, start=1)]
            lines.append("*END")
    return "\n".join(lines) + "\n"
