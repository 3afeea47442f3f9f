"""A trace against its statistics: how wrong is a machine's time when only densities of the non-zeros are known?

Every machine whose time depends on where the non-zeros are runs the trace with its real masks, and again with masks
drawn from each statistical model (`accel_sim.occupancy.masks`), once a seed. Everything else is the same, so the
difference is the model's error. The trace is looked at as it is, and thresholded to stated fractions of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel_sim.arch import Arch
from accel_sim.arch.sparsity import GATHERS, SKIPS_ZEROS
from accel_sim.errors import AccelSimError
from accel_sim.occupancy import DRAWN_MODELS
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine, Result, Settings, WorkloadStatistics, run
from accel_sim.study.needed import Needed, needed_by_batch
from accel_sim.study.run import designs, label
from accel_sim.study.thresholded import thresholded
from accel_sim.workload import Gemm, Workload
from accel_sim.workload.roles import last_name, role

NATURAL = "natural"
"""The `data` of a trace whose zeros are its own."""
WHOLE = "all"
"""The `part` of an error that is the whole workload's."""


@dataclass(frozen=True)
class RealTime:
    """What one machine takes with the real masks, and what it is compared with."""

    data: str
    zero_fraction: float
    """Zeros among all activations, before selection."""
    machine: str
    pattern: str
    skipping: str
    window: int
    """Features after which the rows wait for each other."""
    cycles: int
    fixed_cycles: int
    """The same pattern in the same groups without skipping of zeros."""
    dense_cycles: int
    speedup: float
    """Over dense, by cycles."""
    speedup_over_fixed: float


@dataclass(frozen=True)
class Spread:
    """A relative error over the seeds."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(sum(values) / len(values), min(values), max(values))


@dataclass(frozen=True)
class MaskError:
    """The error of one model on one machine, over the whole workload or a part of it."""

    data: str
    machine: str
    masks: str
    part: str
    """`all`, `projections` or `layer`."""
    name: str
    """Of the part: `all`, projections such as `q/k/v`, or the index of a decoder block."""
    cycles: int
    """With the real masks."""
    cycles_error: Spread
    """Cycles with drawn masks over those with real ones, less one; below 0 the model is optimistic."""
    speedup_error: Spread
    """Of the speed-up, over whatever does not depend on the masks (dense, or `fixed`): real over drawn cycles less
    one."""


@dataclass(frozen=True)
class MaskStudy:
    """Everything a study found."""

    source: str
    seeds: int
    times: tuple[RealTime, ...]
    errors: tuple[MaskError, ...]
    needed: tuple[Needed, ...]
    """Of the machines that gather weights."""
    independent: tuple[str, ...]
    """Machines whose time follows from shapes alone: every model is right about them, and they are left out."""

    def error(self, data: str, machine: str, masks: str, part: str = WHOLE, name: str = WHOLE) -> MaskError:
        """The error of one model on one machine."""
        wanted = data, machine, masks, part, name
        return next(one for one in self.errors if wanted == (one.data, one.machine, one.masks, one.part, one.name))


def run_mask_study(
    archs: Sequence[Arch],
    workload: Workload,
    zero_fractions: Sequence[float] = (),
    seeds: int = 5,
    batches: Sequence[int] = (),
    on_progress: Callable[[str], Any] = lambda what: None,
) -> MaskStudy:
    """Run the study; `batches` are those of the machines that gather. `on_progress` is called before each run.

    Raises AccelSimError where no machine depends on the masks, for zero fractions outside 0 … 1, two fractions that
    round to one percentage, and as `simulate` does.
    """
    skipping = [design for design in designs(archs) if design[0].sparsity.skipping in SKIPS_ZEROS]
    gathering = [design for design in designs(archs) if design[0].sparsity.skipping in GATHERS]
    if not skipping and not gathering:
        raise AccelSimError(
            f"--arch: {', '.join(arch.name for arch in archs)}: no time depends on where the non-zeros are; give a"
            f" machine with sparsity.skipping {', '.join((*SKIPS_ZEROS, *GATHERS))}"
        )
    data = {NATURAL: workload}
    data |= {f"{fraction:.0%} zeros": thresholded(workload, fraction) for fraction in zero_fractions}
    if len(data) <= len(zero_fractions):
        listed = ",".join(map(str, zero_fractions))
        raise AccelSimError(f"--zero-fraction {listed}: expected fractions that are different whole percentages")
    times, errors, needed = [], [], []
    for name, variant in data.items():
        statistics = WorkloadStatistics(variant)
        for arch, pattern in skipping:
            measured = _Runs(name, arch, pattern, statistics)
            times.append(measured.real_time())
            errors += measured.errors(seeds, on_progress)
        for arch, pattern in gathering:
            on_progress(f"{label(arch, pattern)}, {name}")
            needed += needed_by_batch(name, arch, pattern, variant, batches)
    used = {arch.name for arch, _ in (*skipping, *gathering)}
    independent = tuple(arch.name for arch in archs if arch.name not in used)
    return MaskStudy(workload.source, seeds, tuple(times), tuple(errors), tuple(needed), independent)


def number_of_runs(archs: Sequence[Arch], zero_fractions: Sequence[float], seeds: int) -> int:
    """How often `run_mask_study` calls `on_progress`."""
    skipping = sum(arch.sparsity.skipping in SKIPS_ZEROS for arch, _ in designs(archs))
    gathering = sum(arch.sparsity.skipping in GATHERS for arch, _ in designs(archs))
    return (1 + len(zero_fractions)) * (skipping * len(DRAWN_MODELS) * seeds + gathering)


class _Runs:
    """One machine on one variant of the data, with real masks and drawn ones."""

    def __init__(self, data: str, arch: Arch, pattern: Pattern | None, statistics: WorkloadStatistics) -> None:
        self.data, self.pattern, self.statistics = data, pattern, statistics
        self.machine = Machine(arch, arch.pattern(pattern))
        self.label = label(arch, pattern)
        self.real = self._run(self.machine, Settings(quality=False))

    def real_time(self) -> RealTime:
        arch, real = self.machine.arch, self.real
        unskipped = arch.model_copy(update={"sparsity": arch.sparsity.model_copy(update={"skipping": "fixed"})})
        fixed = self._run(Machine(unskipped, unskipped.pattern(self.pattern)), Settings(quality=False))
        return RealTime(
            data=self.data,
            zero_fraction=mean_zero_fraction(self.statistics),
            machine=self.label,
            pattern=str(self.pattern),
            skipping=arch.sparsity.skipping,
            window=arch.sparsity.sync_window * self.pattern.m,
            cycles=real.cycles,
            fixed_cycles=fixed.cycles,
            dense_cycles=real.dense_cycles,
            speedup=real.speedup,
            speedup_over_fixed=fixed.cycles / real.cycles,
        )

    def errors(self, seeds: int, on_progress: Callable[[str], Any]) -> Iterator[MaskError]:
        """The whole workload's error, then those of its parts, model by model."""
        real = _cycles_by_part(self.real, self.statistics.workload)
        for model in DRAWN_MODELS:
            drawn = []
            for seed in range(seeds):
                on_progress(f"{self.label}, {self.data}, {model}, seed {seed}")
                result = self._run(self.machine, Settings(masks=model, seed=seed, quality=False))
                drawn.append(_cycles_by_part(result, self.statistics.workload))
            for (part, name), cycles in real.items():
                others = [one[part, name] for one in drawn]
                of_cycles = Spread.of([other / cycles - 1 for other in others])
                of_speedup = Spread.of([cycles / other - 1 for other in others])
                yield MaskError(self.data, self.label, model, part, name, cycles, of_cycles, of_speedup)

    def _run(self, machine: Machine, settings: Settings) -> Result:
        return run(machine, self.statistics.workload, self.statistics, settings)


def mean_zero_fraction(statistics: WorkloadStatistics) -> float:
    """Zeros among the activations of all sites, each weighted by its elements."""
    sites = {gemm.site: gemm.tokens * gemm.features * gemm.repeat for gemm in statistics.workload.gemms}
    zeros = sum(statistics.zeros(site, None).zero_fraction * elements for site, elements in sites.items())
    return zeros / sum(sites.values())


def _cycles_by_part(result: Result, workload: Workload) -> dict[tuple[str, str], int]:
    """Cycles of everything, of each kind of projection, and of each decoder block."""
    labels = _projections(workload)
    totals = {(WHOLE, WHOLE): result.cycles}
    by_kind, by_layer = {}, {}
    gemms = {gemm.name: gemm for gemm in workload.gemms}
    for layer in result.layers:
        gemm = gemms[layer.name]
        _add(by_kind, ("projections", labels[role(gemm.name)]), layer.cycles)
        if gemm.layer is not None:
            _add(by_layer, ("layer", str(gemm.layer)), layer.cycles)
    return totals | by_kind | by_layer


def _add(totals: dict[tuple[str, str], int], key: tuple[str, str], cycles: int) -> None:
    totals[key] = totals.get(key, 0) + cycles


def _projections(workload: Workload) -> Mapping[str, str]:
    """For every role in a decoder block, the names of the projections that have it: `q/k/v`, `o`, `gate/up`, `down`."""
    names: dict[str, dict[str, None]] = {}
    for gemm in workload.gemms:
        names.setdefault(role(gemm.name), {})[_short(gemm)] = None
    return {each: "/".join(members) for each, members in names.items()}


def _short(gemm: Gemm) -> str:
    return last_name(gemm.name).removesuffix("_proj")
