"""Many recipes from one file: each of several variants with each of several patterns.

    patterns: ["2:4", "8:16", "unstructured 50%"]
    variants:
      naive: {}
      amber: {criterion: amber_robust}
      wanda: {pattern: dense, weights: {criterion: wanda, pattern: each}}
    rules:
      - projections: [o_proj]
        pattern: dense

A variant holds what a recipe's `default` does, and `rules` of its own if it has some, which follow the common ones. The
pattern becomes the variant's `pattern`, or whatever in it is called `each`. Without `patterns` every variant is one
recipe, of its own name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.kept import parse_kept
from accel_sim.sparsify.recipe import Recipe, recipe_from_mapping
from accel_sim.yaml_file import read_yaml

_KEYS = ("patterns", "variants", "rules")
_EACH = "each"


def load_grid(path: Path) -> list[Recipe]:
    """The recipes of a grid file, named `variant pattern` (`variant` where it has no patterns), variant by variant.

    Raises AccelSimError (one line, naming file and key) for a file that is not there or not a grid.
    """
    return grid_recipes(read_yaml(path, "grid"), f"grid {path}")


def grid_recipes(content: Any, where: str) -> list[Recipe]:
    """The recipes of a grid from what its file holds; `where` starts every error."""
    if not isinstance(content, dict):
        raise AccelSimError(f"{where}: expected keys and values; accepted here: {', '.join(_KEYS)}")
    for key in content:
        if key not in _KEYS:
            raise AccelSimError(f"{where}: {key}: unknown key; accepted here: {', '.join(_KEYS)}")
    patterns = _patterns(content["patterns"], where) if "patterns" in content else [None]
    variants = content.get("variants")
    if not isinstance(variants, dict) or not variants:
        raise AccelSimError(f"{where}: variants: expected names, each with a treatment's keys, or {{}}")
    common = content.get("rules") or []
    if not isinstance(common, list):
        raise AccelSimError(f"{where}: rules: expected a list")
    return [
        _recipe(f"{name} {pattern}" if pattern else name, keys, common, pattern, f"{where}: variants.{name}")
        for name, keys in variants.items()
        for pattern in patterns
    ]


def _patterns(given: Any, where: str) -> list[str]:
    if not isinstance(given, list) or not given:
        raise AccelSimError(f"{where}: patterns: expected a list such as ['2:4', '8:16', 'unstructured 50%']")
    for index, pattern in enumerate(given):
        try:
            parse_kept(pattern)
        except AccelSimError as error:
            raise AccelSimError(f"{where}: patterns[{index}]: {error}") from None
    return given


def _recipe(name: str, keys: Any, common: list[Any], pattern: str | None, where: str) -> Recipe:
    if keys is None:
        keys = {}
    if not isinstance(keys, dict):
        raise AccelSimError(f"{where}: expected a treatment's keys, {{}} for plain magnitude")
    own = keys.get("rules") or []
    if not isinstance(own, list):
        raise AccelSimError(f"{where}.rules: expected a list")
    default = {key: value for key, value in keys.items() if key != "rules"}
    rules = [*common, *own]
    mapping = {"description": "", "default": default, "rules": rules}
    if pattern is None:
        return recipe_from_mapping(name, mapping, where)
    if not _places(default) and not any(map(_places, rules)):
        if "pattern" in default:
            raise AccelSimError(f"{where}.pattern: no place for the grid's patterns; expected '{_EACH}' somewhere")
        default["pattern"] = _EACH
    return recipe_from_mapping(name, _filled(mapping, pattern), where)


def _places(content: Any) -> bool:
    """Whether a grid's pattern goes somewhere in here."""
    if isinstance(content, dict):
        return any(map(_places, content.values()))
    return content == _EACH


def _filled(content: Any, pattern: str) -> Any:
    if isinstance(content, dict):
        return {key: _filled(value, pattern) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(value, pattern) for value in content]
    return pattern if content == _EACH else content
