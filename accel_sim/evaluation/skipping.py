"""Recipes that leave projections alone: from a recipe and what of it may run sparse to a narrower one, as a file."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from accel_sim.evaluation.coverage import Candidate
from accel_sim.sparsify import Recipe, Treatment
from accel_sim.sparsify.recipe import Rule
from accel_sim.trace.layers import ranges


def sparsifying_only(
    base: Recipe, candidates: Sequence[Candidate], names: Iterable[str], layers_in_model: int, name: str, about: str
) -> Recipe:
    """`base` with every candidate that is not among `names` left dense, by rules behind its own.

    What prepares no sparsity (precision, smoothing, rotation) stays. `name` and `about` become the recipe's name and
    description.
    """
    kept = set(names)
    left_dense: dict[tuple[str, Treatment], set[int | None]] = defaultdict(set)
    for each in candidates:
        if each.name not in kept:
            treatment = _dense(base.treatment(each.name, each.layer))
            left_dense[_within_block(each), treatment].add(each.layer)
    # Projections of one treatment that are left dense in the same blocks share a rule.
    rules: dict[tuple[frozenset[int | None], Treatment], list[str]] = defaultdict(list)
    for (glob, treatment), layers in left_dense.items():
        rules[frozenset(layers), treatment].append(glob)
    added = tuple(
        Rule(
            layers=None if None in layers or len(layers) == layers_in_model else layers,
            projections=tuple(globs),
            treatment=treatment,
        )
        for (layers, treatment), globs in rules.items()
    )
    return replace(base, name=name, description=about, rules=base.rules + added)


def recipe_text(recipe: Recipe) -> str:
    """The recipe as its YAML file: `load_recipe` gives it back."""
    content = _block(recipe.as_mapping())
    for rule in content.get("rules", ()):
        rule["projections"] = _flow(rule["projections"])
        if "layers" in rule:
            rule["layers"] = ranges(rule["layers"])
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 120
    yaml.dump(content, stream)
    return stream.getvalue()


def _dense(treatment: Treatment) -> Treatment:
    return treatment.model_copy(update={"pattern": None, "weights": None})


def _within_block(candidate: Candidate) -> str:
    """What a rule calls the projection: its path inside the decoder block, the same in all of them."""
    return candidate.name if candidate.layer is None else candidate.name.partition(f".{candidate.layer}.")[2]


def _block(value: Any) -> Any:
    """Plain data as ruamel writes it in block style; N:M in quotes, which older readers take for a number."""
    if isinstance(value, str) and ":" in value and " " not in value:
        return DoubleQuotedScalarString(value)
    if isinstance(value, dict):
        return CommentedMap((key, _block(each)) for key, each in value.items())
    return [_block(each) for each in value] if isinstance(value, list) else value


def _flow(values: Iterable[str]) -> CommentedSeq:
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence
