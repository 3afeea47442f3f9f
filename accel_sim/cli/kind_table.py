"""The table of kinds of operation, and what follows from it by Amdahl's law."""

from __future__ import annotations

from rich.table import Table

from accel_sim.cli.screen import NARROW, UNKNOWN, energy, energy_unit, table_of
from accel_sim.simulation import Result


def amdahl(result: Result) -> str:
    """What the whole gains of the linear projections' speed-up, and could gain at most, in one sentence.

    The law (Amdahl, AFIPS 1967): with a share p of the dense cycles, they alone give at most 1 / (1 − p).
    """
    linear = result.kinds["linear"]
    share = linear.dense_cycles / result.dense_cycles
    return (
        f"Amdahl: linear projections are {share:.1%} of the dense cycles, so they alone give at most"
        f" {1 / (1 - share):.3f}×; they run {linear.dense_cycles / linear.cycles:.3f}× as fast, the whole"
        f" {result.speedup:.3f}×"
    )


def kind_table(result: Result, width: int) -> Table:
    """Totals by kind of operation, the largest first."""
    table, unit = table_of("by kind of operation"), energy_unit(result)
    table.show_footer = True
    columns = {
        "cycles": f"{result.cycles:,}",
        "share": "100.0%",
        "dense cycles": f"{result.dense_cycles:,}",
        "dense share": "100.0%",
        "speed-up": f"{result.speedup:.3f}",
        f"energy {unit}": energy(result.energy_pj["total"], unit),
        "of dense": f"{result.energy_pj['total'] / result.dense_energy_pj:.3f}",
    }
    hidden = {"dense share", "of dense"} if width < NARROW else set()
    table.add_column("kind", "total", no_wrap=True)
    for header, footer in columns.items():
        if header not in hidden:
            table.add_column(header, footer, justify="right", no_wrap=True)
    for name, kind in sorted(result.kinds.items(), key=lambda pair: -pair[1].dense_cycles):
        cells = [
            f"{kind.cycles:,}",
            f"{kind.cycles / result.cycles:.1%}",
            f"{kind.dense_cycles:,}",
            f"{kind.dense_cycles / result.dense_cycles:.1%}",
            f"{kind.dense_cycles / kind.cycles:.3f}" if kind.dense_cycles else UNKNOWN,
            energy(kind.energy_pj, unit),
            f"{kind.energy_pj / kind.dense_energy_pj:.3f}" if kind.dense_energy_pj else UNKNOWN,
        ]
        table.add_row(name, *(cell for header, cell in zip(columns, cells, strict=True) if header not in hidden))
    return table
