"""The papers' sparsification methods: recipes, criteria, mitigations, and a live model that runs them.

Recipes, criteria and selection need no torch; what changes a live model does, and comes with the `llm` extra.
"""

from accel_sim.sparsify.recipe import Recipe, Treatment, load_recipe, shipped_recipes

__all__ = ["Recipe", "Treatment", "load_recipe", "shipped_recipes"]
