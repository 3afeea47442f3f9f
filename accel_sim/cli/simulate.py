"""`accel-sim simulate`: one workload on one or more machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from accel_sim.cli.inputs import load_workload


def simulate(
    arch: Annotated[list[str], typer.Option(help="Architecture file; repeat to compare several.")] = ["8x16.yaml"],  # noqa: B006
    trace: Annotated[Path | None, typer.Option(help="A captured trace.")] = None,
    workload: Annotated[str | None, typer.Option(help="A model's published shapes, such as llama-3.1-8b.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of --workload.", min=1)] = 512,
    gemm: Annotated[list[str], typer.Option(help="TOKENSxFEATURESxOUTPUTS, such as 512x4096x4096; repeatable.")] = [],  # noqa: B006
    distribution: Annotated[str, typer.Option(help="Of the activations of --workload and --gemm.")] = "heavy_tailed",
    seed: Annotated[int, typer.Option(help="Of those activations.")] = 0,
    pattern: Annotated[str | None, typer.Option(help="Which pattern a flexible unit runs, such as 8:16.")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="Override a key, such as array.rows=64; repeatable.")] = [],  # noqa: B006
    engine: Annotated[Literal["compiled", "event"], typer.Option(help="Numba recurrence or SimPy.")] = "compiled",
    all_layers: Annotated[bool, typer.Option("--all-layers", help="A table row for every single layer.")] = False,
    explain: Annotated[str | None, typer.Option(help="Show how this layer's cycles come about.")] = None,
    sources: Annotated[bool, typer.Option("--sources", help="Print the source of every figure used.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the result (a list for several --arch).")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row a layer.")] = None,
    timeline: Annotated[Path | None, typer.Option(help="Write the stages for chrome://tracing or Perfetto.")] = None,
) -> None:
    """A trace, a model's shapes or single products → cycles, speed-up, energy, area and the bottleneck."""
    from accel_sim.arch import load_arch
    from accel_sim.cli import report
    from accel_sim.cli.explain import find_layer, print_explanation
    from accel_sim.pattern import parse_pattern
    from accel_sim.simulation import Machine, WorkloadStatistics, run
    from accel_sim.simulation.output import write_csv, write_json
    from accel_sim.simulation.timeline import write_timeline

    chosen = parse_pattern(pattern) if pattern else None
    archs = [load_arch(source, set_) for source in arch]
    # One --pattern beside several machines means the flexible ones among them.
    patterns = [one.pattern(chosen if one.is_flexible or len(archs) == 1 else None) for one in archs]
    work, note = load_workload(trace, workload, tokens, gemm, distribution, seed)
    if note:
        report.note(note)
    statistics = WorkloadStatistics(work)
    machines = [Machine(one, used, engine) for one, used in zip(archs, patterns, strict=True)]
    results = [run(machine, work, statistics) for machine in machines]
    for result in results:
        report.print_result(result, all_layers)
    if explain:
        for machine in machines:
            print_explanation(machine, find_layer(work, explain))
    if sources:
        for machine in machines:
            report.print_sources(machine.arch)
    if len(results) > 1:
        report.print_comparison(results)
    if json_:
        write_json(results, json_)
    if csv:
        write_csv(results, csv)
    if timeline:
        write_timeline(machines, work, timeline)
    report.print_written([path for path in (json_, csv, timeline) if path])
