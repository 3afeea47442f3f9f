"""What the tests of the RTL share: codes and weights as a processing element is fed with them; which simulators run."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from accel_sim.encoding import encode
from accel_sim.errors import AccelSimError
from accel_sim.functional import select
from accel_sim.functional.numpy_backend import slots
from accel_sim.pattern import Encoding, Pattern
from accel_sim.shipped import folder
from accel_sim.trace import Trace

SHIPPED_SITE, SHIPPED_PROJECTION = "layers.15.self_attn.o_proj", "model.layers.15.self_attn.o_proj"


def require_simulator(name: str) -> str:
    """The name, or a skipped test that says what to install."""
    from accel_sim.rtl.simulation import available

    if reason := available()[name]:
        pytest.skip(reason)
    return name


def assert_refused(build: Callable[[], object], message: str) -> None:
    """`build()` raises AccelSimError with the message. Amaranth's warning of an unused unit is no news."""
    from amaranth.hdl import UnusedElaboratable

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        with pytest.raises(AccelSimError, match=message):
            build()
        gc.collect()  # the warning comes when the unit goes


@cache
def shipped_trace() -> Trace:
    return Trace.open(folder("traces") / "smollm2-135m", verify=False)


def real_operands(tokens: int, features: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes int8 [T, K] of captured rows and weights int8 [K, F] of the projection they feed."""
    trace = shipped_trace()
    x, w = trace.codes(SHIPPED_SITE), trace.weight(SHIPPED_PROJECTION).codes
    return np.array(x[:tokens, :features]), np.array(w[:features, :outputs])


def group_metadata(positions: np.ndarray, pattern: Pattern, metadata: Encoding) -> np.ndarray:
    """One number a group [T, G], as wide as the encoding makes it, of slot positions [T, G, N]."""
    tokens, groups, _ = positions.shape
    packed = encode(positions.reshape(tokens * groups, 1, pattern.n), pattern, metadata)
    dtype = np.int64 if pattern.metadata_bits(metadata) < 64 else object
    return np.array([int.from_bytes(row.tobytes(), "little") for row in packed], dtype=dtype).reshape(tokens, groups)


def sparse_stream(
    x: np.ndarray, w: np.ndarray, pattern: Pattern, lanes: int, metadata: Encoding, seed: int = 0
) -> tuple[dict[str, np.ndarray], int]:
    """Inputs of a sparse PE that computes all of x [T, K] · w [K, F], a sum after the other, and the cycles of a sum.

    Weights beyond K, which meet activations of 0, are drawn at random: they must not matter.
    """
    tokens, outputs = len(x), w.shape[1]
    groups_a_cycle = lanes // pattern.n
    steps = -(-pattern.groups(x.shape[1]) // groups_a_cycle)
    total = steps * groups_a_cycle
    values, positions = slots(x, select(x, pattern), pattern)
    codes = group_metadata(positions, pattern, metadata)
    missing = total - values.shape[1]
    values = np.pad(values, ((0, 0), (0, missing), (0, 0)))
    codes = np.pad(codes, ((0, 0), (0, missing)))
    kept = np.zeros((tokens, steps, lanes), dtype=np.int8)
    kept[..., : groups_a_cycle * pattern.n] = values.reshape(tokens, steps, -1)
    windows = np.random.default_rng(seed).integers(-127, 128, (outputs, total * pattern.m), dtype=np.int8)
    windows[:, : len(w)] = w.T
    windows = windows.reshape(outputs, steps, groups_a_cycle * pattern.m)
    every = (tokens, outputs, steps)
    return {
        "activations": np.broadcast_to(kept[:, None], (*every, lanes)).reshape(-1, lanes),
        "metadata": np.broadcast_to(codes.reshape(tokens, 1, steps, -1), (*every, groups_a_cycle)).reshape(
            -1, groups_a_cycle
        ),
        "weights": np.broadcast_to(windows, (*every, windows.shape[2])).reshape(-1, windows.shape[2]),
        "clear": first_steps(tokens * outputs, steps),
    }, steps


def dense_stream(x: np.ndarray, w: np.ndarray, lanes: int) -> tuple[dict[str, np.ndarray], int]:
    """Inputs of a dense PE that computes all of x [T, K] · w [K, F], and the cycles of a sum."""
    tokens, outputs = len(x), w.shape[1]
    steps = -(-x.shape[1] // lanes)
    padding = steps * lanes - x.shape[1]
    rows = np.pad(x, ((0, 0), (0, padding))).reshape(tokens, 1, steps, lanes)
    columns = np.pad(w.T, ((0, 0), (0, padding))).reshape(1, outputs, steps, lanes)
    every = (tokens, outputs, steps, lanes)
    return {
        "activations": np.broadcast_to(rows, every).reshape(-1, lanes),
        "weights": np.broadcast_to(columns, every).reshape(-1, lanes),
        "clear": first_steps(tokens * outputs, steps),
    }, steps


def first_steps(sums: int, steps: int) -> np.ndarray:
    """1 in the first cycle of every sum."""
    return np.tile(np.arange(steps) == 0, sums).astype(np.int64)


def sums_of(unit, inputs: dict[str, np.ndarray], steps: int, shape: tuple[int, int], simulator: str) -> np.ndarray:
    """Accumulators [T, F] at the cycle in which each sum is complete, and not a cycle later."""
    from accel_sim.rtl.simulation import run

    latency = unit.latency
    seen = run(unit, inputs, simulator, len(inputs["clear"]) + latency)["accumulator"]
    return seen[steps - 1 + latency :: steps][: shape[0] * shape[1]].reshape(shape)
