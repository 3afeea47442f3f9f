"""Architecture files: YAML with `extends:` and overrides, found in the working folder or among the shipped machines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from accel_sim import shipped
from accel_sim.arch.schema import Arch
from accel_sim.errors import AccelSimError
from accel_sim.yaml_file import read_yaml

CONFIGS = "arch_configs"


def shipped_archs() -> list[str]:
    """File names of the machines that come with the package."""
    return sorted(path.name for path in shipped.folder(CONFIGS).glob("*.yaml"))


def load_arch(source: str | Path, overrides: Iterable[str] = ()) -> Arch:
    """Read an architecture file, follow `extends:`, apply `key.path=value` overrides, validate.

    A name that is no file here is looked for among the shipped machines. Raises AccelSimError naming file and field.
    """
    path = _find(Path(source))
    description = _read(path, ())
    for override in overrides:
        _apply(description, override)
    return _validate(description, path)


def file_schema() -> dict[str, Any]:
    """JSON Schema of an architecture file: `Arch`, or only what differs from the file that `extends` names."""
    schema = Arch.model_json_schema()
    inherit = {"type": "string", "description": "Architecture file that this one inherits every key from."}
    schema["properties"] = {"extends": inherit, **schema["properties"]}
    schema["anyOf"] = [{"required": ["extends"]}, {"required": schema.pop("required")}]
    return schema


def _find(path: Path, beside: Path | None = None) -> Path:
    names = [path] if path.suffix else [path, path.with_name(path.name + ".yaml")]
    folders = [beside] if beside else [Path()]
    for folder in [*folders, shipped.folder(CONFIGS)]:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise AccelSimError(f"arch {path}: no such file; shipped machines: {', '.join(shipped_archs())}")


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        chain = " -> ".join(part.name for part in (*seen, path))
        raise AccelSimError(f"arch {path}: extends: goes round in a circle ({chain})")
    content = read_yaml(path, "arch")
    if not isinstance(content, dict):
        raise AccelSimError(f"arch {path}: expected a mapping of {', '.join(Arch.model_fields)} at the top level")
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise AccelSimError(f"arch {path}: extends: expected the name of one architecture file")
    return _merge(_read(_find(Path(base), path.parent), (*seen, path.resolve())), content)


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply(description: dict[str, Any], override: str) -> None:
    keys, equals, text = override.partition("=")
    parts = keys.strip().split(".")
    if not equals or not all(parts):
        raise AccelSimError(f"--set {override}: expected key.path=value, such as array.rows=64")
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise AccelSimError(f"--set {override}: the value is not valid YAML") from error
    section = description
    for part in parts[:-1]:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise AccelSimError(f"--set {override}: {part} is a value, not a section")
    section[parts[-1]] = value


def _validate(description: dict[str, Any], path: Path) -> Arch:
    try:
        return Arch.model_validate(description)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise AccelSimError(f"arch {path}: {problems}") from None


def _explain(problem: Any) -> str:
    """One pydantic error as `field.path: what is wrong (what is accepted)`."""
    location = problem["loc"]
    where = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key; accepted here: {', '.join(_fields_at(location[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if problem["type"] in ("missing", "value_error") else f", not {problem['input']!r}"
    return f"{where}: {message}{given}" if where else message


def _fields_at(location: tuple[Any, ...]) -> list[str]:
    section: type[BaseModel] = Arch
    for part in location:
        section = section.model_fields[part].annotation  # sections are plain annotations, never unions
    return [*section.model_fields, *(["extends"] if section is Arch else [])]
