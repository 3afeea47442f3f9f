"""`accel-sim synthesize`: the cost tables, anew, for any cell library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def synthesize(
    liberty: Annotated[Path, typer.Option(help="The cell library, a Liberty file.")],
    name: Annotated[str | None, typer.Option(help="What to call the library; the file's name when not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; synthesis/NAME when not given.")] = None,
    units: Annotated[
        list[str], typer.Option(help="Only these, such as processing_elements or top_n_rank; repeatable, or by commas.")
    ] = [],  # noqa: B006
    patterns: Annotated[list[str], typer.Option(help="Only these N:M; repeatable, or by commas.")] = [],  # noqa: B006
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    trace: Annotated[Path | None, typer.Option(help="Trace with weights, for the operands; the shipped one.")] = None,
    booth: Annotated[bool, typer.Option("--booth", help="Booth-encoded multipliers.")] = False,
    remappings: Annotated[
        int, typer.Option(help="How often to map each processing element again, for the noise.", min=0)
    ] = 4,
    time_limit: Annotated[float, typer.Option(help="Seconds that mapping one unit may take.", min=1)] = 300.0,
    node: Annotated[float | None, typer.Option(help="The library's node in nm, for the record.", min=1)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take over what a stopped run measured.")] = False,
) -> None:
    """Map every unit to a cell library: tables of area, delay and energy with fitted closed forms, and a report."""
    from accel_sim.cli import report
    from accel_sim.cli.progress import study_progress
    from accel_sim.pattern import Pattern
    from accel_sim.shipped import folder
    from accel_sim.synthesis.catalogue import PATTERNS
    from accel_sim.synthesis.run import Request, remaining, synthesise_library
    from accel_sim.synthesis.table import write_run
    from accel_sim.synthesis.yosys import Flow

    called = name or liberty.stem
    request = Request(
        liberty=liberty,
        name=called,
        out=out or Path("synthesis") / called,
        trace=trace or folder("traces") / "smollm2-135m",
        units=_split(units),
        patterns=tuple(Pattern(text) for text in _split(patterns)) or PATTERNS,
        jobs=jobs,
        flow=Flow(booth, time_limit),
        remappings=remappings,
        node_nm=node,
        resume=resume,
    )
    with study_progress(remaining(request)) as on_progress:
        run = synthesise_library(request, on_progress)
    for unit in run.units:
        if failure := run.measurements[unit.key].failure:
            report.note(f"{unit.key}: {failure}")
    report.print_written(write_run(run))


def _split(values: list[str]) -> tuple[str, ...]:
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())
