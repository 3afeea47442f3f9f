"""Grids: many recipes from one file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from accel_sim.errors import AccelSimError
from accel_sim.evaluation import Evaluation, load_grid
from accel_sim.evaluation.grid import grid_recipes
from accel_sim.sparsify.kept import Unstructured, parse_kept

GRID = """
patterns: ["2:4", "unstructured 50%"]
variants:
  naive: {}
  amber: {criterion: amber_robust, variance: true}
  wanda: {weights: {criterion: magnitude, pattern: each}}
  some:
    rules: [{projections: [down_proj], criterion: wina}]
rules:
  - projections: [o_proj]
    pattern: dense
"""


@pytest.fixture
def recipes(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    return {recipe.name: recipe for recipe in load_grid(tmp_path / "grid.yaml")}


def test_every_variant_comes_with_every_pattern(recipes):
    variants = ("naive", "amber", "wanda", "some")
    assert list(recipes) == [f"{name} {pattern}" for name in variants for pattern in ("2:4", "unstructured 50%")]
    assert recipes["amber 2:4"].default.criterion == "amber_robust" and recipes["amber 2:4"].default.variance
    assert recipes["naive 2:4"].default.pattern == parse_kept("2:4")
    assert recipes["naive unstructured 50%"].default.pattern == Unstructured(0.5, "token")


def test_a_pattern_can_go_elsewhere(recipes):
    assert recipes["wanda 2:4"].default.pattern is None
    assert recipes["wanda 2:4"].default.weights.pattern == parse_kept("2:4")


def test_common_rules_come_first_and_a_variants_own_after_them(recipes):
    some = recipes["some 2:4"]
    assert some.treatment("model.layers.0.self_attn.o_proj", 0).pattern is None
    assert some.treatment("model.layers.0.mlp.down_proj", 0).criterion == "wina"
    assert some.treatment("model.layers.0.mlp.down_proj", 0).pattern == parse_kept("2:4")
    assert recipes["naive 2:4"].treatment("model.layers.0.mlp.down_proj", 0).criterion == "magnitude"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "g: expected keys and values; accepted here: patterns, variants, rules"),
        ({"pattern": ["2:4"]}, "g: pattern: unknown key"),
        ({"patterns": "2:4", "variants": {"a": {}}}, "g: patterns: expected a list such as"),
        ({"patterns": ["2:4", "4"], "variants": {"a": {}}}, r"g: patterns\[1\]: '4': expected N:M"),
        ({"patterns": ["2:4"]}, "g: variants: expected names"),
        ({"patterns": ["2:4"], "variants": {"a": [1]}}, "g: variants.a: expected a treatment's keys"),
        ({"patterns": ["2:4"], "variants": {"a": {"rules": {}}}}, None),
        ({"patterns": ["2:4"], "variants": {"a": {"rules": {"x": 1}}}}, "g: variants.a.rules: expected a list"),
        (
            {"patterns": ["2:4"], "variants": {"a": {"criterio": "wina"}}},
            "g: variants.a: default.criterio: unknown key",
        ),
        (
            {"patterns": ["2:4"], "variants": {"a": {"pattern": "4:8"}}},
            "g: variants.a.pattern: no place for the grid's",
        ),
        ({"patterns": ["2:4"], "variants": {"a": {}}, "rules": {"x": 1}}, "g: rules: expected a list"),
    ],
)
def test_what_a_grid_cannot_be(content, message):
    if message is None:
        assert len(grid_recipes(content, "g")) == 1
        return
    with pytest.raises(AccelSimError, match=message):
        grid_recipes(content, "g")


PAGE = Path(__file__).parents[1] / "docs" / "evaluation.md"


def test_the_grid_of_the_page_is_one():
    blocks = re.findall(r"^```yaml\n(patterns.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    (recipes,) = (grid_recipes(YAML(typ="safe").load(block), "the page") for block in blocks)
    assert len(recipes) == 9 and str(recipes[-1].default.weights.pattern) == "unstructured 50%"


def test_the_page_names_every_key_of_a_row():
    page = PAGE.read_text(encoding="utf-8")
    assert [key for key in Evaluation.model_fields if f"`{key}`" not in page] == []


def test_without_patterns_a_variant_is_a_recipe():
    found = grid_recipes({"variants": {"naive": {"pattern": "2:4"}, "dense": {}}}, "g")
    assert [recipe.name for recipe in found] == ["naive", "dense"]
    assert str(found[0].default.pattern) == "2:4" and found[1].default.pattern is None
    with pytest.raises(AccelSimError, match=r"g: variants.naive: default.pattern: .*each"):
        grid_recipes({"variants": {"naive": {"pattern": "each"}}}, "g")
