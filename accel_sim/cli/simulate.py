"""`accel-sim simulate`: one workload on one or more machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel_sim.cli import simulate_options as options
from accel_sim.cli.contextual_options import contextual as with_predictor
from accel_sim.cli.inputs import decode_step, load_workload
from accel_sim.errors import AccelSimError
from accel_sim.occupancy import MASK_MODELS

if TYPE_CHECKING:
    from accel_sim.simulation import Result, Settings, Simulation


def simulate(
    arch: options.Arch = ["8x16.yaml"],  # noqa: B006
    set_: options.Set = [],  # noqa: B006
    trace: options.Trace = None,
    workload: options.Preset = None,
    tokens: options.Tokens = None,
    gemm: options.Gemms = [],  # noqa: B006
    distribution: options.Distribution = None,
    seed: options.Seed = None,
    decode: options.Decode = None,
    context: options.Context = None,
    contextual: options.Contextual = None,
    scope: options.Scope = "linear",
    pattern: options.PatternText = None,
    policy: options.PolicyText = None,
    recipe: options.RecipeText = None,
    masks: options.MaskText = "real",
    mask_seed: options.MaskSeed = None,
    engine: options.EngineName = "compiled",
    no_quality: options.NoQuality = False,
    all_layers: options.AllLayers = False,
    explain: options.Explain = None,
    sources: options.Sources = False,
    json_: options.Json = None,
    csv: options.Csv = None,
    timeline: options.Timeline = None,
    demand_trace: options.DemandTrace = None,
    demand_layer: options.DemandLayer = None,
    demand_format: options.DemandFormat = "csv",
) -> None:
    """A trace, a model's shapes or single products → cycles, speed-up, energy, area and the bottleneck."""
    from accel_sim.arch import load_arch
    from accel_sim.cli import report
    from accel_sim.cli.explain import find_operation, print_explanation
    from accel_sim.cli.files import Files
    from accel_sim.cli.idle_settings import idle_settings
    from accel_sim.cli.simulations import simulations
    from accel_sim.pattern import parse_pattern

    settings = _settings(scope, policy, recipe, masks, mask_seed, quality=not no_quality)
    if recipe and pattern:
        raise AccelSimError("--pattern: the recipe says what each projection runs; leave one of them out")
    files = Files(json_, csv, timeline, demand_trace, demand_layer, demand_format)
    chosen = parse_pattern(pattern) if pattern else None
    archs = [load_arch(source, set_) for source in arch]
    work, note = load_workload(trace, workload, tokens, gemm, distribution, seed)
    if contextual is not None and decode is None:
        raise AccelSimError("--contextual: is of decode steps, prefill is dense; give a batch too, such as --decode 1")
    work = with_predictor(work, contextual, trace, workload)
    work, context_note = decode_step(work, decode, context, gemm, scope)
    made, notes = simulations(archs, work, chosen, settings, engine)
    files.check(made)
    explained = find_operation(made[0], explain, "--explain") if explain is not None else None
    for line in filter(None, [note, context_note, *notes, *idle_settings(archs, set_, scope)]):
        report.note(line)
    results = [_result(simulation) for simulation in made]
    for result, simulation in zip(results, made, strict=True):
        report.print_result(result, simulation, all_layers)
    if explained:
        for result, simulation in zip(results, made, strict=True):
            print_explanation(simulation, result, explained)
    if sources:
        for one in archs:
            report.print_sources(one)
    if len(results) > 1:
        report.print_comparison(results)
    report.print_written(files.write(results, made))


def _settings(
    scope: str, policy: str | None, recipe: str | None, masks: str, mask_seed: int | None, quality: bool
) -> Settings:
    """Raises AccelSimError for a word that is none of an option's."""
    from accel_sim.simulation import Settings
    from accel_sim.sparsify import load_recipe
    from accel_sim.workload import load_policy

    if scope not in ("linear", "model"):
        raise AccelSimError(f"--scope {scope}: expected linear or model")
    if masks not in MASK_MODELS:
        raise AccelSimError(f"--masks {masks}: expected one of {', '.join(MASK_MODELS)}")
    if mask_seed is not None and mask_seed < 0:
        raise AccelSimError(f"--mask-seed {mask_seed}: expected a whole number of at least 0")
    if mask_seed is not None and masks == "real":
        raise AccelSimError(
            f"--mask-seed: nothing is drawn with --masks real; give one of {', '.join(MASK_MODELS[1:])}"
        )
    if policy and recipe:
        raise AccelSimError("--policy, --recipe: both say which projections run pruned; give one")
    rules, treatments = load_policy(policy) if policy else None, load_recipe(recipe) if recipe else None
    return Settings(scope=scope, policy=rules, recipe=treatments, masks=masks, seed=mask_seed or 0, quality=quality)


def _result(simulation: Simulation) -> Result:
    """The result, with a sign of life on a terminal."""
    from accel_sim.cli import report

    screen = report.console(stderr=True)
    if not screen.is_terminal:
        return simulation.result()
    with screen.status(f"simulating {simulation.machine.arch.name}"):
        return simulation.result()
