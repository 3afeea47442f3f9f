"""Keys of `--set` that no machine of the run has a use for, so that nobody waits for them to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accel_sim.arch import Arch
from accel_sim.arch.sparsity import SKIPS_ZEROS

_USED: dict[str, tuple[str, Callable[[Arch], bool]]] = {
    "sparsity.elastic_lanes": ("sparsity.skipping elastic", lambda arch: arch.sparsity.skipping == "elastic"),
    "sparsity.sync_window": (
        f"sparsity.skipping {' or '.join(SKIPS_ZEROS)}",
        lambda arch: arch.sparsity.skipping in SKIPS_ZEROS,
    ),
    "sparsity.window_banks": ("sparsity.skipping unstructured", lambda arch: arch.sparsity.skipping == "unstructured"),
    "sparsity.selector.sized_for_outputs": (
        "sparsity.selector.placement write_back",
        lambda arch: arch.sparsity.selector.placement == "write_back",
    ),
    "sparsity.selector.software_launch_cycles": (
        "sparsity.selector.placement software",
        lambda arch: arch.sparsity.selector.placement == "software",
    ),
    "predictor.pipeline": ("predictor.kind low_rank", lambda arch: arch.predictor.is_built),
    "predictor.weights": ("predictor.kind low_rank", lambda arch: arch.predictor.is_built),
    "predictor.sram_bytes": ("predictor.weights sram", lambda arch: arch.predictor.holds_weights),
    "predictor.sram_bytes_per_cycle": ("predictor.weights sram", lambda arch: arch.predictor.holds_weights),
    "cores.split": ("cores.count above 1", lambda arch: arch.cores.count > 1),
    "cores.shared_buffer_bytes_per_cycle": (
        "a cores.shared_buffer_bytes",
        lambda arch: arch.cores.shared_buffer_bytes > 0,
    ),
    "sram.accumulator_bytes": (
        "array.dataflow weight_stationary",
        lambda arch: arch.array.dataflow == "weight_stationary",
    ),
}
"""Key → what a machine must have for it to count, in words and as a test."""


def idle_settings(archs: Sequence[Arch], overrides: Sequence[str], scope: str) -> list[str]:
    """A note for each override `key=value` that changes nothing on any of these machines."""
    notes = []
    for key in dict.fromkeys(override.partition("=")[0].strip() for override in overrides):
        needed, counts = _USED.get(key, ("", None))
        if counts and not any(counts(arch) for arch in archs):
            notes.append(f"--set {key} changes nothing here: it needs {needed}")
        if key.startswith("vector.") and scope == "linear":
            notes.append(f"--set {key} changes nothing here: the vector unit is counted with --scope model")
    return notes
