"""Other programs: their wall time and the most memory they held."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finished:
    """A program that ran to its end."""

    seconds: float
    """Wall time, from starting its interpreter to its end."""
    peak_bytes: int
    """Largest resident set."""
    stdout: str


class ChildFailed(Exception):
    """A program ended with an error; the message is the last line it wrote."""


def run_child(
    command: Sequence[str | Path], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Finished:
    """Run a program in `folder` until it ends. Raises ChildFailed when it does not end with 0."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        # wait4 rather than wait: it hands back what this child alone used (ru_maxrss in KB on Linux).
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise ChildFailed(f"{command[0]} ended with {child.returncode}: {_last_line(err)}")
        out.seek(0)
        return Finished(seconds, used.ru_maxrss * 1024, out.read().decode())


def _last_line(stream) -> str:
    stream.seek(0)
    lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
