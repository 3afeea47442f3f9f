"""One workload on one machine, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from accel_sim.arch import Arch
from accel_sim.pattern import Pattern
from accel_sim.simulation.compose import compose
from accel_sim.simulation.layers import Layer, Side, VectorLayer
from accel_sim.simulation.machine import Machine
from accel_sim.simulation.nonzeros import Skipping
from accel_sim.simulation.result import QualityLoss, Result
from accel_sim.simulation.settings import DEFAULTS, Comparison, Settings
from accel_sim.simulation.statistics import SiteZeros, WorkloadStatistics
from accel_sim.timing import Engine, LayerTiming, Nonzeros, SiteSelection, count_activity, select_site
from accel_sim.timing.vector import VectorTiming, time_vector, vector_activity
from accel_sim.workload import Gemm, Operation, VectorOperation, Workload


class Simulation:
    """A machine beside its dense counterpart, on one workload."""

    def __init__(
        self,
        machine: Machine,
        workload: Workload,
        statistics: WorkloadStatistics | None = None,
        settings: Settings = DEFAULTS,
    ) -> None:
        """Raises AccelSimError for a policy that does not fit the workload, or the machine's patterns."""
        self.machine, self.workload, self.settings = machine, workload, settings
        self.dense = Machine(machine.arch.dense(), None, machine.engine)
        self.statistics = statistics or WorkloadStatistics(workload)
        self.operations = workload.operations(settings.scope)
        self.skipping = Skipping.of(machine.arch)
        if settings.policy:
            settings.policy.check(workload)
            for pattern in settings.policy.patterns:
                machine.arch.pattern(pattern)

    def running(self, gemm: Gemm) -> Machine:
        """The machine with the pattern that a product runs."""
        if not gemm.prunable or gemm.kind != "linear":
            return self.machine.running(None)
        policy = self.settings.policy
        return self.machine.running(policy.pattern_for(gemm)) if policy else self.machine

    def time(self, gemm: Gemm) -> LayerTiming:
        """The timing of a product, with the non-zeros its machine skips by."""
        return self.running(gemm).time(gemm, self.nonzeros(gemm))

    def nonzeros(self, gemm: Gemm) -> Nonzeros | None:
        """What the machine's skipping finds in the product's activations; None where it does not look."""
        chosen, decides = self.settings, self.pattern_that_decides(gemm)
        return self.statistics.nonzeros(gemm, decides, self.skipping, chosen.masks, chosen.seed)

    def pattern_that_decides(self, gemm: Gemm) -> Pattern | None:
        """The pattern by which the machine knows what it may skip of a product: its own; of its outputs, that of the
        projection that reads them (None, all that is not zero, where several read them in different ways)."""
        own = self.running(gemm).pattern
        if not self.skipping.gathers_outputs(gemm):
            return own
        patterns = self._patterns_of_site.get(gemm.consumer_site, (own,))
        return patterns[0] if len(patterns) == 1 else None

    def time_vector(self, operation: VectorOperation) -> VectorTiming:
        """The timing of an operation of the vector unit."""
        return _time_vector(self._behind(operation), operation)

    def result(self) -> Result:
        """Everything the two machines did, composed."""
        weights = self.statistics.holds_all_weights
        compared = Comparison(self.machine, self.dense, self.workload, self.settings, weights)
        return compose(compared, list(self._layers()))

    @cached_property
    def _selected_by_vector_unit(self) -> set[tuple[str, Pattern | None]]:
        """Sites whose producer is in the scope and selects them itself, where that is done at write-back."""
        if self.machine.arch.sparsity.selector.placement != "write_back":
            return set()
        produced = [one for one in self.operations if isinstance(one, VectorOperation) and one.site]
        return {(one.site, self._behind(one).pattern) for one in produced}

    @cached_property
    def _patterns_of_site(self) -> dict[str, tuple[Pattern | None, ...]]:
        """The patterns that projections read a site under, the pruned ones first: each needs a copy of its own, and the
        first is what the producer stores."""
        patterns: dict[str, dict[Pattern | None, None]] = {}
        for gemm in self.workload.gemms:
            patterns.setdefault(gemm.rows_of or gemm.site, {})[self.running(gemm).pattern] = None
        return {site: tuple(sorted(found, key=lambda pattern: pattern is None)) for site, found in patterns.items()}

    @cached_property
    def _rows_of_site(self) -> dict[str, int]:
        """Tokens of a site: those of its block where experts read rows of it, else of all repeats of its product."""
        rows: dict[str, int] = {}
        for gemm in self.workload.gemms:
            site = gemm.rows_of or gemm.site
            rows[site] = max(rows.get(site, 0), gemm.tokens if gemm.rows_of else gemm.tokens * gemm.repeat)
        return rows

    def selections(self) -> Iterator[tuple[Operation, SiteSelection]]:
        """Every operation in execution order, with what is selected once for the site that it is the first to read."""
        selected = set(self._selected_by_vector_unit)
        for operation in self.operations:
            selection = SiteSelection()
            if isinstance(operation, Gemm):
                site, pattern = operation.rows_of or operation.site, self.running(operation).pattern
                if pattern is not None and (site, pattern) not in selected:
                    selected.add((site, pattern))
                    selection = select_site(self._rows_of_site[site], operation.features, self.machine.arch, pattern)
            yield operation, selection

    def _layers(self) -> Iterator[Layer | VectorLayer]:
        for operation, selection in self.selections():
            if isinstance(operation, VectorOperation):
                yield self._vector(operation)
            else:
                yield self._product(operation, selection)

    def _product(self, gemm: Gemm, selection: SiteSelection) -> Layer:
        machine = self.running(gemm)
        timing, dense_timing, zeros = self.time(gemm), self.dense.time(gemm), self._zeros(gemm, machine)
        activity = count_activity(gemm, machine.arch, machine.pattern, timing, zeros.zero_slots)
        dense_activity = count_activity(gemm, self.dense.arch, None, dense_timing, zeros.zero_fraction)
        sparse = Side.of(machine, selection.added_to(activity.times(gemm.repeat)), timing.breakdown, gemm.repeat)
        sparse.breakdown["selector"] += selection.cycles
        quality, input_loss = self._quality(gemm, machine)
        return Layer(
            gemm=gemm,
            pattern=machine.pattern,
            tiling=str(timing.plan.tiling),
            dense_timing=dense_timing,
            sparse=sparse,
            dense=Side.of(self.dense, dense_activity.times(gemm.repeat), dense_timing.breakdown, gemm.repeat),
            quality_loss=quality,
            input_loss=input_loss,
            zero_fraction=zeros.zero_fraction,
        )

    def _vector(self, operation: VectorOperation) -> VectorLayer:
        machine = self._behind(operation)
        timed = [(machine, self.time_vector(operation)), (self.dense, _time_vector(self.dense, operation))]
        sides = [
            Side.of(one, vector_activity(timing).times(operation.repeat), timing.breakdown, operation.repeat)
            for one, timing in timed
        ]
        return VectorLayer(operation, *sides)

    def _behind(self, operation: VectorOperation) -> Machine:
        """The machine with the pattern of the projections that read what the operation makes."""
        return self.machine.running(self._patterns_of_site.get(operation.site, (None,))[0])

    def _zeros(self, gemm: Gemm, machine: Machine) -> SiteZeros:
        """Zeros of the product's activations; where nobody captured them (attention) nothing is known: none."""
        if gemm.site not in self.workload.sites:
            return SiteZeros(0.0, 0.0)
        pruned = machine.arch.sparsity.operand == "activations"
        return self.statistics.zeros(gemm.site, machine.pattern if pruned else None)

    def _quality(self, gemm: Gemm, machine: Machine) -> tuple[QualityLoss | None, QualityLoss | None]:
        """What selection throws away of the product, and of its input; None where it is not asked for, or unknown."""
        if not self.settings.quality or gemm.kind != "linear":
            return None, None
        if machine.arch.sparsity.operand == "weights":
            return self._weight_quality(gemm, machine.pattern), None
        of_input = self.statistics.input_loss(gemm.site, machine.pattern)
        input_loss = QualityLoss(value=of_input.value, kind="input", standard_error=of_input.standard_error)
        if gemm.load_weights is None:
            return input_loss, input_loss
        value = self.statistics.output_loss(gemm, machine.pattern) if machine.pattern else 0.0
        return QualityLoss(value=value, kind="output"), input_loss

    def _weight_quality(self, gemm: Gemm, pattern: Pattern | None) -> QualityLoss | None:
        if pattern is None:
            return QualityLoss(value=0.0, kind="output")
        if gemm.load_weights is None:
            return None
        return QualityLoss(value=self.statistics.weight_loss(gemm, pattern), kind="output")


def _time_vector(machine: Machine, operation: VectorOperation) -> VectorTiming:
    return time_vector(operation, machine.arch, machine.pattern, machine.latencies, machine.engine)


def simulate(
    arch: Arch,
    workload: Workload,
    pattern: Pattern | None = None,
    engine: Engine = "compiled",
    statistics: WorkloadStatistics | None = None,
    settings: Settings = DEFAULTS,
) -> Result:
    """Run every operation of a workload on a machine and on its dense counterpart.

    `pattern` chooses among a flexible unit's patterns. Pass one `WorkloadStatistics` to several calls to share what
    they read of the activations. Raises AccelSimError for a pattern that is not built in, a buffer that is too small,
    or a trace that cannot be read.
    """
    return run(Machine(arch, arch.pattern(pattern), engine), workload, statistics, settings)


def run(
    machine: Machine,
    workload: Workload,
    statistics: WorkloadStatistics | None = None,
    settings: Settings = DEFAULTS,
) -> Result:
    """The same for a machine that is at hand, which keeps the timings it works out."""
    return Simulation(machine, workload, statistics, settings).result()
