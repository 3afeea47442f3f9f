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

from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import DecoderBlocks, LinearParameter
from accel_sim.capture.routing import CACHED, UNKNOWN, TokenRows
from accel_sim.errors import AccelSimError
from accel_sim.quantize.int8 import quantize_tokens
from accel_sim.trace.format import Projection, Site, StoredType
from accel_sim.trace.writer import TraceWriter


@dataclass
class _Activation:
    """One tensor that projections read, already as it will be stored."""

    keeps_alive: torch.Tensor
    stored: np.ndarray
    scales: np.ndarray | None
    tokens: np.ndarray
    expert: int | None
    layer: int | None
    projections: list[Projection] = field(default_factory=list)


class Recorder:
    """Writes what `parameters` are multiplied with to `writer`, while :meth:`chunk` runs."""

    def __init__(
        self,
        model: nn.Module,
        blocks: DecoderBlocks,
        parameters: tuple[LinearParameter, ...],
        writer: TraceWriter,
        dtype: StoredType,
        routed: bool,
    ) -> None:
        self.macs: Counter[str] = Counter()
        """Multiply-accumulates seen so far, by parameter."""
        self._model = model
        self._prefix = blocks.path.rpartition(".")[0]
        self._blocks = [blocks.modules[layer] for layer in sorted({p.layer for p in parameters} - {None})]
        self._writer = writer
        self._dtype = dtype
        self._names = {id(tensor): name for name, tensor in model.named_parameters()}
        self._rows = TokenRows(routed=routed)
        self._watcher = ProductWatcher(parameters, self._see)
        self._alive: dict[tuple, _Activation] = {}

    def chunk(self, inputs: dict[str, Any], first_position: int, sequence: int) -> Any:
        """Run the model on `inputs` (token ids [1, T]), record its products, and return its output."""
        self._first_position, self._sequence = first_position, sequence
        self._rows.start(inputs["input_ids"].shape[1], first_position)
        handles = self._rows.watch([module for block in self._blocks for module in _containers(block)])
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
        name = product.name
        strides = None if activation.is_contiguous() else activation.stride()
        key = (activation.data_ptr(), tuple(rows.shape), strides, activation.dtype, activation._version)
        if key not in self._alive:
            self._alive[key] = self._store(product, rows, name)
        seen = self._alive[key]
        if name in (each.name for each in seen.projections):  # the same product of the same tensor once more
            return
        seen.projections.append(self._projection(product, name, rows.shape[1]))
        self.macs[parameter.name] += seen.stored.size * product.outputs

    def _store(self, product: Product, rows: torch.Tensor, name: str) -> _Activation:
        parameter = product.parameter
        if product.tokens is not None:
            tokens = product.tokens.cpu().numpy()
        else:
            tokens = self._rows.of(rows, parameter.path().rpartition(".")[0], product.expert)
        new = tokens != CACHED
        if not new.all():
            rows, tokens = rows[torch.from_numpy(new).to(rows.device)], tokens[new]
        stored, scales = _encode(rows, self._dtype, name, self._positions(tokens))
        return _Activation(product.activation, stored, scales, tokens, product.expert, parameter.layer)

    def _projection(self, product: Product, name: str, features: int) -> Projection:
        # Stacked experts keep their biases stacked as well, and often add them apart from the product.
        stacked = f"{product.parameter.name}_bias"
        bias = self._names.get(id(product.bias), stacked if stacked in self._names.values() else None)
        return Projection(
            name=name,
            features=features,
            outputs=product.outputs,
            has_bias=product.bias is not None or bias is not None,
            parameter=product.parameter.name,
            parameter_layout=product.layout,
            bias=bias,
        )

    def _flush(self) -> None:
        for activation in self._alive.values():
            site = Site(
                name=self._site_name([each.name for each in activation.projections]),
                layer=activation.layer,
                features=activation.stored.shape[1],
                tokens=0,
                dtype=self._dtype,
                expert=activation.expert,
                projections=tuple(activation.projections),
            )
            positions = self._positions(activation.tokens)
            self._writer.append(site, activation.stored, activation.scales, positions, self._sequence)
        self._alive.clear()

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


def _encode(
    rows: torch.Tensor, dtype: StoredType, name: str, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows as they are stored, and their scales for INT8. Raises AccelSimError for what is not finite."""
    if dtype == "int8":
        return quantize_tokens(rows.float().cpu().numpy(), name, positions)
    # A copy: the model may go on to change the tensor in place before the block's rows are written.
    stored = rows.to("cpu", getattr(torch, dtype), copy=True)
    wrong = ~torch.isfinite(stored)
    if wrong.any():
        row, feature = (int(i) for i in wrong.nonzero()[0])
        value = float(rows[row, feature])
        raise AccelSimError(f"{name}: token {positions[row]}, feature {feature} is {value}, no finite {dtype}")
    return (stored.view(torch.uint16) if dtype == "bfloat16" else stored).numpy(), None
