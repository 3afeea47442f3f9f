"""`accel-sim pareto`: which machines are worth their area and their loss of quality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from accel_sim.cli.inputs import load_workload

if TYPE_CHECKING:
    from accel_sim.arch import Arch
    from accel_sim.simulation import Settings
    from accel_sim.study.points import Point
    from accel_sim.workload import Workload

DEFAULT_ARCHS = ["dense.yaml", "2x4.yaml", "4x8.yaml", "8x16.yaml", "16x32.yaml"]


def pareto(
    arch: Annotated[list[str], typer.Option(help="Architecture file; repeatable.")] = DEFAULT_ARCHS,
    trace: Annotated[list[Path], typer.Option(help="A captured trace; repeatable.")] = [],  # noqa: B006
    workload: Annotated[str | None, typer.Option(help="A model's published shapes, such as llama-3.1-8b.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of --workload; 512 when not given.", min=1)] = None,
    gemm: Annotated[list[str], typer.Option(help="TOKENSxFEATURESxOUTPUTS, such as 512x4096x4096; repeatable.")] = [],  # noqa: B006
    distribution: Annotated[
        str | None, typer.Option(help="Of the activations of --workload and --gemm; heavy_tailed when not given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of those activations; 0 when not given.", min=0)] = None,
    scope: Annotated[
        Literal["linear", "model"], typer.Option(help="Projections only, or the whole decoder.")
    ] = "linear",
    policy: Annotated[str | None, typer.Option(help="Which projections run pruned: a file or a shipped name.")] = None,
    quality: Annotated[Path | None, typer.Option(help="Measured perplexities, JSON or CSV: name → value.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and their data.")] = Path("pareto"),
    set_: Annotated[list[str], typer.Option("--set", help="Override a key of every --arch; repeatable.")] = [],  # noqa: B006
) -> None:
    """Several machines on one or more workloads → the Pareto front of speed-up at equal area, area and quality."""
    from accel_sim.arch import load_arch
    from accel_sim.cli import report
    from accel_sim.cli.idle_settings import idle_settings
    from accel_sim.simulation import Settings
    from accel_sim.study.output import write_study
    from accel_sim.study.quality import read_perplexities, with_perplexities
    from accel_sim.study.run import over_all_workloads
    from accel_sim.workload import load_policy

    perplexities = read_perplexities(quality) if quality else None
    machines = [load_arch(source, set_) for source in arch]
    for line in idle_settings(machines, set_, scope):
        report.note(line)
    workloads = []
    for each in trace or [None]:
        loaded, note = load_workload(each, workload, tokens, gemm, distribution, seed)
        workloads.append(loaded)
        if note:
            report.note(note)
    # Measured perplexities stand in for the simulator's own measure, which takes longer than all the rest.
    settings = Settings(scope, load_policy(policy) if policy else None, quality=perplexities is None)
    points = _run(machines, workloads, settings)
    if perplexities is not None:
        points = with_perplexities(points, perplexities)
    overall = over_all_workloads(points)
    written = write_study(points, overall, {each.name: each.source for each in workloads}, out)
    _print_points(overall, " + ".join(each.name for each in workloads))
    report.print_written(written)


def _run(machines: list[Arch], workloads: list[Workload], settings: Settings) -> list[Point]:
    """The points, with a progress bar on a terminal."""
    from accel_sim.cli.progress import study_progress
    from accel_sim.study.run import designs, run_study

    with study_progress(len(designs(machines)) * len(workloads)) as on_progress:
        return run_study(
            machines,
            workloads,
            on_progress,
            settings,
        )


def _print_points(points: list[Point], workload: str) -> None:
    """One row a design, and whether another one beats it."""
    from accel_sim.cli import report
    from accel_sim.study.pareto import ENERGY_AND_AREA, TRADE_OFF, front

    table = report.table_of(f"Designs on {workload}")
    table.add_column("design", no_wrap=True)
    for column in ("speed-up", "by time", "equal area", "area mm²", "overhead", "energy mJ", "of dense"):
        table.add_column(column, justify="right")
    table.add_column(f"quality ({points[0].quality_kind})", justify="right")
    for column in ("front", "energy/area", "bottleneck"):
        table.add_column(column)
    for point, kept, frugal in zip(points, front(points, TRADE_OFF), front(points, ENERGY_AND_AREA), strict=True):
        table.add_row(
            point.label,
            f"{point.speedup:.3f}",
            f"{point.speedup_time:.3f}",
            f"{point.speedup_iso_area:.3f}",
            f"{point.area_um2 / 1e6:.2f}",
            _overhead(point),
            f"{point.energy_pj / 1e9:,.3f}",
            f"{point.energy_pj / point.dense_energy_pj:.3f}",
            f"{point.quality_loss:.4g}",
            "yes" if kept else "dominated",
            "yes" if frugal else "dominated",
            point.bottleneck,
        )
    table.caption = (
        "front: no design beats it in speed-up at equal area, area and quality together; energy/area: in those two\n"
        "overhead: with the machine's own library, in brackets over the tables of all libraries; before layout"
    )
    report.console().print(table)


def _overhead(point: Point) -> str:
    if not point.area_overhead or point.area_overhead_low is None or point.area_overhead_high is None:
        return f"{point.area_overhead:+.1%}"
    return f"{point.area_overhead:+.1%} ({100 * point.area_overhead_low:.1f}…{100 * point.area_overhead_high:.1f})"
