"""The paper's end-to-end speed-ups beside what the simulator makes of its sparsities: on the card, and on our machines.

Two questions. Do byte counts, a data sheet and the paper's kernel times explain its Table 1? And what would the same
models at the same sparsities gain on a unit that was made for it?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel_sim.arch import Arch, load_arch
from accel_sim.simulation import Settings, WorkloadStatistics, simulate
from accel_sim.study.contextual_gpu import EndToEnd, Setting, end_to_end
from accel_sim.study.contextual_tables import Published, published
from accel_sim.workload import decode_workload

MACHINES = ("edge_contextual", "datacenter_contextual")
AIM = 0.10
"""Largest error that a cell should have."""
USUAL_S = 0.5
"""Target sparsity of the paper's ablations of the sequential pipeline."""

VARIANTS: Mapping[str, tuple[str, Setting]] = {
    "model": ("as described", Setting()),
    "absolute": ("s is the predicted sparsity itself, in all layers", Setting(reading="absolute")),
    "speedup": ("Table 4 interpolated in speed-up, not in time", Setting(interpolation="speedup")),
    "fit": ("one straight line through LLaMA2's relative times, for all models", Setting(interpolation="fit")),
    "ideal": ("no kernels: FFN time by the share of the weights left", Setting(interpolation="ideal")),
    "gate 0.85": ("gates that are 85 % sparse", Setting(gate_sparsity=0.85)),
    "gate 0.95": ("gates that are 95 % sparse", Setting(gate_sparsity=0.95)),
    "peak 50 %": ("prefill at half of the peak", Setting(peak=0.5)),
    "bandwidth 85 %": ("dense products at 85 % of the bandwidth", Setting(bandwidth=0.85)),
    "no prefill": ("decode steps alone", Setting(prefill=False)),
    "no predictor": ("the predictor costs nothing", Setting(predictor=False)),
}
"""What of the model is read or set otherwise, one thing at a time; `model` is what the figures are of."""


@dataclass(frozen=True)
class Cell:
    """One figure of Table 1, and ours."""

    model: str
    s: float
    score: float
    """The paper's mean score over eight tasks."""
    dense_score: float
    published: float
    simulated: float
    decode_speedup: float
    """Ours, without the prefill."""

    @property
    def error(self) -> float:
        return self.simulated / self.published - 1


@dataclass(frozen=True)
class Variant:
    """The same cells with one thing changed."""

    name: str
    what: str
    speedups: tuple[float, ...]
    """In the order of the cells."""
    mean_error: float
    """Of the absolute values."""
    worst_error: float
    """The largest, with its sign."""
    within_aim: int
    """Cells within `AIM`."""


@dataclass(frozen=True)
class UnitCell:
    """One model at one column's sparsities on a machine of ours."""

    machine: str
    model: str
    s: float
    end_to_end: float
    """Speed-up by time of prompt and answer over the machine's dense counterpart; the prefill is dense on both."""
    decode_speedup: float
    """Of the decode step in the middle of the answer."""
    mlp_speedup: float
    """Of the MLPs' products with the predictor."""
    tokens_per_s: float
    """Of decoding."""
    dense_tokens_per_s: float
    energy_ratio: float
    """Of a decode step, over dense."""
    predictor_share: float
    """Of the step's cycles."""
    bottleneck: str


@dataclass(frozen=True)
class PublishedStudy:
    """Everything that was found."""

    tables: Published
    cells: tuple[Cell, ...]
    parts: Mapping[str, EndToEnd]
    """By model, at its `middle` column: where the card's time goes."""
    variants: tuple[Variant, ...]
    units: tuple[UnitCell, ...]
    clock_hz: Mapping[str, float]
    """Of our machines."""


def run(
    machines: Sequence[str] = MACHINES,
    models: Sequence[str] | None = None,
    on_progress: Callable[[str], Any] = lambda what: None,
) -> PublishedStudy:
    """The card's model on all cells and variants, and our `machines` on the `models` (presets; None: all).

    `on_progress` is called before each simulation. Raises AccelSimError as `simulate` does.
    """
    tables = published()
    chosen = list(tables.models) if models is None else list(models)
    units: list[UnitCell] = []
    archs = [load_arch(name) for name in machines]
    for preset in chosen:
        units += _on_units(tables, preset, archs, on_progress)
    order = [arch.name for arch in archs]
    cells = _cells(tables, chosen)
    return PublishedStudy(
        tables=tables,
        cells=cells,
        parts={preset: end_to_end(tables, preset, middle(tables, preset)) for preset in chosen},
        variants=tuple(_variant(tables, cells, name) for name in VARIANTS),
        units=tuple(sorted(units, key=lambda unit: order.index(unit.machine))),
        clock_hz={arch.name: _clock_hz(arch) for arch in archs},
    )


def simulations(machines: Sequence[str] = MACHINES, models: int | None = None) -> int:
    """How often `run` calls `on_progress`, for so many models (None: all)."""
    tables = published()
    columns = [len(model.table_1) for model in tables.models.values()][:models]
    return len(machines) * sum(1 + each for each in columns)


def _cells(tables: Published, models: Sequence[str]) -> tuple[Cell, ...]:
    found = []
    for preset in models:
        model = tables.models[preset]
        for s, speedup in model.table_1.items():
            ours = end_to_end(tables, preset, s)
            scores = (model.scores[s], model.scores["dense"])
            found.append(Cell(preset, s, *scores, speedup, ours.speedup, ours.decode_speedup))
    return tuple(found)


def _variant(tables: Published, cells: Sequence[Cell], name: str) -> Variant:
    what, setting = VARIANTS[name]
    speedups = tuple(end_to_end(tables, cell.model, cell.s, setting).speedup for cell in cells)
    errors = [ours / cell.published - 1 for ours, cell in zip(speedups, cells, strict=True)]
    return Variant(
        name,
        what,
        speedups,
        mean_error=sum(map(abs, errors)) / len(errors),
        worst_error=max(errors, key=abs),
        within_aim=sum(abs(error) <= AIM for error in errors),
    )


def middle(tables: Published, preset: str) -> float:
    """The column of Table 1 nearest to the paper's usual s."""
    return min(tables.models[preset].table_1, key=lambda s: abs(s - USUAL_S))


def _on_units(
    tables: Published, preset: str, archs: Sequence[Arch], on_progress: Callable[[str], Any]
) -> list[UnitCell]:
    settings = Settings(scope="model", quality=False)
    steps, context = tables.run.steps, tables.run.contexts[tables.run.steps // 2]
    prefill_s, prompt = {}, WorkloadStatistics(tables.workload(preset))
    for arch in archs:
        on_progress(f"{arch.name}: prefill of {preset}")
        prefill_s[arch.name] = simulate(arch.dense(), prompt.workload, statistics=prompt, settings=settings).time_s
    found = []
    for s in tables.models[preset].table_1:
        work = tables.contextual(preset, tables.neurons(s))
        step = WorkloadStatistics(decode_workload(work, 1, context))
        for arch in archs:
            on_progress(f"{arch.name}: {preset} at s = {s:g}")
            result = simulate(arch, step.workload, statistics=step, settings=settings)
            dense_s = prefill_s[arch.name] + steps * result.dense_time_s
            mlp = [layer for layer in result.layers if ".mlp." in layer.name]
            found.append(
                UnitCell(
                    machine=arch.name,
                    model=preset,
                    s=s,
                    end_to_end=dense_s / (prefill_s[arch.name] + steps * result.time_s),
                    decode_speedup=result.speedup_time,
                    mlp_speedup=sum(layer.dense_cycles for layer in mlp) / sum(layer.cycles for layer in mlp),
                    tokens_per_s=1 / result.time_s,
                    dense_tokens_per_s=1 / result.dense_time_s,
                    energy_ratio=result.energy_pj["total"] / result.dense_energy_pj,
                    predictor_share=result.kinds["predictor"].cycles / result.cycles,
                    bottleneck=result.bottleneck,
                )
            )
    return found


def _clock_hz(arch: Arch) -> float:
    from accel_sim import cost

    return cost.delays(arch, None).clock_hz
