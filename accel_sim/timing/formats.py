"""How operands are stored: bytes of a token's activations and of an output's weights, and whole bursts of DRAM."""

from __future__ import annotations

from dataclasses import dataclass

from accel_sim.arch.derived import array_pattern
from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing.product import Product
from accel_sim.workload import Gemm

SCALE_BYTES = 4
"""A float32 scale comes from DRAM with every token and with the weights of every output. Scales wait in registers
beside the requantisers, not in SRAM."""
THRESHOLD_BYTES = 4
"""So does a float32 threshold, where outputs are compared with one."""


@dataclass(frozen=True)
class Formats:
    """Bytes of one token's activations and of one output's weights where they are stored."""

    activation_dram_bytes: int
    activation_sram_bytes: int
    weight_dram_bytes: int
    weight_sram_bytes: int


def metadata_bytes(features: int, arch: Arch, pattern: Pattern | None) -> int:
    """Metadata of one row of the pruned operand; none where nothing is pruned."""
    if pattern is None or pattern.keeps_all:
        return 0
    return -(-pattern.groups(features) * pattern.metadata_bits(arch.sparsity.metadata) // 8)


def formats(product: Product, arch: Arch, pattern: Pattern | None) -> Formats:
    """Dense everywhere, except the pruned operand: kept values with their metadata.

    Activations are pruned in SRAM, and in DRAM where they were selected before they were stored; weights in both.
    Gathered features stand dense in SRAM.
    """
    dense, in_memory = product.features, product.stored_features
    in_sram = compressed_bytes(dense, arch, array_pattern(arch, pattern))
    if arch.sparsity.operand == "weights":
        return Formats(in_memory + SCALE_BYTES, dense, in_sram + SCALE_BYTES, in_sram)
    if arch.sparsity.selector.placement != "load":
        in_memory = compressed_bytes(in_memory, arch, pattern)
    constants = SCALE_BYTES + (THRESHOLD_BYTES if product.thresholds else 0)
    return Formats(in_memory + SCALE_BYTES, in_sram, dense + constants, dense)


def predictor_bytes(gemm: Gemm) -> int:
    """What one of a predictor's products keeps on chip: its weights, a scale an output, and the thresholds."""
    constants = SCALE_BYTES + (THRESHOLD_BYTES if gemm.thresholds else 0)
    return gemm.outputs * (gemm.features + constants)


def compressed_bytes(features: int, arch: Arch, pattern: Pattern | None) -> int:
    """One row of the pruned operand: the slots of its groups, and their metadata."""
    if pattern is None or pattern.keeps_all:
        return features
    return pattern.groups(features) * pattern.n + metadata_bytes(features, arch, pattern)
