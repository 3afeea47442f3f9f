"""Results as tables a person can read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from accel_sim import cost
from accel_sim.arch import Arch
from accel_sim.cli.kind_table import amdahl, kind_table
from accel_sim.cli.layer_table import layer_table
from accel_sim.cli.screen import console, energy, energy_unit, quality, shares, table_of
from accel_sim.simulation import Result, Simulation
from accel_sim.simulation.result import RecipeResult
from accel_sim.timing import CAUSES


def note(message: str) -> None:
    """Say on stderr what was chosen for the user."""
    console(stderr=True).print(f"note: {message}", markup=False, soft_wrap=True)


def print_written(paths: list[Path]) -> None:
    for path in paths:
        console().print(f"wrote {path}", markup=False, soft_wrap=True)


def print_result(result: Result, simulation: Simulation, all_layers: bool = False) -> None:
    """One machine: a row a layer (or a kind of layer), totals last, then where the time, energy and area went.

    `simulation` is what made the result: what was asked for, and whether the machine depends on masks.
    """
    screen = console()
    screen.print(layer_table(result, all_layers, screen.width, simulation.settings.quality))
    if result.scope == "model":
        screen.print(kind_table(result, screen.width))
        screen.print(amdahl(result), markup=False)
    for line in [*_what_ran(result, simulation), *_time(result), *_energy(result), *_area(result), *_basis(result)]:
        screen.print(line, markup=False)
    screen.print(f"limit: {limit(result)}\n", markup=False)


def _what_ran(result: Result, simulation: Simulation) -> list[str]:
    """What of the model was counted, pruned by which rules, and where its non-zeros come from."""
    lines = []
    if result.scope == "model":
        lines.append(f"scope model: {result.scope_source}")
    if result.policy:
        lines.append(f"policy {result.policy}: {result.coverage:.1%} of the linear multiply-accumulates run pruned")
    elif result.recipe:
        lines += _recipe(result, result.recipe)
    elif 0 < result.coverage < 1:
        lines.append(f"{result.coverage:.1%} of the linear multiply-accumulates run pruned")
    if simulation.skipping.needs_activations:
        seed = "" if result.masks == "real" else f", seed {simulation.settings.seed}"
        lines.append(f"masks: {result.masks}{seed}")
    return lines


def _recipe(result: Result, recipe: RecipeResult) -> list[str]:
    """What of the model a recipe prunes, and what each of its methods costs."""
    lines = [
        f"recipe {recipe.name}, {recipe.phase}: {result.coverage:.1%} of the linear multiply-accumulates run pruned"
        + ("" if recipe.methods else "; it adds nothing to the machine")
    ]
    for one in recipe.methods:
        lines.append(
            f"  {one.name}, {one.projections} projections:"
            f" area {one.area_um2 / result.dense_area_um2:+.2%} of dense,"
            f" energy {one.energy_pj / result.energy_pj['total']:.2%}, cycles {one.cycles / result.cycles:.2%}"
            f" of the whole ({one.rule})"
        )
    lines += [f"  {line}" for line in recipe.differences]
    lines += [f"  quality loss unknown: {line}" for line in recipe.unknown_quality]
    return lines


def _time(result: Result) -> list[str]:
    speedups = f"{result.speedup:.3f}× by cycles, {result.speedup_time:.3f}× by time"
    return [
        f"speed-up over dense: {speedups}, {result.speedup_iso_area:.3f}× at equal area",
        f"clock {result.clock_hz / 1e6:.0f} MHz (dense {result.dense_clock_hz / 1e6:.0f}), critical path"
        f" {result.critical_path_ns:.2f} ns; time {result.time_s * 1e3:.4g} ms;"
        f" energy-delay product {result.edp / result.dense_edp:.3f} of dense;"
        f" {result.performance_per_mm2:.1f} GOPS/mm² (dense {result.dense_performance_per_mm2:.1f})",
        shares("cycles", {cause: result.breakdown[cause] for cause in CAUSES}, result.cycles)
        + f"; utilisation of the multipliers {result.utilisation:.1%}",
    ]


def _energy(result: Result) -> list[str]:
    parts = {name: picojoules for name, picojoules in result.energy_pj.items() if name != "total"}
    total, unit = result.energy_pj["total"], energy_unit(result)
    sums = f"energy {energy(total, unit)} {unit} (dense {energy(result.dense_energy_pj, unit)})"
    lines = [shares(sums, parts, total)]
    if result.energy_pj["wires"]:
        ends = [end / result.energy_pj["wires"] for end in result.wires_band_pj]
        lines.append(f"wires are a first-order estimate, {ends[0]:.2f} to {ends[1]:.2f} times what stands here")
    return lines


def _area(result: Result) -> list[str]:
    area = f"area {result.area.total_um2 / 1e6:.4g} mm² (dense {result.dense_area_um2 / 1e6:.4g},"
    area += f" {result.area.overhead:+.1%}; array alone {result.area.overhead_array:+.1%})"
    lines = [shares(area, result.area.components, result.area.total_um2)]
    band = result.area.band
    if result.area.overhead:
        lines.append(
            f"overhead {band.low:+.1%} to {band.high:+.1%} with the tables of {', '.join(sorted(band.by_library))}"
            f"{' (not ' + ', '.join(sorted(band.missing)) + ')' if band.missing else ''};"
            f" {band.smaller_multipliers:+.1%} with multipliers as small as commercial tools make them;"
            " before layout, and larger multiplexers are a lower bound"
        )
    return lines


def _basis(result: Result) -> list[str]:
    """What the figures rest on, and what stands in for something unknown."""
    lines = [f"assumed: {result.assumptions}"]
    lines += [f"approximated: {line}" for line in result.approximations]
    if result.extrapolated:
        lines.append(f"extrapolated: {'; '.join(result.extrapolated)}")
    return lines


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
    kinds = sorted({result.quality_loss.kind for result in results if result.quality_loss})
    title = f"{results[0].trace}: machines side by side"
    table = table_of(f"{title}; quality loss of the {' or '.join(kinds)}" if kinds else title)
    table.add_column("arch")
    table.add_column("pattern")
    unit = energy_unit(results[0])
    headers = ("cycles", "speed-up", "by time", "equal area", f"energy {unit}", "of dense", "area mm²", "overhead")
    for column in (*headers, "loss"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("bottleneck", no_wrap=True)
    for result in results:
        loss = quality(result.quality_loss)
        table.add_row(
            result.arch,
            result.pattern,
            f"{result.cycles:,}",
            f"{result.speedup:.3f}",
            f"{result.speedup_time:.3f}",
            f"{result.speedup_iso_area:.3f}",
            energy(result.energy_pj["total"], unit),
            f"{result.energy_pj['total'] / result.dense_energy_pj:.3f}",
            f"{result.area.total_um2 / 1e6:.2f}",
            f"{result.area.overhead:+.1%}",
            f"{loss} of {result.quality_loss.kind}" if len(kinds) > 1 and result.quality_loss else loss,
            result.bottleneck,
        )
    console().print(table)
