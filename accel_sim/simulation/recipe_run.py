"""A recipe in a simulation: which methods each product needs, which products they add, and what each method costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from accel_sim.arch import Arch
from accel_sim.cost.method_bills import LOW_RANK, ROTATION
from accel_sim.cost.method_charges import PLAIN, Methods, methods_of
from accel_sim.errors import AccelSimError
from accel_sim.sparsify import Recipe, Treatment
from accel_sim.sparsify.hardware import OnMachine, on_machine, selects_by_itself
from accel_sim.sparsify.recipe import Phase
from accel_sim.workload import Gemm, Policy, Workload


@dataclass(frozen=True)
class Added:
    """A dense product that a method needs besides the one that it treats."""

    method: str
    gemm: Gemm


class RecipeRun:
    """A recipe on a machine and a workload; with no recipe, nothing is added to anything."""

    def __init__(self, recipe: Recipe | None, arch: Arch, workload: Workload) -> None:
        """Raises AccelSimError where the machine cannot run the recipe, and for a rule that matches no projection."""
        self.phase: Phase = workload.phase
        self.on_machine: OnMachine | None = on_machine(recipe, arch, self.phase) if recipe else None
        self.policy: Policy | None = self.on_machine.policy if self.on_machine else None
        if self.on_machine:
            try:
                self.policy.check(workload)
            except AccelSimError as problem:
                raise AccelSimError(f"recipe {str(problem).removeprefix('policy ')}") from None
        self._first_rotated = self._first_of_each_rotation(workload)
        self.built: Methods = PLAIN
        if self.on_machine:
            linear = [gemm for gemm in workload.gemms if self.treatment(gemm) is not None]
            needed = [(self.on_machine.methods_built(gemm.name, gemm.layer), gemm) for gemm in linear]
            treated = [(names, gemm.features, gemm.outputs) for names, gemm in needed if names]
            try:
                self.built = methods_of(arch, treated)
            except AccelSimError as problem:
                raise AccelSimError(f"recipe {recipe.name}: {problem}") from None

    def treatment(self, gemm: Gemm) -> Treatment | None:
        """What the recipe says of a product; None without a recipe, and for what is never pruned."""
        if self.on_machine is None or not gemm.prunable or gemm.kind != "linear":
            return None
        return self.on_machine.treatment(gemm.name, gemm.layer)

    def methods(self, gemm: Gemm) -> tuple[str, ...]:
        """Names of the methods that the product needs."""
        if self.treatment(gemm) is None:
            return ()
        return self.on_machine.methods(gemm.name, gemm.layer)

    def selection_key(self, gemm: Gemm) -> tuple[tuple[str, ...], str | None]:
        """Equal for products that can share what is selected of their common input."""
        treatment, names = self.treatment(gemm), self.methods(gemm)
        return names, gemm.name if names and treatment and selects_by_itself(treatment) else None

    def added(self, gemm: Gemm) -> Iterator[Added]:
        """The dense products that the methods of `gemm` need: X·Q before it, what selection dropped times A and B."""
        for name in self.methods(gemm):
            if name == ROTATION and gemm.name in self._first_rotated:
                yield Added(name, _product(gemm, "rotation", gemm.features, gemm.features))
            elif name.startswith(LOW_RANK):
                rank = int(name.removeprefix(LOW_RANK))
                yield Added(name, replace(_product(gemm, "low rank, down", gemm.features, rank), outputs_on_chip=True))
                yield Added(name, replace(_product(gemm, "low rank, up", rank, gemm.outputs), activations_on_chip=True))

    def _first_of_each_rotation(self, workload: Workload) -> frozenset[str]:
        """Products that rotate their input: one for all that read a site, unless each has a basis of its own."""
        if self.on_machine is None:
            return frozenset()
        first: dict[str, str] = {}
        for gemm in workload.gemms:
            if ROTATION in self.methods(gemm):
                own = self.treatment(gemm).rotation == "weights"
                first.setdefault(gemm.name if own else gemm.site, gemm.name)
        return frozenset(first.values())


def _product(gemm: Gemm, what: str, features: int, outputs: int) -> Gemm:
    return Gemm(
        name=f"{gemm.name}: {what}",
        site=gemm.site,
        tokens=gemm.tokens,
        features=features,
        outputs=outputs,
        repeat=gemm.repeat,
        prunable=False,
        layer=gemm.layer,
    )
