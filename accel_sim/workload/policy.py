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
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern, parse_pattern
from accel_sim.workload.gemm import Gemm, Workload
from accel_sim.workload.rules import Projections, Strict
from accel_sim.yaml_file import find_yaml, read_yaml, shipped_yaml

_SHIPPED = Path(__file__).parent / "data" / "policies"
DENSE = "dense"


def _pattern_or_dense(value: Any) -> Pattern | None:
    if value == DENSE:
        return None
    if not isinstance(value, str):
        raise AccelSimError(f"{value!r}: expected N:M in quotes, or {DENSE}")
    return parse_pattern(value)


PatternOrDense = Annotated[Pattern | None, BeforeValidator(_pattern_or_dense)]


class Rule(Projections):
    """One rule: a pattern for the projections that it matches."""

    pattern: PatternOrDense
    """N:M, or `dense`."""


class _File(Strict):
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
        return next(
            (rule.pattern for rule in reversed(self.rules) if rule.matches(gemm.name, gemm.layer)), self.default
        )

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
        prunable = [(gemm.name, gemm.layer) for gemm in workload.gemms if gemm.prunable]
        for number, rule in enumerate(self.rules):
            where = f"policy {self.name}: rules[{number}]"
            rule.check(where, f"workload {workload.name}", prunable, workload.layers_in_model)

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
    return shipped_yaml(_SHIPPED)


def load_policy(source: str | Path) -> Policy:
    """Read a policy file, or the shipped policy of that name.

    Raises AccelSimError (one line, naming file and key) for a file that is not there or not a policy.
    """
    path = find_yaml(Path(source), _SHIPPED, "policy")
    content = read_yaml(path, "policy")
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise AccelSimError(f"policy {path}: {'; '.join(map(_explain, error.errors()))}") from None
    return Policy(path.name, file.description, file.default, file.rules)


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
