"""Several machines on one workload, each with the pattern it runs, and what of the options does not touch it."""

from __future__ import annotations

from dataclasses import replace

from accel_sim.arch import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine, Settings, Simulation, WorkloadStatistics
from accel_sim.simulation.nonzeros import Skipping
from accel_sim.timing import Engine
from accel_sim.workload import Policy, Workload


def simulations(
    archs: list[Arch], work: Workload, pattern: Pattern | None, settings: Settings, engine: Engine
) -> tuple[list[Simulation], list[str]]:
    """One simulation a machine, sharing what they read of the activations, and notes on what makes no difference.

    `pattern` chooses for flexible machines, or for the only one; with a policy it is the policy's default.

    Raises AccelSimError for a pattern, the policy's or recipe's included, that a machine lacks. Beside other machines a
    dense one is none of the policy's or recipe's business.
    """
    policy, recipe = settings.policy, settings.recipe
    if policy and pattern:
        policy, pattern = policy.with_default(pattern), None
    statistics = WorkloadStatistics(work)
    made, notes = [], []
    for arch in archs:
        ruled, treated = policy, recipe
        if (policy or recipe) and len(archs) > 1 and not arch.sparsity.patterns:
            ruled = treated = None
            what = f"policy {policy.name}" if policy else f"recipe {recipe.name}"
            notes.append(f"arch {arch.name} has no patterns: {what} does not touch it")
        if ruled:
            _check(ruled, arch)
        chosen = arch.pattern(pattern if arch.is_flexible or len(archs) == 1 else None)
        own = replace(settings, policy=ruled, recipe=treated)
        made.append(Simulation(Machine(arch, chosen, engine), work, statistics, own))
    return made, notes + _masks_without_effect(archs, settings)


def _check(policy: Policy, arch: Arch) -> None:
    for wanted in sorted(policy.patterns - set(arch.sparsity.patterns), key=str):
        listed = ", ".join(map(str, arch.sparsity.patterns)) or "none (it is a dense machine)"
        raise AccelSimError(
            f"policy {policy.name}: arch {arch.name} has no pattern {wanted}; its sparsity.patterns: {listed}"
        )


def _masks_without_effect(archs: list[Arch], settings: Settings) -> list[str]:
    if settings.masks == "real":
        return []
    fixed = [arch for arch in archs if not Skipping.of(arch).needs_activations]
    if not fixed:
        return []
    names = ", ".join(arch.name for arch in fixed)
    return [f"--masks {settings.masks} changes nothing on {names}: nothing is skipped there by where the non-zeros are"]
