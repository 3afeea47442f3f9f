"""Readable Verilog of any component: Amaranth writes RTLIL, Yosys turns its processes into Verilog.

Yosys is `pyosys` where it is installed (the extra `rtl`), else `yosys` on PATH. It runs in a process of its own: an
error inside Yosys ends the process it happens in.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from amaranth.back import rtlil
from amaranth.lib import wiring

from accel_sim.errors import AccelSimError

_SCRIPT = (
    "read_rtlil design.il",
    "proc",
    "pmuxtree",
    "memory_collect",
    "opt_clean -purge",
    "write_verilog -norename -noattr design.v",
)
_RUN_PYOSYS = "import sys; from pyosys import libyosys; libyosys.run_pass('script ' + sys.argv[1], libyosys.Design())"


@cache
def yosys_command() -> tuple[str, ...]:
    """The command that runs a Yosys script whose file name is appended to it.

    Raises AccelSimError where there is neither pyosys nor yosys.
    """
    if find_spec("pyosys"):
        return (sys.executable, "-c", _RUN_PYOSYS)
    if yosys := which("yosys"):
        return (yosys, "-q", "-s")
    raise AccelSimError("Verilog needs Yosys, which the extra `rtl` brings: pip install 'accel_sim[rtl]'")


def verilog(component: wiring.Component, name: str = "top") -> str:
    """Verilog of the component and of everything in it, its top module called `name`.

    The ports are those of the signature, joined by `__` where it nests, and `clk` and `rst` (synchronous, active high)
    where something is clocked. The text is the same for the same component and the same Yosys.

    Raises AccelSimError for a name that is no Verilog identifier, and where Yosys is missing or refuses the design.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise AccelSimError(f"module name {name!r}: expected a Verilog identifier, such as processing_element")
    command = yosys_command()
    with tempfile.TemporaryDirectory(prefix="accel_sim_verilog_") as folder:
        work = Path(folder)
        (work / "design.il").write_text(rtlil.convert(component, name=name, emit_src=False))
        (work / "script.ys").write_text("\n".join(_SCRIPT) + "\n")
        done = subprocess.run([*command, "script.ys"], cwd=work, capture_output=True, text=True, check=False)
        written = work / "design.v"
        if done.returncode or not written.exists():
            reason = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise AccelSimError(f"Yosys could not write Verilog of {type(component).__name__}: {reason}")
        return _with_own_header(written.read_text())


def _with_own_header(text: str) -> str:
    """Yosys's first line names the compiler that built it, with a path; what made the text is told by two versions."""
    header, rest = text.split("\n", 1)
    yosys = re.search(r"Yosys \S+", header)
    return f"// Written by accel_sim with Amaranth {version('amaranth')} and {yosys[0] if yosys else 'Yosys'}.\n{rest}"
