"""Results as tables a person can read."""

from __future__ import annotations

import re
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from accel_sim import cost
from accel_sim.arch import Arch
from accel_sim.simulation import Result
from accel_sim.simulation.result import LayerResult, QualityLoss
from accel_sim.timing import CAUSES
from accel_sim.trace.kinds import common_name

_PIPED_WIDTH = 170
_WIDE = 125
"""Columns of a terminal below which the table leaves out shape, traffic and the energy's ratio."""
_PICOJOULES = {"µJ": 1e6, "mJ": 1e9}
_LOSS_KINDS = {"output": "‖XW − X̂W‖² / ‖XW‖²", "input": "‖X − X̂‖² / ‖X‖²"}


def console(stderr: bool = False) -> Console:
    """The terminal's width, or one that fits every table where the output is piped."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _PIPED_WIDTH)


def note(message: str) -> None:
    """Say on stderr what was chosen for the user."""
    console(stderr=True).print(f"note: {message}", markup=False, soft_wrap=True)


def print_written(paths: list[Path]) -> None:
    for path in paths:
        console().print(f"wrote {path}", markup=False, soft_wrap=True)


def print_result(result: Result, all_layers: bool = False) -> None:
    """One machine: a row a layer (or a kind of layer), totals last, then where the time, energy and area went."""
    screen = console()
    screen.print(_layer_table(result, all_layers, screen.width))
    speedups = f"{result.speedup:.3f}× by cycles, {result.speedup_time:.3f}× by time"
    screen.print(f"speed-up over dense: {speedups}, {result.speedup_iso_area:.3f}× at equal area")
    screen.print(
        f"clock {result.clock_hz / 1e6:.0f} MHz (dense {result.dense_clock_hz / 1e6:.0f}), critical path"
        f" {result.critical_path_ns:.2f} ns; time {result.time_s * 1e3:.4g} ms;"
        f" energy-delay product {result.edp / result.dense_edp:.3f} of dense;"
        f" {result.performance_per_mm2:.1f} GOPS/mm² (dense {result.dense_performance_per_mm2:.1f})"
    )
    screen.print(_shares("cycles", {cause: result.breakdown[cause] for cause in CAUSES}, result.cycles))
    energies = {name: energy for name, energy in result.energy_pj.items() if name != "total"}
    unit = _energy_unit(result)
    pair = [energy / _PICOJOULES[unit] for energy in (result.energy_pj["total"], result.dense_energy_pj)]
    total = f"energy {pair[0]:,.2f} {unit} (dense {pair[1]:,.2f})"
    screen.print(_shares(total, energies, result.energy_pj["total"]))
    if result.energy_pj["wires"]:
        ends = [end / result.energy_pj["wires"] for end in result.wires_band_pj]
        screen.print(f"wires are a first-order estimate, {ends[0]:.2f} to {ends[1]:.2f} times what stands here")
    area = f"area {result.area.total_um2 / 1e6:.4g} mm² (dense {result.dense_area_um2 / 1e6:.4g},"
    area += f" {result.area.overhead:+.1%}; array alone {result.area.overhead_array:+.1%})"
    screen.print(_shares(area, result.area.components, result.area.total_um2))
    screen.print(f"assumed: {result.assumptions}", markup=False)
    if result.extrapolated:
        screen.print(f"extrapolated: {'; '.join(result.extrapolated)}", markup=False)
    screen.print(f"limit: {limit(result)}\n", markup=False)


def print_sources(arch: Arch) -> None:
    """Every figure that area, clock and energy of a machine rest on, with where it comes from."""
    table = table_of(f"What the figures of {arch.name} rest on")
    for column in ("quantity", "value", "unit", "status", "source"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for row in cost.sources(arch):
        table.add_row(row.quantity, f"{row.value:.6g}", row.unit, row.status, row.source)
    console().print(table)


def limit(result: Result) -> str:
    """What holds the design back, in one sentence."""
    compute = sum(result.breakdown[cause] for cause in CAUSES[:4])
    cycles = compute if result.bottleneck == "compute" else result.breakdown[result.bottleneck]
    counts = Counter(layer.bottleneck for layer in result.layers)
    by_layer = ", ".join(f"{count} by {cause}" for cause, count in counts.most_common())
    share = f"{cycles / result.cycles:.0%} of the cycles"
    layers = f"; of its {len(result.layers)} layers, {by_layer}" if len(result.layers) > 1 else ""
    return f"{result.arch} is limited by {result.bottleneck} ({share}){layers}"


def print_comparison(results: list[Result]) -> None:
    """Several machines side by side."""
    table = table_of(f"{results[0].trace}: machines side by side; quality loss of the {results[0].quality_loss.kind}")
    table.add_column("arch")
    table.add_column("pattern")
    unit = _energy_unit(results[0])
    energy = f"energy {unit}"
    for column in ("cycles", "speed-up", "by time", "equal area", energy, "of dense", "area mm²", "overhead", "loss"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("bottleneck", no_wrap=True)
    for result in results:
        table.add_row(
            result.arch,
            result.pattern,
            f"{result.cycles:,}",
            f"{result.speedup:.3f}",
            f"{result.speedup_time:.3f}",
            f"{result.speedup_iso_area:.3f}",
            f"{result.energy_pj['total'] / _PICOJOULES[unit]:,.2f}",
            f"{result.energy_pj['total'] / result.dense_energy_pj:.3f}",
            f"{result.area.total_um2 / 1e6:.2f}",
            f"{result.area.overhead:+.1%}",
            _loss(result.quality_loss),
            result.bottleneck,
        )
    console().print(table)


def _layer_table(result: Result, all_layers: bool, width: int) -> Table:
    table = table_of(f"{result.arch} ({result.pattern}) on {result.source}")
    table.caption = f"shape: tokens × features × outputs; quality loss: {_LOSS_KINDS[result.quality_loss.kind]}"
    table.show_footer = True
    total, unit = result.energy_pj["total"], _energy_unit(result)
    columns = {
        "n": f"{sum(layer.repeat for layer in result.layers)}",
        "shape": "",
        "cycles": f"{result.cycles:,}",
        "speed-up": f"{result.speedup:.3f}",
        f"energy {unit}": f"{total / _PICOJOULES[unit]:,.2f}",
        "of dense": f"{total / result.dense_energy_pj:.3f}",
        "DRAM MB": f"{sum(layer.dram_bytes for layer in result.layers) / 1e6:,.2f}",
        "loss": _loss(result.quality_loss),
        "bottleneck": result.bottleneck,
    }
    hidden = {"shape", "of dense", "DRAM MB"} if width < _WIDE else set()
    table.add_column("layer", "total", overflow="fold", min_width=12)
    for header, footer in columns.items():
        if header not in hidden:
            table.add_column(header, footer, justify="left" if header == "bottleneck" else "right", no_wrap=True)
    for name, layers in _grouped(result.layers, all_layers):
        cells = zip(columns, _row(layers, result.quality_loss.kind, unit), strict=True)
        table.add_row(name, *(cell for header, cell in cells if header not in hidden))
    return table


def table_of(title: str) -> Table:
    """An empty table in the one style of all reports."""
    return Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _row(layers: list[LayerResult], usual_kind: str, unit: str) -> list[str]:
    first = layers[0]
    cycles, dense = sum(layer.cycles for layer in layers), sum(layer.dense_cycles for layer in layers)
    energy, dense_energy = sum(layer.energy_pj for layer in layers), sum(layer.dense_energy_pj for layer in layers)
    loss = sum(layer.quality_loss.value for layer in layers) / len(layers)
    return [
        str(sum(layer.repeat for layer in layers)),
        f"{first.tokens} × {first.features} × {first.outputs}",
        f"{cycles:,}",
        f"{dense / cycles:.3f}",
        f"{energy / _PICOJOULES[unit]:,.2f}",
        f"{energy / dense_energy:.3f}",
        f"{sum(layer.dram_bytes for layer in layers) / 1e6:,.2f}",
        f"{loss:.4f}" if first.quality_loss.kind == usual_kind else f"{loss:.4f} of {first.quality_loss.kind}",
        first.bottleneck,
    ]


def _grouped(layers: list[LayerResult], all_layers: bool) -> list[tuple[str, list[LayerResult]]]:
    """Layers that differ in nothing but their number as one row, named with its range."""
    if all_layers:
        return [(_short(layer.name), [layer]) for layer in layers]

    def kind(layer: LayerResult) -> tuple:
        shape = (layer.tokens, layer.features, layer.outputs, layer.pattern, layer.bottleneck, layer.quality_loss.kind)
        return re.sub(r"\d+", "*", layer.name), shape

    order = {}
    for layer in layers:
        order.setdefault(kind(layer), len(order))
    groups = groupby(sorted(layers, key=lambda layer: order[kind(layer)]), key=kind)
    return [
        (_short(common_name([layer.name for layer in members])), members)
        for members in (list(group) for _, group in groups)
    ]


def _short(name: str) -> str:
    return name.removeprefix("model.")


def _energy_unit(result: Result) -> str:
    return "mJ" if result.dense_energy_pj >= 1e5 * _PICOJOULES["µJ"] else "µJ"


def _loss(loss: QualityLoss) -> str:
    error = f" ±{loss.standard_error:.4f}" if loss.standard_error is not None else ""
    return f"{loss.value:.4f}{error}"


def _shares(what: str, parts: dict[str, float], total: float) -> str:
    """`what: name 61 %, name 20 %, …`, largest first, nothing that rounds to zero."""
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    shown = ", ".join(f"{name} {part / total:.1%}" for name, part in ranked if part / total >= 0.0005)
    return f"{what}: {shown}"
