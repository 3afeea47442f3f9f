"""Where a product's operands come from, in lines: selection, gathering, static pruning, traffic and the mapping."""

from __future__ import annotations

from accel_sim.arch.derived import selector_units, selects
from accel_sim.arch.sparsity import GATHERS
from accel_sim.cli.screen import count, size, times
from accel_sim.simulation import Machine, Simulation
from accel_sim.simulation.nonzeros import Skipping
from accel_sim.timing import LayerTiming
from accel_sim.timing.formats import SCALE_BYTES, formats
from accel_sim.timing.layer import candidates
from accel_sim.timing.pipeline import LOAD, SELECT
from accel_sim.workload import Gemm


def operand_lines(simulation: Simulation, gemm: Gemm, timing: LayerTiming, selecting: int) -> list[str]:
    """`selecting` is what the pass of a selection in software adds to the product's cycles; 0 where there is none."""
    machine = simulation.running(gemm)
    lines = [_who_prunes(simulation, gemm)]
    if machine.pattern is not None and not machine.pattern.keeps_all:
        lines += [_pruned(simulation, gemm, timing, selecting)]
    if machine.arch.sparsity.skipping in GATHERS and gemm.prunable:
        lines += _gathered(gemm, timing, machine)
    lines += [_traffic(timing, machine)]
    if machine.arch.mapping != machine.arch.free_mapping:
        lines += [_mapping(timing, machine)]
    return lines


def _who_prunes(simulation: Simulation, gemm: Gemm) -> str:
    machine, policy = simulation.running(gemm), simulation.settings.policy
    runs = f"runs {machine.pattern}" if machine.pattern else "runs dense"
    if not gemm.prunable or gemm.kind != "linear":
        return f"{gemm.kind.replace('_', ' ')} product that is never pruned: {runs}"
    if policy:
        return f"{runs}, as policy {policy.name} says"
    if simulation.settings.recipe:
        return f"{runs}, as recipe {simulation.settings.recipe.name} says{_with(machine)}"
    return f"{runs}, as all linear projections do" if machine.arch.sparsity.patterns else f"{runs}: no patterns"


def _with(machine: Machine) -> str:
    """The methods at work, and the passes that they take."""
    if not machine.methods:
        return ""
    passes = machine.latencies.passes
    more = f"; codes pass the selectors {1 + passes} times" if passes else ""
    return f", with {', '.join(machine.methods)}{more}"


def _pruned(simulation: Simulation, gemm: Gemm, timing: LayerTiming, selecting: int) -> str:
    """Who chooses what is kept, and in which form operands lie in DRAM."""
    machine, product = simulation.running(gemm), timing.plan.product
    arch, pattern = machine.arch, machine.pattern
    stored = formats(product, arch, pattern)
    if arch.sparsity.operand == "weights":
        return (
            f"weights are pruned once, before the run: {stored.weight_dram_bytes} B an output with metadata and scale"
            f" in DRAM, {stored.weight_sram_bytes} in SRAM, of {product.stored_features} dense; nothing is selected"
        )
    if arch.sparsity.selector.placement == "software":
        return _software(simulation, gemm, stored.activation_dram_bytes, selecting)
    if not selects(arch, pattern):
        return "nothing is selected"
    units = f"{selector_units(arch, pattern)} selectors{' a core' * (arch.cores.count > 1)}"
    if arch.sparsity.selector.placement == "write_back":
        return (
            f"activations were selected by what produces them ({units}): {stored.activation_dram_bytes} B a token from"
            f" DRAM instead of {product.stored_features + SCALE_BYTES}, and no selection in these cycles"
        )
    busy = timing.plan.pipeline.durations[:, :, SELECT]
    again = timing.plan.items.loaded_activations.sum() / product.features / product.tokens + product.gathers_features
    return (
        f"selected at load: every token {times(again)}, {pattern.groups(product.stored_features)} groups each,"
        f" through {units}: {int(busy.sum()):,} cycles of selection"
    )


def _software(simulation: Simulation, gemm: Gemm, stored_bytes: int, selecting: int) -> str:
    """The kernel that prunes a site before the first product that reads it starts."""
    arch, site = simulation.machine.arch, gemm.rows_of or gemm.site
    kernel = f"{gemm.features + SCALE_BYTES} B a token read dense, {stored_bytes} written back compressed"
    if selecting:
        waits = arch.sparsity.selector.software_launch_cycles, arch.dram.latency_cycles
        return (
            f"selected by software, a pass of its own that nothing overlaps: {kernel}; launch {waits[0]:,} + DRAM"
            f" latency {waits[1]:,} + transfers {selecting - sum(waits):,} = {selecting:,} cycles"
        )
    first = next(
        one.name
        for one in simulation.operations
        if isinstance(one, Gemm) and site in (one.site, one.rows_of) and simulation.running(one).pattern is not None
    )
    return f"selected by software: {kernel}; that pass is counted with {first}, the first that reads {site}"


def _gathered(gemm: Gemm, timing: LayerTiming, machine: Machine) -> list[str]:
    product, burst = timing.plan.product, machine.arch.dram.burst_bytes
    if product.gathers_features:
        outputs = int(timing.plan.items.outputs.max())
        scan = timing.plan.pipeline.durations[:, 0]
        return [
            f"gathered: {product.features} of {product.stored_features} features are needed by some token"
            f" ({product.features / product.stored_features:.1%}); the weights of one, {outputs} outputs, are a run of"
            f" {count(-(-outputs // burst), 'burst')} of {burst} B",
            f"ahead of them all activations are read once to know which: {size(timing.plan.scanned_bytes)} in"
            f" {int(scan[:, LOAD].sum()):,} cycles, {int(scan[:, SELECT].sum()):,} of selection; the first weights wait"
            " for it",
        ]
    by = Skipping.of(machine.arch).outputs_site(gemm)
    if by is not None:
        return [
            f"gathered: {product.outputs} of {product.stored_outputs} outputs are needed by some token of"
            f" {by} ({product.outputs / product.stored_outputs:.1%}), known before the product starts"
        ]
    if machine.arch.predictor.is_built:
        return ["nothing is gathered: no predictor speaks of this product"]
    return ["nothing is gathered: no layer is known to read these outputs one by one"]


def _traffic(timing: LayerTiming, machine: Machine) -> str:
    """What of each operand is fetched, and how often all of it: partial bursts make it a little more than once."""
    items, moved, product = timing.plan.items, timing.plan.traffic, timing.plan.product
    stored = formats(product, machine.arch, machine.pattern)
    activations, weights = int(items.activation_bytes.sum()), int(items.weight_bytes.sum())
    how = f"{size(activations)} ({times(activations / product.tokens / stored.activation_dram_bytes)})"
    if product.activations_on_chip:
        how = "on chip, where the operation before left them"
    elif product.gathers_features and not activations:
        how = "with the scan"
    fetched = f"weights {size(weights)} ({times(weights / product.outputs / stored.weight_dram_bytes)})"
    if product.weights_on_chip:
        fetched = f"weights {size(int(moved.held.sum()))} from the predictor's own memory"
    outputs = "which stay on chip" if product.outputs_on_chip else size(int(moved.write.sum()))
    if product.thresholds:
        outputs = "which leave a bit each on chip"
    return f"fetched: activations {how}, {fetched}; outputs {outputs}"


def _mapping(timing: LayerTiming, machine: Machine) -> str:
    """What the search would have taken, had it been free."""
    asked = ", ".join(
        f"mapping.{key} {value}" for key, value in machine.arch.mapping.model_dump().items() if value is not None
    )
    free = machine.arch.model_copy(update={"mapping": machine.arch.free_mapping})
    tried = candidates(timing.plan.product, free, machine.pattern, machine.latencies)
    return f"held to {asked}; a free search takes {tried[0].cycles:,} cycles: {tried[0].tiling}"
