"""`accel-sim prove`: does the unit as hardware give the bits and take the cycles that the models say?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from accel_sim.cli.inputs import shipped_trace
from accel_sim.cli.progress import study_progress

if TYPE_CHECKING:
    from accel_sim.proof.cycles import Outcome


def prove(
    trace: Annotated[Path | None, typer.Option(help="Folder of a trace with weights; none: the shipped one.")] = None,
    simulator: Annotated[
        Literal["amaranth", "verilator", "icarus"],
        typer.Option(help="What runs the unit: Amaranth itself, or Verilator or Icarus on the emitted Verilog."),
    ] = "amaranth",
    quick: Annotated[bool, typer.Option("--quick", help="A few small configurations.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for cycles.md and cycles.json.")] = None,
) -> None:
    """Run the unit's RTL on captured rows beside the models: every output code, and the cycle that every tile leaves.

    Exit status 1 where a code differs from the functional model's, or a cycle inside the unit from the timing model's.
    """
    from accel_sim.proof import configurations, report
    from accel_sim.proof.cycles import prove as run
    from accel_sim.trace import Trace

    opened = Trace.open(trace or shipped_trace())
    wanted = configurations.quick() if quick else configurations.configurations()
    outcomes = []
    with study_progress(len(wanted)) as on_progress:
        for one in wanted:
            on_progress(f"{one.pattern or 'dense'} {one.tokens}×{one.features}×{one.outputs}")
            outcomes.append(run(one, configurations.real_operands(opened, one), simulator))
    _print(outcomes)
    typer.echo(report.summary(outcomes))
    if out is not None:
        _write(out, outcomes, simulator)
    if any(outcome.divergences or outcome.core_errors for outcome in outcomes):
        raise typer.Exit(1)


def _print(outcomes: list[Outcome]) -> None:
    from accel_sim.cli.screen import console, table_of
    from accel_sim.proof import report

    table = table_of("The unit's RTL beside the timing and the functional model")
    for column in report.COLUMNS:
        table.add_column(column)
    for outcome in outcomes:
        table.add_row(*report.row(outcome))
    console().print(table)


def _write(folder: Path, outcomes: list[Outcome], simulator: str) -> None:
    from accel_sim.files import replacing
    from accel_sim.proof import report

    with replacing(folder / "cycles.json") as file:
        json.dump(report.data(outcomes), file, indent=1)
        file.write("\n")
    with replacing(folder / "cycles.md") as file:
        file.write(report.markdown(outcomes, f"The unit's RTL, run by {simulator}, beside the models"))
