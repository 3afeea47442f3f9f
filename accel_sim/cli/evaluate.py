"""`accel-sim evaluate`: what recipes leave of a language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from accel_sim.evaluation import Corpora, Evaluation, EvaluationSettings
    from accel_sim.evaluation.output import Provenance
    from accel_sim.evaluation.tasks import TaskSettings
    from accel_sim.sparsify import Recipe

_WHAT, _HOW, _OUT = "What is evaluated", "What is measured", "Where it goes"


def evaluate(
    recipe: Annotated[
        list[str],
        typer.Option(help="A recipe's file or the name of a shipped one; repeatable.", rich_help_panel=_WHAT),
    ] = [],  # noqa: B006
    grid: Annotated[
        Path | None,
        typer.Option(help="A file of many recipes: each variant with each pattern.", rich_help_panel=_WHAT),
    ] = None,
    model: ModelOption = None,
    text: KindsOfTextOption = [],  # noqa: B006
    calibration: CalibrationOption = [],  # noqa: B006
    tokens: TokensOption = 2048,
    window: WindowOption = 512,
    calibration_tokens: CalibrationTokensOption = 3072,
    no_generation: Annotated[
        bool, typer.Option("--no-generation", help="Leave out the greedy continuations.", rich_help_panel=_HOW)
    ] = False,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Tasks of lm-eval too, such as arc_easy,piqa (the `tasks` extra; data sets come from a hub).",
            rich_help_panel=_HOW,
        ),
    ] = None,
    tasks_folder: Annotated[
        Path | None, typer.Option(help="Folder of lm-eval task definitions of your own.", rich_help_panel=_HOW)
    ] = None,
    tasks_limit: Annotated[int | None, typer.Option(help="Examples of each task.", rich_help_panel=_HOW)] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", rich_help_panel=_HOW)] = 0,
    dtype: ComputeDtypeOption = "auto",
    device: DeviceOption = "auto",
    out: Annotated[
        Path, typer.Option(help="Folder of the results and of the journal to go on from.", rich_help_panel=_OUT)
    ] = Path("evaluation"),
    json: Annotated[Path | None, typer.Option(help="Also write the results here.", rich_help_panel=_OUT)] = None,
) -> None:
    """Perplexity, divergence from the dense model and greedy text of a language model under recipes."""
    keep_libraries_quiet()
    from accel_sim.capture.options import CaptureOptions, require_libraries
    from accel_sim.cli import report
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.evaluation import EvaluationSettings, corpora_from_files
    from accel_sim.evaluation.output import write_json, write_markdown

    check_outputs(out, json)
    recipes = recipes_of(recipe, grid)
    settings = EvaluationSettings(
        tokens=tokens,
        window=window,
        calibration_tokens=calibration_tokens,
        seed=seed,
        generation=not no_generation,
    )
    chosen_tasks = _tasks(tasks, tasks_folder, tasks_limit)
    options = CaptureOptions(out=out, model=model, compute_dtype=dtype, device=device)
    require_libraries()
    corpora = corpora_from_files(text, calibration)
    evaluations, provenance = _run(options, recipes, corpora, settings, chosen_tasks)
    _print(evaluations, provenance)
    written = [out / "evaluation.json", out / "evaluation.md", *([json] if json else [])]
    for path in written:
        (write_markdown if path == written[1] else write_json)(evaluations, provenance, path)
    report.print_written(written)


def recipes_of(sources: list[str], grid: Path | None) -> list[Recipe]:
    """What was named, each once. The dense model is measured anyway, so a recipe that does nothing is left out."""
    from accel_sim.errors import AccelSimError
    from accel_sim.evaluation import load_grid
    from accel_sim.evaluation.result import DENSE
    from accel_sim.sparsify import Treatment, load_recipe, shipped_recipes

    found = [load_recipe(source) for source in sources] + (load_grid(grid) if grid else [])
    if not found:
        raise AccelSimError(f"nothing to evaluate: name --recipe or --grid; shipped: {', '.join(shipped_recipes())}")
    by_name: dict[str, Recipe] = {}
    for recipe in found:
        if recipe.name == DENSE and recipe.treatments == (Treatment(),):
            continue
        if recipe.name == DENSE or by_name.setdefault(recipe.name, recipe) != recipe:
            raise AccelSimError(
                f"recipe {recipe.name}: two of that name; give each a file name, or variant, of its own"
            )
    return list(by_name.values())


def _tasks(names: str | None, folder: Path | None, limit: int | None) -> TaskSettings | None:
    from accel_sim.errors import AccelSimError
    from accel_sim.evaluation.tasks import TaskSettings, require_lm_eval

    if names is None:
        for option, value in (("--tasks-folder", folder), ("--tasks-limit", limit)):
            if value is not None:
                raise AccelSimError(f"{option} {value}: needs --tasks, the names of the tasks")
        return None
    found = TaskSettings(tuple(name.strip() for name in names.split(",")), folder, limit)
    require_lm_eval()
    return found


def _run(
    options: CaptureOptions,
    recipes: list[Recipe],
    corpora: Corpora,
    settings: EvaluationSettings,
    tasks: TaskSettings | None,
) -> tuple[list[Evaluation], Provenance]:
    from accel_sim.capture.load import load_model
    from accel_sim.cli.progress import study_progress
    from accel_sim.cli.screen import console
    from accel_sim.evaluation import Evaluator
    from accel_sim.evaluation.output import Provenance

    with console(stderr=True).status("") as status:  # drawn on a terminal only
        loaded = load_model(options, status.update)
        status.update("cutting texts")
        evaluator = Evaluator(
            loaded.model, loaded.tokenizer, corpora, settings, tasks, options.out / "evaluation.journal"
        )
    with study_progress((1 + len(recipes)) * evaluator.steps) as on_step:
        evaluator.on_step = on_step
        evaluations = evaluator.dense()
        for recipe in recipes:
            evaluations += evaluator.evaluate(recipe)
    provenance = Provenance(
        loaded.id,
        evaluator.fingerprint,
        str(loaded.model.dtype).removeprefix("torch."),
        loaded.model.device.type,
        settings,
        evaluator.cuts,
        evaluator.notes,
    )
    return evaluations, provenance


def _print(evaluations: list[Evaluation], provenance: Provenance) -> None:
    from accel_sim.cli import report
    from accel_sim.evaluation.corpora import ALL
    from accel_sim.evaluation.output import figures, headings, metric_cell, task_metrics

    screen = report.console()
    header, kinds = headings(evaluations), provenance.cuts.kinds
    table = report.table_of(f"Quality of {provenance.model}")
    for column in header:
        table.add_column(column, justify="left" if column == "recipe" else "right", no_wrap=column == "recipe")
    if len(kinds) > 1:
        for kind in kinds:
            table.add_column(kind, justify="right")
    perplexities = {(each.recipe, each.text_kind): each.perplexity for each in evaluations}
    for each in evaluations:
        if each.text_kind == ALL:
            by_kind = [f"{perplexities[each.recipe, kind]:,.2f}" for kind in kinds] if len(kinds) > 1 else []
            table.add_row(*figures(each, header), *by_kind)
    settings = provenance.settings
    table.caption = f"{settings.windows} × {settings.window} tokens of each kind of text; the last columns: perplexity"
    screen.print(table)
    for task, metric in task_metrics(evaluations):
        figures_of = ", ".join(f"{one.recipe} {metric_cell(one, task, metric)}" for one in evaluations if one.tasks)
        screen.print(f"{task} {metric}: {figures_of}", markup=False)
    for note in provenance.notes:
        report.note(note)
