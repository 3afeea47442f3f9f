"""A workload: the matrix products of one forward pass, and what is known of the activations that feed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError
from accel_sim.workload.vector import VectorOperation

LARGEST_REDUCTION = (2**31 - 1) // 127**2
"""Features whose INT8 products (codes within ±127) always sum to an INT32: 133,144."""

Scope = Literal["linear", "model"]
"""`linear`: the linear projections of the decoder blocks. `model`: everything the decoder computes."""


@dataclass(frozen=True)
class Weights:
    """INT8 weights of one projection: `codes` int8 [K, F], `scales` float32 [F]."""

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Gemm:
    """One matrix product: activations [tokens, features] times weights [features, outputs].

    In an attention product the second operand is a part of the KV cache: keys [head_dim, context] for the scores,
    values [context, head_dim] after the softmax.
    """

    name: str
    site: str
    """Key into `Workload.sites`: projections fed by the same tensor share it. Nothing is known of the operands of an
    attention product, so its site is not there; nor is an LM head's, unless its input was captured or drawn."""
    tokens: int
    features: int
    outputs: int
    repeat: int = 1
    """How many equal products this stands for (experts under balanced routing; KV heads × sequences)."""
    load_weights: Callable[[], Weights] | None = None
    """Reads the projection's weights, where the source of the workload holds them."""
    kind: Literal["linear", "attention", "lm_head", "predictor"] = "linear"
    """`predictor`: says which neurons of an MLP are needed; run by machines with a predictor, and by no other."""
    prunable: bool = True
    """False: always runs dense (attention, LM head, the router of a mixture of experts)."""
    layer: int | None = None
    """Index of the decoder block; None where the source does not say, and for the LM head."""
    activations_on_chip: bool = False
    """The activations are left on chip by the operation before: they do not come from DRAM."""
    outputs_on_chip: bool = False
    """The outputs stay on chip for the operation after: they do not go to DRAM."""
    consumer_site: str | None = None
    """Site whose feature j is an elementwise function of output j of this product (gate_proj and up_proj: the site of
    down_proj). A feature no token needs is an output no token needs."""
    rows_of: str | None = None
    """Site whose rows this product's site holds some of: the tokens that were routed to an expert. They are read where
    they lie; nobody produces or selects them again."""
    produces: str | None = None
    """Site whose features are the outputs of this product, with nothing in between (attention values: the site of
    o_proj)."""
    predicted_site: str | None = None
    """Site of a predictor's bits (codes 0 and 1), one a neuron: an output of this product (gate_proj, up_proj), or a
    feature (down_proj)."""
    behind_gate: bool = False
    """Which neurons the gate made zero is known when this product starts (up_proj, where a predictor is)."""
    thresholds: bool = False
    """Every output is compared with a threshold of its own, and only the bit is kept."""
    weights_on_chip: bool = False
    """The weights stay in a memory of their own on chip: they do not come from DRAM."""

    def __post_init__(self) -> None:
        for quantity in ("tokens", "features", "outputs", "repeat"):
            if getattr(self, quantity) < 1:
                raise AccelSimError(f"layer {self.name}: {quantity} must be at least 1, not {getattr(self, quantity)}")
        if self.features > LARGEST_REDUCTION:
            raise AccelSimError(
                f"layer {self.name}: {self.features} features can overflow the INT32 sums of INT8 products;"
                f" at most {LARGEST_REDUCTION} are exact"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(tokens, features, outputs)."""
        return self.tokens, self.features, self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense product, all repeats together."""
        return self.tokens * self.features * self.outputs * self.repeat


Operation = Gemm | VectorOperation


@dataclass(frozen=True)
class SiteActivations:
    """INT8 activations of one site, read only when they are asked for.

    `load()` gives `codes` int8 [S, K] and `scales` float32 [S], token rows in order. S is the number of tokens (of all
    repeats together), or fewer where a synthetic site is represented by a seeded sample of rows.

    Raises AccelSimError for a sample of one row, whose error nobody could tell.
    """

    load: Callable[[], tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]]
    sampled_rows: int | None = None
    """Rows in the sample; None when every token is there."""

    def __post_init__(self) -> None:
        if self.sampled_rows is not None and self.sampled_rows < 2:
            raise AccelSimError(f"sampled_rows {self.sampled_rows}: expected at least 2")


@dataclass(frozen=True)
class WholeModel:
    """Everything a decoder computes in one pass."""

    operations: tuple[Operation, ...]
    """In execution order; the linear projections among them are the workload's own `gemms`."""
    source: str
    """One line for the report: where the model's shape comes from, and how attention was cut."""


@dataclass(frozen=True)
class Workload:
    """Matrix products in execution order, with the activations of their sites."""

    name: str
    source: str
    """One line for the report: the trace and its model, or the distribution, its seed and its sample."""
    gemms: tuple[Gemm, ...]
    """The linear projections of the decoder blocks, and what predicts which of their weights are needed."""
    sites: Mapping[str, SiteActivations]
    model: WholeModel | None = None
    """What surrounds the linear projections, where the source knows the model's shape."""
    no_model: str = ""
    """Why `model` is None, in words that complete "scope model: ..."."""
    layers_in_model: int | None = None
    """Decoder blocks of the model; the workload may hold fewer. None: there is no model."""
    phase: Literal["prefill", "decode"] = "prefill"
    """`decode`: rows are tokens of different sequences or steps."""
    unpredicted: Mapping[str, SiteActivations | None] = field(default_factory=dict)
    """Sites that a predictor's misses made zeros in, as they would be without it; None where nobody knows."""
    decode_step: Callable[[int, int | None], Workload] | None = None
    """Builds the workload of one decode step from a batch and a context; called by `decode_workload`."""

    def __post_init__(self) -> None:
        if not self.gemms:
            raise AccelSimError(f"workload {self.name}: it has no linear projections")

    def operations(self, scope: Scope = "linear") -> tuple[Operation, ...]:
        """What a scope counts, in execution order.

        Raises AccelSimError for `model` where the source does not know the model's shape.
        """
        if scope == "linear":
            return self.gemms
        if self.model is None:
            raise AccelSimError(
                f"workload {self.name}: scope model: {self.no_model or 'nothing is known of a model'};"
                " use a published model's shapes (--workload) or a trace of a whole decoder"
            )
        return self.model.operations

    def readers(self, site: str) -> tuple[Gemm, ...]:
        """The linear projections that read what the producer of `site` made, experts among them."""
        return tuple(gemm for gemm in self.gemms if site in (gemm.site, gemm.rows_of))
