"""The papers' sparsification methods: recipes, criteria, mitigations, and a live model that runs them.

The package is callable: ``accel_sim.sparsify(model, "amber_8x16")`` makes a live model run a recipe (see
`accel_sim.sparsify.live`, which needs the `llm` extra), ``accel_sim.sparsify.remove(model)`` takes it off again.
Recipes, criteria and selection need no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from accel_sim.sparsify.recipe import Recipe, Treatment, load_recipe, shipped_recipes

__all__ = ["Recipe", "Treatment", "load_recipe", "remove", "shipped_recipes"]


class _Callable(ModuleType):
    """This package; Python lets a module choose its class, and so be called."""

    def __call__(self, model: Any, recipe: Recipe | str | Path, calibration: Any = None) -> Any:
        """Make `model` run `recipe` (a recipe, a file, or a shipped recipe's name) and return it.

        See :func:`accel_sim.sparsify.live.sparsify`.
        """
        from accel_sim.sparsify.live import sparsify

        return sparsify(model, recipe if isinstance(recipe, Recipe) else load_recipe(recipe), calibration)


def remove(model: Any) -> Any:
    """The model as it was before it was sparsified. See :func:`accel_sim.sparsify.live.remove`."""
    from accel_sim.sparsify.live import remove

    return remove(model)


sys.modules[__name__].__class__ = _Callable
