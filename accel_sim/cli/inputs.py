"""What `simulate` and `pareto` are given to run on their machines: a trace, or shapes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from accel_sim import shipped
from accel_sim.errors import AccelSimError

if TYPE_CHECKING:
    from accel_sim.workload import Workload

SHIPPED_TRACE = "smollm2-135m"


def shipped_trace() -> Path:
    """The small real capture that comes with the package."""
    return shipped.folder("traces") / SHIPPED_TRACE


def load_workload(
    trace: Path | None, preset: str | None, tokens: int, gemms: list[str], distribution: str, seed: int
) -> tuple[Workload, str | None]:
    """The workload that was asked for, and a note where something was chosen for the user.

    Raises AccelSimError when more than one kind of input is given, or the one given cannot be read.
    """
    given = [name for name, value in (("--trace", trace), ("--workload", preset), ("--gemm", gemms)) if value]
    if len(given) > 1:
        raise AccelSimError(f"{' and '.join(given)}: give one of --trace, --workload, --gemm")
    if preset:
        from accel_sim.workload.presets import preset_workload

        return preset_workload(preset, tokens, distribution=distribution, seed=seed), None
    if gemms:
        from accel_sim.workload.by_hand import gemm_workload

        return gemm_workload(gemms, distribution=distribution, seed=seed), None
    from accel_sim.trace import Trace
    from accel_sim.workload.from_trace import workload_from_trace

    path = trace or shipped_trace()
    note = None if trace else f"no --trace, --workload or --gemm: using the small capture that is shipped, {path}"
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

    idle = context is not None and scope == "linear"
    note = "--context changes attention alone, which --scope linear leaves out" if idle else None
    return decode_workload(work, batch, context), note
