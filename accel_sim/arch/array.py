"""The array of processing elements, how many there are, and how products are cut for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from accel_sim.arch.section import Bytes, Count, Section


class Array(Section):
    """rows × cols processing elements; columns work on outputs, rows on tokens or on parts of the features."""

    rows: Count = 32
    """Processing elements along the token dimension (weight-stationary: along the reduction dimension)."""
    cols: Count = 32
    """Processing elements along the output dimension."""
    lanes: Count = 16
    """INT8×INT8 multipliers in one processing element."""
    dataflow: Literal["output_stationary", "weight_stationary"] = "output_stationary"
    """`output_stationary`: accumulators stay in the processing elements, the reduction dimension runs innermost.
    `weight_stationary`: every element holds the weights of its lanes' groups while tokens stream past, one a cycle; a
    column's sum goes to an accumulator SRAM, where the parts of the reduction dimension that the rows do not span at
    once (folds) add up."""
    interconnect: Literal["broadcast", "systolic"] = "broadcast"
    """`broadcast`: one operand register set a row (kept activations, metadata) and one a column (weights), without
    skew. `systolic`: operands and select lines move from element to element through registers in each (charged), so the
    last element works rows + cols − 2 cycles behind the first."""
    fold_overlap: bool = True
    """Whether an array tile may enter while the one before it is still on its way through; false leaves the skew
    (broadcast: the pipeline depth) between any two tiles. Weight-stationary: whether the next fold's weights are loaded
    behind the one at work, into a second register set (charged); false loads them in between."""
    drain: Literal["overlapped", "serial", "none"] = "overlapped"
    """`overlapped`: a second accumulator register (charged; weight-stationary: the accumulator SRAM's second half)
    empties behind the next tile. `serial`: the array waits. `none`: emptying takes no time, as some simulators count;
    only for comparing with them."""
    requantisers: Count = 64
    """INT32 → INT8 units behind the array; each takes one accumulator a cycle."""
    stored_output_bytes: Literal[1, 2, 4] = 1
    """Bytes of an output in DRAM. 1: requantised to INT8. 2: FP16. 4: INT32 sums as they are. Outputs wider than a byte
    get their width on the way out, piece by piece, so the output SRAM is counted in single bytes."""


class Mapping(Section):
    """What the search for a tiling is held to. Everything null: it chooses freely."""

    held: Literal["activations", "weights", "neither"] | None = None
    """The operand whose blocks stay in SRAM (the outer loop) while the other one streams past. `neither`: both come in
    chunks of features, again for every output tile, as a graphics card's kernels do it; the dense counterpart then
    does the same."""
    block_panels: Count | None = None
    """Panels of the held operand in a block."""
    panel_tokens: Count | None = None
    """Weight-stationary: tokens that stream past a fold's weights before the next fold."""
    chunk_features: Count | None = None
    """With `held: neither`: features of a chunk, as long as that fits; null: as many as fit. How deep a kernel's
    pipeline is was laid down when it was compiled, whatever its tile leaves free."""


class Cores(Section):
    """Several equal arrays with buffers of their own behind one DRAM."""

    count: Count = 1
    """Arrays; each has the rows, columns, SRAM, selectors and requantisers that the other sections describe."""
    split: Literal["tokens", "outputs", "grid", "tiles"] = "outputs"
    """What a product is divided over the cores by. The other operand (weights, or activations) is what all cores need:
    it is fetched once and given to all of them in the same transfer. `grid`: by both, as on a graphics card, in
    whichever grid of cores leaves the busiest one fewest array tiles; what the cores of a row (activations) or of a
    column (weights) need is fetched once for all of them. `tiles`: tile after tile to core after core, in waves, as a
    graphics card's scheduler deals its blocks; what several cores of a wave need is fetched once for them. It needs
    `mapping.held: neither`."""
    launch_cycles: Annotated[int, Field(ge=0, le=10**9)] = 0
    """What starting a product takes before its first load, where every product is a kernel of its own."""
    shared_buffer_bytes: Annotated[int, Field(ge=0, le=2**40)] = 0
    """Buffer between DRAM and the cores; an operand that fits is fetched from DRAM once, however often the cores fetch
    it. 0: none."""
    shared_buffer_bytes_per_cycle: Bytes = 1024
    """Width of that buffer's port, which serves one transfer at a time."""
