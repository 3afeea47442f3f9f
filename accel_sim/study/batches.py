"""The batches of a decode study."""

from __future__ import annotations

from accel_sim.errors import AccelSimError
from accel_sim.workload import Workload, decode_workload

POWERS_OF_TWO = tuple(2**power for power in range(9))
"""1 … 256."""


def batches_named(text: str) -> tuple[int, ...]:
    """Batches from a list such as 1,2,4, in ascending order.

    Raises AccelSimError for anything that is not a whole number of at least 1.
    """
    try:
        batches = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        batches = ()
    if not batches or batches[0] < 1:
        raise AccelSimError(f"--batches {text}: expected whole numbers of at least 1, such as 1,2,4,8")
    return batches


def contexts_named(text: str) -> tuple[int, ...]:
    """Lengths of KV caches from a list such as 1024,4096, in ascending order.

    Raises AccelSimError for anything that is not a whole number of at least 1.
    """
    try:
        contexts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        contexts = ()
    if not contexts or contexts[0] < 1:
        raise AccelSimError(f"--context {text}: expected whole numbers of at least 1, such as 1024 or 1024,4096")
    return contexts


def batches_that_fit(workload: Workload) -> tuple[tuple[int, ...], str | None]:
    """The powers of two up to 256 that the workload can make decode steps of, and why larger ones are left out.

    Raises AccelSimError where it can make none.
    """
    decode_workload(workload, POWERS_OF_TWO[0])
    for place, batch in enumerate(POWERS_OF_TWO):
        try:
            decode_workload(workload, batch)
        except AccelSimError as error:
            return POWERS_OF_TWO[:place], f"batches from {batch} are left out: {error}"
    return POWERS_OF_TWO, None
