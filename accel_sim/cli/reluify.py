"""`accel-sim reluify`: a gated language model → one whose FFNs have ReLUs, and so zeros to skip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accel_sim.cli.model_options import MODEL, DeviceOption, ModelOption, keep_libraries_quiet

if TYPE_CHECKING:
    from accel_sim.capture.options import CaptureOptions
    from accel_sim.reluify import Label, ReluifySettings

_FORM, _HOW, _MUCH, _OUT = "What it becomes", "How it learns", "How much", "Where it goes"


def reluify(
    out: Annotated[
        Path,
        typer.Option(help="Folder of the model; the same command goes on where it was stopped.", rich_help_panel=_OUT),
    ],
    model: ModelOption = None,
    activation: Annotated[
        str, typer.Option(help="relu: in the gate. drelu: on the up projection too.", rich_help_panel=_FORM)
    ] = "relu",
    threshold: Annotated[
        float, typer.Option(help="The gate lets through what is above it (FATReLU).", rich_help_panel=_FORM)
    ] = 0.0,
    text: Annotated[
        list[Path],
        typer.Option(
            help="A UTF-8 file to learn from (repeatable). Default: prose, code and mathematics that come with Python"
            " and torch, without what is evaluated.",
            rich_help_panel=_HOW,
        ),
    ] = [],  # noqa: B006
    tokens: Annotated[
        int | None, typer.Option(help="To learn from. Without --minutes the only limit.", rich_help_panel=_MUCH)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Of learning; what is reached first ends it. Default: 60 without --tokens.", rich_help_panel=_MUCH
        ),
    ] = None,
    window: Annotated[int, typer.Option(help="Tokens of a sequence.", rich_help_panel=_HOW)] = 512,
    batch: Annotated[int, typer.Option(help="Sequences of a step.", rich_help_panel=_HOW)] = 1,
    learning_rate: Annotated[float, typer.Option(help="Of Adam at its highest.", rich_help_panel=_HOW)] = 2e-4,
    l1: Annotated[
        float,
        typer.Option(
            help="Weight of the mean of what the gates let through, for more zeros; rises from 0 as the training goes"
            " on.",
            rich_help_panel=_HOW,
        ),
    ] = 0.0,
    refit_tokens: Annotated[
        int, typer.Option(help="That output projections are refitted on first.", rich_help_panel=_MUCH)
    ] = 8192,
    evaluation_tokens: Annotated[
        int, typer.Option(help="Of each kind of held-out text.", rich_help_panel=_MUCH)
    ] = 1024,
    seed: Annotated[int, typer.Option(help="Of the order of the text.", rich_help_panel=_HOW)] = 0,
    dtype: Annotated[
        str,
        typer.Option(
            help="Type of the forward passes: float32, bfloat16, or auto: bfloat16 where the device has instructions"
            " for it. Weights learn in float32 and are stored as the model's.",
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    device: DeviceOption = "auto",
    export: Annotated[
        Path | None,
        typer.Option(
            help="Learn nothing: write the newest checkpoint of --out as a model to this folder. The command that"
            " learns may still run.",
            rich_help_panel=_OUT,
        ),
    ] = None,
) -> None:
    """Turn a SwiGLU or GeGLU language model into a ReLU one by distillation, labelled with what it is worth."""
    keep_libraries_quiet()
    from accel_sim.capture.options import CaptureOptions, require_libraries
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.reluify import ReluForm, ReluifySettings

    check_outputs(out)
    settings = ReluifySettings(
        form=ReluForm(activation, threshold),  # type: ignore[arg-type]  # checked there
        tokens=tokens,
        minutes=60.0 if tokens is None and minutes is None else minutes,
        window=window,
        batch=batch,
        learning_rate=learning_rate,
        l1=l1,
        refit_tokens=refit_tokens,
        evaluation_tokens=evaluation_tokens,
        seed=seed,
    )
    options = CaptureOptions(out=out, model=model, compute_dtype=dtype, device=device)
    require_libraries()
    _print(_run(options, settings, text, export), export or out)


def _run(options: CaptureOptions, settings: ReluifySettings, texts: list[Path], export: Path | None) -> Label:
    from accel_sim.cli.progress import measuring_progress
    from accel_sim.reluify import Observer
    from accel_sim.reluify import reluify as run

    with measuring_progress() as on_progress:
        observer = Observer(
            on_status=lambda what: on_progress(what, 0, 1000),
            on_step=lambda tokens, loss, fraction: on_progress(
                f"distilling: {tokens:,} tokens, {loss:.3f} nats", int(1000 * fraction), 1000
            ),
        )
        return run(options, settings, texts, observer, export)


def _print(label: Label, folder: Path) -> None:
    from accel_sim.capture.relu_form import LABEL_NAME
    from accel_sim.cli import report
    from accel_sim.evaluation.corpora import ALL
    from accel_sim.reluify.output import PICTURE_NAME, REPORT_NAME

    screen, kinds = report.console(), list(label.dense.perplexity)
    table = report.table_of("Perplexity of held-out text")
    table.add_column("state")
    for kind in (*kinds, "KL, nats", "zeros"):
        table.add_column(kind, justify="right")
    for state in ("dense", "swapped", "refitted", "distilled"):
        one = getattr(label, state)
        perplexities = [f"{one.perplexity[kind]:,.2f}" for kind in kinds]
        table.add_row(state, *perplexities, f"{one.kl[ALL]:.3f}", f"{one.mean_gate_zeros:.1%}")
    screen.print(table)
    screen.print(label.statement, markup=False)
    if label.form.activation != "relu" or label.form.threshold:
        report.note("transformers alone runs the folder as plain ReLU; accel-sim reads the label and runs it as it is")
    report.print_written([folder / name for name in ("model.safetensors", LABEL_NAME, REPORT_NAME, PICTURE_NAME)])
