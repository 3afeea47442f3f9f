"""Perplexities that a paper printed for the methods of recipes, to hold our own beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

from accel_sim.pattern import Pattern
from accel_sim.sparsify import Recipe, Treatment
from accel_sim.yaml_file import read_yaml

_FILE = Path(__file__).parent / "data" / "published_perplexities.yaml"


@dataclass(frozen=True)
class PublishedEffect:
    """What a method does to the perplexity of plain magnitude, over several models."""

    method: str
    """As the paper calls it."""
    effect: float
    """Geometric mean over the models of perplexity / magnitude's perplexity, less one."""
    better: int
    """Models on which it is lower."""
    models: int
    trained_on_the_test_text: bool
    source: str

    def agrees(self, effect: float, low: float, high: float) -> bool | None:
        """Whether an effect with this interval points the same way; None where the models, or the interval, do not."""
        if not low * high > 0 or self.better not in (0, self.models):
            return None
        return (effect < 0) is (self.better > 0)


def published_effect(recipe: Recipe) -> PublishedEffect | None:
    """Of a recipe that treats all projections alike by a published method and pattern."""
    if recipe.rules or not isinstance(recipe.default.pattern, Pattern):
        return None
    table = _table()
    plain = {key: value for key, value in recipe.default.model_dump(exclude_defaults=True).items() if key != "pattern"}
    method = next((name for name, keys in table["methods"].items() if _keys(keys) == plain), None)
    rows = table["perplexities"].get(str(recipe.default.pattern))
    if method is None or rows is None:
        return None
    column, base = table["columns"].index(method), table["columns"].index(table["baseline"])
    doubted = {(each["pattern"], each["model"], each["method"]) for each in table["doubted"]}
    ratios = [
        log(figures[column] / figures[base])
        for model, figures in rows.items()
        if (str(recipe.default.pattern), model, method) not in doubted
    ]
    return PublishedEffect(
        method,
        exp(fmean(ratios)) - 1,
        sum(ratio < 0 for ratio in ratios),
        len(ratios),
        method in table["trained_on_the_test_text"],
        table["source"],
    )


@cache
def _table() -> dict[str, Any]:
    return read_yaml(_FILE, "table")


def _keys(treatment: dict[str, Any]) -> dict[str, Any]:
    return Treatment.model_validate(treatment).model_dump(exclude_defaults=True)
