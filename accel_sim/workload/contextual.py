"""Contextual sparsity of gated MLPs (SVDP, arXiv 2603.14110): a low-rank predictor in front of every gate_proj.

Two products join every block, fc1 [hidden → rank] and fc2 [rank → neurons], whose outputs against a threshold each say
which neurons the gate can make active (§2.3: m = H(ABx + b)). Their result between them, and the bits, stay on chip.
A machine with a predictor (`predictor.kind: low_rank`) then fetches gate_proj's columns of those neurons; up_proj's
columns and down_proj's rows of the neurons that its pipeline still knows to be needed. Other machines leave the two
products out, and their dense counterpart never runs them.

A neuron is needed where any token of the batch needs it, and then computed for all of them, so the hardware keeps one
bit a neuron, however large the batch. Prefill is dense (§2.2), so only decode steps change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.workload.gemm import Gemm, Operation, SiteActivations, Workload
from accel_sim.workload.neurons import Bits, Codes, DrawnNeurons, NeuronMasks, Scales

Activations = tuple[Codes, Scales]


@dataclass(frozen=True)
class ContextualOptions:
    """What is known of a predictor besides its answers. Raises AccelSimError for a rank below 1."""

    rank: int | Mapping[int, int]
    """Features between the two products: of every layer, or by layer (where no rank stands there is no predictor)."""
    source: str = ""
    """Whose answers these are, for the report."""

    def __post_init__(self) -> None:
        ranks = self.rank.values() if isinstance(self.rank, Mapping) else (self.rank,)
        for rank in ranks:
            if rank < 1:
                raise AccelSimError(f"rank {rank}: expected at least 1")

    def of(self, layer: int) -> int | None:
        """Rank of one layer; None where it has no predictor."""
        return self.rank.get(layer) if isinstance(self.rank, Mapping) else self.rank


def contextual_workload(workload: Workload, neurons: NeuronMasks, options: ContextualOptions) -> Workload:
    """`workload` with a predictor in every gated MLP of its decode steps, which `neurons` answers for.

    What it misses becomes zero in the input of down_proj. Raises AccelSimError, here or when a decode step is made, for
    a workload without gated MLPs, and for answers of another shape.
    """

    def sites(block: _Block, step: Workload) -> _Sites:
        before, after = step.sites[block.gate.site], step.sites[block.down.site]
        bits = partial(_predicted, neurons, block, before)

        def masked() -> Activations:
            codes, scales = after.load()
            return codes * bits().any(axis=0), scales

        return _Sites(_bits_site(bits), SiteActivations(masked), misses=after)

    return _in_decode_steps(workload, options, sites)


def drawn_contextual_workload(workload: Workload, neurons: DrawnNeurons, options: ContextualOptions) -> Workload:
    """The same of published shapes, with drawn neurons: down_proj's input is zero where a neuron is not realised, and
    nowhere else."""

    def sites(block: _Block, step: Workload) -> _Sites:
        after = step.sites[block.down.site]

        def drawn() -> tuple[Bits, Bits]:
            return neurons.draw(block.layer, block.gate.tokens, block.gate.outputs)

        def realised() -> Activations:
            codes, scales = after.load()
            return np.where(drawn()[1], np.where(codes == 0, np.int8(1), codes), np.int8(0)), scales

        return _Sites(_bits_site(lambda: drawn()[0]), SiteActivations(realised), misses=None)

    source = "; ".join(filter(None, (options.source, neurons.source)))
    return _in_decode_steps(workload, replace(options, source=source), sites)


@dataclass(frozen=True)
class _Sites:
    """Activations of one block under a predictor."""

    predicted: SiteActivations
    """Codes 0 and 1, [T, D]."""
    product: SiteActivations
    """Of down_proj."""
    misses: SiteActivations | None
    """down_proj's input as it would be without a predictor; None where nobody knows."""


@dataclass(frozen=True)
class _Block:
    """One gated MLP."""

    layer: int
    gate: Gemm
    up: Gemm
    down: Gemm

    @property
    def name(self) -> str:
        return self.gate.name.rpartition(".")[0]

    @property
    def predicted_site(self) -> str:
        return f"{self.name}.predictor.bits"

    def with_predictor(self, rank: int) -> dict[str, tuple[Gemm, ...]]:
        """By the name of each product of the block, what stands in its place."""
        tokens, between = self.gate.tokens, f"{self.name}.predictor.fc2.input"
        common = {"kind": "predictor", "prunable": False, "layer": self.layer, "outputs_on_chip": True}
        fc1 = Gemm(f"{self.name}.predictor.fc1", self.gate.site, tokens, self.gate.features, rank, **common)
        fc2 = Gemm(
            f"{self.name}.predictor.fc2",
            between,
            tokens,
            rank,
            self.gate.outputs,
            activations_on_chip=True,
            thresholds=True,
            **common,
        )
        return {
            self.gate.name: (fc1, fc2, replace(self.gate, predicted_site=self.predicted_site)),
            self.up.name: (replace(self.up, predicted_site=self.predicted_site, behind_gate=True),),
            self.down.name: (replace(self.down, predicted_site=self.predicted_site),),
        }


_SitesOf = Callable[[_Block, Workload], _Sites]


def _in_decode_steps(workload: Workload, options: ContextualOptions, sites: _SitesOf) -> Workload:
    """`workload` whose decode steps, itself included where it is one, have a predictor."""
    make = workload.decode_step
    wrapped = None
    if make is not None:

        def wrapped(batch: int, context: int | None) -> Workload:
            return _in_decode_steps(replace(make(batch, context), phase="decode"), options, sites)

    if workload.phase == "decode":
        workload = _with_predictors(workload, options, sites)
    return replace(workload, decode_step=wrapped)


def _with_predictors(step: Workload, options: ContextualOptions, sites: _SitesOf) -> Workload:
    placed: dict[str, tuple[Gemm, ...]] = {}
    known, unpredicted, ranks = dict(step.sites), dict(step.unpredicted), set()
    for block in _blocks(step):
        rank = options.of(block.layer)
        if rank is None:
            continue
        ranks.add(rank)
        placed |= block.with_predictor(rank)
        found = sites(block, step)
        known[block.predicted_site], known[block.down.site] = found.predicted, found.product
        unpredicted[block.down.site] = found.misses
    if not placed:
        raise AccelSimError(f"workload {step.name}: none of its layers has a rank; it has {len(_blocks(step))} layers")
    said = f"predictor of rank {'-'.join(map(str, sorted({min(ranks), max(ranks)})))}"
    return replace(
        step,
        source="; ".join(filter(None, (step.source, said, options.source))),
        gemms=tuple(one for gemm in step.gemms for one in placed.get(gemm.name, (gemm,))),
        sites=known,
        unpredicted=unpredicted,
        model=step.model and replace(step.model, operations=_placed_in(step.model.operations, placed)),
    )


def _placed_in(operations: tuple[Operation, ...], placed: Mapping[str, tuple[Gemm, ...]]) -> tuple[Operation, ...]:
    return tuple(one for operation in operations for one in placed.get(operation.name, (operation,)))


def _blocks(step: Workload) -> list[_Block]:
    """Every gated MLP, in order. Raises AccelSimError where there is none, and for mixtures of experts."""
    by_block: dict[str, dict[str, Gemm]] = {}
    for gemm in step.gemms:
        block, _, name = gemm.name.rpartition(".")
        if name in ("gate_proj", "up_proj", "down_proj"):
            by_block.setdefault(block, {})[name] = gemm
    gated = [products for products in by_block.values() if len(products) == 3]
    if not gated:
        raise AccelSimError(
            f"workload {step.name}: a predictor needs gated MLPs, each with a gate_proj, an up_proj and a down_proj of"
            " its own; there is none"
        )
    return [_block(step, **products) for products in gated]


def _block(step: Workload, gate_proj: Gemm, up_proj: Gemm, down_proj: Gemm) -> _Block:
    where = f"workload {step.name}: layer {gate_proj.name}"
    if gate_proj.rows_of is not None or gate_proj.repeat > 1:
        raise AccelSimError(f"{where}: a predictor of experts is not modelled; expected one MLP a layer")
    if gate_proj.layer is None:
        raise AccelSimError(f"{where}: which decoder block it stands in is not known")
    if any(gemm.predicted_site for gemm in (gate_proj, up_proj, down_proj)):
        raise AccelSimError(f"{where}: has a predictor already")
    if not gate_proj.outputs == up_proj.outputs == down_proj.features or gate_proj.consumer_site != down_proj.site:
        raise AccelSimError(f"{where}: its outputs are not the features of down_proj")
    return _Block(gate_proj.layer, gate_proj, up_proj, down_proj)


def _predicted(neurons: NeuronMasks, block: _Block, inputs: SiteActivations) -> Bits:
    codes, scales = inputs.load()
    bits = np.asarray(neurons.predicted(block.layer, codes, scales))
    expected = (len(codes), block.gate.outputs)
    if bits.shape != expected or bits.dtype != np.bool_:
        raise AccelSimError(
            f"layer {block.gate.name}: the predictor answers {bits.dtype} {list(bits.shape)}; expected bool"
            f" {list(expected)}, a row a token and a column a neuron"
        )
    return bits


def _bits_site(bits: Callable[[], Bits]) -> SiteActivations:
    def load() -> Activations:
        codes = bits().astype(np.int8)
        return codes, np.ones(len(codes), dtype=np.float32)

    return SiteActivations(load)
