"""What a simulation counts and how, and what it compares."""

from __future__ import annotations

from dataclasses import dataclass

from accel_sim.occupancy import MaskModel
from accel_sim.simulation.machine import Machine
from accel_sim.simulation.recipe_run import RecipeRun
from accel_sim.sparsify import Recipe
from accel_sim.workload import Policy, Scope, Workload


@dataclass(frozen=True)
class Settings:
    """What to count, and how."""

    scope: Scope = "linear"
    """The linear projections, or everything the decoder computes."""
    policy: Policy | None = None
    """Which pattern each projection runs; None: the machine's, everywhere."""
    recipe: Recipe | None = None
    """How each projection is sparsified; what that needs is added to the machine. Excludes a policy."""
    masks: MaskModel = "real"
    """Where the non-zeros are that a machine skips by: as captured, or drawn from a statistic of that."""
    seed: int = 0
    """Of what is drawn."""
    quality: bool = True
    """Whether to work out what selection throws away, which takes longer than all the rest."""


DEFAULTS = Settings()


@dataclass(frozen=True)
class Comparison:
    """Two machines and the work they are compared on."""

    machine: Machine
    dense: Machine
    """Its dense counterpart."""
    workload: Workload
    settings: Settings
    holds_all_weights: bool
    """The workload knows the weights of every linear projection."""
    recipe: RecipeRun
