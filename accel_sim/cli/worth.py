"""`accel-sim worth`: which criterion and which mitigation is worth its gates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from accel_sim.study.worth import Worth

DEFAULT_ARCHS = [f"{name}.yaml" for name in ("2x4", "4x8", "8x16", "16x32", "weights_2x4", "weights_8x16")]


def worth(
    evaluation: Annotated[list[Path], typer.Option(help="JSON of `accel-sim evaluate`; repeatable.")],
    recipe: Annotated[list[str], typer.Option(help="A recipe's file or a shipped one's name; repeatable.")] = [],  # noqa: B006
    grid: Annotated[list[Path], typer.Option(help="A file of many recipes, as for evaluate; repeatable.")] = [],  # noqa: B006
    arch: Annotated[list[str], typer.Option(help="Machine; a recipe runs on the first that can. Repeatable.")] = (
        DEFAULT_ARCHS
    ),
    trace: Annotated[Path | None, typer.Option(help="A captured trace.")] = None,
    workload: Annotated[str | None, typer.Option(help="A model's published shapes, such as llama-3.1-8b.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of --workload; 512 when not given.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the data.")] = Path("worth"),
    set_: Annotated[list[str], typer.Option("--set", help="Override a key of every --arch; repeatable.")] = [],  # noqa: B006
) -> None:
    """Measured quality beside simulated cost and gain → one row a recipe, and the front of the worthwhile ones."""
    from accel_sim.arch import load_arch
    from accel_sim.cli import report
    from accel_sim.cli.inputs import load_workload
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.cli.progress import study_progress
    from accel_sim.errors import AccelSimError
    from accel_sim.evaluation.grid import load_grid
    from accel_sim.evaluation.result import read_evaluations
    from accel_sim.sparsify import load_recipe
    from accel_sim.study.worth import worth as work_out
    from accel_sim.study.worth_output import write_worth

    check_outputs(out)
    recipes = [load_recipe(each) for each in recipe] + [each for path in grid for each in load_grid(path)]
    if not recipes:
        raise AccelSimError("no recipes: give --recipe or --grid")
    evaluations = [each for path in evaluation for each in read_evaluations(path)]
    machines = [load_arch(source, set_) for source in arch]
    work, note = load_workload(trace, workload, tokens)
    if note:
        report.note(note)
    with study_progress(len(recipes)) as on_progress:
        found = work_out(recipes, evaluations, machines, work, on_progress)
    written = write_worth(found, f"quality as measured, gain on {work.source}", out)
    _print(found)
    report.print_written(written)


def _print(found: list[Worth]) -> None:
    from accel_sim.cli import report
    from accel_sim.study.worth_output import HEADER, LEGEND, cells

    table = report.table_of("Which method is worth its gates")
    for column in HEADER:
        table.add_column(column, justify="left" if column == HEADER[0] else "right")
    for one in found:
        table.add_row(*cells(one))
    table.caption = LEGEND
    screen = report.console()
    screen.print(table)
    for one in found:
        if one.machine is None:
            screen.print(f"{one.recipe}: {one.reason}", markup=False)
