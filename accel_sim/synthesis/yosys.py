"""From an Amaranth component to cells of a library: Yosys and its abc, in a process of their own.

The flow: flatten, `synth`, flip-flops by `dfflibmap`, logic by `abc` with its default script, whose objective is area.
Comparators, population counts and the top-N circuit of selectors (modules named `comparator_*`, `popcount_*`, `top_n`)
are mapped by themselves and flattened afterwards: abc's sweeping otherwise runs for minutes. Equal ones are mapped
once. `-noalumacc` keeps multipliers and adders apart: merged into multiply-accumulate cells they come out larger.
Registers have no reset: the datapaths need none, and what follows the filling of a pipeline does not depend on it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Elaboratable, Module, Signal
from amaranth.lib import wiring

from accel_sim.errors import AccelSimError
from accel_sim.synthesis.liberty import Library
from accel_sim.synthesis.netlist import Netlist, read_netlist
from accel_sim.synthesis.rtlil_text import merge_equal_modules, shuffled

_RUN_PYOSYS = "import sys; from pyosys import libyosys; libyosys.run_pass('script ' + sys.argv[1], libyosys.Design())"
_ABC_SCRIPT = "strash; &get -n; &fraig -x; &put; scorr; dc2; strash; &get -n; &dch -f; &nf; &put; topo; stime"
"""What Yosys hands to abc for a library without a delay target, which is for area, and abc's own timing at the end."""
_MAPPER_DELAY = re.compile(r"^ABC: .*\bDelay\s*=\s*([\d.]+)\s*ps", re.MULTILINE)


@dataclass(frozen=True)
class Flow:
    """How units are mapped."""

    booth: bool = False
    """Booth-encoded multipliers (`synth -booth`)."""
    time_limit_s: float = 300.0
    """For one run of Yosys."""

    @property
    def options(self) -> str:
        """As the run's record states it."""
        booth = " -booth" if self.booth else ""
        return (
            f"synth -flatten -noalumacc{booth} (comparator_*, popcount_*, top_n mapped by themselves); dfflibmap; "
            f"abc: {_ABC_SCRIPT}; flatten; opt_clean; registers without reset"
        )


AREA = Flow()


@dataclass(frozen=True)
class Mapped:
    """A mapped unit."""

    netlist: Netlist
    mapper_delay_ns: float | None
    """The longest path as abc's own timing has it (no wires, no clock to Q, no set-up); None where it names none."""
    remapped_um2: list[float]
    """Areas of the same netlist mapped again in other orders."""


@cache
def yosys_command() -> tuple[str, ...]:
    """The command that runs the Yosys script whose file name follows. Raises AccelSimError where there is no Yosys."""
    if find_spec("pyosys"):
        return (sys.executable, "-c", _RUN_PYOSYS)
    if found := which("yosys"):
        return (found, "-s")
    raise AccelSimError("synthesis needs Yosys, which the extra `rtl` brings: pip install 'accel_sim[rtl]'")


@cache
def yosys_version() -> str:
    """Such as `Yosys 0.23 (git sha1 7ce5011c24b)`."""
    with tempfile.TemporaryDirectory(prefix="accel_sim_yosys_") as folder:
        _run(["write_json design.json"], Path(folder), 60.0, "an empty design")
        return str(json.loads((Path(folder) / "design.json").read_text())["creator"])


@cache
def _scratch(library: Library) -> tempfile.TemporaryDirectory:
    """A folder that lasts as long as the process: the library as the mapper reads it, and what Yosys makes of it."""
    folder = tempfile.TemporaryDirectory(prefix="accel_sim_library_")
    (Path(folder.name) / "library.lib").write_text(library.mapping_text())
    return folder


def synthesise(component: wiring.Component, library: Library, flow: Flow = AREA, remappings: int = 0) -> Mapped:
    """Map a component to the library's cells.

    For each of the `remappings`, wires and cells of the generic netlist get other names and another order and are
    mapped again: the same circuit as the mapper sees it in another order (its "mapping noise").

    Raises AccelSimError where Yosys is missing, fails, or takes longer than the flow's time limit.
    """
    with tempfile.TemporaryDirectory(prefix="accel_sim_synthesis_") as name:
        folder = Path(name)
        cells = Path(_scratch(library).name) / "library.lib"

        def run(commands: list[str]) -> str:
            return _run(commands, folder, flow.time_limit_s, type(component).__name__, cells.parent)

        text = rtlil.convert(_WithoutReset(component), name="top", emit_src=False)
        (folder / "unit.il").write_text(merge_equal_modules(text))
        log = run([*_generic(flow, "unit.il", "generic.il"), *_mapping(cells)])
        netlist = read_netlist(folder / "netlist.json", library)
        areas = []
        for seed in range(remappings):
            (folder / "shuffled.il").write_text(shuffled((folder / "generic.il").read_text(), seed))
            run(["read_rtlil shuffled.il", *_mapping(cells)])
            areas.append(read_netlist(folder / "netlist.json", library).area_um2)
        delays = [float(found) for found in _MAPPER_DELAY.findall(log)]
        # Where modules were mapped by themselves, no one of abc's figures is a path through the whole unit.
        return Mapped(netlist, delays[0] / 1e3 if len(delays) == 1 else None, areas)


class _WithoutReset(Elaboratable):
    """The same component, its registers in a clock domain without reset whose clock is the port `clk`."""

    def __init__(self, component: wiring.Component) -> None:
        self._component, self.clk = component, Signal()
        self.signature = wiring.Signature({**component.signature.members, "clk": wiring.In(1)})
        for name in component.signature.members:
            setattr(self, name, getattr(component, name))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = clocked = ClockDomain("sync", reset_less=True)
        m.d.comb += clocked.clk.eq(self.clk)
        m.submodules.unit = self._component
        return m


def _generic(flow: Flow, source: str, target: str) -> list[str]:
    """From RTLIL to Yosys' own gates."""
    booth = " -booth" if flow.booth else ""
    return [f"read_rtlil {source}", f"synth -flatten -noalumacc{booth} -top top", f"write_rtlil {target}"]


def _mapping(cells: Path) -> list[str]:
    """From Yosys' gates to cells, flat, as JSON."""
    return [
        f"dfflibmap -liberty {cells}",
        f"abc -liberty {cells} -script +{_ABC_SCRIPT.replace('; ', ';').replace(' ', ',')}",
        "setattr -mod -unset keep_hierarchy *",
        "flatten",
        "opt_clean -purge",
        "write_json netlist.json",
    ]


def _run(commands: list[str], folder: Path, limit_s: float, what: str, temporary: Path | None = None) -> str:
    """The log of a Yosys script."""
    (folder / "script.ys").write_text("\n".join(commands) + "\n")
    process = subprocess.Popen(
        [*yosys_command(), "script.ys"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary or folder)},  # where Yosys keeps what it made of a library
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Yosys starts abc: both end when the time is over
    )
    try:
        log, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise AccelSimError(f"{what}: not mapped within {limit_s:g} s") from None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode:
        errors = [line for line in log.splitlines() if "ERROR" in line] or log.strip().splitlines() or ["no message"]
        raise AccelSimError(f"{what}: Yosys failed: {errors[-1]}")
    return log
