"""`accel-sim silicon`: a card that can be measured, beside what the simulator predicts for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

silicon = typer.Typer(
    name="silicon",
    help="Activation 2:4 on a real graphics card: measure it, and compare it with what the simulator predicts.",
    no_args_is_help=True,
)
_OutOption = Annotated[Path, typer.Option(help="Folder of the results.")]


@silicon.command()
def measure(
    out: _OutOption = Path("reports/gpu_silicon"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many shapes, to try it out.")] = None,
) -> None:
    """Time dense and 2:4-sparse products in INT8 and FP16 on the CUDA device, and write measurements.json."""
    from accel_sim.cli import report
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.errors import AccelSimError

    check_outputs(out)
    try:
        from accel_sim.silicon.measure import measure as measure_card
        from accel_sim.silicon.measure import require_cuda
    except ModuleNotFoundError as error:
        raise AccelSimError(f"silicon measure: needs {error.name}; install accel-sim[llm]") from None
    require_cuda()
    from accel_sim.silicon.shapes import standard_shapes

    command = "accel-sim silicon measure" + (f" --limit {limit}" if limit else "")
    measured = measure_card(standard_shapes()[:limit], command, progress=_say)
    path = out / "measurements.json"
    measured.write(path)
    report.print_written([path])


@silicon.command()
def compare(
    measured: Annotated[Path, typer.Option(help="measurements.json of `silicon measure`.")] = Path(
        "reports/gpu_silicon/measurements.json"
    ),
    arch: Annotated[str, typer.Option(help="The chip: a machine file with technology.existing_chip.")] = "h200.yaml",
    out: _OutOption = Path("reports/gpu_silicon"),
) -> None:
    """Fit the named parameters on a third of the shapes, and report the errors on the others. Needs no card."""
    from accel_sim.arch import load_arch
    from accel_sim.cli import report
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.cli.screen import console
    from accel_sim.silicon.comparison import compare as compare_with
    from accel_sim.silicon.report import verdict, write_report
    from accel_sim.silicon.result import read_measurements

    check_outputs(out)
    comparison = compare_with(read_measurements(measured), load_arch(arch), progress=_say)
    for row in comparison.errors:
        if row.kind == "all":
            line = f"{row.dtype} {row.quantity}: median error {row.median['simulator']:.1%} of {row.shapes} held-out"
            console().print(f"{line} shapes, {verdict(row)}", markup=False, soft_wrap=True)
    report.print_written(write_report(comparison, out))


@silicon.command()
def published(
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table (shipped, or a YAML file of that form); repeatable.")
    ] = None,
    fit: Annotated[bool, typer.Option(help="Fit tables of enough shapes; without it the ideal card alone.")] = True,
    out: _OutOption = Path("reports/silicon_published"),
) -> None:
    """Predict products whose times others published, and report how far off. Needs no card; fitting takes minutes."""
    from accel_sim.cli import report
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.cli.screen import console
    from accel_sim.silicon.published import judge
    from accel_sim.silicon.published_report import verdict, write_published
    from accel_sim.silicon.published_tables import read_table, shipped_tables

    check_outputs(out)
    tables = [read_table(name) for name in table or shipped_tables()]
    command = "accel-sim silicon published"
    command += "".join(f" --table {name}" for name in table or ()) + ("" if fit else " --no-fit")
    made = judge(tables, command, fit, progress=_say)
    for row in (errors for one in made.tables for errors in one.errors):
        if row.kind == "all":
            median = row.median["fitted" if "fitted" in row.median else "ideal"]
            line = f"{row.table} {row.quantity}: median error {median:.1%} of {row.shapes} shapes, {verdict(row)}"
            console().print(line, markup=False, soft_wrap=True)
    report.print_written(write_published(made, out))


def _say(step: str) -> None:
    from accel_sim.cli.screen import console

    screen = console(stderr=True)
    if screen.is_terminal:
        screen.print(step, markup=False, soft_wrap=True)
