"""`accel-sim rtl`: the unit, and every circuit in it, as Verilog."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer


def rtl(
    unit: Annotated[
        str | None, typer.Argument(help="Which circuit, such as processing_element; none: list them.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="How it is built: pattern=8:16 lanes=16.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the top module; none: that of the circuit.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the Verilog; none: print it.")] = None,
) -> None:
    """Write a circuit of the sparse tensor unit, or the whole unit, as readable Verilog."""
    import accel_sim.rtl  # noqa: F401  (says that the extra is missing, before Amaranth is looked for)

    from amaranth.hdl import UnusedElaboratable  # isort: skip

    from accel_sim.cli import report
    from accel_sim.files import replacing
    from accel_sim.rtl.units import build
    from accel_sim.rtl.verilog import verilog

    if unit is None:
        _list_units()
        return
    warnings.simplefilter("ignore", UnusedElaboratable)  # a circuit that is refused while it is built
    text = verilog(build(unit, _pairs(settings or [])), name or unit)
    if out is None:
        print(text, end="")
        return
    with replacing(out) as file:
        file.write(text)
    report.print_written([out])


def _pairs(settings: list[str]) -> dict[str, str]:
    from accel_sim.errors import AccelSimError

    for each in settings:
        if "=" not in each:
            raise AccelSimError(f"setting {each!r}: expected NAME=VALUE, such as pattern=8:16")
    return dict(each.split("=", 1) for each in settings)


def _list_units() -> None:
    from accel_sim.rtl.units import UNITS, settings_of

    for name in UNITS:
        print(" ".join([name, *(setting.usage for setting in settings_of(name).values())]))
