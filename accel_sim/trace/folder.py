"""What a folder holds that a trace is to be written to, and whether it may be."""

from __future__ import annotations

import os
from pathlib import Path

from accel_sim.errors import AccelSimError
from accel_sim.trace.format import MANIFEST_NAME, UNFINISHED_NAME


def set_aside(path: Path) -> Path:
    """Where a finished trace waits while another one replaces it."""
    return path.with_name(path.name + ".before-force")


def occupant(path: Path) -> str | None:
    """What `path` holds: None (nothing), a trace, an unfinished capture, other files; or that it is a file itself."""
    if path.is_file():
        return "a file"
    if not path.exists():
        return None
    # A capture killed while it wrote its first checkpoint has left no more than this.
    if path.is_dir() and {file.name for file in path.iterdir()} <= {UNFINISHED_NAME + ".partial"}:
        return None
    if (path / MANIFEST_NAME).exists():
        return "a trace"
    return "an unfinished capture" if (path / UNFINISHED_NAME).exists() else "other files"


def check_vacant(path: Path, force: bool, resume: bool = False) -> None:
    """Raise AccelSimError unless a trace can be written to folder `path`.

    It must be new or empty, hold a trace, finished or not, that `force` replaces, or an unfinished one that `resume`
    goes on with; and it, or the folder that it will be made in, must be writable.
    """
    what = occupant(path)
    if what == "a file":
        raise AccelSimError(f"{path}: is a file; name a new or an empty folder with --out")
    if what == "other files":
        raise AccelSimError(f"{path}: holds files that are no trace; name a new or an empty folder with --out")
    if what and not force and not (resume and what == "an unfinished capture"):
        hint = "--force replaces it" + (", --resume goes on with it" if what == "an unfinished capture" else "")
        raise AccelSimError(f"{path}: holds {what} already; {hint}")
    parent = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        why = "permission denied" if parent.is_dir() else "is no folder"
        raise AccelSimError(f"{path}: cannot be written: {parent}: {why}")
