"""What `simulate` and `pareto` are given to run on their machines: a trace, or shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel_sim import shipped
from accel_sim.errors import AccelSimError

if TYPE_CHECKING:
    from accel_sim.workload import Workload

SHIPPED_TRACE = "smollm2-135m"
DEFAULT_TOKENS = 512
"""Of a published model's shapes; in a decode step, the positions in each KV cache."""
DEFAULT_DISTRIBUTION = "heavy_tailed"


def shipped_trace() -> Path:
    """The small real capture that comes with the package."""
    return shipped.folder("traces") / SHIPPED_TRACE


def load_workload(
    trace: Path | None,
    preset: str | None = None,
    tokens: int | None = None,
    gemms: Sequence[str] = (),
    distribution: str | None = None,
    seed: int | None = None,
) -> tuple[Workload, str | None]:
    """The workload that was asked for, and a note where something was chosen for the user; None takes a default.

    Raises AccelSimError when more than one kind of input is given, when the one given cannot be read, and for options
    that it has no use for.
    """
    given = [name for name, value in (("--trace", trace), ("--workload", preset), ("--gemm", gemms)) if value]
    if len(given) > 1:
        raise AccelSimError(f"{' and '.join(given)}: give one of --trace, --workload, --gemm")
    if tokens is not None and not preset:
        raise AccelSimError("--tokens: is of --workload; a trace has its own, and --gemm says its own")
    drawn = {"distribution": distribution or DEFAULT_DISTRIBUTION, "seed": seed or 0}
    if preset:
        from accel_sim.workload.presets import preset_workload

        return preset_workload(preset, DEFAULT_TOKENS if tokens is None else tokens, **drawn), None
    if gemms:
        from accel_sim.workload.by_hand import gemm_workload

        return gemm_workload(list(gemms), **drawn), None
    for option, value in (("--distribution", distribution), ("--seed", seed)):
        if value is not None:
            raise AccelSimError(f"{option}: activations of a trace are captured, not drawn; is of shapes alone")
    from accel_sim.trace import Trace
    from accel_sim.workload.from_trace import workload_from_trace

    path = trace or shipped_trace()
    note = None if trace else f"no input was given: using the small capture that is shipped, {path}"
    return workload_from_trace(Trace.open(path)), note


def decode_step(
    work: Workload, batch: int | None, context: int | None, gemms: list[str], scope: str
) -> tuple[Workload, str | None]:
    """One decode step of the workload where a batch is given, and a note where the context makes no difference.

    Raises AccelSimError for a context without a batch, or of products given by hand, and for a batch that the workload
    cannot make.
    """
    if context is not None and batch is None:
        raise AccelSimError("--context: is of a decode step; give its batch too, such as --decode 16")
    if batch is None:
        return work, None
    if context is not None and gemms:
        raise AccelSimError("--context: products given by hand have no attention that it could belong to")
    from accel_sim.workload import decode_workload

    return decode_workload(work, batch, context), idle_context(context, scope)


def idle_context(context: int | None, scope: str) -> str | None:
    """A note where the length of the KV caches makes no difference."""
    if context is None or scope != "linear":
        return None
    return "--context changes attention alone, which --scope linear leaves out"
