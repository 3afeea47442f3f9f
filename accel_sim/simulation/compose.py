"""From what two machines did for every operation to one result that adds up."""

from __future__ import annotations

from collections.abc import Sequence

from accel_sim import cost
from accel_sim.cost.method_charges import areas, by_name
from accel_sim.errors import AccelSimError
from accel_sim.simulation.approximations import approximations
from accel_sim.simulation.layers import Layer, Side, VectorLayer
from accel_sim.simulation.machine import Machine
from accel_sim.simulation.recipe_quality import unknown
from accel_sim.simulation.result import (
    AreaResult,
    KindResult,
    LayerResult,
    MethodResult,
    OperationResult,
    OverheadBand,
    QualityLoss,
    RecipeResult,
    Result,
)
from accel_sim.simulation.settings import Comparison
from accel_sim.timing import CAUSES, bottleneck
from accel_sim.timing.layer import cycles_with_more_columns

Operations = Sequence[Layer | VectorLayer]


def compose(compared: Comparison, operations: Operations) -> Result:
    """The result from what both machines did for every operation, in execution order."""
    machine, dense, workload = compared.machine, compared.dense, compared.workload
    settings = compared.settings
    layers = [one for one in operations if isinstance(one, Layer)]
    cycles, dense_cycles = (sum(side.cycles for side in _sides(operations, name)) for name in ("sparse", "dense"))
    energies = _energies(_sides(operations, "sparse"))
    energy_pj = sum(energies.values())
    dense_energy_pj = sum(side.energy.total_pj for side in _sides(operations, "dense"))
    time_s, dense_time_s = cycles / machine.delays.clock_hz, dense_cycles / dense.delays.clock_hz
    macs = sum(layer.gemm.macs for layer in layers if layer.dense_timing is not None)
    breakdown = {cause: sum(one.sparse.breakdown[cause] for one in operations) for cause in CAUSES}
    return Result(
        arch=machine.arch.name,
        trace=workload.name,
        source=workload.source,
        scope=settings.scope,
        scope_source=workload.model.source if settings.scope == "model" and workload.model else "",
        pattern=_pattern(layers, machine),
        policy=settings.policy.name if settings.policy else None,
        recipe=_recipe(compared, operations),
        coverage=_coverage(layers),
        masks=settings.masks,
        engine=machine.engine,
        cycles=cycles,
        dense_cycles=dense_cycles,
        speedup=dense_cycles / cycles,
        speedup_time=dense_time_s / time_s,
        speedup_iso_area=_iso_area_dense_cycles(machine, dense, operations) / dense.delays.clock_hz / time_s,
        clock_hz=machine.delays.clock_hz,
        dense_clock_hz=dense.delays.clock_hz,
        critical_path_ns=machine.delays.critical_path_ns,
        time_s=time_s,
        dense_time_s=dense_time_s,
        area=_area(machine, dense),
        dense_area_um2=dense.area.total_um2,
        energy_pj={"total": energy_pj, **energies},
        wires_band_pj=tuple(
            sum(side.energy.wires_band_pj[end] for side in _sides(operations, "sparse")) for end in (0, 1)
        ),
        dense_energy_pj=dense_energy_pj,
        edp=energy_pj * 1e-12 * time_s,
        dense_edp=dense_energy_pj * 1e-12 * dense_time_s,
        performance_per_mm2=_gops_per_mm2(macs, time_s, machine.area.total_um2),
        dense_performance_per_mm2=_gops_per_mm2(macs, dense_time_s, dense.area.total_um2),
        macs=macs,
        utilisation=_utilisation(machine, _sides(layers, "sparse")),
        quality_loss=_mean_loss(layers, compared.holds_all_weights),
        bottleneck=bottleneck(breakdown),
        breakdown=breakdown,
        kinds=_kinds(operations),
        layers=[_layer_result(layer, machine) for layer in layers],
        operations=[_operation_result(one) for one in operations if isinstance(one, VectorLayer)],
        assumptions=cost.defaults_line(machine.arch, vector_unit=settings.scope == "model"),
        approximations=approximations(compared, layers),
        extrapolated=[row.quantity for row in cost.sources(machine.arch) if row.status == "extrapolated"],
    )


def _sides(operations: Operations, name: str) -> list[Side]:
    return [getattr(one, name) for one in operations]


def _energies(sides: list[Side]) -> dict[str, float]:
    return {part: sum(side.energy.components_pj[part] for side in sides) for part in sides[0].energy.components_pj}


def _pattern(layers: list[Layer], machine: Machine) -> str:
    """The pattern of the prunable products; `mixed` where a policy makes them differ."""
    patterns = {str(layer.pattern or "dense") for layer in layers if layer.gemm.prunable}
    return patterns.pop() if len(patterns) == 1 else "mixed" if patterns else str(machine.pattern or "dense")


def _coverage(layers: list[Layer]) -> float:
    """Share of the linear projections' multiply-accumulates that run pruned."""
    linear = [layer for layer in layers if layer.kind == "linear"]
    pruned = sum(layer.gemm.macs for layer in linear if layer.pattern is not None and not layer.pattern.keeps_all)
    return pruned / sum(layer.gemm.macs for layer in linear)


def _recipe(compared: Comparison, operations: Operations) -> RecipeResult | None:
    ran, machine = compared.recipe.on_machine, compared.machine
    if ran is None:
        return None
    area, bills = areas(machine.arch, machine.built), by_name(machine.arch, machine.built.names)
    methods = []
    for name, bill in bills.items():
        shares = [one.methods[name] for one in operations if name in one.methods]
        methods.append(
            MethodResult(
                name=name,
                kind=bill.kind,
                projections=sum(name in one.methods for one in operations if isinstance(one, Layer)),
                area_um2=area[name].circuits_um2 + area[name].tables_um2,
                energy_pj=sum(share.energy_pj for share in shares),
                cycles=sum(share.cycles for share in shares),
                rule=bill.rule,
            )
        )
    return RecipeResult(
        name=ran.recipe.name,
        description=ran.recipe.description,
        phase=ran.phase,
        methods=methods,
        differences=list(ran.differences()),
        unknown_quality=_unknown_quality(compared, operations),
    )


def _unknown_quality(compared: Comparison, operations: Operations) -> list[str]:
    """Why the loss of pruned projections is not known, each reason once."""
    if not compared.settings.quality:
        return []
    reasons = {}
    for layer in operations:
        if isinstance(layer, VectorLayer) or layer.pattern is None or layer.quality_loss is not None:
            continue
        treatment = compared.recipe.treatment(layer.gemm)
        if treatment is None:
            continue
        if compared.recipe.on_machine.prunes_weights:
            what = f"weights by {treatment.weights.criterion}: made from floats, before a trace"
        elif unknown(treatment):
            what = f"{unknown(treatment)}: fitted to floats in calibration, which a trace does not hold"
        else:
            what = "no weights, which criteria and mitigations are judged by"
        reasons[what] = None
    return list(reasons)


def _area(machine: Machine, dense: Machine) -> AreaResult:
    return AreaResult(
        total_um2=machine.area.total_um2,
        total_nand2=machine.area.total_nand2,
        overhead=machine.area.overhead(dense.area),
        overhead_array=machine.area.overhead_array(dense.area),
        band=_band(machine, dense),
        components=dict(machine.area.components_um2),
    )


def _band(machine: Machine, dense: Machine) -> OverheadBand:
    band = cost.overhead_band(machine.arch, dense.arch, machine.built)
    return OverheadBand(
        low=band.low,
        high=band.high,
        by_library=band.by_library,
        smaller_multipliers=band.smaller_multipliers,
        missing=band.missing,
        effects=list(band.effects),
    )


def _iso_area_dense_cycles(machine: Machine, dense: Machine, operations: Operations) -> float:
    """Cycles of a dense array enlarged to the sparse machine's total area, its memory system unchanged.

    Raises AccelSimError where the sparse machine is smaller than the dense one without any array (a slower clock takes
    fewer pipeline registers): there is no dense machine of that size.
    """
    factor = 1 + (machine.area.total_um2 - dense.area.total_um2) / dense.area.array_um2
    if factor <= 0:
        arch = machine.arch.name
        raise AccelSimError(f"arch {arch}: its dense counterpart is larger even without an array")
    enlarged: dict[int, float] = {}  # a timing is shared by all products that look alike
    cycles = 0.0
    for one in operations:
        if isinstance(one, VectorLayer) or one.dense_timing is None:
            cycles += one.dense.cycles
            continue
        key = id(one.dense_timing)
        if key not in enlarged:
            enlarged[key] = cycles_with_more_columns(one.dense_timing, dense.arch, factor)
        cycles += enlarged[key] * one.gemm.repeat
    return cycles


def _gops_per_mm2(macs: int, time_s: float, area_um2: float) -> float:
    return 2 * macs / time_s / 1e9 / (area_um2 / 1e6)


def _utilisation(machine: Machine, sides: list[Side]) -> float:
    """Multiplications over multipliers × cycles."""
    array = machine.arch.array
    multipliers = array.rows * array.cols * array.lanes * machine.arch.cores.count
    return sum(side.activity.multiplies for side in sides) / (multipliers * sum(side.cycles for side in sides))


def _mean_loss(layers: list[Layer], of_outputs: bool) -> QualityLoss | None:
    """Mean over linear layers weighted by their work; of outputs only when every layer has weights, never a mixture.

    None where the loss of a layer was not asked for or cannot be known.
    """
    linear = [layer for layer in layers if layer.kind == "linear"]
    losses = [layer.quality_loss if of_outputs else layer.input_loss for layer in linear]
    if any(loss is None for loss in losses):
        return None
    weights = [layer.gemm.macs for layer in linear]
    total = sum(weights)
    value = sum(loss.value * weight for loss, weight in zip(losses, weights, strict=True)) / total
    errors = [loss.standard_error for loss in losses]
    # Layers of one synthetic site share its sample, so their errors are added, not averaged out: an upper bound.
    # A layer whose rows are all there adds none.
    bound = None
    if any(error is not None for error in errors):
        bound = sum((error or 0.0) * weight for error, weight in zip(errors, weights, strict=True)) / total
    return QualityLoss(value=value, kind=losses[0].kind, standard_error=bound)


def _kinds(operations: Operations) -> dict[str, KindResult]:
    """Totals by kind of operation, in order of first appearance; they add up to the result's."""
    return {
        kind: KindResult(
            cycles=sum(one.sparse.cycles for one in members),
            dense_cycles=sum(one.dense.cycles for one in members),
            energy_pj=sum(one.sparse.energy.total_pj for one in members),
            dense_energy_pj=sum(one.dense.energy.total_pj for one in members),
            macs=sum(one.gemm.macs for one in members if isinstance(one, Layer)),
        )
        for kind in dict.fromkeys(one.kind for one in operations)
        for members in [[one for one in operations if one.kind == kind]]
    }


def _layer_result(layer: Layer, machine: Machine) -> LayerResult:
    gemm = layer.gemm
    return LayerResult(
        name=gemm.name,
        kind=gemm.kind,
        site=gemm.site,
        pattern=str(layer.pattern or "dense"),
        tokens=gemm.tokens,
        features=gemm.features,
        outputs=gemm.outputs,
        repeat=gemm.repeat,
        cycles=layer.sparse.cycles,
        dense_cycles=layer.dense.cycles,
        speedup=layer.dense.cycles / layer.sparse.cycles,
        breakdown=layer.sparse.breakdown,
        bottleneck=bottleneck(layer.sparse.breakdown),
        multiplies=layer.sparse.activity.multiplies,
        utilisation=_utilisation(machine, [layer.sparse]),
        tiling=layer.tiling,
        dense_tiling=str(layer.dense_timing.plan.tiling) if layer.dense_timing else "",
        dram_bytes=layer.sparse.dram_bytes,
        dense_dram_bytes=layer.dense.dram_bytes,
        energy_pj=layer.sparse.energy.total_pj,
        dense_energy_pj=layer.dense.energy.total_pj,
        zero_fraction=layer.zero_fraction,
        quality_loss=layer.quality_loss,
    )


def _operation_result(one: VectorLayer) -> OperationResult:
    return OperationResult(
        name=one.operation.name,
        kind=one.kind,
        elements=one.operation.elements,
        repeat=one.operation.repeat,
        cycles=one.sparse.cycles,
        dense_cycles=one.dense.cycles,
        breakdown=one.sparse.breakdown,
        bottleneck=bottleneck(one.sparse.breakdown),
        dram_bytes=one.sparse.dram_bytes,
        dense_dram_bytes=one.dense.dram_bytes,
        energy_pj=one.sparse.energy.total_pj,
        dense_energy_pj=one.dense.energy.total_pj,
    )
