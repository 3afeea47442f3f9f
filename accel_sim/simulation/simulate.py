"""One workload on one machine: time, energy, area and quality, put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from accel_sim import cost
from accel_sim.arch import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.simulation.result import AreaResult, LayerResult, QualityLoss, Result
from accel_sim.simulation.statistics import WorkloadStatistics
from accel_sim.timing import (
    CAUSES,
    Activity,
    Engine,
    Latencies,
    LayerTiming,
    bottleneck,
    count_activity,
    time_layer,
)
from accel_sim.timing.layer import cycles_with_more_columns
from accel_sim.workload import Gemm, Workload


class Machine:
    """One architecture running one pattern (None: dense): its clock and latencies, and timings it has worked out."""

    def __init__(self, arch: Arch, pattern: Pattern | None, engine: Engine = "compiled") -> None:
        self.arch, self.pattern, self.engine = arch, pattern, engine
        self.delays = cost.delays(arch, pattern)
        self.area = cost.area(arch)
        self.latencies = Latencies(
            self.delays.selector_latency_cycles,
            self.delays.compute_latency_cycles,
            self.delays.requantiser_latency_cycles,
        )
        self._timings: dict[tuple[int, int, int], LayerTiming] = {}

    def time(self, gemm: Gemm) -> LayerTiming:
        """The timing of a product; equal shapes are scheduled once, since `fixed` skipping depends on nothing else."""
        if gemm.shape not in self._timings:
            self._timings[gemm.shape] = time_layer(gemm, self.arch, self.pattern, self.latencies, self.engine)
        return self._timings[gemm.shape]

    def energy(self, activity: Activity) -> cost.Energy:
        return cost.energy(self.arch, self.pattern, activity, self.delays.clock_hz)


@dataclass(frozen=True)
class _Layer:
    gemm: Gemm
    timing: LayerTiming
    dense_timing: LayerTiming
    activity: Activity
    dense_activity: Activity
    energy: cost.Energy
    dense_energy: cost.Energy
    quality_loss: QualityLoss
    input_loss: QualityLoss
    zero_fraction: float


def simulate(
    arch: Arch,
    workload: Workload,
    pattern: Pattern | None = None,
    engine: Engine = "compiled",
    statistics: WorkloadStatistics | None = None,
) -> Result:
    """Run every product of a workload on a machine and on its dense counterpart.

    `pattern` chooses among a flexible unit's patterns. Pass one `WorkloadStatistics` to several calls to share what
    they read of the activations. Raises AccelSimError for a pattern that is not built in, a buffer that is too small,
    or a trace that cannot be read.
    """
    return run(Machine(arch, arch.pattern(pattern), engine), workload, statistics)


def run(machine: Machine, workload: Workload, statistics: WorkloadStatistics | None = None) -> Result:
    """The same for a machine that is at hand, which keeps the timings it works out."""
    dense = Machine(machine.arch.dense(), None, machine.engine)
    statistics = statistics or WorkloadStatistics(workload)
    layers = list(_layers(machine, dense, workload, statistics))
    return _compose(machine, dense, workload, layers, statistics)


def _layers(machine: Machine, dense: Machine, workload: Workload, statistics: WorkloadStatistics) -> Iterator[_Layer]:
    seen: set[str] = set()
    for gemm in workload.gemms:
        timing, dense_timing = machine.time(gemm), dense.time(gemm)
        site = statistics.site(gemm.site, machine.pattern)
        first, natural = gemm.site not in seen, site.zero_fraction
        seen.add(gemm.site)
        activity = count_activity(gemm, machine.arch, machine.pattern, timing, site.zero_slots, first)
        dense_activity = count_activity(gemm, dense.arch, None, dense_timing, natural, first)
        activity, dense_activity = activity.times(gemm.repeat), dense_activity.times(gemm.repeat)
        input_loss = QualityLoss(value=site.input_loss, kind="input", standard_error=site.input_loss_error)
        quality = input_loss
        if gemm.load_weights is not None:
            value = statistics.output_loss(gemm, machine.pattern) if machine.pattern else 0.0
            quality = QualityLoss(value=value, kind="output")
        yield _Layer(
            gemm=gemm,
            timing=timing,
            dense_timing=dense_timing,
            activity=activity,
            dense_activity=dense_activity,
            energy=machine.energy(activity),
            dense_energy=dense.energy(dense_activity),
            quality_loss=quality,
            input_loss=input_loss,
            zero_fraction=natural,
        )


def _compose(
    machine: Machine, dense: Machine, workload: Workload, layers: list[_Layer], statistics: WorkloadStatistics
) -> Result:
    cycles = sum(layer.activity.cycles for layer in layers)
    dense_cycles = sum(layer.dense_activity.cycles for layer in layers)
    energies = {
        part: sum(layer.energy.components_pj[part] for layer in layers) for part in layers[0].energy.components_pj
    }
    energy_pj, dense_energy_pj = sum(energies.values()), sum(layer.dense_energy.total_pj for layer in layers)
    time_s, dense_time_s = cycles / machine.delays.clock_hz, dense_cycles / dense.delays.clock_hz
    macs = sum(layer.gemm.macs for layer in layers)
    breakdown = {cause: sum(layer.timing.breakdown[cause] * layer.gemm.repeat for layer in layers) for cause in CAUSES}
    return Result(
        arch=machine.arch.name,
        trace=workload.name,
        source=workload.source,
        pattern=str(machine.pattern or "dense"),
        engine=machine.engine,
        cycles=cycles,
        dense_cycles=dense_cycles,
        speedup=dense_cycles / cycles,
        speedup_time=dense_time_s / time_s,
        speedup_iso_area=_iso_area_dense_cycles(machine, dense, layers) / dense.delays.clock_hz / time_s,
        clock_hz=machine.delays.clock_hz,
        dense_clock_hz=dense.delays.clock_hz,
        critical_path_ns=machine.delays.critical_path_ns,
        time_s=time_s,
        dense_time_s=dense_time_s,
        area=AreaResult(
            total_um2=machine.area.total_um2,
            total_nand2=machine.area.total_nand2,
            overhead=machine.area.overhead(dense.area),
            overhead_array=machine.area.overhead_array(dense.area),
            components=dict(machine.area.components_um2),
        ),
        dense_area_um2=dense.area.total_um2,
        energy_pj={"total": energy_pj, **energies},
        wires_band_pj=tuple(sum(layer.energy.wires_band_pj[end] for layer in layers) for end in (0, 1)),
        dense_energy_pj=dense_energy_pj,
        edp=energy_pj * 1e-12 * time_s,
        dense_edp=dense_energy_pj * 1e-12 * dense_time_s,
        performance_per_mm2=_gops_per_mm2(macs, time_s, machine.area.total_um2),
        dense_performance_per_mm2=_gops_per_mm2(macs, dense_time_s, dense.area.total_um2),
        macs=macs,
        quality_loss=_mean_loss(layers, statistics.holds_all_weights),
        bottleneck=bottleneck(breakdown),
        breakdown=breakdown,
        layers=[_layer_result(layer, machine.pattern) for layer in layers],
        assumptions=cost.defaults_line(machine.arch),
        extrapolated=[row.quantity for row in cost.sources(machine.arch) if row.status == "extrapolated"],
    )


def _iso_area_dense_cycles(machine: Machine, dense: Machine, layers: list[_Layer]) -> float:
    """Cycles of a dense array enlarged to the sparse machine's total area, its memory system unchanged.

    Raises AccelSimError where the sparse machine is smaller than the dense one without any array (a slower clock takes
    fewer pipeline registers): there is no dense machine of that size.
    """
    factor = 1 + (machine.area.total_um2 - dense.area.total_um2) / dense.area.array_um2
    if factor <= 0:
        arch = machine.arch.name
        raise AccelSimError(f"arch {arch}: its dense counterpart is larger even without an array")
    timings = {layer.gemm.shape: layer.dense_timing for layer in layers}
    enlarged = {shape: cycles_with_more_columns(timing, dense.arch, factor) for shape, timing in timings.items()}
    return sum(enlarged[layer.gemm.shape] * layer.gemm.repeat for layer in layers)


def _gops_per_mm2(macs: int, time_s: float, area_um2: float) -> float:
    return 2 * macs / time_s / 1e9 / (area_um2 / 1e6)


def _mean_loss(layers: list[_Layer], of_outputs: bool) -> QualityLoss:
    """Mean over layers weighted by their work; of outputs only when every layer has weights, never a mixture."""
    losses = [layer.quality_loss if of_outputs else layer.input_loss for layer in layers]
    weights = [layer.gemm.macs for layer in layers]
    total = sum(weights)
    value = sum(loss.value * weight for loss, weight in zip(losses, weights, strict=True)) / total
    errors = [loss.standard_error for loss in losses]
    # Layers of one synthetic site share its sample, so their errors are added, not averaged out: an upper bound.
    # A layer whose rows are all there adds none.
    bound = None
    if any(error is not None for error in errors):
        bound = sum((error or 0.0) * weight for error, weight in zip(errors, weights, strict=True)) / total
    return QualityLoss(value=value, kind=losses[0].kind, standard_error=bound)


def _layer_result(layer: _Layer, pattern: Pattern | None) -> LayerResult:
    gemm, timing = layer.gemm, layer.timing
    return LayerResult(
        name=gemm.name,
        site=gemm.site,
        pattern=str(pattern or "dense"),
        tokens=gemm.tokens,
        features=gemm.features,
        outputs=gemm.outputs,
        repeat=gemm.repeat,
        cycles=layer.activity.cycles,
        dense_cycles=layer.dense_activity.cycles,
        speedup=layer.dense_activity.cycles / layer.activity.cycles,
        breakdown={cause: cycles * gemm.repeat for cause, cycles in timing.breakdown.items()},
        bottleneck=bottleneck(timing.breakdown),
        tiling=str(timing.plan.tiling),
        dense_tiling=str(layer.dense_timing.plan.tiling),
        dram_bytes=layer.activity.dram_read_bytes + layer.activity.dram_write_bytes,
        dense_dram_bytes=layer.dense_activity.dram_read_bytes + layer.dense_activity.dram_write_bytes,
        energy_pj=layer.energy.total_pj,
        dense_energy_pj=layer.dense_energy.total_pj,
        zero_fraction=layer.zero_fraction,
        quality_loss=layer.quality_loss,
    )
