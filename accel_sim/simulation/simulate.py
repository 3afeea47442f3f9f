"""One workload on one machine, operation by operation."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from functools import cached_property

from accel_sim.arch import Arch
from accel_sim.cost.method_charges import Treated, energies
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.simulation.compose import compose
from accel_sim.simulation.layers import Layer, MethodShare, Side, VectorLayer
from accel_sim.simulation.machine import Machine
from accel_sim.simulation.nonzeros import Skipping
from accel_sim.simulation.recipe_quality import is_plain, unknown
from accel_sim.simulation.recipe_run import RecipeRun
from accel_sim.simulation.result import QualityLoss, Result
from accel_sim.simulation.settings import DEFAULTS, Comparison, Settings
from accel_sim.simulation.statistics import SiteZeros, WorkloadStatistics
from accel_sim.sparsify import Treatment
from accel_sim.timing import Activity, Engine, LayerTiming, Nonzeros, SiteSelection, count_activity, select_site
from accel_sim.timing.formats import predictor_bytes
from accel_sim.timing.vector import VectorTiming, time_vector, vector_activity
from accel_sim.workload import Gemm, Operation, Scope, VectorOperation, Workload


class Simulation:
    """A machine beside its dense counterpart, on one workload."""

    def __init__(
        self,
        machine: Machine,
        workload: Workload,
        statistics: WorkloadStatistics | None = None,
        settings: Settings = DEFAULTS,
    ) -> None:
        """Raises AccelSimError for a policy or recipe that fits not the workload, or not the machine, and for both."""
        if settings.recipe and settings.policy:
            raise AccelSimError(
                f"recipe {settings.recipe.name}, policy {settings.policy.name}: both say which projections run pruned;"
                " give one"
            )
        self.recipe = RecipeRun(settings.recipe, machine.arch, workload)
        self.machine, self.workload, self.settings = machine.built_for(self.recipe.built), workload, settings
        self.dense = Machine(machine.arch.dense(), None, machine.engine)
        self.statistics = statistics or WorkloadStatistics(workload)
        self.operations = operations_on(machine.arch, workload, settings.scope)
        self.skipping = Skipping.of(machine.arch)
        if settings.policy:
            settings.policy.check(workload)
            for pattern in settings.policy.patterns:
                machine.arch.pattern(pattern)

    def running(self, gemm: Gemm) -> Machine:
        """The machine with the pattern that a product runs, and the methods that it needs."""
        if not gemm.prunable or gemm.kind != "linear":
            return self.machine.running(None)
        policy = self.settings.policy or self.recipe.policy
        if policy is None:
            return self.machine
        return self.machine.running(policy.pattern_for(gemm), self.recipe.methods(gemm))

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
        own, site = self.running(gemm).pattern, self.skipping.outputs_site(gemm)
        if site is None:
            return own
        if site == gemm.predicted_site:  # bits, which no pattern prunes
            return None
        patterns = self._patterns_of_site.get(site, (own,))
        return patterns[0] if len(patterns) == 1 else None

    def time_vector(self, operation: VectorOperation) -> VectorTiming:
        """The timing of an operation of the vector unit."""
        return _time_vector(self._behind(operation), operation)

    def result(self) -> Result:
        """Everything the two machines did, composed."""
        weights = self.statistics.holds_all_weights
        compared = Comparison(self.machine, self.dense, self.workload, self.settings, weights, self.recipe)
        return compose(compared, list(self._layers()))

    @cached_property
    def _selected_by_vector_unit(self) -> set[Hashable]:
        """Selections of sites whose producer is in the scope and selects them itself, as is done at write-back."""
        if self.machine.arch.sparsity.selector.placement != "write_back":
            return set()
        produced = [one for one in self.operations if isinstance(one, VectorOperation) and one.site]
        return {self._selection_of(reader) for one in produced if (reader := self._reader(one)) is not None}

    def _selection_of(self, gemm: Gemm) -> Hashable:
        """Equal for products that can share what is selected of their common input."""
        return gemm.rows_of or gemm.site, self.running(gemm).pattern, self.recipe.selection_key(gemm)

    @cached_property
    def _readers_of_site(self) -> dict[str, list[Gemm]]:
        readers: dict[str, list[Gemm]] = {}
        for gemm in self.workload.gemms:
            readers.setdefault(gemm.rows_of or gemm.site, []).append(gemm)
        return readers

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
                key = self._selection_of(operation)
                if pattern is not None and key not in selected:
                    selected.add(key)
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
        timing, zeros = self.time(gemm), self._zeros(gemm, machine)
        activity = count_activity(gemm, machine.arch, machine.pattern, timing, zeros.zero_slots)
        activity = selection.added_to(activity.times(gemm.repeat))
        methods = self._methods(gemm, machine, activity)
        spent = sum(share.energy_pj for share in methods.values())
        sparse = Side.of(machine, activity, timing.breakdown, gemm.repeat, spent)
        sparse.breakdown["selector"] += selection.cycles
        for added in self.recipe.added(gemm):
            more = self._added(added.gemm)
            sparse = sparse + more
            share = methods[added.method]
            methods[added.method] = MethodShare(share.cycles + more.cycles, share.energy_pj + more.energy.total_pj)
        quality, input_loss = self._quality(gemm, machine)
        dense_timing = None if gemm.kind == "predictor" else self.dense.time(gemm)
        return Layer(
            gemm=gemm,
            pattern=machine.pattern,
            tiling=str(timing.plan.tiling),
            dense_timing=dense_timing,
            sparse=sparse,
            dense=sparse.idle() if dense_timing is None else self._dense(gemm, dense_timing, zeros),
            quality_loss=quality,
            input_loss=input_loss,
            zero_fraction=zeros.zero_fraction,
            methods=methods,
        )

    def _dense(self, gemm: Gemm, timing: LayerTiming, zeros: SiteZeros) -> Side:
        """What the dense counterpart does for a product."""
        activity = count_activity(gemm, self.dense.arch, None, timing, zeros.zero_fraction)
        return Side.of(self.dense, activity.times(gemm.repeat), timing.breakdown, gemm.repeat)

    def _methods(self, gemm: Gemm, machine: Machine, activity: Activity) -> dict[str, MethodShare]:
        """What each method at work adds to a product: the cycles that the next one's circuits cost in the pipeline when
        it joins those before, and the energy of its circuits and tables."""
        shares, before = {}, self.machine.running(machine.pattern) if machine.methods else machine
        work = Treated(machine.methods, machine.pattern, gemm.features, gemm.outputs, gemm.repeat, activity)
        spent = energies(machine.arch, work)
        for number, name in enumerate(spent, start=1):
            joined = self.machine.running(machine.pattern, tuple(spent)[:number])
            cycles = [one.time(gemm, self.nonzeros(gemm)).cycles for one in (before, joined)]
            shares[name] = MethodShare((cycles[1] - cycles[0]) * gemm.repeat, spent[name])
            before = joined
        return shares

    def _added(self, gemm: Gemm) -> Side:
        """A dense product that only the sparse machine runs."""
        machine = self.machine.running(None)
        timing = machine.time(gemm)
        activity = count_activity(gemm, machine.arch, None, timing, zero_slots=0.0).times(gemm.repeat)
        return Side.of(machine, activity, timing.breakdown, gemm.repeat)

    def _vector(self, operation: VectorOperation) -> VectorLayer:
        machine = self._behind(operation)
        timing, dense_timing = self.time_vector(operation), _time_vector(self.dense, operation)
        activity = vector_activity(timing).times(operation.repeat)
        spent: dict[str, float] = {}
        if machine.methods and activity.selected_groups:
            width = operation.elements // operation.rows
            # The table of η·(1·W) is read where a product's outputs are requantised, not here.
            work = Treated(machine.methods, machine.pattern, width, 1, operation.repeat, activity)
            spent = energies(machine.arch, work)
        dense_activity = vector_activity(dense_timing).times(operation.repeat)
        return VectorLayer(
            operation,
            sparse=Side.of(machine, activity, timing.breakdown, operation.repeat, sum(spent.values())),
            dense=Side.of(self.dense, dense_activity, dense_timing.breakdown, operation.repeat),
            methods={name: MethodShare(0, energy) for name, energy in spent.items()},
        )

    def _behind(self, operation: VectorOperation) -> Machine:
        """The machine with the pattern of the projections that read what the operation makes."""
        reader = self._reader(operation)
        return self.machine.running(None) if reader is None else self.running(reader)

    def _reader(self, operation: VectorOperation) -> Gemm | None:
        """The projection whose form of a site its producer stores: the first pruned one that reads it, or the first."""
        readers = self._readers_of_site.get(operation.site, ())
        return next((gemm for gemm in readers if self.running(gemm).pattern is not None), next(iter(readers), None))

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
        if machine.arch.predictor.is_built and gemm.site in self.workload.unpredicted:
            return self._predicted_quality(gemm, machine.pattern)
        treatment = self.recipe.treatment(gemm) if machine.pattern else None
        if treatment is not None and not is_plain(treatment):
            return self._treated_quality(gemm, machine.pattern, treatment), None
        of_input = self.statistics.input_loss(gemm.site, machine.pattern)
        input_loss = QualityLoss(value=of_input.value, kind="input", standard_error=of_input.standard_error)
        if gemm.load_weights is None:
            return input_loss, input_loss
        value = self.statistics.output_loss(gemm, machine.pattern) if machine.pattern else 0.0
        return QualityLoss(value=value, kind="output"), input_loss

    def _predicted_quality(self, gemm: Gemm, pattern: Pattern | None) -> tuple[QualityLoss | None, QualityLoss | None]:
        """Of what a predictor misses; unknown where nobody knows that, or a pattern prunes the rest."""
        value = self.statistics.predictor_loss(gemm) if pattern is None else None
        if value is None:
            return None, None
        of_input = QualityLoss(value=value, kind="input")
        if gemm.load_weights is None:
            return of_input, of_input
        return QualityLoss(value=self.statistics.predictor_loss(gemm, gemm.load_weights()), kind="output"), of_input

    def _weight_quality(self, gemm: Gemm, pattern: Pattern | None) -> QualityLoss | None:
        if pattern is None:
            return QualityLoss(value=0.0, kind="output")
        treatment = self.recipe.treatment(gemm)
        if gemm.load_weights is None or (treatment and treatment.weights.criterion != "magnitude"):
            return None
        return QualityLoss(value=self.statistics.weight_loss(gemm, pattern), kind="output")

    def _treated_quality(self, gemm: Gemm, pattern: Pattern, treatment: Treatment) -> QualityLoss | None:
        """Of a recipe's criterion and mitigations; None where the workload cannot tell it."""
        if gemm.load_weights is None or unknown(treatment):
            return None
        return QualityLoss(value=self.statistics.treated_loss(gemm, pattern, treatment), kind="output")


def operations_on(arch: Arch, workload: Workload, scope: Scope) -> tuple[Operation, ...]:
    """What a machine runs of a workload: without a predictor none of its products, and with a memory for their weights
    from there.

    Raises AccelSimError where that memory is too small for the predictors of all layers.
    """
    operations = workload.operations(scope)
    if not arch.predictor.is_built:
        return tuple(one for one in operations if not _predicts(one))
    if not arch.predictor.holds_weights:
        return operations
    on_chip = tuple(replace(one, weights_on_chip=True) if _predicts(one) else one for one in operations)
    needed = sum(predictor_bytes(one) for one in on_chip if _predicts(one))
    if needed > arch.predictor.sram_bytes:
        raise AccelSimError(
            f"arch {arch.name}: predictor.sram_bytes {arch.predictor.sram_bytes}: the predictor of workload"
            f" {workload.name} takes {needed} bytes; give it room or set predictor.weights to dram"
        )
    return on_chip


def _predicts(operation: Operation) -> bool:
    return isinstance(operation, Gemm) and operation.kind == "predictor"


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
