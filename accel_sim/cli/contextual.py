"""`accel-sim contextual`: predictors of the neurons that a token needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accel_sim.cli.contextual_published import contextual_published
from accel_sim.cli.model_options import (
    CalibrationOption,
    CalibrationTokensOption,
    ComputeDtypeOption,
    DeviceOption,
    KindsOfTextOption,
    ModelOption,
    TokensOption,
    WindowOption,
    keep_libraries_quiet,
)

if TYPE_CHECKING:
    from accel_sim.capture.options import CaptureOptions
    from accel_sim.evaluation import Corpora, EvaluationSettings
    from accel_sim.sparsify import Recipe
    from accel_sim.sparsify.contextual.storage import StoredPredictors
    from accel_sim.study.predictor_study import PredictedModel

DEFAULT_RECIPE = "svdp_50"
_WHAT, _OUT = "What is predicted", "Where it goes"

contextual = typer.Typer(
    name="contextual",
    help="Predictors of the neurons that a token needs: fit them, see how well they predict, and what papers gained.",
    no_args_is_help=True,
)


@contextual.command()
def fit(
    out: Annotated[Path, typer.Option(help="Folder of the predictors.", rich_help_panel=_OUT)],
    recipe: Annotated[
        str,
        typer.Option(help="A recipe with `neurons`: a file or a shipped one's name.", rich_help_panel=_WHAT),
    ] = DEFAULT_RECIPE,
    model: ModelOption = None,
    dtype: ComputeDtypeOption = "auto",
    device: DeviceOption = "auto",
    calibration: CalibrationOption = [],  # noqa: B006
    window: WindowOption = 512,
    calibration_tokens: CalibrationTokensOption = 3072,
    powerinfer: Annotated[
        Path | None,
        typer.Option(
            help="Also write each layer's as model_N.pt, the layout of PowerInfer, here.", rich_help_panel=_OUT
        ),
    ] = None,
) -> None:
    """Fit a predictor to each layer's gate on calibration text, for `decode --contextual` and executors."""
    keep_libraries_quiet()
    from accel_sim.capture.options import CaptureOptions, require_libraries
    from accel_sim.cli import report
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.errors import AccelSimError
    from accel_sim.evaluation import EvaluationSettings, corpora_from_files
    from accel_sim.sparsify import load_recipe

    check_outputs(out)
    if powerinfer is not None:
        check_outputs(powerinfer)
    chosen = load_recipe(recipe)
    _check_predicts([chosen])
    settings = EvaluationSettings(tokens=window, window=window, calibration_tokens=calibration_tokens, generation=False)
    if not calibration_tokens:
        raise AccelSimError("--calibration-tokens 0: predictors are fitted to calibration text")
    options = CaptureOptions(out=out, model=model, compute_dtype=dtype, device=device)
    require_libraries()
    stored = _fit(options, chosen, corpora_from_files([], calibration), settings)
    from accel_sim.sparsify.contextual.powerinfer import write_powerinfer
    from accel_sim.sparsify.contextual.storage import write_predictors

    write_predictors(out, stored)
    if powerinfer is not None:
        write_powerinfer(powerinfer, {layer: each.predictor for layer, each in stored.layers.items()})
    _print_fits(stored)
    report.print_written([out, *([powerinfer] if powerinfer else [])])


@contextual.command()
def evaluate(
    recipe: Annotated[
        list[str],
        typer.Option(
            help="A recipe with `neurons`: a file or a shipped one's name; repeatable.", rich_help_panel=_WHAT
        ),
    ] = [],  # noqa: B006
    grid: Annotated[
        Path | None, typer.Option(help="A file of many recipes: its variants.", rich_help_panel=_WHAT)
    ] = None,
    model: ModelOption = None,
    dtype: ComputeDtypeOption = "auto",
    device: DeviceOption = "auto",
    text: KindsOfTextOption = [],  # noqa: B006
    calibration: CalibrationOption = [],  # noqa: B006
    tokens: TokensOption = 2048,
    window: WindowOption = 512,
    calibration_tokens: CalibrationTokensOption = 3072,
    out: Annotated[
        Path, typer.Option(help="Folder of the results and of the journal to go on from.", rich_help_panel=_OUT)
    ] = Path("predictors"),
) -> None:
    """How well each layer's neurons are predicted on held-out text, and what the model loses by it."""
    keep_libraries_quiet()
    from accel_sim.capture.options import CaptureOptions, require_libraries
    from accel_sim.cli import report
    from accel_sim.cli.evaluate import recipes_of
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.evaluation import EvaluationSettings, corpora_from_files

    check_outputs(out)
    recipes = recipes_of(recipe or ([] if grid else [DEFAULT_RECIPE]), grid)
    _check_predicts(recipes)
    settings = EvaluationSettings(tokens=tokens, window=window, calibration_tokens=calibration_tokens, generation=False)
    options = CaptureOptions(out=out, model=model, compute_dtype=dtype, device=device)
    require_libraries()
    found, source = _evaluate(options, recipes, corpora_from_files(text, calibration), settings)
    from accel_sim.study.predictor_output import write_predictors

    written = write_predictors(found, source, out)
    _print_qualities(found, source)
    report.print_written(written)


contextual.command("published")(contextual_published)


def _check_predicts(recipes: list[Recipe]) -> None:
    from accel_sim.errors import AccelSimError

    for recipe in recipes:
        if not any(treatment.neurons for treatment in recipe.treatments):
            raise AccelSimError(
                f"recipe {recipe.name}: predicts no neurons; expected a rule for gate_proj with `neurons`, as in the"
                f" shipped {DEFAULT_RECIPE}"
            )


def _fit(options: CaptureOptions, recipe: Recipe, corpora: Corpora, settings: EvaluationSettings) -> StoredPredictors:
    import torch

    from accel_sim import sparsify
    from accel_sim.capture.load import load_model
    from accel_sim.cli.screen import console
    from accel_sim.evaluation.fingerprint import model_fingerprint
    from accel_sim.evaluation.windows import cut_corpora
    from accel_sim.sparsify.contextual.storage import StoredPredictors
    from accel_sim.sparsify.live import sparsifier_of
    from accel_sim.workload.roles import layer_of

    with console(stderr=True).status("") as status:  # drawn on a terminal only
        loaded = load_model(options, status.update)
        status.update("cutting texts")
        cuts = cut_corpora(loaded.tokenizer, corpora, settings)
        fingerprint = model_fingerprint(loaded.model)
        status.update(f"fitting {recipe.name}")
        sparsify(loaded.model, recipe, torch.from_numpy(cuts.calibration_ids))
    products = sparsifier_of(loaded.model).products
    layers = {layer_of(name): each.predictor.fitted for name, each in products.items() if each.predictor}
    texts = {
        f"{each.cut.source}, {each.cut.characters} from {each.cut.start}": each.cut.sha256 for each in cuts.calibration
    }
    return StoredPredictors(loaded.id, fingerprint, texts, layers)


def _evaluate(
    options: CaptureOptions, recipes: list[Recipe], corpora: Corpora, settings: EvaluationSettings
) -> tuple[list[PredictedModel], str]:
    from accel_sim.capture.load import load_model
    from accel_sim.cli.progress import study_progress
    from accel_sim.cli.screen import console
    from accel_sim.evaluation import Evaluator
    from accel_sim.study.predictor_study import PredictedModel

    with console(stderr=True).status("") as status:
        loaded = load_model(options, status.update)
        status.update("cutting texts")
        journal = options.out / "predictors.journal"
        evaluator = Evaluator(loaded.model, loaded.tokenizer, corpora, settings, journal=journal)
    with study_progress((1 + len(recipes)) * evaluator.steps + len(recipes)) as on_step:
        evaluator.on_step = on_step
        dense = evaluator.dense()[-1]
        found = [
            PredictedModel(recipe.name, evaluator.evaluate(recipe)[-1], evaluator.predictions(recipe))
            for recipe in recipes
        ]
    kinds = ", ".join(evaluator.cuts.kinds)
    source = (
        f"{loaded.id}, perplexity {dense.perplexity:.2f} on {dense.tokens} held-out tokens of {kinds}; predictors on"
        f" the first {settings.window} tokens of each, fitted on {settings.calibration_tokens} others"
    )
    return found, source


def _print_fits(stored: StoredPredictors) -> None:
    from accel_sim.cli import report

    table = report.table_of(f"Predictors of {stored.model}")
    for column in ("layer", "rank", "gate zeros", "target", "predicted", "lost importance", "order of costs"):
        table.add_column(column, justify="right")
    for layer, each in stored.layers.items():
        shares = (each.measured_gate_sparsity, each.target, each.predicted_sparsity, each.lost)
        cells = ["–" if share is None else f"{share:.1%}" for share in shares]
        order = "–" if each.monotone is None else f"{each.monotone:.2f}"
        table.add_row(str(layer), str(each.predictor.rank or "–"), *cells, order)
    table.caption = (
        "on calibration tokens; lost importance: of what was predicted inactive; order of costs: Kendall τ_b of what"
        " each step of a threshold loses, 1 where the greedy thresholds are the best"
    )
    report.console().print(table)


def _print_qualities(found: list[PredictedModel], source: str) -> None:
    from accel_sim.cli import report
    from accel_sim.study.predictor_output import HEADER, cells

    table = report.table_of("Predicted neurons")
    for column in HEADER:
        table.add_column(column, justify="left" if column == HEADER[0] else "right")
    for one in found:
        table.add_row(*cells(one))
    table.caption = source
    report.console().print(table)
