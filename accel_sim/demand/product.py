"""What one matrix product asks of the DRAM, transfer by transfer, in the order in which the DRAM serves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from accel_sim.arch.schema import Arch
from accel_sim.demand.buffers import product_buffers
from accel_sim.demand.layout import FeatureMajor, Layout, RowMajor, whole_bursts
from accel_sim.demand.operands import Operand, Walk, walk
from accel_sim.demand.requests import SHARED_BUFFER, Extents, Integers, Requests, Transfer
from accel_sim.pattern import Pattern
from accel_sim.timing.formats import SCALE_BYTES, formats
from accel_sim.timing.items import Items
from accel_sim.timing.layer import LayerTiming
from accel_sim.timing.pipeline import LOAD, STORE, dram_order
from accel_sim.timing.stages import traffic


@dataclass(frozen=True)
class Fetches:
    """What the items' loads bring of one operand; arrays over [cores, items]."""

    operand: Operand
    layout: Layout
    chunk: Integers
    """[items]."""
    read: Integers
    """Bytes from DRAM."""
    arriving: Integers
    """The same and what the shared buffer still held."""

    @cached_property
    def _offset(self) -> Integers:
        return self.operand.brought_before(self.arriving)

    def extents(self, core: int, item: int) -> Extents:
        """Where what an item brings lies in the operand's region."""
        run = int(self.operand.fetched[item])
        if not self.operand.whole:
            return self.layout.extents(core, run, int(self.chunk[item]))
        whole = self.layout.extents(core, run, None)
        return whole.part(int(self._offset[core, item]), int(self.arriving[core, item]))


@dataclass(frozen=True)
class ProductDemand:
    """One matrix product, from its first cycle."""

    timing: LayerTiming
    arch: Arch
    pattern: Pattern | None
    needed: Integers | None = None
    """Positions of the gathered features (or outputs) among all of them."""

    @property
    def cycles(self) -> int:
        return self.timing.cycles

    @property
    def launch_cycles(self) -> int:
        return self.timing.launch_cycles

    @cached_property
    def regions(self) -> Mapping[str, int]:
        product = self.timing.plan.product
        sizes = {name: layout.bytes for name, layout in self._layouts.items()}
        if product.activations_on_chip:
            del sizes["activations"]
        if product.weights_on_chip:
            del sizes["weights"]
        if not product.outputs_on_chip:
            sizes["outputs"] = product.tokens * self._output_stride
        return sizes

    def on_chip(self, bases: Mapping[str, int]) -> Requests:
        own = product_buffers(self.timing, self.arch, self.pattern, self._walk)
        return Requests.joined([*self._shared_buffer(bases), own]).in_order()

    def transfers(self) -> Iterator[Transfer]:
        pipeline, schedule = self.timing.plan.pipeline, self.timing.schedule
        for stage, index, core in dram_order(pipeline.items, pipeline.cores):
            item = index - self._ahead
            if item < 0:
                parts = self._scan() if (stage, core) == (LOAD, 0) else ()
            else:
                parts = self._loaded(core, item) if stage == LOAD else self._stored(core, item)
            if parts:
                start, end = (int(times[core, index, stage]) for times in (schedule.start, schedule.end))
                yield Transfer(start, end, core, stage == STORE, parts)

    @property
    def _ahead(self) -> int:
        """Items of the pipeline before the product's own: one where activations are read to know what is needed."""
        return self.timing.plan.pipeline.items - self.timing.plan.items.tokens.shape[1]

    @cached_property
    def _walk(self) -> Walk:
        return walk(self.timing.plan, self.arch)

    @cached_property
    def _layouts(self) -> dict[str, Layout]:
        product, burst, walked = self.timing.plan.product, self.arch.dram.burst_bytes, self._walk
        stored = formats(product, self.arch, self.pattern)
        activations = RowMajor.of(
            walked.activations.runs,
            stored.activation_dram_bytes,
            self._fetched_features(walked.activations),
            burst,
            None,
            product.tokens,
        )
        chunks = self._fetched_features(walked.weights)
        if product.gathers_features:
            weights = FeatureMajor.of(
                walked.weights.runs, SCALE_BYTES, chunks, burst, self.needed, product.stored_features
            )
        else:
            weights = RowMajor.of(
                walked.weights.runs, stored.weight_dram_bytes, chunks, burst, self.needed, product.stored_outputs
            )
        return {"activations": activations, "weights": weights}

    def _fetched_features(self, operand: Operand) -> Integers:
        """Features of the pieces that rows are fetched in."""
        chunks = self._walk.chunk_features
        return chunks.sum(keepdims=True) if operand.whole else chunks

    def _shared_buffer(self, bases: Mapping[str, int]) -> list[Requests]:
        """What passes through the buffer that cores share, a line for every operand and item: written as it comes from
        DRAM, read on its way to the cores. Its place is the DRAM address, modulo the buffer's size."""
        size = self.arch.cores.shared_buffer_bytes
        if not size:
            return []
        start, plan = self.timing.schedule.start, self.timing.plan
        scanned = np.array([plan.scanned_bytes])
        place = bases.get("activations", 0) % size
        lines = [Requests.of(start[0, 0, LOAD], SHARED_BUFFER, 0, place, scanned, True)]
        for name, fetches in self._fetches.items():
            address = np.zeros_like(fetches.arriving)
            for core, item in np.argwhere(fetches.arriving):
                address[core, item] = (bases[name] + fetches.extents(core, item).address[0]) % size
            for moved, write in ((fetches.read, True), (fetches.arriving, False)):
                cores = np.arange(len(moved))[:, None]
                lines.append(Requests.of(start[:, self._ahead :, LOAD], SHARED_BUFFER, cores, address, moved, write))
        return lines

    @cached_property
    def _fetches(self) -> dict[str, Fetches]:
        items, walked = self.timing.plan.items, self._walk
        none = np.zeros_like(items.activation_bytes)
        return {
            "activations": self._fetches_of("activations", walked.activations, replace(items, weight_bytes=none)),
            "weights": self._fetches_of("weights", walked.weights, replace(items, activation_bytes=none)),
        }

    def _fetches_of(self, name: str, operand: Operand, only: Items) -> Fetches:
        """`only`: items that bring nothing but this operand."""
        read = traffic(only, self.timing.plan.product, self.arch, self.pattern).read
        arriving = only.activation_bytes + only.weight_bytes
        return Fetches(operand, self._layouts[name], self._walk.chunk, read, arriving)

    @property
    def _output_stride(self) -> int:
        """Outputs that are computed stand side by side, token by token, and every token starts at a burst."""
        row = self.timing.plan.product.outputs * self.arch.array.stored_output_bytes
        return int(whole_bursts(row, self.arch.dram.burst_bytes))

    def _scan(self) -> tuple[tuple[str, Extents], ...]:
        plan = self.timing.plan
        row_bytes = formats(plan.product, self.arch, self.pattern).activation_dram_bytes
        return (("activations", self._layouts["activations"].everything(row_bytes).padded(plan.scanned_bytes)),)

    def _loaded(self, core: int, item: int) -> tuple[tuple[str, Extents], ...]:
        return tuple(
            (name, fetches.extents(core, item)) for name, fetches in self._fetches.items() if fetches.read[core, item]
        )

    def _stored(self, core: int, item: int) -> tuple[tuple[str, Extents], ...]:
        plan = self.timing.plan
        if not plan.traffic.write[core, item]:
            return ()
        activations, weights = self._walk.activations, self._walk.weights
        token = activations.runs.first[core, activations.run[item]]
        tokens = token + np.arange(plan.items.tokens[core, item])
        output, outputs = weights.runs.first[core, weights.run[item]], plan.items.outputs[core, item]
        width = self.arch.array.stored_output_bytes
        rows = Extents(tokens * self._output_stride + output * width, np.full(len(tokens), outputs * width))
        return (("outputs", rows.joined()),)
