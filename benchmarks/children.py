"""Other programs: their wall time and the most memory they held."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MEASURED = Path(__file__).parent / "measured.py"


@dataclass(frozen=True)
class Finished:
    """A program that ran to its end."""

    seconds: float
    """Wall time, from starting its interpreter to its end."""
    peak_bytes: int
    """Largest resident set."""
    stdout: str


class ChildFailed(Exception):
    """A program ended with an error; the message holds the last line it wrote."""


def run_child(command: Sequence[str | Path], folder: Path | None = None) -> Finished:
    """Run a program in `folder` until it ends. Raises ChildFailed when it does not end with 0."""
    with tempfile.TemporaryDirectory() as name:
        used = Path(name) / "used.json"
        measured = [sys.executable, "-I", "-S", MEASURED, used, *command]
        done = subprocess.run(
            list(map(str, measured)), cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
            raise ChildFailed(f"{command[0]} ended with {done.returncode}: {last}")
        return Finished(**json.loads(used.read_text()), stdout=done.stdout)
