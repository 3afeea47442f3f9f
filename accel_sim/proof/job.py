"""One matrix product as a job of the unit: its commands, the beats that it loads, its tiling from the timing model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import lcm

import numpy as np
from numpy.typing import NDArray

from accel_sim import functional
from accel_sim.arch import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.rtl.shape import UnitShape
from accel_sim.timing import compiled
from accel_sim.timing.layer import Plan, candidates, plan
from accel_sim.timing.pipeline import LOAD, STAGES, Schedule
from accel_sim.timing.product import Product
from accel_sim.timing.stages import Latencies
from accel_sim.workload import Gemm


@dataclass(frozen=True)
class Operands:
    """Codes and scales of one product. The output's static scale is a power of two."""

    activations: NDArray[np.int8]
    """[tokens, features]"""
    weights: NDArray[np.int8]
    """[features, outputs]"""
    token_scales: NDArray[np.float32]
    output_scales: NDArray[np.float32]

    def reference(self, pattern: Pattern | None) -> NDArray[np.int8]:
        """Output codes [tokens, outputs] of the functional model, NumPy backend."""
        whole = Pattern("1:1") if pattern is None else pattern
        sums = functional.sparse_matmul(self.activations, self.weights, whole)
        return functional.requantize(sums, self.token_scales, self.output_scales, 1.0)


@dataclass(frozen=True)
class Job:
    """A product cut for one unit by the timing model's own tiling."""

    shape: UnitShape
    mode: int
    """Which of the unit's patterns runs."""
    operands: Operands
    plan: Plan

    @property
    def streamed(self) -> str:
        return "weights" if self.plan.tiling.held == "activations" else "activations"

    @property
    def items(self) -> int:
        return self.plan.items.tokens.shape[1]

    def panels(self) -> NDArray[np.int64]:
        """[items, 2]: which panel of the activations and which of the weights each item works on."""
        panels = {
            "activations": -(-len(self.operands.activations) // self.shape.rows),
            "weights": -(-self.operands.weights.shape[1] // self.shape.cols),
        }
        held, streamed = np.divmod(np.arange(self.items), panels[self.streamed])
        first_second = (held, streamed) if self.plan.tiling.held == "activations" else (streamed, held)
        return np.stack(first_second, axis=1)

    def commands(self) -> list[dict[str, int]]:
        items, panels = self.plan.items, self.panels()
        loads = {"activations": items.loaded_activations[0] > 0, "weights": items.loaded_weights[0] > 0}
        place = {name: self._places(name, panels[:, i], loads[name]) for i, name in enumerate(loads)}
        return [
            {
                "load_weights": int(loads["weights"][i]),
                "load_activations": int(loads["activations"][i]),
                "exclusive": int(items.exclusive[i]),
                "weight_panel": int(place["weights"][i]),
                "activation_panel": int(place["activations"][i]),
                "tokens": int(items.tokens[0, i]),
                "outputs": int(items.outputs[0, i]),
            }
            for i in range(self.items)
        ]

    def _places(self, name: str, panels: NDArray[np.int64], loads: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Place in the buffer of every item's panel."""
        if name == self.streamed and self.plan.tiling.streaming == "resident":
            return panels
        if name == self.streamed and self.plan.tiling.streaming == "double":
            return (np.cumsum(loads) - 1) % 2
        return np.zeros_like(panels)

    def beats(self) -> list[int]:
        """Words of the load stream."""
        words: list[bytes] = []
        s, (activations, weights) = self.shape, (self.operands.activations, self.operands.weights.T)
        for (rows, cols), command in zip(self.panels(), self.commands(), strict=True):
            if command["load_weights"]:
                chosen = slice(cols * s.cols, cols * s.cols + command["outputs"])
                words += self._panel(weights[chosen], self.operands.output_scales[chosen])
            if command["load_activations"]:
                chosen = slice(rows * s.rows, rows * s.rows + command["tokens"])
                words += self._panel(activations[chosen], self.operands.token_scales[chosen])
        return [int.from_bytes(word, "little") for word in words]

    def _panel(self, codes: NDArray[np.int8], scales: NDArray[np.float32]) -> list[bytes]:
        """Beats of one panel: chunk by chunk, row by row within it, then the scales."""
        s, words = self.shape, []
        for first in range(0, codes.shape[1], s.chunk):
            chunk = codes[:, first : first + s.chunk]
            width = -(-chunk.shape[1] // s.bus_bytes) * s.bus_bytes if s.beats_per_unit > 1 else s.chunk
            padded = np.pad(chunk, ((0, 0), (0, width - chunk.shape[1])))
            words += _cut(padded.tobytes(), s.bus_bytes)
        return words + _cut(scales.astype("<f4").tobytes(), s.bus_bytes)

    def settings(self) -> dict[str, int]:
        """What holds still during the job."""
        features = self.operands.activations.shape[1]
        chunks = -(-features // self.shape.chunk)
        return {"mode": self.mode, "chunks": chunks, "last_features": features - (chunks - 1) * self.shape.chunk}

    def schedule(self, stalls: NDArray[np.int64]) -> Schedule:
        """The timing model's, where the load stream brings nothing in the cycles that are marked in `stalls`.

        A load takes until as many cycles as it has beats brought something; cycles beyond the end of `stalls` all do.
        """
        coming = np.concatenate(
            [np.cumsum(1 - stalls), len(stalls) - stalls.sum() + np.arange(1, 1 + self.beats_total)]
        )
        pipeline = self.plan.pipeline
        durations = pipeline.durations.copy()
        for item in np.flatnonzero(durations[0, :, LOAD]):  # a start depends on what was before, never on what follows
            start = compiled.run(replace(pipeline, durations=durations)).start[0, item, LOAD]
            wanted = durations[0, item, LOAD] + (coming[start - 1] if start else 0)
            durations[0, item, LOAD] = np.searchsorted(coming, wanted) + 1 - start
        return compiled.run(replace(pipeline, durations=durations))

    @property
    def bottleneck(self) -> str:
        """The stage that is occupied longest."""
        return STAGES[int(self.plan.pipeline.durations[0].sum(axis=0).argmax())]

    @property
    def beats_total(self) -> int:
        """Beats of all loads."""
        return int(self.plan.pipeline.durations[..., LOAD].sum())

    def outputs(self, beats: NDArray[np.int64]) -> NDArray[np.int8]:
        """Output codes [tokens, outputs] of the beats [beats, bus_bytes] that left the unit.

        Raises AccelSimError where there are not as many as the tiles fill.
        """
        tiles = [
            (rows, cols, command["tokens"], command["outputs"])
            for (rows, cols), command in zip(self.panels(), self.commands(), strict=True)
        ]
        lengths = [-(-tokens * outputs // self.shape.bus_bytes) for *_, tokens, outputs in tiles]
        if len(beats) != sum(lengths):
            raise AccelSimError(f"unit: {len(beats)} beats left it in time, expected {sum(lengths)}")
        codes = np.zeros((len(self.operands.activations), self.operands.weights.shape[1]), dtype=np.int8)
        first = 0
        for (rows, cols, tokens, outputs), length in zip(tiles, lengths, strict=True):
            tile = beats[first : first + length].astype(np.uint8).view(np.int8).ravel()[: tokens * outputs]
            top, left = rows * self.shape.rows, cols * self.shape.cols
            codes[top : top + tokens, left : left + outputs] = tile.reshape(outputs, tokens).T
            first += length
        return codes


def _cut(text: bytes, size: int) -> list[bytes]:
    return [text[i : i + size].ljust(size, b"\0") for i in range(0, len(text), size)]


def job(shape: UnitShape, operands: Operands, latencies: Latencies, held: str, mode: int = 0) -> Job:
    """Cut a product for a unit.

    Raises AccelSimError where the timing model would cut it in a way that the unit has no commands for, and for sizes
    whose tiles do not fill whole beats, which the unit pads and the timing model does not.
    """
    tokens, features = operands.activations.shape
    together = lcm(shape.units_per_beat, shape.requantisers)
    for what, size, step in (
        ("tokens", tokens, lcm(together, shape.bank_rows) if tokens % shape.rows > shape.bank_rows else together),
        ("outputs", operands.weights.shape[1], shape.units_per_beat),
        ("features", features, min(shape.bus_bytes, shape.chunk)),
    ):
        if size % step:
            raise AccelSimError(f"job of {size} {what}: expected multiples of {step}")
    pattern, machine = shape.modes[mode], arch(shape, features, held, mode)
    product = Product.of(Gemm("job", "matmul", tokens, features, operands.weights.shape[1]))
    tilings = [tried.tiling for tried in candidates(product, machine, pattern, latencies)]
    known = [tiling for tiling in tilings if tiling.chunks == 1 and tiling.replacement != "double"]
    if not known:
        raise AccelSimError(f"job {tokens}×{features}: the unit has no commands for {tilings[0]}")
    return Job(shape, mode, operands, plan(product, machine, pattern, known[0], latencies))


def arch(shape: UnitShape, features: int, held: str, mode: int = 0) -> Arch:
    """The unit's description for the timing model, with the pattern that runs."""
    s, pattern = shape, shape.modes[mode]
    dense = pattern is None
    row = features if dense else pattern.groups(features) * pattern.n + -(-s.chunks * s.metadata_bits // 8)
    whole = {"activations": s.activation_panels * s.rows * row, "weights": s.weight_panels * s.cols * features}
    sparsity = (
        {}
        if dense
        else {
            "patterns": [str(pattern)],
            "operand_mux": s.operand_mux,
            "operand_mux_register": s.operand_mux_register,
            "metadata": s.metadata,
            "selector": {"kind": s.selector, "units": s.bank_rows * (s.lanes // pattern.n)},
        }
    )
    return Arch.model_validate(
        {
            "name": "unit",
            "array": {"rows": s.rows, "cols": s.cols, "lanes": s.lanes, "requantisers": s.requantisers},
            "sparsity": sparsity,
            "sram": {
                "activation_bytes": whole["activations"],
                "weight_bytes": whole["weights"],
                "output_bytes": 2 * s.rows * s.cols,
            },
            "dram": {"bytes_per_cycle": s.bus_bytes, "latency_cycles": 0, "burst_bytes": s.bus_bytes},
            "mapping": {"held": held, "block_panels": 1},
        }
    )
