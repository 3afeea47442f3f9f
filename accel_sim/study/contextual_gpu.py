"""End-to-end decoding with contextual sparsity on a graphics card: data sheet, byte counts and measured kernels.

At batch 1 everything dense takes its bytes over the memory's bandwidth, which is what a GEMV and a cache read cost at
best. A sparse FFN takes its dense time × what the paper measured of its own kernels (Table 4), each matrix at the
sparsity that it runs at; the predictor its bytes over the bandwidth; the prefill its operations over the peak, dense on
both sides. Bytes and operations are those of the workloads that the simulator runs. Nothing is fitted to Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.study.contextual_tables import Published, Reading
from accel_sim.workload import DrawnNeurons, Gemm, Workload, decode_workload, preset_workload

Interpolation = Literal["time", "speedup", "fit", "ideal"]
"""Between the points of Table 4: relative time on straight lines (`time`), or the speed-up (`speedup`); one straight
line through all of LLaMA2's relative times instead (`fit`); or time by the share of the weights left (`ideal`)."""

FIT = (0.155, 0.73)
"""Relative time 0.155 + 0.73 · (1 − sparsity): a fixed part of a dense FFN's time, within 11 % of Table 4's LLaMA2."""


@dataclass(frozen=True)
class Setting:
    """How the tables are read, and what of the model is switched. The defaults are the model's own."""

    reading: Reading = "relative"
    interpolation: Interpolation = "time"
    gate_sparsity: float | None = None
    """Instead of the table's."""
    prefill: bool = True
    predictor: bool = True
    bandwidth: float = 1.0
    """Share of the data sheet's that dense products and the predictor reach."""
    peak: float = 1.0
    """Share of the data sheet's operations that the prefill reaches."""

    def __post_init__(self) -> None:
        if self.interpolation not in get_args(Interpolation):
            raise AccelSimError(f"interpolation {self.interpolation}: one of {', '.join(get_args(Interpolation))}")


@dataclass(frozen=True)
class Bytes:
    """What one decode step reads, in elements of weights and caches."""

    attention: int
    """Weights of the projections around attention."""
    head: int
    cache: int
    """Keys and values of all positions."""
    matrices: Mapping[int, Mapping[str, int]]
    """Layer → gate_proj, up_proj, down_proj → weights."""
    predictor: int


@dataclass(frozen=True)
class EndToEnd:
    """Seconds of a prompt and its answer, dense and with the predictor."""

    prefill: float
    dense: dict[str, float]
    """Of all decode steps: attention, head, cache, ffn."""
    sparse: dict[str, float]
    """The same, and predictor."""

    @property
    def speedup(self) -> float:
        return (self.prefill + sum(self.dense.values())) / (self.prefill + sum(self.sparse.values()))

    @property
    def decode_speedup(self) -> float:
        """Without the prefill."""
        return sum(self.dense.values()) / sum(self.sparse.values())


def end_to_end(tables: Published, preset: str, s: float, setting: Setting = Setting()) -> EndToEnd:
    """One cell of Table 1. Raises AccelSimError for a sparsity beyond what Table 4 measured."""
    neurons = tables.neurons(s, setting.reading, setting.gate_sparsity)
    dense_bytes, with_predictor = _elements(tables, preset), _predictor_elements(tables, preset)
    seconds_per_element = tables.run.element_bytes / (tables.gpu.bandwidth_bytes_per_s * setting.bandwidth)
    steps = tables.run.steps
    relative = relative_time(tables, preset, setting.interpolation)
    dense_ffn = sum(sum(matrices.values()) for matrices in dense_bytes.matrices.values())
    sparse_ffn = sum(
        elements * relative(_sparsity(neurons, layer, name))
        for layer, matrices in dense_bytes.matrices.items()
        for name, elements in matrices.items()
    )
    common = {
        "attention": steps * dense_bytes.attention * seconds_per_element,
        "head": steps * dense_bytes.head * seconds_per_element,
        "cache": _cache_elements(tables, preset) * seconds_per_element,
    }
    prefill = _prefill_flops(tables, preset) / (tables.gpu.fp16_flops_per_s * setting.peak) if setting.prefill else 0.0
    predictor = steps * with_predictor * seconds_per_element if setting.predictor else 0.0
    return EndToEnd(
        prefill,
        dense={**common, "ffn": steps * dense_ffn * seconds_per_element},
        sparse={**common, "ffn": steps * sparse_ffn * seconds_per_element, "predictor": predictor},
    )


def relative_time(tables: Published, preset: str, interpolation: Interpolation) -> Callable[[float], float]:
    """Sparsity → time of a sparse matrix over its dense one's, by the model's row of Table 4.

    The function raises AccelSimError beyond the table's largest sparsity.
    """
    points = {0.0: 1.0, **tables.models[preset].table_4}
    sparsities, speedups = np.array(list(points)), np.array(list(points.values()))

    def relative(sparsity: float) -> float:
        if not 0 <= sparsity <= sparsities[-1]:
            raise AccelSimError(
                f"sparsity {sparsity:g}: table 4 ends at {sparsities[-1]:g}, and what lies beyond was not measured"
            )
        if interpolation == "ideal":
            return 1 - sparsity
        if interpolation == "fit":
            return FIT[0] + FIT[1] * (1 - sparsity)
        if interpolation == "speedup":
            return float(1 / np.interp(sparsity, sparsities, speedups))
        return float(np.interp(sparsity, sparsities, 1 / speedups))

    return relative


def _sparsity(neurons: DrawnNeurons, layer: int, matrix: str) -> float:
    """The gate runs on what was predicted; up and down, behind the gate, on what is active (sequential pipeline)."""
    if matrix == "gate_proj":
        return neurons.of_layers.get(layer, neurons.predicted_sparsity)
    return neurons.realised_sparsity


def count(step: Workload) -> Bytes:
    """The elements of weights and caches of one decode step's products, of all of the model."""
    products = [one for one in step.operations("model") if isinstance(one, Gemm)]
    matrices: dict[int, dict[str, int]] = {}
    sums = dict.fromkeys(("attention", "head", "cache", "predictor"), 0)
    for gemm in products:
        elements, name = gemm.features * gemm.outputs * gemm.repeat, gemm.name.rpartition(".")[2]
        if gemm.kind == "linear" and name in ("gate_proj", "up_proj", "down_proj"):
            matrices.setdefault(gemm.layer, {})[name] = elements
        else:
            kinds = {"linear": "attention", "lm_head": "head", "attention": "cache", "predictor": "predictor"}
            sums[kinds[gemm.kind]] += elements
    return Bytes(matrices=matrices, **sums)


@cache
def _counted(preset: str, prompt: int, context: int) -> Bytes:
    return count(decode_workload(preset_workload(preset, prompt), 1, context))


def _elements(tables: Published, preset: str) -> Bytes:
    return _counted(preset, tables.run.prompt_tokens, tables.run.contexts[0])


def _cache_elements(tables: Published, preset: str) -> int:
    """Of all steps, each with the cache it has.

    A cache grows by the same with every position until a layer's window is full, so what it holds is concave: where a
    context between the first and the last lies on their line, all do, and their sum follows.
    """
    contexts = tables.run.contexts
    ends = (contexts[0], contexts[len(contexts) // 2], contexts[-1])
    first, middle, last = (_counted(preset, tables.run.prompt_tokens, context).cache for context in ends)
    if (middle - first) * (ends[2] - ends[0]) == (last - first) * (ends[1] - ends[0]):
        return (first + last) * len(contexts) // 2
    return sum(_counted(preset, tables.run.prompt_tokens, context).cache for context in contexts)


def _predictor_elements(tables: Published, preset: str) -> int:
    nothing = DrawnNeurons(0.0, 0.0)  # its size does not depend on what it predicts
    return count(decode_workload(tables.contextual(preset, nothing), 1, tables.run.contexts[0])).predictor


@cache
def _flops(preset: str, prompt: int) -> int:
    operations = preset_workload(preset, prompt).operations("model")
    return 2 * sum(one.macs for one in operations if isinstance(one, Gemm))


def _prefill_flops(tables: Published, preset: str) -> int:
    """Two operations a multiply-accumulate of every product."""
    return _flops(preset, tables.run.prompt_tokens)
