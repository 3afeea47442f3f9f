"""`accel-sim decode`: what machines gain in decode steps, against the size of the batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from accel_sim.cli.contextual_options import HELP as CONTEXTUAL_HELP
from accel_sim.cli.contextual_options import contextual as with_predictor
from accel_sim.cli.inputs import idle_context, load_workload

if TYPE_CHECKING:
    from accel_sim.arch import Arch
    from accel_sim.study.decode import DecodeStudy
    from accel_sim.workload import Scope, Workload

DEFAULT_ARCHS = ["dense.yaml", "8x16.yaml", "weights_8x16.yaml", "8x16_row_gather.yaml", "gather.yaml"]
CONTEXTUAL_ARCHS = ["edge_contextual.yaml", "datacenter_contextual.yaml"]
"""Taken with --contextual, where no --arch is given."""
_DEFAULTS = " ".join(name.removesuffix(".yaml") for name in DEFAULT_ARCHS)
_ARCH_HELP = f"Architecture file; repeatable. Default: {_DEFAULTS}."


def decode(
    arch: Annotated[list[str], typer.Option(help=_ARCH_HELP)] = [],  # noqa: B006
    trace: Annotated[Path | None, typer.Option(help="A captured trace.")] = None,
    workload: Annotated[str | None, typer.Option(help="A model's published shapes, such as llama-3.1-8b.")] = None,
    distribution: Annotated[
        str | None, typer.Option(help="Of the activations of --workload; heavy_tailed when not given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of those activations; 0 when not given.", min=0)] = None,
    batches: Annotated[str | None, typer.Option(help="Such as 1,2,4; default 1 to 256 in powers of two.")] = None,
    context: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Positions in each KV cache; several as 1024,4096.")
    ] = None,
    contextual: Annotated[str | None, typer.Option(metavar="PREDICTOR", help=CONTEXTUAL_HELP)] = None,
    scope: Annotated[Literal["linear", "model"], typer.Option(help="Projections, or the whole decoder.")] = "linear",
    out: Annotated[Path, typer.Option(help="Folder for the pictures and their data.")] = Path("decode"),
    set_: Annotated[list[str], typer.Option("--set", help="Override a key of every --arch; repeatable.")] = [],  # noqa: B006
) -> None:
    """Decode steps of growing batches → speed-up, tokens a second, energy a token, and where each gain ends."""
    from accel_sim.arch import load_arch
    from accel_sim.cli import report
    from accel_sim.cli.idle_settings import idle_settings
    from accel_sim.study.batches import batches_named, batches_that_fit, contexts_named
    from accel_sim.study.decode_output import write_decode_study

    machines = [load_arch(source, set_) for source in arch or (CONTEXTUAL_ARCHS if contextual else DEFAULT_ARCHS)]
    contexts = contexts_named(context) if context is not None else (None,)
    work, note = load_workload(trace, workload, distribution=distribution, seed=seed)
    work = with_predictor(work, contextual, trace, workload)
    sizes, left_out = (batches_named(batches), None) if batches is not None else batches_that_fit(work)
    for line in filter(None, (note, left_out, idle_context(contexts[0], scope), *idle_settings(machines, set_, scope))):
        report.note(line)
    study = _run(machines, work, sizes, contexts, scope)
    written = write_decode_study(study, out)
    _print(study)
    report.print_written(written)


def _run(
    machines: list[Arch], work: Workload, batches: tuple[int, ...], contexts: tuple[int | None, ...], scope: Scope
) -> DecodeStudy:
    """The study, with a progress bar on a terminal."""
    from accel_sim.cli.progress import study_progress
    from accel_sim.study.decode import run_decode_study
    from accel_sim.study.run import designs

    with study_progress(len(designs(machines)) * len(batches) * len(contexts)) as on_progress:
        return run_decode_study(
            machines,
            work,
            batches,
            contexts,
            scope,
            on_progress,
        )


def _print(study: DecodeStudy) -> None:
    """Speed-up over dense by machine and batch, then a sentence a machine."""
    from accel_sim.cli import report
    from accel_sim.study.decode import mlp_lines, verdict

    screen = report.console()
    table = report.table_of(f"Speed-up over dense of a decode step, by batch (scope {study.scope})")
    table.add_column("machine", no_wrap=True)
    for point in study.of(study.machines[0]):
        table.add_column(str(point.batch), justify="right")
    for machine in study.machines:
        cells = [f"{one.speedup:.3f}{'*' if one.bottleneck == 'dram' else ' '}" for one in study.of(machine)]
        table.add_row(machine, *cells)
    table.caption = f"* limited by DRAM; {study.source}"
    screen.print(table)
    for line in mlp_lines(study):
        screen.print(line, markup=False)
    for machine in study.machines:
        screen.print(verdict(study.of(machine)), markup=False)
