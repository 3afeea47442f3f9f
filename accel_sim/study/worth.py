"""Which method is worth its gates: the measured quality of recipes beside what they cost and gain on a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from accel_sim.arch import Arch
from accel_sim.errors import AccelSimError
from accel_sim.evaluation.corpora import ALL
from accel_sim.evaluation.result import Evaluation, paired
from accel_sim.pattern import Pattern
from accel_sim.simulation import Settings, WorkloadStatistics, simulate
from accel_sim.sparsify import Recipe
from accel_sim.study.pareto import non_dominated
from accel_sim.study.published import PublishedEffect, published_effect
from accel_sim.workload import Workload


@dataclass(frozen=True)
class OnMachine:
    """What a recipe costs and gains, over the dense machine with the same multipliers."""

    arch: str
    methods: tuple[str, ...]
    """That need circuits, tables or products; empty for selection by magnitude."""
    method_area: float
    """Of those, over the area of the dense machine."""
    area_overhead: float
    """Of the whole machine."""
    energy: float
    """Over the dense machine's."""
    coverage: float
    """Share of the linear multiply-accumulates that runs pruned."""
    speedup: float
    speedup_iso_area: float


@dataclass(frozen=True)
class Worth:
    """One recipe: quality on all text, and cost."""

    recipe: str
    pattern: str
    """Of its default."""
    is_plain: bool
    """Magnitude everywhere, and nothing else."""
    perplexity: float
    over_dense: float
    kl: float
    over_magnitude: tuple[float, float, float] | None
    """Perplexity over that of plain magnitude at the same pattern, less one, and its 95 % interval."""
    published: PublishedEffect | None
    machine: OnMachine | None
    reason: str
    """Why there is no machine for it."""
    on_front: bool
    """No recipe of better perplexity is as fast at equal area."""


def worth(
    recipes: Sequence[Recipe],
    evaluations: Sequence[Evaluation],
    archs: Sequence[Arch],
    workload: Workload,
    on_progress: Callable[[str], Any] = lambda _: None,
) -> list[Worth]:
    """Each of `recipes` with its evaluation on all text and its run on the first of `archs` that can run it.

    Raises AccelSimError for a recipe that was not evaluated.
    """
    measured = {each.recipe: each for each in evaluations if each.text_kind == ALL}
    missing = [recipe.name for recipe in recipes if recipe.name not in measured]
    if missing:
        raise AccelSimError(f"recipe {missing[0]}: not evaluated; there are {', '.join(measured) or 'none'}")
    statistics = WorkloadStatistics(workload)
    plain = {str(one.default.pattern): measured[one.name] for one in recipes if _is_plain(one)}
    found = []
    for recipe in recipes:
        on_progress(recipe.name)
        machine, reason = _run(recipe, archs, workload, statistics)
        found.append((recipe, measured[recipe.name], machine, reason))
    fronts = _front([(one.over_dense, machine) for _, one, machine, _ in found])
    return [
        Worth(
            recipe=recipe.name,
            pattern=_pattern(recipe),
            is_plain=_is_plain(recipe),
            perplexity=one.perplexity,
            over_dense=one.over_dense,
            kl=one.kl,
            over_magnitude=_over(one, plain.get(_pattern(recipe))),
            published=published_effect(recipe),
            machine=machine,
            reason=reason,
            on_front=on_front,
        )
        for (recipe, one, machine, reason), on_front in zip(found, fronts, strict=True)
    ]


def _pattern(recipe: Recipe) -> str:
    weights = recipe.default.weights
    return str(recipe.default.pattern or (weights and weights.pattern) or "dense")


def _is_plain(recipe: Recipe) -> bool:
    keys = recipe.default.model_dump(exclude_defaults=True)
    return not recipe.rules and set(keys) == {"pattern"}


def _over(one: Evaluation, plain: Evaluation | None) -> tuple[float, float, float] | None:
    if plain is None:
        return None
    difference = paired(one, plain)
    return tuple(exp(value) - 1 for value in (difference.mean, difference.low, difference.high))


def _run(
    recipe: Recipe, archs: Sequence[Arch], workload: Workload, statistics: WorkloadStatistics
) -> tuple[OnMachine | None, str]:
    """On the first machine with all the recipe's patterns, or why it runs on none."""
    operand = "weights" if recipe.default.weights else "activations"
    asked = {
        kept
        for treatment in recipe.treatments
        for kept in (treatment.weights.pattern if treatment.weights else treatment.pattern,)
        if kept is not None
    }
    if not asked:
        return None, "nothing is pruned"
    if not all(isinstance(kept, Pattern) for kept in asked):
        return None, "no groups: no selector is described for it"
    fitting = [arch for arch in archs if arch.sparsity.operand == operand and asked <= set(arch.sparsity.patterns)]
    if not fitting:
        return None, f"none of the machines prunes {operand} to {', '.join(sorted(map(str, asked)))}"
    arch = fitting[0]
    settings = Settings(recipe=recipe, quality=False)
    try:
        result = simulate(arch, workload, arch.sparsity.patterns[0], statistics=statistics, settings=settings)
    except AccelSimError as problem:
        return None, str(problem).removeprefix(f"recipe {recipe.name}: ")
    methods = result.recipe.methods
    return OnMachine(
        arch=arch.name,
        methods=tuple(method.name for method in methods),
        method_area=sum(method.area_um2 for method in methods) / result.dense_area_um2,
        area_overhead=result.area.overhead,
        energy=result.energy_pj["total"] / result.dense_energy_pj,
        coverage=result.coverage,
        speedup=result.speedup,
        speedup_iso_area=result.speedup_iso_area,
    ), ""


def _front(found: Sequence[tuple[float, OnMachine | None]]) -> list[bool]:
    costs = [(rise, -machine.speedup_iso_area) for rise, machine in found if machine]
    kept = iter(non_dominated(costs).tolist() if costs else ())
    return [bool(machine) and next(kept) for _, machine in found]
