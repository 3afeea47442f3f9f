"""The table of layers: a row for every kind of matrix product and of vector operation, the totals last."""

from __future__ import annotations

import re
from itertools import groupby

from rich.table import Table

from accel_sim.cli.screen import NARROW, UNKNOWN, energy, energy_unit, quality, short, table_of, without_block
from accel_sim.simulation import Result
from accel_sim.simulation.result import LayerResult, OperationResult
from accel_sim.trace.kinds import common_name

LOSS_KINDS = {"output": "‖XW − X̂W‖² / ‖XW‖²", "input": "‖X − X̂‖² / ‖X‖²"}
OTHER_KIND = "†"
_HIDDEN_WHEN_NARROW = frozenset({"shape", "of dense", "DRAM MB"})

Row = LayerResult | OperationResult


def layer_table(result: Result, all_layers: bool, width: int, quality_asked: bool) -> Table:
    """Layers that differ in nothing but their number as one row, unless `all_layers`; they add up to the totals."""
    table = table_of(f"{result.arch} ({result.pattern}) on {result.source}")
    table.caption = _caption(result, quality_asked)
    table.show_footer = True
    rows = [*result.layers, *result.operations]
    total, unit = result.energy_pj["total"], energy_unit(result)
    columns = {
        "n": f"{sum(row.repeat for row in rows)}",
        "shape": "",
        "cycles": f"{result.cycles:,}",
        "speed-up": f"{result.speedup:.3f}",
        f"energy {unit}": energy(total, unit),
        "of dense": f"{total / result.dense_energy_pj:.3f}",
        "DRAM MB": f"{sum(row.dram_bytes for row in rows) / 1e6:,.2f}",
        "loss": quality(result.quality_loss),
        "bottleneck": result.bottleneck,
    }
    hidden = _HIDDEN_WHEN_NARROW if width < NARROW else frozenset()
    table.add_column("layer", "total", overflow="fold", min_width=12)
    for header, footer in columns.items():
        if header not in hidden:
            table.add_column(header, footer, justify="left" if header == "bottleneck" else "right", no_wrap=True)
    usual_kind = result.quality_loss.kind if result.quality_loss else None
    for name, members in _grouped(rows, all_layers):
        cells = zip(columns, _cells(members, usual_kind, unit), strict=True)
        table.add_row(name, *(cell for header, cell in cells if header not in hidden))
    return table


def _caption(result: Result, quality_asked: bool) -> str:
    shape = "shape: tokens × features × outputs; quality loss"
    losses = [_quality_loss(row) for row in [*result.layers, *result.operations]]
    if result.quality_loss is None:
        why = "weights are pruned that this workload does not hold"
        if result.recipe:
            why = "the recipe's lines below say why"
        if not quality_asked:
            why = "not asked for (--no-quality)"
        return f"{shape} {UNKNOWN}: {why}"
    usual = result.quality_loss.kind
    text = f"{shape}: {LOSS_KINDS[usual]}"
    others = {loss.kind for loss in losses if loss and loss.kind != usual}
    text += "".join(f"; {OTHER_KIND} {LOSS_KINDS[kind]}" for kind in others)
    return text + f"; {UNKNOWN} of what is never pruned" * (None in losses)


def _cells(members: list[Row], usual_kind: str | None, unit: str) -> list[str]:
    cycles, dense = sum(row.cycles for row in members), sum(row.dense_cycles for row in members)
    energy_pj, dense_energy = sum(row.energy_pj for row in members), sum(row.dense_energy_pj for row in members)
    return [
        str(sum(row.repeat for row in members)),
        _shape(members),
        f"{cycles:,}",
        f"{dense / cycles:.3f}" if dense else UNKNOWN,
        energy(energy_pj, unit),
        f"{energy_pj / dense_energy:.3f}" if dense_energy else UNKNOWN,
        f"{sum(row.dram_bytes for row in members) / 1e6:,.2f}",
        _loss(members, usual_kind),
        members[0].bottleneck,
    ]


def _shape(members: list[Row]) -> str:
    """Sizes that are the same in all members, and `*` for one that is not."""
    if isinstance(members[0], OperationResult):
        sizes = {row.elements for row in members}
        return f"{sizes.pop():,} elements" if len(sizes) == 1 else "* elements"
    sizes = zip(*((row.tokens, row.features, row.outputs) for row in members), strict=True)
    return " × ".join(str(size[0]) if len(set(size)) == 1 else "*" for size in sizes)


def _loss(members: list[Row], usual_kind: str | None) -> str:
    losses = [_quality_loss(row) for row in members]
    if None in losses:
        return UNKNOWN
    mean = f"{sum(loss.value for loss in losses) / len(losses):.4f}"
    return mean if losses[0].kind == usual_kind else f"{mean}{OTHER_KIND}"


def _quality_loss(row: Row):
    return row.quality_loss if isinstance(row, LayerResult) else None


def _sizes(row: Row) -> tuple:
    if isinstance(row, OperationResult):
        return (row.elements,)
    loss = row.quality_loss.kind if row.quality_loss else ""
    return row.tokens, row.features, row.outputs, row.pattern, loss


def _grouped(rows: list[Row], all_layers: bool) -> list[tuple[str, list[Row]]]:
    """Named members of each row of the table: same name but for its numbers, same sizes, same bottleneck.

    Blocks of queries of one attention (`scores[0-127]`, `scores[128-255]`, …) differ in their sizes, and are one row.
    """
    if all_layers:
        return [(short(row.name), [row]) for row in rows]

    def kind(row: Row) -> tuple:
        name = without_block(row.name)
        return re.sub(r"\d+", "*", name), row.bottleneck, _sizes(row) if name == row.name else row.kind

    order: dict[tuple, int] = {}
    for row in rows:
        order.setdefault(kind(row), len(order))
    groups = groupby(sorted(rows, key=lambda row: order[kind(row)]), key=kind)
    return [
        (short(common_name([without_block(row.name) for row in members])), members)
        for members in (list(group) for _, group in groups)
    ]
