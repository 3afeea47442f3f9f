"""Recipes as files: what they say, what they refuse, and that they survive being written."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.sparsify import Treatment, load_recipe, shipped_recipes
from accel_sim.sparsify.kept import Unstructured, parse_kept
from accel_sim.sparsify.recipe import find_recipe, recipe_from_mapping, recipe_schema
from accel_sim.workload import preset_workload

Q, K, UP = (f"model.layers.{{}}.{name}" for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"))


def recipe(text: str, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    return load_recipe(tmp_path / "mine.yaml")


def test_the_last_rule_that_matches_decides_and_states_only_what_differs(tmp_path):
    mine = recipe(
        """
        description: mine
        default: {pattern: "8:16", criterion: amber, variance: true}
        rules:
          - projections: [q_proj, up_proj]
            pattern: "2:4"
          - layers: 1,3-4
            projections: q_proj
            pattern: dense
        """,
        tmp_path,
    )
    assert mine.name == "mine" and mine.description == "mine"
    assert mine.treatment(K.format(0), 0) == Treatment(pattern="8:16", criterion="amber", variance=True)
    assert mine.treatment(Q.format(0), 0) == Treatment(pattern="2:4", criterion="amber", variance=True)
    assert mine.treatment(UP.format(3), 3).pattern == Pattern("2:4")
    assert mine.treatment(Q.format(3), 3).pattern is None
    assert mine.treatment(Q.format(3), 3).effective() == Treatment()
    assert mine.treatment(Q.format(2), 2).effective() == mine.treatment(Q.format(2), 2)


def test_what_is_kept_has_a_spelling():
    assert parse_kept("unstructured 62.5%") == Unstructured(0.625, "token")
    assert parse_kept("threshold 20%") == Unstructured(0.2, "threshold")
    assert parse_kept("dense") is None and parse_kept("4:4") is None
    for text in ("8:16", "unstructured 62.5%", "threshold 20%"):
        assert str(parse_kept(text)) == text
    # N counts what is kept, of unstructured shares what is pruned
    assert Unstructured(0.9, "token").kept_of(576) == 58 and Unstructured(0.99, "token").kept_of(4) == 1


@pytest.mark.parametrize(
    "wrong", ["8:4", "half", "unstructured 0%", "threshold 100%", "1:2 of 2:4", "8", 8, "unstructured"]
)
def test_what_is_no_pattern_is_refused(wrong):
    with pytest.raises(AccelSimError):
        parse_kept(wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: {patern: dense}", "default.patern: unknown key; accepted here: pattern, criterion"),
        ("defaults: {}", "defaults: unknown key; accepted here: description, default, rules"),
        ("default: {pattern: 4:2}", "default.pattern: "),
        ("default: {criterion: wanda}", "default.criterion: Input should be 'magnitude'"),
        ("default: {score: codes}", "default: score codes: needs precision w8a8"),
        (
            "default: {pattern: threshold 50%, criterion: clact}",
            "default: criterion clact: its scores change from text",
        ),
        ("default: {smoothing: {alpha: 2}}", "default.smoothing.alpha: Input should be less than or equal to 1"),
        ("default: {low_rank: {}}", "default.low_rank.rank: Field required"),
        ("default: {weights: {pattern: threshold 50%}}", "default.weights.pattern: 'threshold 50%': expected N:M"),
        ("rules: [{projections: q_proj}]", r"rules[0]: changes nothing"),
        ("rules: [{layers: a, pattern: dense}]", "rules[0].layers: layers a: expected indices and ranges"),
        ("rules: 3", "rules: expected a list"),
        ("- 3", "expected keys and values"),
        ("default: [", "line 1, column 11: not valid YAML"),
        ("description: 3", "description: expected a sentence"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(text, message, tmp_path):
    with pytest.raises(AccelSimError) as caught:
        recipe(text, tmp_path)
    assert message in str(caught.value) and "mine.yaml" in str(caught.value)


def test_an_unknown_recipe_is_refused_with_the_shipped_ones():
    with pytest.raises(AccelSimError, match="recipe amber: no such file; shipped: amber_16x32, "):
        load_recipe("amber")
    for nothing in ("", ".", "/"):
        with pytest.raises(AccelSimError, match="no such file; shipped: "):
            load_recipe(nothing)


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_say_what_they_are_and_survive_being_written(name, tmp_path):
    shipped = load_recipe(name)
    assert len(shipped.description) > 20
    assert recipe_from_mapping(name, shipped.as_mapping()) == shipped
    with (tmp_path / f"{name}.yaml").open("w") as file:
        YAML().dump(shipped.as_mapping(), file)
    assert load_recipe(tmp_path / f"{name}.yaml") == shipped


def test_the_recipes_people_look_for_are_there():
    assert {"dense", "w8a8", "naive_2x4", "naive_4x8", "naive_8x16", "naive_16x32", "unstructured_50"} <= set(
        shipped_recipes()
    )
    assert {"weight_magnitude_2x4", "amber_skip_8x16", "amber_8x16", "outstanding_8x16", "wanda_2x4"} <= set(
        shipped_recipes()
    )


def test_ambers_rule_is_the_papers():
    amber = load_recipe("amber_8x16")
    kept = {name: amber.treatment(f"model.layers.5.x.{name}", 5).pattern is not None for name in
            ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")}  # fmt: skip
    assert [name for name, pruned in kept.items() if pruned] == ["q_proj", "gate_proj", "down_proj"]
    assert amber.default.phase == "prefill"


@pytest.mark.parametrize(
    ("name", "model", "share"),
    [
        ("amber_8x16_llama-3.1-8b", "llama-3.1-8b", 0.561),
        ("amber_8x16_qwen2-7b", "qwen2-7b", 0.576),
        ("amber_skip_8x16_qwen3-30b-a3b", "qwen3-30b-a3b", 0.569),
    ],
)
def test_ambers_lists_cover_what_the_paper_says(name, model, share):
    amber, gemms = load_recipe(name), [gemm for gemm in preset_workload(model, 512).gemms if gemm.prunable]
    pruned = sum(gemm.macs for gemm in gemms if amber.treatment(gemm.name, gemm.layer).prunes())
    assert pruned / sum(gemm.macs for gemm in gemms) == pytest.approx(share, abs=5e-4)


@given(
    st.sampled_from(["8:16", "unstructured 50%", "threshold 30%", "dense"]),
    st.sampled_from(["magnitude", "clact", "amber_robust", "random"]),
    st.sampled_from(["none", "median", "static_vector"]),
    st.booleans(),
    st.lists(st.tuples(st.sets(st.integers(0, 40), min_size=1), st.sampled_from(["2:4", "dense"])), max_size=3),
)
def test_any_recipe_survives_being_written(pattern, criterion, shift, variance, rules):
    default = {"pattern": pattern, "criterion": criterion, "shift": shift, "variance": variance}
    assume(not (pattern.startswith("threshold") and criterion in ("clact", "random")))  # which no threshold fits
    content = {"default": default, "rules": [{"layers": sorted(layers), "pattern": own} for layers, own in rules]}
    one = recipe_from_mapping("any", content)
    again = recipe_from_mapping("any", json.loads(json.dumps(one.as_mapping())))
    for layer in range(41):
        assert again.treatment("x", layer) == one.treatment("x", layer)


def test_the_schema_knows_every_key():
    schema = recipe_schema()
    assert set(schema["$defs"]["Treatment"]["properties"]) == set(Treatment.model_fields)
    assert {"layers", "projections", "pattern"} <= set(schema["$defs"]["Rule"]["properties"])
    assert all(
        "description" in part or "default" in part for part in schema["$defs"]["Treatment"]["properties"].values()
    )


def test_a_shipped_recipe_has_a_file_to_start_from():
    assert find_recipe("naive_8x16").read_text().startswith("description: ")
