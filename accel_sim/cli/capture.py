"""`accel-sim capture` (also `capture-traces`): a language model's activations → a trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accel_sim.capture.options import CaptureOptions, require_libraries
from accel_sim.cli.model_options import ComputeDtypeOption, DeviceOption, ModelOption, keep_libraries_quiet
from accel_sim.trace.format import Manifest

if TYPE_CHECKING:
    from accel_sim.capture.stream import Streamed

_WHAT, _HOW, _OUT = "What is captured", "How it is run", "Where it goes"


def capture(
    out: Annotated[Path, typer.Option(help="Folder of the trace.", rich_help_panel=_OUT)],
    model: ModelOption = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            help="A UTF-8 text file (repeatable; the sequences take them in turn). Default: prose and code that come "
            "with CPython.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of each prompt.", rich_help_panel=_WHAT)] = 512,
    sequences: Annotated[int, typer.Option(help="Number of prompts.", rich_help_panel=_WHAT)] = 1,
    phase: Annotated[
        str, typer.Option(help="prefill: the prompts' tokens. decode: generated ones.", rich_help_panel=_WHAT)
    ] = "prefill",
    new_tokens: Annotated[
        int | None, typer.Option(help="Decode steps a sequence, one row each.", rich_help_panel=_WHAT)
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Decoder blocks, such as 0-5,29. Default: all.", rich_help_panel=_WHAT)
    ] = None,
    sites: Annotated[
        str | None,
        typer.Option(
            help="Projections whose module path contains one of these words, or matches one as a shell pattern; "
            "separated by commas. Default: all.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    lm_head: Annotated[bool, typer.Option("--lm-head", help="Capture the LM head too.", rich_help_panel=_WHAT)] = False,
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Store INT8 weights of every captured layer too.", rich_help_panel=_WHAT),
    ] = False,
    weight_layers: Annotated[
        str | None,
        typer.Option(help="Store the weights of these decoder blocks alone, such as 15.", rich_help_panel=_WHAT),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Stored activations: int8, float16, bfloat16 or float32.", rich_help_panel=_WHAT)
    ] = "int8",
    chunk: Annotated[int, typer.Option(help="Tokens a forward pass; bounds the memory.", rich_help_panel=_HOW)] = 512,
    compute_dtype: ComputeDtypeOption = "auto",
    device: DeviceOption = "auto",
    device_map: Annotated[
        str | None,
        typer.Option(
            help="How accelerate places a model that no single device holds: auto, balanced, balanced_low_0,"
            " sequential, or a JSON file of module path → device (0, cpu, disk).",
            rich_help_panel=_HOW,
        ),
    ] = None,
    buffer_gib: Annotated[
        float,
        typer.Option(help="Rows on their way to the disk; the model waits when there are more.", rich_help_panel=_HOW),
    ] = 2.0,
    allow_partial: Annotated[
        bool,
        typer.Option(
            "--allow-partial", help="Store a trace though some projections were not seen.", rich_help_panel=_HOW
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a capture that was interrupted.", rich_help_panel=_OUT)
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace the folder's trace, kept beside it till then.",
            rich_help_panel=_OUT,
        ),
    ] = False,
) -> None:
    """Run a language model on text and store what its linear projections are fed, as a trace to simulate."""
    from accel_sim.capture.finished import finished_trace

    options = CaptureOptions(
        out=out,
        model=model,
        texts=tuple(text or ()),
        tokens=tokens,
        sequences=sequences,
        phase=phase,  # type: ignore[arg-type]  # checked by CaptureOptions
        new_tokens=new_tokens,
        layers=layers,
        sites=tuple(word.strip() for word in sites.split(",")) if sites is not None else (),
        lm_head=lm_head,
        dtype=dtype,  # type: ignore[arg-type]
        weights=weights,
        weight_layers=weight_layers,
        chunk=chunk,
        compute_dtype=compute_dtype,
        device=device,
        device_map=device_map,
        buffer_gib=buffer_gib,
        allow_partial=allow_partial,
        resume=resume,
        force=force,
        command=(Path(sys.argv[0]).name, *sys.argv[1:]),
    )
    finished = finished_trace(options)
    if finished is not None:
        print(f"{out}: holds this trace already, whole and with matching checksums; nothing to do")
        print(_summary(finished, out))
        return
    require_libraries()
    manifest, streamed = _run(options)
    print(_summary(manifest, out))
    print(f"  disk      the model waited {streamed.waited_seconds:.1f} s for it, with --buffer-gib {buffer_gib:g}")


def _run(options: CaptureOptions) -> tuple[Manifest, Streamed]:
    keep_libraries_quiet()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from accel_sim.capture.run import capture as run_capture
    from accel_sim.capture.watch import Observer

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} tokens, {task.fields[rate]} tokens/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=None, rate="–")

        def on_tokens(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            speed = progress.tasks[task].speed
            progress.update(task, rate=f"{speed:,.0f}" if speed else "–")

        told: list[Streamed] = []
        observer = Observer(lambda text: progress.update(task, description=text), on_tokens, told.append)
        return run_capture(options, observer), told[-1]


def _summary(manifest: Manifest, out: Path) -> str:
    stored = sum(file.bytes for file in manifest.files.values())
    rows = manifest.sequences * (manifest.new_tokens or manifest.tokens_per_sequence)
    kind = f"{manifest.phase}, {manifest.dtype}, {len(manifest.layers)} of {manifest.layers_in_model} layers"
    projections = sum(len(site.projections) for site in manifest.sites)
    lines = [
        f"{out}: {manifest.model.id}, {kind}",
        f"  sites     {len(manifest.sites)}, feeding {projections} projections",
        f"  tokens    {rows}",
        f"  coverage  {manifest.coverage.fraction:.2%} of {manifest.coverage.expected_macs:,} linear "
        "multiply-accumulates",
        f"  size      {stored / 1e6:.1f} MB in {len(manifest.files)} files",
    ]
    if manifest.coverage.missing:
        lines.append(f"  missing   {', '.join(manifest.coverage.missing)}")
    return "\n".join(lines)
