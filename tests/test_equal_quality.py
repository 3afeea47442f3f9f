"""Machines at equal quality: nested paths, few measurements, and answers that a full search would give."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from zlib import crc32

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from capture_helpers import PROMPT, tiny_model  # noqa: E402

from accel_sim.arch import load_arch  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.evaluation.result import Blocks, evaluation_of  # noqa: E402
from accel_sim.evaluation.sensitivity_study import measure_sensitivities  # noqa: E402
from accel_sim.pattern import Pattern  # noqa: E402
from accel_sim.simulation import Settings, simulate  # noqa: E402
from accel_sim.sparsify import load_recipe  # noqa: E402
from accel_sim.sparsify.recipe import recipe_from_mapping  # noqa: E402
from accel_sim.study.equal_quality import (  # noqa: E402
    PathSearch,
    Step,
    answer,
    nested_path,
    run_equal_quality,
)
from accel_sim.study.equal_quality_output import write_equal_quality  # noqa: E402
from accel_sim.workload import Gemm, SiteActivations, Workload  # noqa: E402

BUDGETS = (0.01, 0.05, 0.1, 0.25)
TOKENS = np.full(64, 128)
NOISE = np.random.default_rng(0).normal(3.0, 0.5, 64)
"""Of the text, by block, the same for every recipe."""


def _quality(name, over_dense, spread=0.0):
    """An evaluation with this perplexity over dense, whose loss differs from block to block by `spread`."""
    wobble = np.random.default_rng(crc32(name.encode())).normal(0, spread, 64) if spread else 0
    blocks = Blocks(
        strata=(64,), tokens=tuple(TOKENS.tolist()), nll=tuple((NOISE + np.log1p(over_dense) + wobble) * TOKENS),
        kl=(0.0,) * 64, agreements=(0,) * 64,
    )  # fmt: skip
    dense = blocks.model_copy(update={"nll": tuple(NOISE * TOKENS)})
    return evaluation_of(name, "all", "text", blocks, dense, 200, 0)


def _workload():
    codes = np.random.default_rng(0).integers(-127, 128, (32, 64)).astype(np.int8)
    gemms = tuple(Gemm(f"layers.{i}.p", "s", 32, 64, 64, layer=i) for i in range(4))
    scales = np.ones(32, np.float32)
    return Workload("w", "w", gemms, {"s": SiteActivations(lambda: (codes, scales))}, layers_in_model=4)


def _steps(count):
    """Recipes that only say which step they are; the first prunes nothing."""
    recipe = recipe_from_mapping("r", {"default": {"pattern": "8:16"}})
    return [Step(replace(recipe, name=f"step {number}"), number / (count - 1)) for number in range(count)]


def _search(over_dense, count=51):
    """A path whose loss is a function of the coverage, and what was measured of it."""
    steps, measured = _steps(count), []
    arch, work = load_arch("8x16"), _workload()
    whole = simulate(arch, work, settings=Settings(quality=False))

    def measure(recipe):
        measured.append(int(recipe.name.split()[1]))
        return _quality(recipe.name, over_dense(measured[-1] / (count - 1)))

    def simulated(recipe):
        gain = 1 + int(recipe.name.split()[1]) / (count - 1)
        return whole.model_copy(update={"speedup": gain, "speedup_iso_area": 0.9 * gain})

    return PathSearch("machine", "8:16", steps, measure, simulated), measured


@pytest.mark.parametrize("curve", [lambda c: 0.6 * c**2, lambda c: 0.3 * c**5, lambda c: 2 * c, lambda c: 0.02 * c])
def test_few_measurements_find_what_all_of_them_would(curve):
    search, measured = _search(curve)
    path = search.run(BUDGETS)
    assert len(measured) == len(set(measured)) <= 20, "of 51, for four budgets"
    for budget in BUDGETS:
        last = max(step for step in range(51) if curve(step / 50) <= budget)
        found = answer(path, budget)
        assert (found.point.step if found.point else 0) == last
    assert path.reversals == ()
    assert [point.step for point in path.points] == sorted(measured)


def test_a_budget_that_nothing_meets_says_why():
    search, _ = _search(lambda c: 0.3 * (c > 0))
    found = answer(search.run((0.1,)), 0.1)
    assert found.point is None and found.reason == "even 2.0% of the work costs more"
    search, _ = _search(lambda c: 0.03 + c)
    found = answer(search.run((0.01,)), 0.01)
    assert found.point is None and found.reason == "+3.00% with nothing pruned"


def test_the_fastest_within_the_budget_wins_even_where_the_path_turns_back():
    """More coverage that measures better is kept, and named."""
    search, _ = _search(lambda c: 0.2 if 0.4 < c < 0.9 else 0.3 * c / 4)
    path = search.run((0.05, 0.1))
    assert answer(path, 0.1).point.coverage == 1
    assert len(path.reversals) == 1 and "step 50 measured better than" in path.reversals[0]


def test_an_interval_beyond_the_budget_is_not_certain():
    search, _ = _search(lambda c: 0.05 * c)
    search._measured = lambda recipe: _quality(recipe.name, 0.05 * int(recipe.name.split()[1]) / 50, spread=0.2)
    path = search.run((0.05,))
    sure, unsure = answer(path, 0.5), answer(path, max(point.over_dense for point in path.points) + 1e-9)
    assert sure.certain and unsure.point is not None and not unsure.certain


def test_every_pattern_of_a_recipe_is_replaced_and_nothing_else():
    recipe = load_recipe("amber_8x16")
    changed = recipe.with_pattern(Pattern("2:4"))
    assert str(changed.default.pattern) == "2:4" and changed.default.criterion == "amber_robust"
    assert changed.treatment("model.layers.0.mlp.up_proj", 0).pattern is None


def test_paths_are_nested_and_go_from_nothing_to_everything():
    study = measure_sensitivities(
        tiny_model("llama"), "tiny", recipe_from_mapping("r", {"default": {"pattern": "2:4"}}), torch.tensor([PROMPT])
    )
    steps = nested_path(study, "error", "2x4", 0.05)
    pruned = [
        {each.projection for each in study.sensitivities if step.recipe.treatment(each.projection, each.layer).prunes()}
        for step in steps
    ]
    assert pruned[0] == set() and len(pruned[-1]) == 21
    assert all(fewer < more for fewer, more in pairwise(pruned))
    coverages = [step.coverage for step in steps]
    assert coverages[0] == 0 and coverages[-1] == pytest.approx(1)
    assert np.diff(coverages)[:-1].min() >= 0.05
    assert [study.covered(frozenset(names)) for names in pruned] == pytest.approx(coverages)
    assert len({step.recipe.name for step in steps}) == len(steps)


def test_files_hold_every_answer_and_the_recipes_can_be_read(tmp_path):
    searches = [_search(curve)[0] for curve in (lambda c: 0.6 * c**2, lambda c: 0.03 + c)]
    study = run_equal_quality(searches, BUDGETS)
    about = {"model": "tiny", "source": "a trace", "tokens": 8192}
    written = write_equal_quality(study, about, tmp_path)
    assert all(path.is_file() for path in written)
    content = json.loads((tmp_path / "equal_quality.json").read_text())
    assert len(content["answers"]) == 8 and len(content["points"]) == study.evaluations
    for one in content["answers"]:
        assert (one["file"] is None) == (one["point"] is None) == bool(one["reason"])
        if one["file"]:
            assert load_recipe(tmp_path / one["file"]).default.prunes()
    table = (tmp_path / "equal_quality.md").read_text()
    assert "none: +3.00% with nothing pruned" in table and table.count("≤ 5.0%") == 2


@pytest.mark.parametrize("text", ["", "1,x", "0,5", "-1", "nan"])
def test_budgets_that_are_no_percentages_are_refused(text):
    from accel_sim.cli.equal_quality import _budgets

    with pytest.raises(AccelSimError, match="expected percentages above 0"):
        _budgets(text)
