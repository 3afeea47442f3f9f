"""Icarus Verilog on emitted Verilog: a testbench reads stimulus words, and writes response words, as hexadecimal."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from shutil import which

import numpy as np
from amaranth.lib import wiring
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.rtl.harness import HARNESS, harness, port_words
from accel_sim.rtl.ports import Port

_TESTBENCH = """
`timescale 1ns / 1ns
module testbench;
  reg clock = 0;
  reg [{stimulus_bits} - 1:0] stimuli [0:{cycles} - 1];
  reg [{stimulus_bits} - 1:0] stimulus;
  wire [{response_bits} - 1:0] response;
  integer cycle, file;
  {harness} harness (.clock(clock), .stimulus(stimulus), .response(response));
  initial begin
    $readmemh("stimuli.hex", stimuli);
    file = $fopen("responses.hex", "w");
    for (cycle = 0; cycle < {cycles}; cycle = cycle + 1) begin
      stimulus = stimuli[cycle];
      #1 $fwrite(file, "%h\\n", response);
      clock = 1;
      #1 clock = 0;
    end
    $fclose(file);
    $finish;
  end
endmodule
"""


def missing() -> str | None:
    """None where Icarus Verilog can run, else what to install."""
    if which("iverilog") and which("vvp"):
        return None
    return "Icarus Verilog is not there: install Debian's package iverilog"


def simulate(
    component: wiring.Component, input_ports: list[Port], output_ports: list[Port], words: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Response words uint8 [cycles, bytes] of stimulus words uint8 [cycles, bytes].

    Raises AccelSimError where Icarus Verilog is missing or fails, and for an output bit that is neither 0 nor 1.
    """
    if problem := missing():
        raise AccelSimError(problem)
    testbench = _TESTBENCH.format(
        harness=HARNESS,
        cycles=len(words),
        stimulus_bits=port_words(input_ports) * 32,
        response_bits=port_words(output_ports) * 32,
    )
    with tempfile.TemporaryDirectory(prefix="accel_sim_icarus_") as folder:
        work = Path(folder)
        (work / "testbench.v").write_text(testbench + harness(component, input_ports, output_ports))
        (work / "stimuli.hex").write_text("".join(f"{word[::-1].tobytes().hex() or '0'}\n" for word in words))
        _call(["iverilog", "-g2005", "-s", "testbench", "-o", "simulate", "testbench.v"], work)
        _call(["vvp", "-n", "simulate"], work)
        lines = (work / "responses.hex").read_text().split()
    return _words(lines, len(words), -(-sum(port.bits for port in output_ports) // 8))


def _words(lines: list[str], cycles: int, word_bytes: int) -> NDArray[np.uint8]:
    for cycle, line in enumerate(lines):
        if set(line) & set("xXzZ"):
            raise AccelSimError(f"Icarus Verilog: an output is undefined at cycle {cycle}: {line}")
    if len(lines) != cycles:
        raise AccelSimError(f"Icarus Verilog wrote {len(lines)} cycles of {cycles}")
    whole = np.frombuffer(bytes.fromhex("".join(lines)), dtype=np.uint8).reshape(cycles, -1)
    return whole[:, ::-1][:, :word_bytes]


def _call(command: list[str], work: Path) -> None:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[0]
        raise AccelSimError(f"{command[0]} failed: {reason}")
