"""Whether results can be written where they were asked for, before anything long runs."""

from __future__ import annotations

from pathlib import Path

from accel_sim.errors import AccelSimError


def check_outputs(out: Path, json: Path | None = None) -> None:
    """Raise AccelSimError unless `out` is a folder or can become one, and `json` a file."""
    _check_folder("--out", out)
    if json is not None:
        if json.is_dir():
            raise AccelSimError(f"--json {json}: is a folder; expected a file to write")
        _check_folder("--json", json.parent)


def _check_folder(option: str, folder: Path) -> None:
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not nearest.is_dir():
        raise AccelSimError(f"{option} {nearest}: is a file; expected a folder")
