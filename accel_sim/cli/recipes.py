"""`accel-sim recipes`: the sparsification methods that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe file or a shipped recipe: print it; none: list.")] = None,
) -> None:
    """Which projection is sparsified how: list the shipped recipes, or print one to start your own from."""
    from accel_sim.cli import report
    from accel_sim.sparsify.recipe import find_recipe, load_recipe, shipped_recipes

    if name is not None:
        load_recipe(name)  # what is wrong with it is told first
        print(find_recipe(name).read_text(encoding="utf-8"), end="")
        return
    table = report.table_of("Shipped recipes")
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it does")
    for each in shipped_recipes():
        table.add_row(each, load_recipe(each).description)
    report.console().print(table)
