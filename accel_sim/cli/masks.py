"""`accel-sim masks`: how wrong statistics of the non-zeros are about machines that skip by them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accel_sim.cli.inputs import load_workload
from accel_sim.errors import AccelSimError

if TYPE_CHECKING:
    from accel_sim.arch import Arch
    from accel_sim.study.masks import MaskStudy
    from accel_sim.workload import Workload

DEFAULT_ARCHS = [
    f"{name}.yaml" for name in ("8x16_elastic", "16x16_elastic", "16x16_unstructured", "8x16_row_gather", "gather")
]


def masks(
    arch: Annotated[list[str], typer.Option(help="Architecture file; repeatable.")] = DEFAULT_ARCHS,
    trace: Annotated[Path | None, typer.Option(help="A captured trace.")] = None,
    seeds: Annotated[int, typer.Option(help="Draws of each statistical model.", min=1)] = 5,
    zero_fraction: Annotated[
        str, typer.Option(help="Also with small activations set to zero, to these fractions; '' for none.")
    ] = "0.5,0.8,0.9",
    batches: Annotated[str | None, typer.Option(help="Of machines that gather weights, such as 1,2,4.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and their data.")] = Path("masks"),
    set_: Annotated[list[str], typer.Option("--set", help="Override a key of every --arch; repeatable.")] = [],  # noqa: B006
) -> None:
    """A trace against its statistics → the error of each model in cycles, by machine, projection and layer."""
    from accel_sim.arch import load_arch
    from accel_sim.cli import report
    from accel_sim.cli.idle_settings import idle_settings
    from accel_sim.study.mask_output import write_mask_study

    machines = [load_arch(source, set_) for source in arch]
    fractions = _fractions(zero_fraction)
    work, note = load_workload(trace)
    sizes, left_out = _batches(machines, work, batches)
    for line in filter(None, (note, left_out, *idle_settings(machines, set_, "linear"))):
        report.note(line)
    study = _run(machines, work, fractions, seeds, sizes)
    written = write_mask_study(study, out)
    _print(study)
    report.print_written(written)


def _fractions(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise AccelSimError(f"--zero-fraction {text}: expected numbers between 0 and 1, such as 0.5,0.8") from None


def _batches(machines: list[Arch], work: Workload, given: str | None) -> tuple[tuple[int, ...], str | None]:
    """The decode batches of machines that gather; none where there is no such machine."""
    from accel_sim.arch.sparsity import GATHERS
    from accel_sim.study.batches import batches_named, batches_that_fit

    gathers = any(machine.sparsity.skipping in GATHERS for machine in machines)
    if given is not None:
        sizes = batches_named(given)
        return sizes, None if gathers else "--batches: is of machines that gather weights, and none of these does"
    if not gathers:
        return (), None
    return batches_that_fit(work)


def _run(
    machines: list[Arch], work: Workload, fractions: list[float], seeds: int, batches: tuple[int, ...]
) -> MaskStudy:
    """The study, with a progress bar on a terminal."""
    from accel_sim.cli.progress import study_progress
    from accel_sim.study.masks import number_of_runs, run_mask_study

    with study_progress(number_of_runs(machines, fractions, seeds)) as on_progress:
        return run_mask_study(
            machines,
            work,
            fractions,
            seeds,
            batches,
            on_progress,
        )


def _print(study: MaskStudy) -> None:
    """One row a machine and variant of the data, with the error of each model."""
    from accel_sim.cli import report
    from accel_sim.occupancy import DRAWN_MODELS
    from accel_sim.study.mask_output import worst
    from accel_sim.study.text import percent

    screen = report.console()
    if study.times:
        table = report.table_of(f"Error of cycles when non-zeros are drawn from a statistic, {study.seeds} seeds")
        for column in ("data", "machine"):
            table.add_column(column, no_wrap=True)
        for column in ("zeros", "window", "over fixed", "over dense", *DRAWN_MODELS):
            table.add_column(column, justify="right")
        for time in study.times:
            errors = [study.error(time.data, time.machine, model).cycles_error.mean for model in DRAWN_MODELS]
            speedups = [f"{time.speedup_over_fixed:.3f}", f"{time.speedup:.3f}"]
            first = [time.data, time.machine, f"{time.zero_fraction:.1%}", f"{time.window}"]
            table.add_row(*first, *speedups, *map(percent, errors))
        table.caption = "window: features after which rows wait for each other; N% zeros: thresholded, no ReLU model"
        screen.print(table)
        screen.print(worst(study), markup=False)
    if study.independent:
        screen.print(f"independent of where the non-zeros are: {', '.join(study.independent)}", markup=False)
