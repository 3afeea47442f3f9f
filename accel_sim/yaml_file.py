"""Read a YAML file that people write; what is wrong with it is one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from accel_sim.errors import AccelSimError


def read_yaml(path: Path, what: str) -> Any:
    """Content of a YAML file, called `what` in errors. Raises AccelSimError for no file and for what is not YAML."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise AccelSimError(f"{what} {path}{where}: not valid YAML: {error.problem}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise AccelSimError(f"{what} {path}: not valid YAML: {error}") from error
    except OSError as error:
        raise AccelSimError(f"{what} {path}: {error.strerror}") from error


def find_yaml(path: Path, shipped: Path, what: str, folders: Iterable[Path] = (Path(),)) -> Path:
    """`path`, with or without .yaml, in `folders` or among the `shipped` ones. Raises AccelSimError listing those."""
    names = [path] if path.suffix == ".yaml" or not path.name else [path, path.with_name(f"{path.name}.yaml")]
    for folder in (*folders, shipped):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise AccelSimError(f"{what} {path}: no such file; shipped: {', '.join(shipped_yaml(shipped))}")


def shipped_yaml(folder: Path) -> list[str]:
    """Names of the files of a shipped folder, without .yaml."""
    return sorted(path.stem for path in folder.glob("*.yaml"))
