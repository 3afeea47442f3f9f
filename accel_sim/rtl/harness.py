"""What Verilog simulators share: a module that joins a unit's ports into one stimulus and one response word."""

from __future__ import annotations

import re

from amaranth.lib import wiring

from accel_sim.rtl.ports import Port
from accel_sim.rtl.verilog import verilog

UNIT = "unit_under_test"
HARNESS = "harness"
_WORD_BITS = 32
_SMALLEST_WORDS = 3
"""Verilator keeps ports of up to 64 bits in integers, wider ones in arrays of words: padded, all are arrays."""


def port_words(ports: list[Port]) -> int:
    """Words of 32 bits that the harness's port for `ports` takes."""
    return max(_SMALLEST_WORDS, -(-sum(port.bits for port in ports) // _WORD_BITS))


def harness(component: wiring.Component, input_ports: list[Port], output_ports: list[Port]) -> str:
    """Verilog of the component and of the harness around it: clock, stimulus → response."""
    unit = verilog(component, UNIT)
    header = re.search(rf"^module {UNIT}\(([^)]*)\);", unit, re.MULTILINE)
    emitted = {name.strip().lstrip("\\") for name in header[1].split(",")}
    joined = [*_slices("stimulus", input_ports), *_slices("response", output_ports)]
    joined += [("clk", "clock")] if "clk" in emitted else []
    joined += [("rst", "1'b0")] if "rst" in emitted else []
    connections = ",\n".join(f"    .{name}({wire})" for name, wire in joined if name in emitted)
    return f"""{unit}
module {HARNESS}(clock, stimulus, response);
  input clock;
  input [{port_words(input_ports) * _WORD_BITS - 1}:0] stimulus;
  output [{port_words(output_ports) * _WORD_BITS - 1}:0] response;
  {UNIT} unit (
{connections}
  );
{_tie_unused(output_ports)}endmodule
"""


def _slices(word: str, ports: list[Port]) -> list[tuple[str, str]]:
    slices, low = [], 0
    for port in ports:
        slices.append((port.name, f"{word}[{low + port.bits - 1}:{low}]"))
        low += port.bits
    return slices


def _tie_unused(ports: list[Port]) -> str:
    used, total = sum(port.bits for port in ports), port_words(ports) * _WORD_BITS
    return f"  assign response[{total - 1}:{used}] = {total - used}'d0;\n" if used < total else ""
