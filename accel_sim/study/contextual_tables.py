"""The tables of SVDP (arXiv 2603.14110) that a simulator can be held beside, with the card they were measured on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from accel_sim.errors import AccelSimError
from accel_sim.workload import ContextualOptions, DrawnNeurons, Workload, drawn_contextual_workload, preset_workload
from accel_sim.workload.presets import presets
from accel_sim.workload.rules import Strict
from accel_sim.yaml_file import read_yaml

_FILE = Path(__file__).parent / "data" / "contextual_published.yaml"

Positive = Annotated[float, Field(gt=0)]
Reading = Literal["relative", "absolute"]
"""Of a column s: s times the gate's own sparsity, less in the first layers (the authors' code), or s itself."""


class Gpu(Strict):
    """A card by its data sheet."""

    name: str
    bandwidth_bytes_per_s: Positive
    fp16_flops_per_s: Positive
    """Dense, with FP32 accumulation."""
    source: str


class Run(Strict):
    """What was timed: one prompt, answered token by token."""

    prompt_tokens: Annotated[int, Field(ge=1)]
    generated_tokens: Annotated[int, Field(ge=2)]
    element_bytes: Annotated[int, Field(ge=1)]
    """Of weights and caches."""
    source: str

    @property
    def steps(self) -> int:
        """Decode steps: the first token comes out of the prefill."""
        return self.generated_tokens - 1

    @property
    def contexts(self) -> range:
        """Positions in the cache, step by step."""
        return range(self.prompt_tokens + 1, self.prompt_tokens + 1 + self.steps)


class Shape(Strict):
    """A row of Table 12."""

    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int


class PublishedModel(Strict):
    """One model's rows of tables 1, 4 and 12."""

    name: str
    rank: Annotated[int, Field(ge=1)]
    table_12: Shape
    table_1: dict[float, float]
    """s → end-to-end speed-up."""
    scores: dict[Literal["dense"] | float, float]
    """s → mean score over eight tasks."""
    table_4: dict[float, float]
    """Sparsity of all three matrices → speed-up of the FFN, predictor left out."""


class Published(Strict):
    """All of it."""

    source: str
    gpu: Gpu
    run: Run
    gate_sparsity: Annotated[float, Field(gt=0, lt=1)]
    gate_sparsity_source: str
    earlier_layers: dict[int, float]
    """Layer → how much less than s its target is."""
    models: dict[str, PublishedModel]
    """By the preset of their shapes."""

    def neurons(self, s: float, reading: Reading = "relative", gate_sparsity: float | None = None) -> DrawnNeurons:
        """What a column s of Table 1 asks of the layers; what is left active is the gate's own sparsity."""
        gate = self.gate_sparsity if gate_sparsity is None else gate_sparsity
        if reading == "absolute":
            return DrawnNeurons(s, gate)
        own = {layer: round(gate * (s - less), 12) for layer, less in self.earlier_layers.items()}
        return DrawnNeurons(round(gate * s, 12), gate, of_layers=own)

    def workload(self, preset: str) -> Workload:
        """The dense model of a preset with a prompt, as the simulator runs it."""
        return preset_workload(preset, self.run.prompt_tokens)

    def contextual(self, preset: str, neurons: DrawnNeurons) -> Workload:
        """The same with a predictor of the model's rank in its decode steps."""
        return drawn_contextual_workload(self.workload(preset), neurons, ContextualOptions(self.models[preset].rank))


@cache
def published() -> Published:
    """The shipped tables. Raises AccelSimError where a preset has not the shape that Table 12 prints."""
    tables = Published.model_validate(read_yaml(_FILE, "table"))
    for name, model in tables.models.items():
        _check(name, model, tables.models)
    return tables


def _check(name: str, model: PublishedModel, models: Mapping[str, PublishedModel]) -> None:
    shape = presets()[name]
    ours = Shape(
        hidden=shape.hidden_size,
        intermediate=shape.intermediate_size,
        heads=shape.num_attention_heads,
        key_value_heads=shape.num_key_value_heads,
    )
    if ours != model.table_12:
        raise AccelSimError(f"table {_FILE.name}: models.{name}: the preset is {ours}, table 12 says {model.table_12}")
