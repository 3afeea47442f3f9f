"""Run several machines on several workloads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from accel_sim.arch import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.simulation import Settings, WorkloadStatistics, simulate
from accel_sim.study.points import Point, by_design, combine, point_from_result
from accel_sim.workload import Workload

EVERYTHING = Settings()
"""The linear projections, each design's pattern in all of them, and what that throws away."""


def designs(archs: Sequence[Arch]) -> list[tuple[Arch, Pattern | None]]:
    """What there is to run: every machine with its pattern, a flexible one once per pattern.

    Raises AccelSimError when two machines share a name, since their points could not be told apart.
    """
    _refuse_repeats("machines", "arch", [arch.name for arch in archs])
    return [(arch, pattern) for arch in archs for pattern in arch.sparsity.patterns or (None,)]


def label(arch: Arch, pattern: Pattern | None) -> str:
    """The name of a design: its machine's, with the pattern where the machine has several."""
    return f"{arch.name} {pattern}" if arch.is_flexible else arch.name


def run_study(
    archs: Sequence[Arch],
    workloads: Sequence[Workload],
    on_progress: Callable[[str], Any] = lambda what: None,
    settings: Settings = EVERYTHING,
) -> list[Point]:
    """One point per design and workload, by design. `on_progress` is called before each run with its name.

    A policy says which projections run pruned: each design runs its own pattern where the policy has its default, and
    a machine without patterns runs dense.

    Raises AccelSimError as `simulate` does, and when two machines or two workloads share a name.
    """
    _refuse_repeats("workloads", "trace", [workload.name for workload in workloads])
    statistics = [WorkloadStatistics(workload) for workload in workloads]
    points = []
    for arch, pattern in designs(archs):
        for workload, shared in zip(workloads, statistics, strict=True):
            on_progress(f"{arch.name} {pattern or ''} on {workload.name}")
            result = simulate(arch, workload, pattern, statistics=shared, settings=_of_design(settings, pattern))
            points.append(point_from_result(result, several_patterns=len(arch.sparsity.patterns) > 1))
    return points


def _of_design(settings: Settings, pattern: Pattern | None) -> Settings:
    """The settings with the design's pattern as the default of a policy that prunes by default."""
    policy = settings.policy
    if policy is None or pattern is None:
        return replace(settings, policy=None)
    return settings if policy.default is None else replace(settings, policy=policy.with_default(pattern))


def over_all_workloads(points: Iterable[Point]) -> list[Point]:
    """One point per design: its workloads one after the other (see `combine`); unchanged where there is only one."""
    grouped = by_design(points).values()
    return [members[0] if len(members) == 1 else combine(members) for members in grouped]


def _refuse_repeats(what: str, option: str, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise AccelSimError(f"--{option}: several {what} are named {repeated[0]}; each needs a name of its own")
