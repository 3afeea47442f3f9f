"""Predicted seconds of a product on a card: the machine and timing of `simulate`, with four named parameters.

FP16 runs as INT8 of twice as many features: a value takes the bytes of two codes and the tensor cores take half as many
a cycle, so both shares of the time are those of 2·K codes. Its 2:4 metadata then count twice (an eighth of the kept
bytes instead of a sixteenth).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from accel_sim.arch import Arch
from accel_sim.pattern import Pattern
from accel_sim.silicon.result import Dtype
from accel_sim.silicon.shapes import Shape
from accel_sim.simulation import Machine
from accel_sim.timing import LayerTiming, select_site
from accel_sim.timing.tiling import bytes_of_sums
from accel_sim.workload import Gemm

CODES_A_VALUE: dict[Dtype, int] = {"int8": 1, "fp16": 2}
OUTPUT_BYTES: dict[Dtype, int] = {"int8": 4, "fp16": 2}
"""torch._int_mm leaves INT32 sums, a half-precision product halves."""
ENOUGH_TILES = 2
"""Largest tiles a core, from which on no smaller ones are tried: a kernel library would not take them either."""


@dataclass(frozen=True)
class Parameters:
    """What no data sheet gives. Fitted for each kind of kernel; the defaults are the ideal card."""

    launch_s: float = 0.0
    """From the start of a kernel to its first load."""
    tensor_share: float = 1.0
    """Share of the published tensor rate that is reached (the clock under load, pauses between instructions)."""
    memory_share: float = 1.0
    """Share of the published bandwidth that is reached."""
    latency_s: float = 0.0
    """From a chunk's transfer to its use, as far as the chunks in flight do not hide it."""

    def described(self) -> dict[str, float]:
        """Name → value."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def tuned(arch: Arch, parameters: Parameters) -> Arch:
    """The architecture with the parameters in it: everything that has a cycle count follows the clock that is left."""
    published = arch.technology.clock_target_hz
    clock = published * parameters.tensor_share
    selector = arch.sparsity.selector.model_copy(
        update={"software_launch_cycles": round(parameters.launch_s * clock)},
    )
    port = max(1, round(arch.cores.shared_buffer_bytes_per_cycle * published / clock))
    return arch.model_copy(
        update={
            "cores": arch.cores.model_copy(
                update={"launch_cycles": round(parameters.launch_s * clock), "shared_buffer_bytes_per_cycle": port}
            ),
            "dram": arch.dram.model_copy(
                update={
                    "bytes_per_cycle": arch.dram.bytes_per_cycle * parameters.memory_share * published / clock,
                    "latency_cycles": round(parameters.latency_s * clock),
                }
            ),
            "sparsity": arch.sparsity.model_copy(update={"selector": selector}),
            "technology": arch.technology.model_copy(update={"clock_target_hz": clock}),
        }
    )


def predicted(
    arch: Arch,
    shape: Shape,
    dtype: Dtype,
    pattern: Pattern | None,
    parameters: Parameters,
    panel_tokens: int | None = None,
    output_bytes: int | None = None,
) -> LayerTiming:
    """The timing of one product, X sparse under `pattern` (None: dense); `output_bytes` of every stored result (None:
    those of `OUTPUT_BYTES`). `panel_tokens` holds the tile to a size; where
    it is None and the product fills the card twice with the largest tiles, those are taken, else all sizes are tried.

    Raises AccelSimError for a pattern that `arch` has not.
    """
    chip = tuned(_storing(arch, output_bytes or OUTPUT_BYTES[dtype]), parameters)
    largest = chip.sram.accumulator_bytes // bytes_of_sums(chip)
    tiles = -(-shape.tokens // largest) * -(-shape.outputs // chip.array.cols)
    if panel_tokens is None and tiles >= ENOUGH_TILES * chip.cores.count:
        panel_tokens = largest
    if panel_tokens is not None:
        chip = chip.model_copy(update={"mapping": chip.mapping.model_copy(update={"panel_tokens": panel_tokens})})
    machine = Machine(chip, pattern and chip.pattern(pattern))
    features = shape.features * CODES_A_VALUE[dtype]
    return machine.time(Gemm("product", "site", shape.tokens, features, shape.outputs))


def seconds(arch: Arch, timing: LayerTiming, parameters: Parameters) -> float:
    """Of a timing by `predicted`."""
    return timing.cycles / (arch.technology.clock_target_hz * parameters.tensor_share)


def selection_seconds(arch: Arch, shape: Shape, dtype: Dtype, pattern: Pattern, parameters: Parameters) -> float:
    """Of the kernel that selects and packs X before the product."""
    chip = tuned(arch, parameters)
    cycles = select_site(shape.tokens, shape.features * CODES_A_VALUE[dtype], chip, pattern).cycles
    return cycles / chip.technology.clock_target_hz


def with_pattern(arch: Arch, pattern: Pattern) -> Arch:
    """The same chip built for another pattern, at the same rates: nothing of it exists."""
    sparsity = arch.sparsity.model_copy(update={"patterns": (pattern,)})
    return arch.model_copy(update={"sparsity": sparsity})


def _storing(arch: Arch, output_bytes: int) -> Arch:
    array = arch.array.model_copy(update={"stored_output_bytes": output_bytes})
    return arch.model_copy(update={"array": array})
