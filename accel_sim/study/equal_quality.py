"""Machines at equal quality: how fast each pattern is when all may cost the model equally much perplexity.

All patterns of one density have one speed where everything is pruned; what larger groups buy is quality, and quality
buys coverage. So every machine gets a path of nested recipes, from nothing pruned to everything, in the order of error
per multiply-accumulate on calibration text. Along it perplexity on held-out text is searched for the last recipe within
each budget, and that recipe is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from accel_sim.evaluation.coverage import greedy_order
from accel_sim.evaluation.result import Evaluation, paired
from accel_sim.evaluation.sensitivity_study import Measure, SensitivityStudy
from accel_sim.simulation import Result
from accel_sim.sparsify import Recipe

Measured = Callable[[Recipe], Evaluation]
"""Quality of a recipe on all held-out text together."""
Simulated = Callable[[Recipe], Result]
"""The machine of one path on the workload, running a recipe."""


@dataclass(frozen=True)
class Step:
    """One recipe of a path."""

    recipe: Recipe
    coverage: float
    """Share of the linear multiply-accumulates that runs pruned."""


def nested_path(study: SensitivityStudy, measure: Measure, label: str, resolution: float) -> tuple[Step, ...]:
    """Recipes of growing coverage, each pruning all that the one before does: greedy prefixes at least `resolution`
    apart in coverage. The first prunes nothing, the last all that the study's recipe does."""
    order = greedy_order(study.candidates(measure))
    pruned: list[str] = []
    steps: list[Step] = []
    for count in range(len(order) + 1):
        if count:
            pruned.append(order[count - 1].name)
        coverage = study.covered(frozenset(pruned))
        if not steps or count == len(order) or coverage >= steps[-1].coverage + resolution:
            name = f"{label} {coverage:.1%}"
            about = f"{study.recipe.name} in the {count} of {len(order)} projections with the least {measure} per work"
            steps.append(Step(study.recipe_for(frozenset(pruned), name, about), coverage))
    return tuple(steps)


@dataclass(frozen=True)
class EqualPoint:
    """One recipe of one machine's path, measured and simulated."""

    machine: str
    pattern: str
    recipe: str
    step: int
    """On the path."""
    coverage: float
    perplexity: float
    over_dense: float
    """Perplexity over the dense model's, less one."""
    over_dense_low: float
    """Ends of the 95 % interval."""
    over_dense_high: float
    kl: float
    speedup: float
    speedup_time: float
    speedup_iso_area: float
    energy_of_dense: float
    area_overhead: float


@dataclass(frozen=True)
class Answer:
    """What one machine gains within one budget."""

    machine: str
    pattern: str
    budget: float
    """Perplexity over dense, as a fraction."""
    point: EqualPoint | None
    """The fastest at equal area within the budget; None where no recipe that prunes anything is."""
    certain: bool
    """The upper end of the interval is within the budget too."""
    reason: str
    """Why there is none, or empty."""


@dataclass(frozen=True)
class Path:
    """A machine and what was found along its path."""

    machine: str
    pattern: str
    steps: tuple[Step, ...]
    points: tuple[EqualPoint, ...]
    """By coverage."""
    reversals: tuple[str, ...]
    """Where more coverage measured significantly better, so that bisection may have missed a recipe."""

    def recipe(self, point: EqualPoint) -> Recipe:
        return self.steps[point.step].recipe


@dataclass(frozen=True)
class EqualQuality:
    """Everything a study found."""

    budgets: tuple[float, ...]
    paths: tuple[Path, ...]
    answers: tuple[Answer, ...]
    """By budget, then by machine."""
    evaluations: int
    """Recipes that were measured."""


class PathSearch:
    """Finds, on one path, the last step within each budget with few measurements."""

    def __init__(self, machine: str, pattern: str, steps: Sequence[Step], measured: Measured, simulated: Simulated):
        self._machine, self._pattern, self._steps = machine, pattern, tuple(steps)
        self._measured, self._simulated = measured, simulated
        self._found: dict[int, tuple[Evaluation, EqualPoint]] = {}

    def run(self, budgets: Iterable[float]) -> Path:
        """Measure what the budgets ask for. The first and the last step are always measured."""
        for end in (0, len(self._steps) - 1):
            self._at(end)
        for budget in sorted(budgets, reverse=True):
            self._search(budget)
        points = tuple(self._found[step][1] for step in sorted(self._found))
        return Path(self._machine, self._pattern, self._steps, points, self._reversals())

    def _search(self, budget: float) -> None:
        """Halve the steps between the last one known to be within the budget and the first one known to be beyond."""
        if self._over(0) > budget:
            return
        while True:
            beyond = min((step for step in self._found if self._over(step) > budget), default=None)
            if beyond is None:
                return
            within = max(step for step in self._found if step < beyond)
            if beyond - within < 2:
                return
            self._at(self._between(within, beyond, budget))

    def _between(self, within: int, beyond: int, budget: float) -> int:
        """The loss grows faster than the coverage, so the step on the chord is most often within the budget, and its
        next ones soon beyond: taken where it halves well enough."""
        low, high = self._over(within), self._over(beyond)
        guess = within + round((beyond - within) * (budget - low) / (high - low))
        eighth = max(1, (beyond - within) // 8)
        return min(max(guess, within + eighth), beyond - eighth)

    def _over(self, step: int) -> float:
        return self._at(step).over_dense

    def _at(self, step: int) -> EqualPoint:
        if step not in self._found:
            chosen = self._steps[step]
            quality, result = self._measured(chosen.recipe), self._simulated(chosen.recipe)
            point = EqualPoint(
                machine=self._machine,
                pattern=self._pattern,
                recipe=chosen.recipe.name,
                step=step,
                coverage=chosen.coverage,
                perplexity=quality.perplexity,
                over_dense=quality.over_dense,
                over_dense_low=quality.over_dense_ci[0],
                over_dense_high=quality.over_dense_ci[1],
                kl=quality.kl,
                speedup=result.speedup,
                speedup_time=result.speedup_time,
                speedup_iso_area=result.speedup_iso_area,
                energy_of_dense=result.energy_pj["total"] / result.dense_energy_pj,
                area_overhead=result.area.overhead,
            )
            self._found[step] = quality, point
        return self._found[step][1]

    def _reversals(self) -> tuple[str, ...]:
        """Neighbours of which the one with more coverage is better beyond the noise of the text."""
        said, order = [], sorted(self._found)
        for fewer, more in pairwise(order):
            difference = paired(self._found[more][0], self._found[fewer][0])
            if difference.high < 0:
                names = (self._found[step][1].recipe for step in (more, fewer))
                said.append("{} measured better than {}".format(*names))
        return tuple(said)


def run_equal_quality(
    searches: Sequence[PathSearch], budgets: Sequence[float], on_path: Callable[[int], Any] = lambda number: None
) -> EqualQuality:
    """Every path at every budget (fractions of perplexity over dense). `on_path` is called before each path."""
    wanted = tuple(sorted(set(budgets)))
    paths = []
    for number, search in enumerate(searches):
        on_path(number)
        paths.append(search.run(wanted))
    answers = tuple(answer(path, budget) for budget in wanted for path in paths)
    return EqualQuality(wanted, tuple(paths), answers, sum(len(path.points) for path in paths))


def answer(path: Path, budget: float) -> Answer:
    """The fastest recipe of a path at equal area among those measured within the budget."""
    within = [point for point in path.points if point.over_dense <= budget and point.coverage > 0]
    if within:
        best = max(within, key=lambda point: point.speedup_iso_area)
        return Answer(path.machine, path.pattern, budget, best, best.over_dense_high <= budget, "")
    nothing = path.points[0]
    reason = f"even {path.steps[1].coverage:.1%} of the work costs more" if len(path.steps) > 1 else "nothing to prune"
    if nothing.over_dense > budget:
        reason = f"{nothing.over_dense:+.2%} with nothing pruned"
    return Answer(path.machine, path.pattern, budget, None, False, reason)
