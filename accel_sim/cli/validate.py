"""`accel-sim validate`: do all backends compute the same bits on a real trace?"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from accel_sim.cli.inputs import shipped_trace
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern, parse_pattern

if TYPE_CHECKING:
    from accel_sim.functional.backends import Backend
    from accel_sim.functional.validation import Comparison
    from accel_sim.trace import Site, Trace

DEFAULT_PATTERNS = ("2:4", "4:8", "8:16", "16:32")
_REFERENCE, _CUDA = "numpy", "torch:cuda"


def validate(
    trace: Annotated[Path | None, typer.Option(help="Folder of a captured trace; none: the shipped one.")] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(help='N:M, or "1:2 of 4:8" with two levels, repeatable; none: 2:4, 4:8, 8:16 and 16:32.'),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Decoder blocks, such as 0-5,29; none: all in the trace.")] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="cpu leaves CUDA out, cuda insists on it; none: whatever is there."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Tokens of each site, the first ones; none: all.")] = None,
) -> None:
    """Compare every backend with the reference on a trace, bit for bit; a difference stops it, with exit status 1."""
    from accel_sim.functional.validation import Divergence

    patterns = [parse_pattern(text) for text in pattern or DEFAULT_PATTERNS]
    opened = _open(trace)
    sites = opened.sites_of_layers(layers)
    backends = _backends(device)
    typer.echo(f"patterns     {', '.join(map(str, patterns))}")
    started = time.perf_counter()
    try:
        comparison = _run(opened, patterns, backends, sites, rows)
    except Divergence as difference:
        typer.echo(f"DIFFERENT    {difference}", err=True)
        raise typer.Exit(1) from None
    _print_comparison(comparison, time.perf_counter() - started)


def _open(path: Path | None) -> Trace:
    from accel_sim.trace import Trace

    typer.echo(f"trace        {path or f'{shipped_trace()} (the shipped one, as no --trace was given)'}")
    return Trace.open(path or shipped_trace())


def _backends(device: str | None) -> dict[str, Backend]:
    """The backends beside the reference, by name; prints what each one is, or why it is not there."""
    from accel_sim.functional.backends import BACKENDS, backend

    there = {}
    for name in BACKENDS:
        if name == _CUDA and device == "cpu":
            typer.echo(f"{name:<12} left out by --device cpu")
            continue
        try:
            unit = backend(name)
        except AccelSimError as missing:
            if name == _CUDA and device == "cuda":
                raise
            typer.echo(f"{name:<12} not there: {missing}")
            continue
        typer.echo(f"{name:<12} {unit.note}")
        there[name] = unit
    del there[_REFERENCE]
    return there


def _run(
    trace: Trace,
    patterns: list[Pattern],
    backends: dict[str, Backend],
    sites: tuple[Site, ...],
    rows: int | None,
) -> Comparison:
    from rich.console import Console
    from rich.progress import Progress

    from accel_sim.functional.validation import validate_trace

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("sites", total=len(sites))
        return validate_trace(
            trace,
            patterns,
            backends,
            sites=sites,
            rows=rows,
            advance=lambda site: progress.update(task, advance=1, description=site),
        )


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
