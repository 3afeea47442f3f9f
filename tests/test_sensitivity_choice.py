"""From sensitivities to skip lists: the knapsack is exact, greedy is nested, amber is the paper's rule."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from accel_sim.errors import AccelSimError
from accel_sim.evaluation.coverage import Candidate, covered, greedy_order, pruned_for
from accel_sim.evaluation.knapsack import front
from accel_sim.workload import preset_workload


def _cheapest_of_all(weights, costs, wanted):
    """Every one of the 2ⁿ choices."""
    choices = np.array(list(product((0, 1), repeat=len(weights))))
    return (choices @ np.array(costs))[choices @ np.array(weights) >= wanted].min()


@pytest.mark.parametrize("seed", range(8))
def test_knapsack_finds_the_cheapest_of_all_choices_for_every_weight(seed):
    random = np.random.default_rng(seed)
    weights = random.integers(1, 9, 10).tolist()
    costs = random.choice([0.0, 0.1, 0.5, 0.7, 2.0], 10).tolist() if seed % 2 else random.exponential(1, 10).tolist()
    choices = front(weights, costs)
    for wanted in range(sum(weights) + 1):
        taken = choices.choice(wanted)
        assert sum(weight for weight, yes in zip(weights, taken, strict=True) if yes) >= wanted
        cost = sum(cost for cost, yes in zip(costs, taken, strict=True) if yes)
        assert cost == pytest.approx(_cheapest_of_all(weights, costs, wanted))


def test_knapsack_of_a_decoder_has_few_states():
    """30 blocks whose weights share a divisor: at most the total over it, not 2²¹⁰."""
    weights = [3, 1, 1, 3, 8, 8, 8] * 30
    choices = front([110592 * weight for weight in weights], np.random.default_rng(0).exponential(1, 210).tolist())
    assert len(choices.weights) <= 960 + 1
    assert choices.weights[-1] == 110592 * sum(weights)


def test_knapsack_refuses_what_it_cannot_weigh():
    with pytest.raises(ValueError, match="at least 1"):
        front([0], [1.0])
    with pytest.raises(ValueError, match="not negative"):
        front([1], [-1.0])
    with pytest.raises(ValueError, match="weigh 3"):
        front([1, 2], [1.0, 1.0]).choice(4)


def _candidates(seed=0, layers=6):
    random = np.random.default_rng(seed)
    macs = {"q_proj": 3, "k_proj": 1, "v_proj": 1, "o_proj": 3, "gate_proj": 8, "up_proj": 8, "down_proj": 8}
    return [
        Candidate(f"model.layers.{layer}.block.{name}", layer, size, float(random.exponential(size)))
        for layer in range(layers)
        for name, size in macs.items()
    ]


@pytest.mark.parametrize("coverage", [0, 0.1, 0.37, 0.6, 0.9, 1])
def test_both_reach_the_coverage_and_knapsack_never_costs_more(coverage):
    candidates = _candidates()

    def cost(pruned):
        return sum(each.error for each in candidates if each.name in pruned)

    greedy, exact = (pruned_for(method, candidates, coverage) for method in ("greedy", "knapsack"))
    assert covered(candidates, greedy) >= coverage - 1e-12
    assert covered(candidates, exact) >= coverage - 1e-12
    assert cost(exact) <= cost(greedy) + 1e-12


def test_knapsack_beats_greedy_where_the_last_projection_is_larger_than_needed():
    candidates = [Candidate("a", 0, 9, 0.9), Candidate("b", 0, 1, 0.2)]
    assert pruned_for("greedy", candidates, 0.1) == {"a"}
    assert pruned_for("knapsack", candidates, 0.1) == {"b"}


def test_greedy_lists_are_nested_and_take_the_least_error_per_work_first():
    candidates = _candidates(1)
    lists = [pruned_for("greedy", candidates, coverage) for coverage in np.linspace(0, 1, 23)]
    assert all(small <= large for small, large in pairwise(lists))
    ratios = [each.error / each.macs for each in greedy_order(candidates)]
    assert ratios == sorted(ratios)


def test_a_share_without_binary_form_costs_no_further_projection():
    candidates = [Candidate(f"p{number}", 0, 1, 1.0) for number in range(10)]
    for tenths in range(11):
        assert len(pruned_for("greedy", candidates, tenths / 10)) == tenths


def test_coverage_counts_projections_that_may_not_be_pruned():
    candidates = [Candidate("a", 0, 5, 1.0)]
    assert covered(candidates, frozenset("a"), total_macs=10) == 0.5
    with pytest.raises(AccelSimError, match=r"coverage 60\.0%: greedy covers at most 50\.0%"):
        pruned_for("greedy", candidates, 0.6, total_macs=10)


@pytest.mark.parametrize(
    ("preset", "sensitive", "coverage"),
    [("llama-3.1-8b", {19, 21, 28, 30, 31}, 0.5613), ("qwen2-7b", {0, 6, 23, 26, 27}, 0.57593)],
)
def test_amber_covers_what_its_paper_says(preset, sensitive, coverage):
    """Section 4 of arXiv 2508.02128: skip q_proj and gate_proj in five layers, and 56.1 % (57.6 %) is left."""
    candidates = [
        Candidate(gemm.name, gemm.layer, gemm.macs, 2.0 if gemm.layer in sensitive else 1.0)
        for gemm in preset_workload(preset, 1).gemms
    ]
    pruned = pruned_for("amber", candidates, 0.56 if preset.startswith("llama") else 0.575)
    assert covered(candidates, pruned) == pytest.approx(coverage, abs=1e-5)
    skipped = {each.layer for each in candidates if each.name.endswith("q_proj") and each.name not in pruned}
    assert skipped == sensitive
    with pytest.raises(AccelSimError, match="amber covers at most"):
        pruned_for("amber", candidates, 0.8)


def test_amber_refuses_what_its_rule_cannot_tell_apart():
    with pytest.raises(AccelSimError, match="c_attn"):
        pruned_for("amber", [Candidate("h.0.attn.c_attn", 0, 1, 1.0)], 0.1)
    with pytest.raises(AccelSimError, match="no down, query or gate"):
        pruned_for("amber", [Candidate("layers.0.up_proj", 0, 1, 1.0)], 0.1)


def test_an_error_that_is_no_number_is_refused():
    with pytest.raises(AccelSimError, match="a: its error is nan"):
        Candidate("a", 0, 1, float("nan"))
