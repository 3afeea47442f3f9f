"""What stands in for something unknown in one result, said beside its figures."""

from __future__ import annotations

from accel_sim.arch.sparsity import SKIPS_ZEROS
from accel_sim.cost.method_bills import LOW_RANK, ROTATION
from accel_sim.pattern import Pattern
from accel_sim.simulation.layers import Layer
from accel_sim.simulation.nonzeros import Skipping
from accel_sim.simulation.settings import Comparison


def approximations(compared: Comparison, layers: list[Layer]) -> list[str]:
    """One line for each; empty where every figure follows from what was captured."""
    settings, sparsity = compared.settings, compared.machine.arch.sparsity
    said = []
    if Skipping.of(compared.machine.arch).needs_activations and settings.masks != "real":
        said.append(f"masks drawn from the trace's statistics ({settings.masks}, seed {settings.seed})")
    repeated = _sampled_sites(compared, layers) if sparsity.skipping in SKIPS_ZEROS else 0
    if repeated:
        said.append(f"{repeated} sites hold a sample of their tokens, whose non-zeros are taken again for the others")
    alike = sum(layer.gemm.repeat > 1 and layer.gemm.prunable for layer in layers)
    if Skipping.of(compared.machine.arch).needs_activations and alike:
        said.append(f"{alike} products stand for several equal ones (experts), with the non-zeros of the first")
    if compared.machine.arch.predictor.is_built:
        said += _of_predictor(compared, layers)
    elif sparsity.skipping in ("output_gather", "gather"):
        said.append("which outputs are needed is known before the product (an oracle, no predictor)")
    if sparsity.selector.placement == "software" and compared.machine.pattern is not None:
        said.append("selection by software keeps up with the memory; its own arithmetic is not charged")
    if any(layer.kind == "attention" for layer in layers):
        said.append("operands of attention are taken to hold no zeros")
    said += _of_recipe(compared)
    if settings.scope == "linear" and sparsity.selector.placement == "write_back" and compared.machine.pattern:
        said.append("selecting at write-back takes none of the linear projections' time (scope model counts it)")
    copied = _sites_of_several_patterns(layers)
    if settings.scope == "model" and sparsity.selector.placement == "write_back" and copied:
        said.append(f"{copied} sites are read under several patterns; storing one copy of them is counted")
    return said


def _of_predictor(compared: Comparison, layers: list[Layer]) -> list[str]:
    """What a predictor's machine takes for granted."""
    if not any(layer.kind == "predictor" for layer in layers):
        return ["the workload has no predictor: nothing is gathered"]
    said = ["a neuron that any token of the batch needs is computed for all of them"]
    if compared.machine.arch.predictor.pipeline == "sequential":
        said.append(
            "which neurons the gate leaves active is read off down_proj's input, where up or INT8 may have made further"
            " zeros"
        )
    if any(site is None for site in compared.workload.unpredicted.values()):
        said.append("predicted and active neurons are drawn: what a predictor misses is not known")
    return said


def _of_recipe(compared: Comparison) -> list[str]:
    """Where a recipe's methods are charged for by a simpler rule than what they do."""
    names, said = compared.machine.built.names, []
    if "CLACT" in names:
        said.append("CLACT: the norms' pass is timed at the selectors; one sequence, whose rows DRAM gives once")
    if any("PTS" in name for name in names):
        said.append("a shifted zero is no zero any more, which zero gating and skipping are not told")
    if names and Skipping.of(compared.machine.arch).needs_activations:
        said.append("what is skipped follows from selection by magnitude, whatever the recipe's criterion")
    if any(name.startswith((LOW_RANK, ROTATION)) for name in names):
        said.append(
            "products that methods add run one after the other with those that they belong to, by the dense rule"
        )
    return said


def _sampled_sites(compared: Comparison, layers: list[Layer]) -> int:
    sites = compared.workload.sites
    used = {layer.gemm.site for layer in layers if layer.gemm.prunable and layer.gemm.site in sites}
    return sum(sites[site].sampled_rows is not None for site in used)


def _sites_of_several_patterns(layers: list[Layer]) -> int:
    patterns: dict[str, set[Pattern | None]] = {}
    for layer in layers:
        patterns.setdefault(layer.gemm.rows_of or layer.gemm.site, set()).add(layer.pattern)
    return sum(len(found) > 1 for found in patterns.values())
