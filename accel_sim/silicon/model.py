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
from accel_sim.timing.tiling import accumulated_tokens
from accel_sim.workload import Gemm

CODES_A_VALUE: dict[Dtype, int] = {"int8": 1, "fp16": 2}
OUTPUT_BYTES: dict[Dtype, int] = {"int8": 4, "fp16": 2}
"""torch._int_mm leaves INT32 sums, a half-precision product halves."""
TILE_TOKENS = (128, 96, 64, 32)
"""Tokens of a tile of 128 outputs that are tried: sizes in the names of cuBLAS's kernels (sm80_xmma_gemm …
tilesize96x128x32, 128x128, 128x64, 32x32)."""
ENOUGH_TILES = 12
"""Largest tiles a core, from which on no smaller ones are tried: at most a twelfth of the time is to be won."""
WARM_SHARE = 0.5
"""Part of the L2 that stays warm: it has two partitions, each for the cores beside it (NVIDIA A100 white paper), so
that what cores on both sides read stands in it twice."""


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
    warm: bool = False,
) -> LayerTiming:
    """The timing of one product, X sparse under `pattern` (None: dense); `output_bytes` of every stored result (None:
    those of `OUTPUT_BYTES`). `panel_tokens` holds the tile to a size; None takes the fastest of `TILE_TOKENS`, or the
    largest where that leaves every core `ENOUGH_TILES`. `warm`: the same product ran just before.

    Raises AccelSimError for a pattern that `arch` has not.
    """
    stored_bytes = output_bytes or OUTPUT_BYTES[dtype]
    chip = tuned(_storing(arch, stored_bytes), parameters)
    if warm and stays_in_cache(arch, shape, dtype, pattern, stored_bytes):
        chip = from_cache(chip)
    features = shape.features * CODES_A_VALUE[dtype]
    product = Gemm("product", "site", shape.tokens, features, shape.outputs)
    timings = [
        Machine(one, pattern and one.pattern(pattern)).time(product)
        for one in (_with_panels(chip, size) for size in _tile_sizes(chip, shape, panel_tokens))
    ]
    return min(timings, key=lambda timing: timing.cycles)


def _tile_sizes(chip: Arch, shape: Shape, asked: int | None) -> list[int]:
    if asked is not None:
        return [asked]
    largest = min(TILE_TOKENS[0], accumulated_tokens(chip))
    tiles = -(-shape.tokens // largest) * -(-shape.outputs // chip.array.cols)
    smaller = [] if tiles >= ENOUGH_TILES * chip.cores.count else [one for one in TILE_TOKENS if one < largest]
    return [largest, *smaller]


def _with_panels(chip: Arch, tokens: int) -> Arch:
    return chip.model_copy(update={"mapping": chip.mapping.model_copy(update={"panel_tokens": tokens})})


def stays_in_cache(arch: Arch, shape: Shape, dtype: Dtype, pattern: Pattern | None, stored_bytes: int) -> bool:
    """Whether operands and results, together, are still in the L2 when the same product runs again.

    All or nothing: a sweep over more than a cache holds, again and again, finds nothing where the least recently used
    goes first.
    """
    size, features = CODES_A_VALUE[dtype], shape.features
    x = features * size if pattern is None else packed_bytes(features, size, pattern)
    moved = shape.tokens * x + shape.outputs * features * size + shape.tokens * shape.outputs * stored_bytes
    return moved <= WARM_SHARE * arch.cores.shared_buffer_bytes


def packed_bytes(features: int, size: int, pattern: Pattern) -> float:
    """Of a sparse row: N of M values of `size` bytes, and ceil(log2 M) bits for each."""
    return features * pattern.n / pattern.m * (size + (pattern.m - 1).bit_length() / 8)


def from_cache(chip: Arch) -> Arch:
    """The card whose memory is its L2: what is loaded and stored goes no further. The latency stays: what is fitted as
    such is mostly the kernel's own."""
    dram = chip.dram.model_copy(update={"bytes_per_cycle": float(chip.cores.shared_buffer_bytes_per_cycle)})
    return chip.model_copy(update={"dram": dram})


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
