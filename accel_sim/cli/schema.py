"""`accel-sim schema`: the JSON Schema of the files that people write."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer


def schema(
    of: Annotated[Literal["arch", "recipe"], typer.Argument(help="Architecture files, or recipes.")] = "arch",
) -> None:
    """Print the JSON Schema of architecture files, or of recipes, for editors."""
    from accel_sim.arch.load import file_schema
    from accel_sim.sparsify.recipe import recipe_schema

    print(json.dumps(file_schema() if of == "arch" else recipe_schema(), indent=2, ensure_ascii=False))
