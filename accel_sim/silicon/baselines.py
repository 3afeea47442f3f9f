"""What a prediction has to beat: the median of the fitted shapes, and a roofline of published peaks."""

from __future__ import annotations

from collections.abc import Collection
from statistics import median

from accel_sim.arch import Arch
from accel_sim.pattern import Pattern
from accel_sim.silicon.families import Family
from accel_sim.silicon.model import CODES_A_VALUE, packed_bytes
from accel_sim.silicon.shapes import Shape


def constant(fitted: Collection[float]) -> float:
    """The median of what was measured on the fitted shapes (seconds, or speed-ups)."""
    return median(fitted)


def roofline(arch: Arch, family: Family, shape: Shape, pattern: Pattern) -> float:
    """Seconds: operations over the published peak or bytes over the published bandwidth, whichever is longer.

    Every operand crosses the memory once. A sparse X is N/M of its values and ceil(log2 M) bits for each; its product
    has N/M of the operations. A selection has bytes alone: X read, kept values and metadata written.
    """
    clock = arch.technology.clock_target_hz
    rate = arch.cores.count * arch.array.rows * arch.array.cols * arch.array.lanes * clock / CODES_A_VALUE[family.dtype]
    macs = {"dense": shape.macs, "sparse": shape.macs * pattern.n / pattern.m, "select": 0}[family.work]
    return max(macs / rate, moved_bytes(family, shape, pattern) / (arch.dram.bytes_per_cycle * clock))


def moved_bytes(family: Family, shape: Shape, pattern: Pattern) -> float:
    """Operands and results, each once."""
    size, features = CODES_A_VALUE[family.dtype], shape.features
    x = shape.tokens * features * size
    packed = shape.tokens * packed_bytes(features, size, pattern)
    if family.work == "select":
        return x + packed
    others = features * shape.outputs * size + shape.tokens * shape.outputs * family.output_bytes
    return (x if family.work == "dense" else packed) + others
