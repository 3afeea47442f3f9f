"""Per-layer sparsity policies: which projection of which layer runs which pattern, from a YAML file.

    default: "8:16"
    rules:
      - projections: [k_proj, v_proj, o_proj, up_proj]
        pattern: dense
      - layers: 19,21,28,30-31
        projections: [q_proj, gate_proj]
        pattern: dense

The LAST rule that matches a projection decides; the default holds where none does. Products that never run pruned
(routers, attention, LM head) are not touched by any rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern, parse_pattern
from accel_sim.trace.layers import check_layers, select_layers
from accel_sim.workload.gemm import Gemm, Workload
from accel_sim.workload.roles import named

_SHIPPED = Path(__file__).parent / "data" / "policies"
DENSE = "dense"


def _pattern_or_dense(value: Any) -> Pattern | None:
    if value == DENSE:
        return None
    if not isinstance(value, str):
        raise AccelSimError(f"{value!r}: expected N:M in quotes, or {DENSE}")
    return parse_pattern(value)


def _layers(value: Any) -> frozenset[int]:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    check_layers(text, "layers")
    last = max(int(number) for number in text.replace("-", ",").split(","))
    return frozenset(select_layers(text, range(last + 1), "layers"))


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


PatternOrDense = Annotated[Pattern | None, BeforeValidator(_pattern_or_dense)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)


class Rule(_Strict):
    """One rule: a pattern for the projections that match both `layers` and `projections`."""

    layers: Annotated[frozenset[int], BeforeValidator(_layers)] | None = None
    """Decoder blocks, as 0-5,29 or a list of indices and ranges; null: all."""
    projections: Annotated[tuple[str, ...], BeforeValidator(_list), Field(min_length=1)] = ("*",)
    """Names with wildcards, each matching a projection's whole name or its end (`q_proj`, `experts*.down_proj`)."""
    pattern: PatternOrDense
    """N:M, or `dense`."""

    def names(self, gemm: Gemm) -> bool:
        """Whether the projection's name matches, in whatever layer."""
        return any(fnmatchcase(gemm.name, glob) or fnmatchcase(gemm.name, f"*.{glob}") for glob in self.projections)

    def matches(self, gemm: Gemm) -> bool:
        return (self.layers is None or gemm.layer in self.layers) and self.names(gemm)


class _File(_Strict):
    """A policy file."""

    description: str = ""
    """One sentence for people, with its source."""
    default: PatternOrDense
    """What a projection runs that no rule matches: N:M, or `dense`."""
    rules: tuple[Rule, ...] = ()
    """The last one that matches decides."""


@dataclass(frozen=True)
class Policy:
    """Which pattern each projection runs. Built by :func:`load_policy`."""

    name: str
    description: str
    default: Pattern | None
    rules: tuple[Rule, ...]

    def pattern_for(self, gemm: Gemm) -> Pattern | None:
        """The pattern a projection runs; None: dense."""
        if not gemm.prunable:
            return None
        return next((rule.pattern for rule in reversed(self.rules) if rule.matches(gemm)), self.default)

    @property
    def patterns(self) -> frozenset[Pattern]:
        """Every pattern the policy may ask a machine for."""
        named_ones = {self.default, *(rule.pattern for rule in self.rules)}
        return frozenset(pattern for pattern in named_ones if pattern is not None)

    def with_default(self, pattern: Pattern) -> Policy:
        """The same policy with another default pattern, for sweeps."""
        return replace(self, default=pattern)

    def check(self, workload: Workload) -> None:
        """Raise AccelSimError, naming the rule, where a rule cannot match anything in the workload's model.

        Layers that the model has but a trace did not capture are no error.
        """
        prunable = [gemm for gemm in workload.gemms if gemm.prunable]
        count = workload.layers_in_model
        for number, rule in enumerate(self.rules):
            where = f"policy {self.name}: rules[{number}]"
            if not any(rule.names(gemm) for gemm in prunable):
                known = named(gemm.name for gemm in prunable)
                wanted = ", ".join(rule.projections)
                raise AccelSimError(f"{where}: projections {wanted}: none in workload {workload.name}; it has {known}")
            if rule.layers is None:
                continue
            beyond = [layer for layer in sorted(rule.layers) if count is not None and layer >= count]
            if beyond:
                raise AccelSimError(f"{where}: layers: no layer {beyond[0]}; the model has layers 0-{count - 1}")
            if count is None and not any(map(rule.matches, prunable)):
                raise AccelSimError(f"{where}: layers: workload {workload.name} has no layers, it is products by hand")

    def coverage(self, workload: Workload) -> float:
        """Share of the multiply-accumulates of prunable linear projections that run pruned (a router is not one).

        It is the share that goes through a sparse path, not the share that is saved: with N:M, 1 − N/M of it is.
        """
        prunable = [gemm for gemm in workload.gemms if gemm.prunable]
        return _macs(gemm for gemm in prunable if self._is_pruned(gemm)) / _macs(prunable)

    def _is_pruned(self, gemm: Gemm) -> bool:
        pattern = self.pattern_for(gemm)
        return pattern is not None and not pattern.keeps_all


def _macs(gemms: Iterable[Gemm]) -> int:
    return sum(gemm.macs for gemm in gemms)


def shipped_policies() -> list[str]:
    """Names of the policies that come with the package."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_policy(source: str | Path) -> Policy:
    """Read a policy file, or the shipped policy of that name.

    Raises AccelSimError (one line, naming file and key) for a file that is not there or not a policy.
    """
    path = _find(Path(source))
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise AccelSimError(f"policy {path}{line}: not valid YAML: {error.problem}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise AccelSimError(f"policy {path}: not valid YAML: {error}") from error
    except OSError as error:
        raise AccelSimError(f"policy {path}: {error.strerror}") from error
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise AccelSimError(f"policy {path}: {'; '.join(map(_explain, error.errors()))}") from None
    return Policy(path.name, file.description, file.default, file.rules)


def _find(path: Path) -> Path:
    names = [path] if path.suffix == ".yaml" else [path, path.with_name(f"{path.name}.yaml")]
    for folder in (Path(), _SHIPPED):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise AccelSimError(f"policy {path}: no such file; shipped policies: {', '.join(shipped_policies())}")


def _explain(problem: Any) -> str:
    """One pydantic error as `rules[2].layers: what is wrong (what is accepted)`."""
    where = ""
    for part in problem["loc"]:
        if isinstance(part, int):
            where += f"[{part}]"
        elif part in {*_File.model_fields, *Rule.model_fields} or problem["type"] == "extra_forbidden":
            where += f".{part}" if where else part
    if problem["type"] == "extra_forbidden":
        accepted = Rule.model_fields if len(problem["loc"]) > 1 else _File.model_fields
        return f"{where}: unknown key; accepted here: {', '.join(accepted)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else f"{message}; expected default and rules"
