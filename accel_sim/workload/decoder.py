"""A whole decoder around its linear projections: attention, norms, activation functions, LM head, in execution order.

What goes through DRAM, in bytes of the shipped operation table: every operation reads its inputs there and leaves its
outputs there, because layers run one after the other. Two things stay on chip when attention is fused
(FlashAttention, arXiv 2307.08691), the default: scores and probabilities; and queries and keys while they are rotated
(and normalised) on their way from the projection to DRAM. New keys and values reach the KV cache as the outputs of
k_proj and v_proj; the cache is read as the second operand of the attention products.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from accel_sim.errors import AccelSimError
from accel_sim.workload.attention import FUSED, AttentionOptions, Pass, attention, describe_attention
from accel_sim.workload.gemm import Gemm, Operation, WholeModel
from accel_sim.workload.roles import consumer, named, role
from accel_sim.workload.shape import ModelShape
from accel_sim.workload.vector import VectorKind, VectorOperation, operation_table

LM_HEAD = "lm_head"
LM_HEAD_SITE = "lm_head.input"


@dataclass(frozen=True)
class Decoder:
    """One pass through a decoder: its shape, the pass, and how attention is run."""

    shape: ModelShape
    one_pass: Pass
    options: AttentionOptions = FUSED

    def whole_model(self, gemms: Sequence[Gemm]) -> WholeModel:
        """Everything around `gemms`, the linear projections in execution order, each with its `layer`.

        With fewer blocks than the model has, the final norm and the LM head are left out: beside a part of the blocks
        they would weigh too much.

        Raises AccelSimError for a block whose projections are not those of `shape`.
        """
        operations: list[Operation] = []
        layers = 0
        for layer, block in groupby(gemms, key=lambda gemm: gemm.layer):
            operations += _Block(self, layer, list(block), joins=self._joins(operations, layer)).operations()
            layers += 1
        complete = layers == self.shape.num_hidden_layers
        if complete:
            operations += self._head(self._joins(operations, None))
        parts = "" if complete else f"; {layers} of {self.shape.num_hidden_layers} blocks, so no final norm and LM head"
        return WholeModel(
            operations=tuple(operations),
            source=f"whole model of {self.shape.model}: {describe_attention(self.one_pass, self.options)}{parts}",
        )

    def _joins(self, before: list[Operation], layer: int | None) -> bool:
        """Whether the output of the block before has still to be added to the residual stream (experts' has been)."""
        if not before:
            return layer != 0 and not self.shape.experts
        return not (isinstance(before[-1], VectorOperation) and before[-1].kind == "combine")

    def _head(self, joins: bool) -> Iterator[Operation]:
        """The final norm and the LM head, for the last token of every sequence: the one that is continued."""
        tokens, site = self.one_pass.sequences, LM_HEAD_SITE
        yield norm(self.shape, "norm", tokens, site, joins, None)
        yield Gemm(LM_HEAD, site, tokens, self.shape.hidden_size, self.shape.vocab_size, kind="lm_head", prunable=False)


@dataclass(frozen=True)
class _Block:
    """One decoder block."""

    decoder: Decoder
    layer: int | None
    gemms: list[Gemm]
    joins: bool
    """The output of the block before has still to be added to the residual stream."""

    def operations(self) -> Iterator[Operation]:
        shape, tokens = self.decoder.shape, self.decoder.one_pass.tokens
        inputs, output, mlp = self._parts()
        before = inputs[0].name.rpartition(".")[0]
        yield norm(shape, f"{before}.norm", tokens, inputs[0].site, self.joins, self.layer)
        yield from inputs
        yield from attention(shape, before, self.layer, self.decoder.one_pass, self.decoder.options, output.site)
        yield output
        after = mlp[0].name.rpartition(".")[0]
        yield norm(shape, f"{after}.norm", tokens, mlp[0].site, True, self.layer)
        yield from self._mlp(mlp)
        if any(role(gemm.name) == "router" for gemm in mlp):
            yield self._combine(after, mlp)

    def _parts(self) -> tuple[list[Gemm], Gemm, list[Gemm]]:
        """Projections in front of attention, behind it, and of the MLP."""
        shape = self.decoder.shape
        inputs = [gemm for gemm in self.gemms if role(gemm.name) == "attention_input"]
        outputs = [gemm for gemm in self.gemms if role(gemm.name) == "attention_output"]
        mlp = [gemm for gemm in self.gemms if gemm not in inputs and gemm not in outputs]
        where = f"layer {self.layer} of {shape.model}"
        if not inputs or len(outputs) != 1 or not mlp:
            raise AccelSimError(
                f"{where}: its projections ({named(gemm.name for gemm in self.gemms)}) are not attention and MLP"
            )
        widths = sum(gemm.outputs for gemm in inputs), outputs[0].features
        queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
        if widths != (queries + 2 * keys, queries):
            raise AccelSimError(
                f"{where}: attention has {widths[0]} outputs in front and {widths[1]} features behind,"
                f" its heads make {queries + 2 * keys} and {queries}"
            )
        return inputs, outputs[0], mlp

    def _mlp(self, gemms: list[Gemm]) -> Iterator[Operation]:
        made: set[str] = set()
        widths: Counter[str | None] = Counter()
        for gemm in gemms:
            widths[consumer(gemm.name)] += gemm.outputs
        for gemm in gemms:
            if role(gemm.name) == "mlp_output" and gemm.site not in made:
                made.add(gemm.site)
                yield self._activation(gemm, widths[gemm.name])
            yield gemm
            if role(gemm.name) == "router":
                yield self._router(gemm)

    def _activation(self, reader: Gemm, width: int) -> VectorOperation:
        """The activation function in front of `reader`, fed by `width` outputs: two a feature in a gated MLP."""
        table = operation_table()
        factors, rest = divmod(width, reader.features)
        if rest or factors not in (1, 2):
            raise AccelSimError(
                f"layer {reader.name}: {width} outputs feed {reader.features} features; 1 or 2 each are expected"
            )
        gate = ["multiply"] if factors == 2 else []
        steps = ["dequantise"] * factors + [self.decoder.shape.hidden_act, *gate, "quantise"]
        elements = reader.tokens * reader.features
        return _vector(
            f"{reader.name}.activation",
            "activation",
            elements,
            reader.tokens,
            steps,
            read=elements * factors * table.activation_bytes,
            written=elements * table.activation_bytes,
            repeat=reader.repeat,
            site=reader.site,
            layer=self.layer,
        )

    def _router(self, gemm: Gemm) -> VectorOperation:
        """Softmax over the experts, and one maximum for every expert a token goes to."""
        table = operation_table()
        elements = gemm.tokens * gemm.outputs
        chosen = self.decoder.shape.experts.num_experts_per_tok if self.decoder.shape.experts else 1
        return _vector(
            f"{gemm.name}.top_k",
            "router",
            elements,
            gemm.tokens,
            ["dequantise", "softmax", *["maximum"] * chosen],
            read=elements * table.activation_bytes,
            written=gemm.tokens * chosen * table.residual_bytes,
            layer=self.layer,
        )

    def _combine(self, block: str, mlp: list[Gemm]) -> VectorOperation:
        """The experts' outputs, weighted by the router, join the residual stream."""
        table, hidden, tokens = operation_table(), self.decoder.shape.hidden_size, self.decoder.one_pass.tokens
        routed = sum(gemm.tokens * gemm.repeat for gemm in mlp if role(gemm.name) == "mlp_output")
        stream = tokens * hidden * table.residual_bytes
        return _vector(
            f"{block}.combine",
            "combine",
            routed * hidden,
            routed,
            ["weighted_sum"],
            read=routed * hidden * table.activation_bytes + stream,
            written=stream,
            layer=self.layer,
        )


def norm(shape: ModelShape, name: str, tokens: int, site: str, joins: bool, layer: int | None) -> VectorOperation:
    """Normalise the residual stream into the INT8 activations of `site`.

    With `joins` the output of the projections before is added to the stream first (in models with four norms a layer,
    after a norm of its own). The first norm of a model reads the embeddings of the tokens.
    """
    table = operation_table()
    adding = ["add_residual"] if joins else []
    if joins and shape.norms_per_layer == 4:
        adding = [shape.norm, *adding]
    elements = tokens * shape.hidden_size
    stream, codes = elements * table.residual_bytes, elements * table.activation_bytes
    return _vector(
        name,
        "norm",
        elements,
        tokens,
        ["load_residual", *adding, shape.norm, "quantise"],
        read=stream + (codes if joins else 0),
        written=codes + (stream if joins else 0),
        site=site,
        layer=layer,
    )


def _vector(
    name: str, kind: VectorKind, elements: int, rows: int, steps: Sequence[str], *, read: int, written: int, **more
) -> VectorOperation:
    per_element, per_row = operation_table().count(steps)
    return VectorOperation(
        name=name,
        kind=kind,
        elements=elements,
        operations_per_element=per_element,
        rows=rows,
        operations_per_row=per_row,
        read_bytes=read,
        written_bytes=written,
        **more,
    )
