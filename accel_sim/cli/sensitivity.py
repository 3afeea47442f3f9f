"""`accel-sim sensitivity`: which projections a model can least do without, and the recipe that leaves those dense."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from accel_sim.cli.model_options import ComputeDtypeOption, DeviceOption, ModelOption, keep_libraries_quiet

if TYPE_CHECKING:
    from accel_sim.evaluation.sensitivity_study import SensitivityStudy
    from accel_sim.sparsify import Recipe
    from accel_sim.study.sensitivity_output import Wanted

_WHAT, _MEASURED, _OUT = "What is sparsified", "What is measured, on what", "What comes out"


def sensitivity(
    model: ModelOption = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe to narrow: a file, or a shipped one's name.", rich_help_panel=_WHAT),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="Instead of --recipe: this pattern everywhere; 8:16 when not given.", rich_help_panel=_WHAT),
    ] = None,
    criterion: Annotated[
        str | None, typer.Option(help="Of --pattern; magnitude when not given.", rich_help_panel=_WHAT)
    ] = None,
    measure: Annotated[
        Literal["error", "divergence"],
        typer.Option(
            help="error: of each projection's outputs, one pass. divergence: of the model's distributions, a pass for"
            " each projection.",
            rich_help_panel=_MEASURED,
        ),
    ] = "error",
    text: Annotated[
        list[Path],
        typer.Option(
            help="A UTF-8 file (repeatable, taken in turn). Default: the calibration texts of `accel-sim evaluate`.",
            rich_help_panel=_MEASURED,
        ),
    ] = [],  # noqa: B006
    tokens: Annotated[int, typer.Option(help="Of all texts together.", min=2, rich_help_panel=_MEASURED)] = 3072,
    window: Annotated[int, typer.Option(help="Tokens of one sequence.", min=2, rich_help_panel=_MEASURED)] = 512,
    divergence_tokens: Annotated[
        int | None,
        typer.Option(
            help="Of those, what divergences are measured on; one window when not given.",
            min=2,
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Stop then; the same command goes on.", min=0, rich_help_panel=_MEASURED),
    ] = None,
    dtype: ComputeDtypeOption = "auto",
    device: DeviceOption = "auto",
    coverage: Annotated[
        float,
        typer.Option(
            help="Share of the linear multiply-accumulates that runs sparse, between 0 and 1.",
            min=0,
            max=1,
            rich_help_panel=_OUT,
        ),
    ] = 0.55,
    method: Annotated[
        Literal["knapsack", "greedy", "amber"],
        typer.Option(
            help="knapsack: least sum of errors. greedy: by error per work. amber: down, query and gate projections,"
            " these not in the most sensitive blocks.",
            rich_help_panel=_OUT,
        ),
    ] = "knapsack",
    out: Annotated[
        Path, typer.Option(help="Folder for the recipe, the picture and the data.", rich_help_panel=_OUT)
    ] = Path("sensitivity"),
) -> None:
    """Sparsify each projection alone → its sensitivity, and a recipe that leaves the sensitive ones dense."""
    keep_libraries_quiet()
    from accel_sim.capture.options import require_libraries
    from accel_sim.cli import report
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.errors import AccelSimError

    check_outputs(out)
    if tokens % window:
        raise AccelSimError(f"--tokens {tokens}: expected a multiple of --window {window}")
    if (divergence_tokens or window) % window or (divergence_tokens or 0) > tokens:
        raise AccelSimError(
            f"--divergence-tokens {divergence_tokens}: expected a multiple of --window {window} up to --tokens {tokens}"
        )
    for option, value in (("--divergence-tokens", divergence_tokens), ("--max-minutes", max_minutes)):
        if value is not None and measure != "divergence":
            raise AccelSimError(f"{option} {value}: is of --measure divergence; errors take one pass over all tokens")
    chosen = _recipe(recipe, pattern, criterion)
    require_libraries()
    from accel_sim.study.sensitivity_output import Wanted, write_sensitivity

    wanted = Wanted(method, measure, coverage)
    sequences = (divergence_tokens or window) // window
    seconds = None if max_minutes is None else 60 * max_minutes
    study, about = _measure(model, dtype, device, chosen, text, tokens, window, wanted, sequences, seconds, out)
    name, written = write_sensitivity(study, wanted, about, out)
    _print(study, wanted)
    report.print_written(written)
    report.console().print(f"recipe {name}: accel-sim evaluate --recipe {written[0]}", markup=False, soft_wrap=True)


def _recipe(recipe: str | None, pattern: str | None, criterion: str | None) -> Recipe:
    from accel_sim.errors import AccelSimError
    from accel_sim.sparsify import load_recipe
    from accel_sim.sparsify.recipe import recipe_from_mapping

    if recipe is not None:
        if pattern is not None or criterion is not None:
            raise AccelSimError("--recipe: says its pattern and criterion itself; leave out --pattern and --criterion")
        return load_recipe(recipe)
    chosen = {"pattern": pattern or "8:16", "criterion": criterion or "magnitude"}
    name = "_".join(chosen.values()).replace(":", "x").replace(" ", "_").replace("%", "")
    return recipe_from_mapping(name, {"default": chosen}, "--pattern, --criterion")


def _measure(
    model: str | None,
    dtype: str,
    device: str,
    recipe: Recipe,
    texts: list[Path],
    tokens: int,
    window: int,
    wanted: Wanted,
    divergence_sequences: int,
    seconds: float | None,
    out: Path,
) -> tuple[SensitivityStudy, dict]:
    """The study, and what it was measured on."""
    import torch

    from accel_sim.capture.load import load_model
    from accel_sim.capture.options import CaptureOptions
    from accel_sim.capture.text import cut_prompts, read_texts
    from accel_sim.cli.progress import measuring_progress
    from accel_sim.evaluation.corpora import standard_corpora
    from accel_sim.evaluation.journal import Journal
    from accel_sim.evaluation.sensitivity_study import Amount, measure_sensitivities

    with measuring_progress() as on_progress:
        options = CaptureOptions(out=out, model=model, compute_dtype=dtype, device=device)
        loaded = load_model(options, lambda what: on_progress(what, 0, 1))
        sources = read_texts(texts) or standard_corpora().calibration
        prompts = cut_prompts(loaded.tokenizer, sources, tokens // window, window)
        sequences = torch.stack([torch.from_numpy(each.token_ids) for each in prompts])
        cuts = [each.cut.model_dump() for each in prompts]
        about = {"model_sha256": loaded.file_sha256, "window": window, "text": cuts}
        identity = {"model": loaded.id, "dtype": str(loaded.model.dtype), "recipe": recipe.as_mapping(), **about}
        study = measure_sensitivities(
            loaded.model,
            loaded.id,
            recipe,
            sequences,
            Amount(wanted.measure == "divergence", divergence_sequences, seconds),
            Journal(out / "sensitivity.journal", identity),
            on_progress,
        )
    return study, about


def _print(study: SensitivityStudy, wanted: Wanted) -> None:
    from accel_sim.cli import report
    from accel_sim.study.sensitivity_output import KIND_HEADER, by_kind, compare
    from accel_sim.study.sensitivity_plots import MEASURED

    screen = report.console()
    pruned = study.choose(wanted.method, wanted.measure, wanted.coverage)
    table = report.table_of(f"Sensitivity of {study.model} to {study.recipe.name}: {MEASURED[wanted.measure]}")
    for column in KIND_HEADER:
        table.add_column(column, justify="left" if column in (KIND_HEADER[0], KIND_HEADER[-1]) else "right")
    for row in by_kind(study, wanted.measure, pruned):
        table.add_row(*row)
    tokens = study.tokens if wanted.measure == "error" else study.divergence_tokens
    table.caption = f"{tokens} tokens; left dense by {wanted.method} at a coverage of {study.covered(pruned):.2%}"
    screen.print(table)
    choices, impossible = compare(study, wanted)
    ways = report.table_of(f"Ways to a coverage of {wanted.coverage:.1%}")
    for column in ("method", "coverage", "projections", "sum"):
        ways.add_column(column, justify="left" if column == "method" else "right")
    for one in choices:
        ways.add_row(one.method, f"{one.coverage:.2%}", str(one.projections), f"{one.error:.5g}")
    ways.caption = f"sum: of {wanted.measure} over what is sparsified"
    screen.print(ways)
    for reason in impossible.values():
        screen.print(reason, markup=False)
