"""`accel-sim validate`: do all backends compute the same bits on a real trace?"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from accel_sim.cli.inputs import shipped_trace
from accel_sim.cli.outputs import check_outputs
from accel_sim.errors import AccelSimError
from accel_sim.pattern import parse_pattern

if TYPE_CHECKING:
    from accel_sim.functional.backends import Backend
    from accel_sim.functional.thorough import CaseResult
    from accel_sim.functional.validation import Comparison
    from accel_sim.trace import Trace

DEFAULT_PATTERNS = ("2:4", "4:8", "8:16", "16:32")
REPORT_PATTERNS = (*DEFAULT_PATTERNS, "1:4", "3:4")
GPU_REPORT = Path("reports/gpu_validation")
_REFERENCE, _ON_GPU = "numpy", ("torch:cuda", "triton")


def validate(
    trace: Annotated[Path | None, typer.Option(help="Folder of a captured trace; none: the shipped one.")] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            help='N:M, or "1:2 of 4:8" with two levels, repeatable; none: 2:4, 4:8, 8:16, 16:32; for a report 1:4, 3:4.'
        ),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Decoder blocks, such as 0-5,29; none: all in the trace.")] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="cpu leaves the GPU out, cuda insists on it and reports; none: whatever is there."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Tokens of each site, the first ones; none: all.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a report: drawn cases as well, more products, and no difference stops it; none: no report,"
            f" but {GPU_REPORT} with --device cuda."
        ),
    ] = None,
) -> None:
    """Compare every backend with the reference on a trace, bit for bit; a difference ends it with exit status 1."""
    from accel_sim.cli.progress import study_progress
    from accel_sim.functional.thorough import cases, validate_thoroughly
    from accel_sim.functional.validation import Divergence, validate_trace

    folder = out or (GPU_REPORT if device == "cuda" else None)
    patterns = [parse_pattern(text) for text in pattern or (REPORT_PATTERNS if folder else DEFAULT_PATTERNS)]
    if folder:
        check_outputs(folder)
    opened = _open(trace)
    sites = opened.sites_of_layers(layers)
    backends, absent = _backends(device)
    typer.echo(f"patterns     {', '.join(map(str, patterns))}")
    started = time.perf_counter()
    if folder:
        with study_progress(cases(patterns)) as advance:
            results = validate_thoroughly(opened, patterns, backends, sites=sites, rows=rows, advance=advance)
        _report(folder, results, opened, backends, absent, time.perf_counter() - started)
        return
    try:
        with study_progress(len(sites)) as advance:
            comparison = validate_trace(opened, patterns, backends, sites=sites, rows=rows, advance=advance)
    except Divergence as difference:
        typer.echo(f"DIFFERENT    {difference}", err=True)
        raise typer.Exit(1) from None
    _print_comparison(comparison, time.perf_counter() - started)


def _open(path: Path | None) -> Trace:
    from accel_sim.trace import Trace

    typer.echo(f"trace        {path or f'{shipped_trace()} (the shipped one, as no --trace was given)'}")
    return Trace.open(path or shipped_trace())


def _backends(device: str | None) -> tuple[dict[str, Backend], dict[str, str]]:
    """The backends beside the reference, by name, and why others are not there; prints what each one is."""
    from accel_sim.functional.backends import BACKENDS, backend

    there, absent = {}, {}
    for name in BACKENDS:
        if name in _ON_GPU and device == "cpu":
            absent[name] = "left out by --device cpu"
            typer.echo(f"{name:<12} {absent[name]}")
            continue
        try:
            unit = backend(name)
        except AccelSimError as missing:
            if name in _ON_GPU and device == "cuda":
                raise
            absent[name] = str(missing)
            typer.echo(f"{name:<12} not there: {missing}")
            continue
        typer.echo(f"{name:<12} {unit.note}")
        there[name] = unit
    del there[_REFERENCE]
    return there, absent


def _report(
    folder: Path,
    results: list[CaseResult],
    trace: Trace,
    backends: dict[str, Backend],
    absent: dict[str, str],
    seconds: float,
) -> None:
    """Write the report and print its sum; exit status 1 where something differs."""
    from accel_sim.functional.backends import backend
    from accel_sim.functional.validation_report import Circumstances, write_report

    notes = {_REFERENCE: backend(_REFERENCE).note} | {name: unit.note for name, unit in backends.items()}
    device, torch = _device(backends)
    command = " ".join(["accel-sim validate", *sys.argv[2:]]) if sys.argv[1:2] == ["validate"] else "accel-sim validate"
    circumstances = Circumstances(command, device, torch, trace.path.name, notes, absent)
    try:
        paths = write_report(folder, results, circumstances, seconds)
    except OSError as error:
        raise AccelSimError(f"--out {folder}: {error.strerror or error}") from None
    values, sums = sum(each.values_compared for each in results), sum(each.int32_results for each in results)
    differ = sum(each.comparison.divergences for each in results)
    for difference in [text for each in results for text in each.comparison.differences][:4]:
        typer.echo(f"DIFFERENT    {difference}", err=True)
    typer.echo(
        f"compared     {values:,} values, {sums:,} INT32 results among them (each counted once), in {seconds:.1f} s"
    )
    typer.echo("EQUAL        to the bit" if not differ else f"DIFFERENT    {differ:,} values", err=bool(differ))
    for path in paths:
        typer.echo(f"wrote        {path}")
    if differ:
        raise typer.Exit(1)


def _device(backends: dict[str, Backend]) -> tuple[str, str]:
    """The device that the backends ran on, and torch's version."""
    if not any(name in backends for name in ("torch", *_ON_GPU)):
        return platform.processor() or platform.machine(), "not installed"
    import torch

    if any(name in backends for name in _ON_GPU) and torch.cuda.is_available():
        return torch.cuda.get_device_name(), torch.__version__
    return platform.processor() or platform.machine(), torch.__version__


def _print_comparison(comparison: Comparison, seconds: float) -> None:
    c = comparison
    typer.echo(f"compared     {c.sites} sites, {c.tokens} token rows, {c.projections} projections with weights")
    for kind, count in c.counts.items():
        typer.echo(f"  {kind:<22} {count:>15,} elements")
    if c.without_weights:
        shown = ", ".join(c.without_weights[:4]) + (", …" if len(c.without_weights) > 4 else "")
        typer.echo(
            f"not compared products of {len(c.without_weights)} projections whose weights the trace does not hold "
            f"(capture with --weights): {shown}"
        )
    typer.echo(f"EQUAL        {', '.join(c.backends)} and {_REFERENCE}, to the bit, in {seconds:.1f} s")
