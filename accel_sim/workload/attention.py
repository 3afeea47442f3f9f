"""Attention as dense matrix products and vector work: scores, softmax, values, with the KV cache in DRAM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from accel_sim.errors import AccelSimError
from accel_sim.workload.gemm import Gemm, Operation
from accel_sim.workload.shape import ModelShape
from accel_sim.workload.vector import VectorOperation, operation_table


@dataclass(frozen=True)
class Pass:
    """One forward pass over equal sequences. Prefill: all positions are new. Decode: one is.

    Raises AccelSimError unless 1 ≤ new_tokens ≤ context.
    """

    sequences: int
    new_tokens: int
    """Of every sequence."""
    context: int
    """Positions of a sequence at the end of the pass, the new ones included."""

    def __post_init__(self) -> None:
        if self.sequences < 1 or not 1 <= self.new_tokens <= self.context:
            raise AccelSimError(
                f"pass of {self.sequences} sequences, {self.new_tokens} new tokens, context {self.context}:"
                " expected at least one of each, and a context that holds the new tokens"
            )

    @property
    def tokens(self) -> int:
        """Rows of every linear projection."""
        return self.sequences * self.new_tokens


@dataclass(frozen=True)
class AttentionOptions:
    """How attention is run. Raises AccelSimError for an empty block."""

    fused: bool = True
    """Scores and probabilities stay on chip, tile by tile (FlashAttention, arXiv 2205.14135); false: they pass through
    DRAM, as in three separate kernels."""
    query_block: int = 128
    """Query tokens that see the same keys. Causal masking leaves a triangle; products are cut into blocks of so many
    query tokens, each with all keys up to its last token (arXiv 2307.08691 §3.1 skips the blocks above the diagonal in
    the same way, with blocks of 64 or 128)."""

    def __post_init__(self) -> None:
        if self.query_block < 1:
            raise AccelSimError(f"query_block {self.query_block}: expected at least 1")


FUSED = AttentionOptions()
"""The default: fused, in blocks of 128 query tokens."""


@dataclass(frozen=True)
class _Queries:
    """A block of query tokens, the same of every sequence, and the keys it is multiplied with."""

    first: int
    tokens: int
    keys: int


def attention(
    shape: ModelShape, block: str, layer: int | None, one_pass: Pass, options: AttentionOptions, reader: str
) -> Iterator[Operation]:
    """Everything between the projections in front of attention and the one behind it, whose site is `reader`.

    Every KV head of every sequence is a product of its own (`repeat`): the query heads that share it, for every query
    token, are its tokens.
    """
    if shape.rotary or shape.query_key_norm:
        yield _rotary(shape, block, layer, one_pass, options)
    blocks = list(_query_blocks(one_pass, options, shape.window(layer or 0)))
    for queries in blocks:
        which = f"[{queries.first}-{queries.first + queries.tokens - 1}]" if len(blocks) > 1 else ""
        rows = queries.tokens * shape.queries_per_key_value_head
        heads = shape.num_key_value_heads * one_pass.sequences
        common = {"repeat": heads, "kind": "attention", "prunable": False, "layer": layer}
        yield Gemm(
            f"{block}.scores{which}",
            f"{block}.queries",
            rows,
            shape.head_dim,
            queries.keys,
            outputs_on_chip=options.fused,
            **common,
        )
        yield _softmax(f"{block}.softmax{which}", layer, rows * heads, queries.keys, options)
        yield Gemm(
            f"{block}.values{which}",
            f"{block}.probabilities",
            rows,
            queries.keys,
            shape.head_dim,
            activations_on_chip=options.fused,
            produces=reader,
            **common,
        )


def _query_blocks(one_pass: Pass, options: AttentionOptions, window: int | None) -> Iterator[_Queries]:
    before = one_pass.context - one_pass.new_tokens
    for first in range(0, one_pass.new_tokens, options.query_block):
        tokens = min(options.query_block, one_pass.new_tokens - first)
        last_key = before + first + tokens
        first_key = 0 if window is None else max(0, before + first + 1 - window)
        yield _Queries(first, tokens, last_key - first_key)


def _rotary(
    shape: ModelShape, block: str, layer: int | None, one_pass: Pass, options: AttentionOptions
) -> VectorOperation:
    """Queries and keys are rotated, and in some models normalised before it, head by head."""
    table = operation_table()
    rows = one_pass.tokens * (shape.num_attention_heads + shape.num_key_value_heads)
    steps = [shape.norm] * shape.query_key_norm + ["rotary"] * shape.rotary
    per_element, per_row = table.count(["dequantise", *steps, "quantise"])
    return VectorOperation(
        name=f"{block}.rotary",
        kind="rotary",
        elements=rows * shape.head_dim,
        operations_per_element=per_element,
        rows=rows,
        operations_per_row=per_row,
        read_bytes=rows * shape.head_dim * table.activation_bytes,
        written_bytes=rows * shape.head_dim * table.activation_bytes,
        inputs_on_chip=options.fused,
        outputs_on_chip=options.fused,
        layer=layer,
    )


def _softmax(name: str, layer: int | None, rows: int, keys: int, options: AttentionOptions) -> VectorOperation:
    table = operation_table()
    per_element, per_row = table.count(["dequantise", "softmax"])
    return VectorOperation(
        name=name,
        kind="softmax",
        elements=rows * keys,
        operations_per_element=per_element,
        rows=rows,
        operations_per_row=per_row,
        read_bytes=rows * keys * table.activation_bytes,
        written_bytes=rows * keys * table.activation_bytes,
        inputs_on_chip=options.fused,
        outputs_on_chip=options.fused,
        layer=layer,
    )


def describe_attention(one_pass: Pass, options: AttentionOptions) -> str:
    """One line: fused or not, and what the blocks of causal attention compute beyond the triangle."""
    how = "fused attention" if options.fused else "attention scores through DRAM"
    if one_pass.new_tokens == 1:
        return f"{how}, context {one_pass.context}"
    computed = sum(block.tokens * block.keys for block in _query_blocks(one_pass, options, None))
    before = one_pass.context - one_pass.new_tokens
    needed = one_pass.new_tokens * before + one_pass.new_tokens * (one_pass.new_tokens + 1) // 2
    return f"{how}, causal in blocks of {options.query_block} queries ({computed / needed - 1:.1%} above the triangle)"
