"""`accel-sim capture` (also `capture-traces`): a language model's activations → a trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from accel_sim.capture.options import CaptureOptions, require_libraries
from accel_sim.cli import capture_options as options
from accel_sim.cli.model_options import ComputeDtypeOption, DeviceOption, ModelOption, keep_libraries_quiet
from accel_sim.trace.format import Manifest

if TYPE_CHECKING:
    from accel_sim.capture.stream import Streamed


def capture(
    out: options.OutOption,
    model: ModelOption = None,
    text: options.TextOption = None,
    tokens: options.PromptTokensOption = 512,
    sequences: options.SequencesOption = 1,
    phase: options.PhaseOption = "prefill",
    new_tokens: options.NewTokensOption = None,
    layers: options.LayersOption = None,
    sites: options.SitesOption = None,
    lm_head: options.LmHeadOption = False,
    weights: options.WeightsOption = False,
    weight_layers: options.WeightLayersOption = None,
    dtype: options.StoredTypeOption = "int8",
    chunk: options.ChunkOption = 512,
    compute_dtype: ComputeDtypeOption = "auto",
    device: DeviceOption = "auto",
    device_map: options.DeviceMapOption = None,
    buffer_gib: options.BufferOption = 2.0,
    allow_partial: options.AllowPartialOption = False,
    resume: options.ResumeOption = False,
    force: options.ForceOption = False,
) -> None:
    """Run a language model on text and store what its linear projections are fed, as a trace to simulate."""
    from accel_sim.capture.finished import finished_trace

    chosen = CaptureOptions(
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
    finished = finished_trace(chosen)
    if finished is not None:
        print(f"{out}: holds this trace already, whole and with matching checksums; nothing to do")
        print(_summary(finished, out))
        return
    require_libraries()
    manifest, streamed = _run(chosen)
    print(_summary(manifest, out))
    print(f"  disk      the model waited {streamed.waited_seconds:.1f} s for it, with --buffer-gib {buffer_gib:g}")


def _run(chosen: CaptureOptions) -> tuple[Manifest, Streamed]:
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
        return run_capture(chosen, observer), told[-1]


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
