"""`accel-sim equal-quality`: how fast each machine is when all may cost the model equally much perplexity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    from accel_sim.arch import Arch
    from accel_sim.capture.options import CaptureOptions
    from accel_sim.evaluation import EvaluationSettings
    from accel_sim.evaluation.corpora import Corpora
    from accel_sim.pattern import Pattern
    from accel_sim.sparsify import Recipe
    from accel_sim.study.equal_quality import EqualQuality
    from accel_sim.workload import Workload

DEFAULT_ARCHS = ["2x4.yaml", "4x8.yaml", "8x16.yaml", "16x32.yaml"]
_WHAT, _QUALITY, _OUT = "What is compared", "How quality is measured", "Where it goes"


def equal_quality(
    arch: Annotated[list[str], typer.Option(help="Architecture file; repeatable.", rich_help_panel=_WHAT)] = (
        DEFAULT_ARCHS
    ),
    recipe: Annotated[
        str,
        typer.Option(
            help="What is done to a projection that is pruned: a recipe's file or a shipped one's name, whose pattern"
            " each machine replaces by its own.",
            rich_help_panel=_WHAT,
        ),
    ] = "naive_8x16",
    budgets: Annotated[
        str, typer.Option(help="Perplexity over dense that may be lost, in percent.", rich_help_panel=_WHAT)
    ] = "1,5,10,25",
    trace: Annotated[
        Path | None, typer.Option(help="A captured trace of the whole model.", rich_help_panel=_WHAT)
    ] = None,
    workload: Annotated[
        str | None, typer.Option(help="Or the model's published shapes, such as smollm2-135m.", rich_help_panel=_WHAT)
    ] = None,
    workload_tokens: Annotated[
        int | None, typer.Option(help="Tokens of --workload; 512 when not given.", min=1, rich_help_panel=_WHAT)
    ] = None,
    model: ModelOption = None,
    measure: Annotated[
        Literal["error", "divergence"],
        typer.Option(
            help="By which sensitivity projections are taken into a recipe: of their own outputs, or of the model's"
            " distributions (a pass for each).",
            rich_help_panel=_QUALITY,
        ),
    ] = "error",
    resolution: Annotated[
        float, typer.Option(help="Least step of a path, in coverage.", min=0.001, max=1, rich_help_panel=_QUALITY)
    ] = 0.02,
    text: KindsOfTextOption = [],  # noqa: B006
    calibration: CalibrationOption = [],  # noqa: B006
    tokens: TokensOption = 2048,
    window: WindowOption = 512,
    calibration_tokens: CalibrationTokensOption = 3072,
    dtype: ComputeDtypeOption = "auto",
    device: DeviceOption = "auto",
    set_: Annotated[
        list[str], typer.Option("--set", help="Override a key of every --arch; repeatable.", rich_help_panel=_WHAT)
    ] = [],  # noqa: B006
    out: Annotated[
        Path, typer.Option(help="Folder of the results and of the journals to go on from.", rich_help_panel=_OUT)
    ] = Path("equal_quality"),
) -> None:
    """For budgets of perplexity: each machine's fastest recipe within it, and its speed-up at equal area."""
    keep_libraries_quiet()
    from accel_sim.arch import load_arch
    from accel_sim.capture.options import CaptureOptions, require_libraries
    from accel_sim.cli import report
    from accel_sim.cli.inputs import load_workload
    from accel_sim.cli.outputs import check_outputs
    from accel_sim.errors import AccelSimError
    from accel_sim.evaluation import EvaluationSettings, corpora_from_files
    from accel_sim.sparsify import load_recipe
    from accel_sim.study.run import designs

    check_outputs(out)
    wanted = _budgets(budgets)
    base = load_recipe(recipe)
    machines = designs([load_arch(source, set_) for source in arch])
    if trace is None and workload is None:
        raise AccelSimError("nothing to simulate: give --trace, a whole model's capture, or --workload, its shapes")
    if workload_tokens is not None and workload is None:
        raise AccelSimError(f"--workload-tokens {workload_tokens}: is of --workload; a trace has its own")
    work, _ = load_workload(trace, workload, workload_tokens)
    _check_machines(base, machines, work)
    settings = EvaluationSettings(tokens=tokens, window=window, calibration_tokens=calibration_tokens, generation=False)
    if not calibration_tokens:
        raise AccelSimError("--calibration-tokens 0: paths follow from sensitivities, which calibration text shows")
    options = CaptureOptions(out=out, model=model, compute_dtype=dtype, device=device)
    require_libraries()
    corpora = corpora_from_files(text, calibration)
    from accel_sim.study.equal_quality_output import write_equal_quality

    study, about = _run(options, base, machines, work, wanted, measure, resolution, corpora, settings)
    written = write_equal_quality(study, about, out)
    _print(study, about)
    report.print_written(written)


def _budgets(text: str) -> tuple[float, ...]:
    from accel_sim.errors import AccelSimError

    try:
        found = tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < budget < float("inf") for budget in found):
        raise AccelSimError(f"--budgets {text}: expected percentages above 0, such as 1,5,10,25")
    return found


def _check_machines(base: Recipe, machines: list[tuple[Arch, Pattern | None]], work: Workload) -> None:
    """Raise AccelSimError for a machine that cannot run the recipe with its own pattern."""
    from accel_sim.errors import AccelSimError
    from accel_sim.sparsify.hardware import on_machine

    for arch, pattern in machines:
        if pattern is None:
            raise AccelSimError(f"arch {arch.name}: has no pattern; give machines that prune activations")
        on_machine(base.with_pattern(pattern), arch, work.phase)


def _run(
    options: CaptureOptions,
    base: Recipe,
    machines: list[tuple[Arch, Pattern]],
    work: Workload,
    budgets: tuple[float, ...],
    measure: Literal["error", "divergence"],
    resolution: float,
    corpora: Corpora,
    settings: EvaluationSettings,
) -> tuple[EqualQuality, dict]:
    """The study, and what it was made on."""
    from accel_sim.capture.load import load_model
    from accel_sim.evaluation import Evaluator
    from accel_sim.study.equal_quality import run_equal_quality
    from accel_sim.study.path_search import Ground

    with _status() as say:
        loaded = load_model(options, say)
        say("cutting texts")
        evaluator = Evaluator(
            loaded.model, loaded.tokenizer, corpora, settings, journal=options.out / "evaluation.journal"
        )
        evaluator.on_step = say
        ground = Ground(loaded, evaluator, evaluator.dense()[-1], base, work, measure, resolution, options.out, say)
        searches = [ground.search(arch, pattern) for arch, pattern in machines]
        study = run_equal_quality(searches, budgets)
    dense = ground.dense
    about = {
        "model": loaded.id,
        "model_fingerprint": evaluator.fingerprint,
        "recipe": base.name,
        "measure": measure,
        "resolution": resolution,
        "source": work.source,
        "tokens": dense.tokens,
        "perplexity": dense.perplexity,
        "text_sha256": dense.text_sha256,
        "calibration_sha256": evaluator.cuts.calibration_sha256,
    }
    return study, about


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """What is being done now, on a terminal only."""
    from accel_sim.cli.screen import console

    with console(stderr=True).status("") as status:
        yield status.update


def _print(study: EqualQuality, about: dict) -> None:
    from accel_sim.cli import report
    from accel_sim.study.equal_quality_output import FOOTNOTE, HEADER, row

    table = report.table_of(f"Machines at equal quality: {about['recipe']} on {about['model']}")
    for column in HEADER:
        table.add_column(column, justify="left" if column in HEADER[:2] else "right")
    for one in study.answers:
        table.add_row(*row(one))
    table.caption = f"{study.evaluations} recipes measured on {about['tokens']} held-out tokens"
    if any(one.point and not one.certain for one in study.answers):
        table.caption += f"\n{FOOTNOTE}"
    screen = report.console()
    screen.print(table)
    for path in study.paths:
        for line in path.reversals:
            screen.print(f"not monotone: {line}", markup=False)
