"""What a row was measured with."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent


@cache
def _ours() -> dict[str, str]:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "accel_sim": f"{version('accel_sim')} ({commit or 'no commit'})",
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "machine": f"{os.cpu_count()} CPUs, {_processor()}",
    }


def _processor() -> str:
    """The processor's name, as Linux gives it; elsewhere its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def versions(**peers: str) -> dict[str, str]:
    """This project's versions and machine, and the named peers' versions."""
    return {**_ours(), **peers}
