"""Results as files: JSON for scripts (one object, or a list for several machines), CSV with one row a layer."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from accel_sim.files import replacing
from accel_sim.simulation.result import Result
from accel_sim.timing import CAUSES

_COLUMNS = (
    "name", "kind", "pattern", "tokens", "features", "outputs", "elements", "repeat", "cycles", "dense_cycles",
    "speedup", "bottleneck", "utilisation", "energy_pj", "dense_energy_pj", "dram_bytes", "dense_dram_bytes",
    "zero_fraction", "tiling",
)  # fmt: skip


def write_json(results: list[Result], path: Path) -> None:
    """One result as an object, several as a list."""
    content = [result.to_json() for result in results]
    with replacing(path) as stream:
        json.dump(content[0] if len(content) == 1 else content, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def write_csv(results: list[Result], path: Path) -> None:
    """One row a layer, or operation of the vector unit, and machine; the causes of cycles as columns `cycles_<cause>`.

    A cell is empty where a row has no such thing: the tokens of a vector operation, or a quality loss nobody knows.
    """
    with replacing(path) as stream:
        table = csv.writer(stream)
        causes = [f"cycles_{cause}" for cause in CAUSES]
        table.writerow(["arch", "trace", *_COLUMNS, "quality_loss", "quality_loss_kind", *causes])
        for result in results:
            for row in (*result.layers, *result.operations):
                values = [getattr(row, column, "") for column in _COLUMNS]
                loss = getattr(row, "quality_loss", None)
                quality = [loss.value, loss.kind] if loss else ["", ""]
                cycles = [row.breakdown[cause] for cause in CAUSES]
                table.writerow([result.arch, result.trace, *values, *quality, *cycles])
