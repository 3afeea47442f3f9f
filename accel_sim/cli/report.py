"""Results as tables a person can read."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from accel_sim.simulation import Result
from accel_sim.simulation.result import LayerResult
from accel_sim.timing import CAUSES

_PIPED_WIDTH = 150


def _console(stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _PIPED_WIDTH)


def note(message: str) -> None:
    """Say on stderr what was chosen for the user."""
    _console(stderr=True).print(f"note: {message}", markup=False, soft_wrap=True)


def print_written(paths: list[Path]) -> None:
    for path in paths:
        _console().print(f"wrote {path}", markup=False, soft_wrap=True)


def print_result(result: Result, all_layers: bool = False) -> None:
    """One machine: a row a layer (or a kind of layer), totals last, then where the time, energy and area went."""
    console = _console()
    console.print(_layer_table(result, all_layers))
    speedups = f"{result.speedup:.3f}× by cycles, {result.speedup_time:.3f}× by time"
    console.print(f"speed-up over dense: {speedups}, {result.speedup_iso_area:.3f}× at equal area")
    console.print(
        f"clock {result.clock_hz / 1e6:.0f} MHz (dense {result.dense_clock_hz / 1e6:.0f}), critical path"
        f" {result.critical_path_ns:.2f} ns; time {result.time_s * 1e3:.4g} ms;"
        f" energy-delay product {result.edp / result.dense_edp:.3f} of dense;"
        f" {result.performance_per_mm2:.1f} GOPS/mm² (dense {result.dense_performance_per_mm2:.1f})"
    )
    console.print(_shares("cycles", {cause: result.breakdown[cause] for cause in CAUSES}, result.cycles))
    energies = {name: energy for name, energy in result.energy_pj.items() if name != "total"}
    total = f"energy {result.energy_pj['total'] / 1e6:.4g} µJ (dense {result.dense_energy_pj / 1e6:.4g})"
    console.print(_shares(total, energies, result.energy_pj["total"]))
    area = f"area {result.area.total_um2 / 1e6:.4g} mm² (dense {result.dense_area_um2 / 1e6:.4g},"
    area += f" {result.area.overhead:+.1%}; array alone {result.area.overhead_array:+.1%})"
    console.print(_shares(area, result.area.components, result.area.total_um2))
    console.print(f"assumed: {result.assumptions}", markup=False)
    console.print(f"limit: {limit(result)}\n", markup=False)


def limit(result: Result) -> str:
    """What holds the design back, in one sentence."""
    compute = sum(result.breakdown[cause] for cause in CAUSES[:4])
    cycles = compute if result.bottleneck == "compute" else result.breakdown[result.bottleneck]
    slowest = [layer for layer in result.layers if layer.bottleneck == result.bottleneck]
    others = sorted({layer.bottleneck for layer in result.layers} - {result.bottleneck})
    elsewhere = f", the others by {', '.join(others)}" if others else ""
    return (
        f"{result.arch} is limited by {result.bottleneck}, {cycles / result.cycles:.0%} of its cycles; "
        f"{len(slowest)} of {len(result.layers)} layers are{elsewhere}"
    )


def print_comparison(results: list[Result]) -> None:
    """Several machines side by side."""
    table = Table(title=f"{results[0].trace}: machines side by side", title_justify="left")
    table.add_column("arch")
    table.add_column("pattern")
    for column in ("cycles", "speed-up", "by time", "equal area", "energy µJ", "of dense", "area mm²", "overhead"):
        table.add_column(column, justify="right")
    table.add_column("quality loss", justify="right")
    table.add_column("bottleneck")
    for result in results:
        table.add_row(
            result.arch,
            result.pattern,
            f"{result.cycles:,}",
            f"{result.speedup:.3f}",
            f"{result.speedup_time:.3f}",
            f"{result.speedup_iso_area:.3f}",
            f"{result.energy_pj['total'] / 1e6:,.1f}",
            f"{result.energy_pj['total'] / result.dense_energy_pj:.3f}",
            f"{result.area.total_um2 / 1e6:.2f}",
            f"{result.area.overhead:+.1%}",
            _loss(result.quality_loss),
            result.bottleneck,
        )
    _console().print(table)


def _layer_table(result: Result, all_layers: bool) -> Table:
    table = Table(title=f"{result.arch} ({result.pattern}) on {result.source}", title_justify="left", show_footer=True)
    total = result.energy_pj["total"]
    table.add_column("layer", footer="total", overflow="fold")
    table.add_column("n", f"{sum(layer.repeat for layer in result.layers)}", justify="right")
    table.add_column("tokens × features × outputs", justify="right")
    table.add_column("cycles", f"{result.cycles:,}", justify="right")
    table.add_column("speed-up", f"{result.speedup:.3f}", justify="right")
    table.add_column("energy µJ", f"{total / 1e6:,.2f}", justify="right")
    table.add_column("of dense", f"{total / result.dense_energy_pj:.3f}", justify="right")
    table.add_column("DRAM MB", f"{sum(layer.dram_bytes for layer in result.layers) / 1e6:,.2f}", justify="right")
    table.add_column("quality loss", _loss(result.quality_loss), justify="right")
    table.add_column("bottleneck", result.bottleneck)
    for name, layers in _grouped(result.layers, all_layers):
        table.add_row(name, *_row(layers))
    return table


def _row(layers: list[LayerResult]) -> list[str]:
    first = layers[0]
    cycles, dense = sum(layer.cycles for layer in layers), sum(layer.dense_cycles for layer in layers)
    energy, dense_energy = sum(layer.energy_pj for layer in layers), sum(layer.dense_energy_pj for layer in layers)
    losses = [layer.quality_loss for layer in layers]
    mean = losses[0].model_copy(update={"value": sum(loss.value for loss in losses) / len(losses)})
    return [
        str(sum(layer.repeat for layer in layers)),
        f"{first.tokens} × {first.features} × {first.outputs}",
        f"{cycles:,}",
        f"{dense / cycles:.3f}",
        f"{energy / 1e6:,.2f}",
        f"{energy / dense_energy:.3f}",
        f"{sum(layer.dram_bytes for layer in layers) / 1e6:,.2f}",
        _loss(mean),
        first.bottleneck,
    ]


def _grouped(layers: list[LayerResult], all_layers: bool) -> list[tuple[str, list[LayerResult]]]:
    """Layers that differ in nothing but their number as one row, named with its range."""
    if all_layers:
        return [(layer.name, [layer]) for layer in layers]

    def kind(layer: LayerResult) -> tuple:
        shape = (layer.tokens, layer.features, layer.outputs, layer.pattern, layer.bottleneck, layer.quality_loss.kind)
        return re.sub(r"\d+", "*", layer.name), shape

    order = {}
    for layer in layers:
        order.setdefault(kind(layer), len(order))
    groups = groupby(sorted(layers, key=lambda layer: order[kind(layer)]), key=kind)
    return [(_range_name(members), members) for members in (list(group) for _, group in groups)]


def _range_name(layers: list[LayerResult]) -> str:
    """`model.layers.0.q`, `model.layers.1.q` … → `model.layers.{0-29}.q`."""
    numbers = [re.findall(r"\d+", layer.name) for layer in layers]
    ranges = iter([_ranges(sorted({int(number) for number in column})) for column in zip(*numbers, strict=True)])
    return re.sub(r"\d+", lambda _: next(ranges), layers[0].name)


def _ranges(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return "{" + ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) + "}"


def _loss(loss) -> str:
    error = f" ±{loss.standard_error:.4f}" if loss.standard_error is not None else ""
    return f"{loss.value:.4f}{error} ({loss.kind})"


def _shares(what: str, parts: dict[str, float], total: float) -> str:
    """`what: name 61 %, name 20 %, …`, largest first, nothing that rounds to zero."""
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    shown = ", ".join(f"{name} {part / total:.1%}" for name, part in ranked if part / total >= 0.0005)
    return f"{what}: {shown}"
