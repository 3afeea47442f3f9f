"""Results as files: JSON for scripts (one object, or a list for several machines), CSV with one row a layer."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from accel_sim.files import replacing
from accel_sim.simulation.result import Result
from accel_sim.timing import CAUSES

_LAYER_COLUMNS = (
    "name", "pattern", "tokens", "features", "outputs", "repeat", "cycles", "dense_cycles", "speedup", "bottleneck",
    "energy_pj", "dense_energy_pj", "dram_bytes", "dense_dram_bytes", "zero_fraction", "tiling",
)  # fmt: skip


def write_json(results: list[Result], path: Path) -> None:
    """One result as an object, several as a list."""
    content = [result.to_json() for result in results]
    with replacing(path) as stream:
        json.dump(content[0] if len(content) == 1 else content, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def write_csv(results: list[Result], path: Path) -> None:
    """One row a layer and machine; the causes of cycles as columns `cycles_<cause>`."""
    with replacing(path) as stream:
        table = csv.writer(stream)
        causes = [f"cycles_{cause}" for cause in CAUSES]
        table.writerow(["arch", "trace", *_LAYER_COLUMNS, "quality_loss", "quality_loss_kind", *causes])
        for result in results:
            for layer in result.layers:
                values = [getattr(layer, column) for column in _LAYER_COLUMNS]
                loss = [layer.quality_loss.value, layer.quality_loss.kind]
                cycles = [layer.breakdown[cause] for cause in CAUSES]
                table.writerow([result.arch, result.trace, *values, *loss, *cycles])
