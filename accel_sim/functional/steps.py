"""The datapath's steps on one block of tokens, each compared on every backend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel_sim.functional.comparison import Everywhere
from accel_sim.functional.fixed_point import multipliers
from accel_sim.pattern import ENCODINGS, Pattern


@dataclass(frozen=True)
class Operand:
    """Weights and what comes with them: codes int8 [K, F], scales float32 [F], start int32 [F], bias float32 [F]."""

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    start: NDArray[np.int32]
    """What the accumulators start from."""
    bias: NDArray[np.float32] | None


def compare_masks(
    everywhere: Everywhere, layer: str, x: NDArray[np.int8], factors: NDArray[np.uint8], pattern: Pattern
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks by plain magnitude and by scores weighted with factors uint8 [K]."""
    plain, name = np.ones(x.shape[1], dtype=np.uint8), f"{layer} at {pattern}"
    (weighted,) = everywhere.run(name, ["mask with factors"], lambda b: [b.select(x, pattern, factors)])
    (mask,) = everywhere.run(name, ["mask"], lambda b: [b.select(x, pattern, plain)])
    return mask, weighted


def compare_encodings(
    everywhere: Everywhere, layer: str, x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern
) -> None:
    """Every encoding there and back."""
    name = f"{layer} at {pattern}"
    for encoding in ENCODINGS:
        values, metadata = everywhere.run(
            name,
            ["compressed values", f"{encoding} metadata"],
            lambda b, encoding=encoding: b.compress(x, mask, pattern, encoding),
        )
        everywhere.run(
            name,
            ["decompressed codes"],
            lambda b, v=values, m=metadata, e=encoding: [b.decompress(v, m, x.shape[1], pattern, e)],
        )


def compare_products(
    everywhere: Everywhere,
    layer: str,
    x: NDArray[np.int8],
    scales: NDArray[np.float32],
    mask: NDArray[np.bool_],
    weight: Operand,
    pattern: Pattern,
) -> None:
    """INT32 accumulators, then both ways out of them: floats, and INT8 codes at the scale that the floats need."""
    name = f"{layer} at {pattern}"
    (acc,) = everywhere.run(
        name, ["INT32 accumulators"], lambda b: [b.multiply(x, mask, weight.codes, pattern, weight.start)]
    )
    everywhere.comparison.operations += 2 * x.size * weight.codes.shape[1]
    (floats,) = everywhere.run(
        name, ["float32 outputs"], lambda b: [b.dequantize(acc, scales, weight.scales, weight.bias)]
    )
    output_scale = float(np.abs(floats).max(initial=0)) / 127 or 1.0
    constants = multipliers(scales, weight.scales, output_scale)
    everywhere.run(name, ["INT8 outputs"], lambda b: [b.requantize(acc, constants)])
