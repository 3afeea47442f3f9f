"""`accel-sim contextual published`: the paper's end-to-end speed-ups beside simulated ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from accel_sim.study.contextual_published import PublishedStudy

DEFAULT_ARCHS = ["edge_contextual", "datacenter_contextual"]


def contextual_published(
    arch: Annotated[list[str], typer.Option(help="Machine with a predictor; repeatable.")] = DEFAULT_ARCHS,
    no_machines: Annotated[bool, typer.Option("--no-machines", help="The paper's card alone: seconds.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the tables, the data and the picture.")] = Path("published"),
) -> None:
    """SVDP's Table 1 from byte counts, a data sheet and its Table 4; and what machines of ours would reach."""
    from accel_sim.cli import report
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.cli.progress import study_progress
    from accel_sim.study.contextual_published import run, simulations
    from accel_sim.study.contextual_published_output import write_published

    check_outputs(out)
    machines = () if no_machines else tuple(arch)
    with study_progress(simulations(machines)) as on_progress:
        study = run(machines, on_progress=on_progress)
    written = write_published(study, out)
    _print(study)
    report.print_written(written)


def _print(study: PublishedStudy) -> None:
    from accel_sim.cli import report
    from accel_sim.study.contextual_published_output import verdict

    table = report.table_of("Speed-up of prompt and answer, printed and simulated")
    machines = list(dict.fromkeys(unit.machine for unit in study.units))
    table.add_column("model", no_wrap=True)
    for header in ("s", "Table 1", "simulated card", "error", *machines):
        table.add_column(header, justify="right", no_wrap=True)
    units = {(unit.machine, unit.model, unit.s): unit for unit in study.units}
    for cell in study.cells:
        ours = [f"{units[machine, cell.model, cell.s].end_to_end:.2f}" for machine in machines]
        row = [f"{cell.s:g}", f"{cell.published:.2f}", f"{cell.simulated:.3f}", f"{cell.error:+.1%}", *ours]
        table.add_row(cell.model, *row)
    screen = report.console()
    screen.print(table)
    screen.print(verdict(study.cells), markup=False)
