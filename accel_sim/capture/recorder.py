"""Turn the products of one forward pass into rows of the trace's sites, a decoder block at a time.

Projections that are fed by the same tensor are one site. They are found by the tensor's identity (memory, shape,
strides, type, version), which is sound because the block's activations are held until the block has ended.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from accel_sim.capture.encode import Encoded, encode
from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import DecoderBlocks, LinearParameter
from accel_sim.capture.routing import CACHED, UNKNOWN, TokenRows
from accel_sim.capture.stream import SiteRows, TraceStream
from accel_sim.trace.format import Projection, Site, StoredType


@dataclass
class _Activation:
    """One tensor that projections read, already as it will be stored."""

    keeps_alive: torch.Tensor
    encoded: Encoded
    positions: np.ndarray
    expert: int | None
    layer: int | None
    projections: list[Projection] = field(default_factory=list)


class Recorder:
    """Hands what `parameters` are multiplied with to `stream`, while :meth:`chunk` runs."""

    def __init__(
        self,
        model: nn.Module,
        blocks: DecoderBlocks,
        parameters: tuple[LinearParameter, ...],
        stream: TraceStream,
        dtype: StoredType,
        routed: bool,
    ) -> None:
        self.macs: Counter[str] = Counter()
        """Multiply-accumulates seen so far, by parameter."""
        self._model = model
        self._prefix = blocks.path.rpartition(".")[0]
        self._blocks = [blocks.modules[layer] for layer in sorted({p.layer for p in parameters} - {None})]
        self._stream = stream
        # Those that can hand rows to experts.
        self._containers = [each for block in self._blocks for each in _containers(block)] if routed else []
        self._dtype = dtype
        self._names = {id(tensor): name for name, tensor in model.named_parameters()}
        self._token_rows = TokenRows(routed=routed)
        self._watcher = ProductWatcher(parameters, self._see)
        self._alive: dict[tuple, _Activation] = {}
        self._projections: dict[tuple, Projection] = {}
        self._sites: dict[tuple, Site] = {}

    def chunk(self, inputs: dict[str, Any], first_position: int, sequence: int) -> Any:
        """Run the model on `inputs` (token ids [1, T]), record its products, and return its output."""
        self._first_position, self._sequence = first_position, sequence
        self._token_rows.start(inputs["input_ids"].shape[1], first_position)
        handles = self._token_rows.watch(self._containers)
        handles += [block.register_forward_hook(lambda *_: self._flush()) for block in self._blocks]
        try:
            with self._watcher:
                output = self._model(**inputs)
            self._flush()
            return output
        finally:
            self._alive.clear()
            for handle in handles:
                handle.remove()

    def _see(self, product: Product) -> None:
        activation, parameter = product.activation, product.parameter
        rows = activation.detach().reshape(-1, activation.shape[-1])
        if not len(rows):
            return
        strides = None if activation.is_contiguous() else activation.stride()
        key = (activation.data_ptr(), tuple(rows.shape), strides, activation.dtype, activation._version)
        projection = self._projection_of(product, rows.shape[1])
        if key not in self._alive:
            self._alive[key] = self._store(product, rows, projection.name)
        seen = self._alive[key]
        if projection.name in (each.name for each in seen.projections):  # the same product of the same tensor once more
            return
        seen.projections.append(projection)
        self.macs[parameter.name] += seen.encoded.stored.numel() * product.outputs

    def _store(self, product: Product, rows: torch.Tensor, name: str) -> _Activation:
        parameter = product.parameter
        if product.tokens is not None:
            tokens = product.tokens.cpu().numpy()
        else:
            tokens = self._token_rows.of(rows, parameter.path().rpartition(".")[0], product.expert)
        new = tokens != CACHED
        if not new.all():
            rows, tokens = rows[torch.from_numpy(new).to(rows.device)], tokens[new]
        positions = self._positions(tokens)
        encoded = encode(rows, self._dtype, name, positions)
        return _Activation(product.activation, encoded, positions, product.expert, parameter.layer)

    def _projection_of(self, product: Product, features: int) -> Projection:
        key = (product.parameter, product.expert, product.layout, features, product.outputs, id(product.bias))
        if key not in self._projections:
            self._projections[key] = self._projection(product, features)
        return self._projections[key]

    def _projection(self, product: Product, features: int) -> Projection:
        bias = self._bias_name(product)
        return Projection(
            name=product.name,
            features=features,
            outputs=product.outputs,
            has_bias=product.bias is not None or bias is not None,
            parameter=product.parameter.name,
            parameter_layout=product.layout,
            bias=bias,
        )

    def _bias_name(self, product: Product) -> str | None:
        parameter = product.parameter
        if product.bias is not None and product.bias is getattr(parameter.owner, "bias", None):
            return f"{parameter.name.rpartition('.')[0]}.bias"
        # Stacked experts keep their biases stacked as well, and often add them apart from the product.
        stacked = f"{parameter.name}_bias"
        return self._names.get(id(product.bias), stacked if stacked in self._names.values() else None)

    def _flush(self) -> None:
        if self._alive:
            rows = [SiteRows(self._site_of(each), each.encoded, each.positions) for each in self._alive.values()]
            self._stream.append(rows, self._sequence)
        self._alive.clear()

    def _site_of(self, activation: _Activation) -> Site:
        key = tuple(map(id, activation.projections))
        if key not in self._sites:
            self._sites[key] = Site(
                name=self._site_name([each.name for each in activation.projections]),
                layer=activation.layer,
                features=activation.encoded.stored.shape[1],
                tokens=0,
                dtype=self._dtype,
                expert=activation.expert,
                projections=tuple(activation.projections),
            )
        return self._sites[key]

    def _positions(self, tokens: np.ndarray) -> np.ndarray:
        return np.where(tokens == UNKNOWN, UNKNOWN, tokens + self._first_position)

    def _site_name(self, projections: list[str]) -> str:
        """The first projection's path from the list of blocks on, and the other projections' last names."""
        first, *others = (name.removeprefix(f"{self._prefix}.") for name in projections)
        return "+".join([first, *(name.rpartition(".")[2] for name in others)])


def _containers(block: nn.Module) -> list[nn.Module]:
    """The modules of a block that have modules or weights of their own: those that can hand rows to experts."""
    return [
        module
        for module in block.modules()
        if any(True for _ in module.children()) or any(p.dim() == 3 for p in module.parameters(recurse=False))
    ]
