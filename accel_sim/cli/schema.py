"""`accel-sim schema`: the JSON Schema of architecture files."""

from __future__ import annotations

import json

from accel_sim.arch.load import file_schema


def schema() -> None:
    """Print the JSON Schema of architecture files, for editors."""
    print(json.dumps(file_schema(), indent=2, ensure_ascii=False))
