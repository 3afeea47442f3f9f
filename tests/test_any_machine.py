"""What holds on every machine of every kind: two engines that agree, and breakdowns that add up."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machines import SETTINGS, SIZES, activations, found, machine
from plain_product import REASONS, PlainProduct

from accel_sim.arch import load_arch, shipped_archs
from accel_sim.errors import AccelSimError
from accel_sim.simulation import Machine
from accel_sim.timing import CAUSES, Latencies, compiled, event, select_site, time_layer
from accel_sim.timing.activity import count_activity
from accel_sim.timing.array_time import kept_products
from accel_sim.timing.formats import formats
from accel_sim.timing.items import cut
from accel_sim.timing.layer import candidates, plan
from accel_sim.timing.product import Product
from accel_sim.timing.tiling import tilings
from accel_sim.workload import Gemm

LATENCIES = Latencies(select=1, compute=2, requantise=2)
UNITS, FEATURES = st.sampled_from([1, 5, 33, 64, 100, 120]), st.sampled_from([1, 16, 33, 100, 250, 399])
"""Sizes for plain loops, drawn evenly: few would be cut into many pieces if small ones were preferred."""
ZEROS = st.sampled_from([0.0, 0.3, 0.9, 1.0])


def case(tokens, features, outputs, settings_, zeros):
    """A product with what the machine finds in its activations; skipped where the machine's buffers are too small."""
    arch, gemm = machine(settings_), Gemm("layer", "site", tokens, features, outputs)
    pattern = arch.pattern()
    nonzeros = found(gemm, arch, pattern, activations(tokens, features, zeros))
    try:
        tilings(Product.of(gemm, nonzeros), arch, pattern)
    except AccelSimError as error:
        assume("bytes too small" not in str(error))
        raise
    return arch, gemm, pattern, nonzeros


@settings(max_examples=150, deadline=None)
@given(SIZES, SIZES, SIZES, SETTINGS, ZEROS)
def test_engines_agree_and_breakdowns_add_up(tokens, features, outputs, settings_, zeros):
    arch, gemm, pattern, nonzeros = case(tokens, features, outputs, settings_, zeros)
    timing = time_layer(gemm, arch, pattern, LATENCIES, nonzeros=nonzeros)
    by_events = time_layer(gemm, arch, pattern, LATENCIES, "event", nonzeros)
    np.testing.assert_array_equal(timing.schedule.start, by_events.schedule.start)
    np.testing.assert_array_equal(timing.schedule.end, by_events.schedule.end)
    assert by_events.breakdown == timing.breakdown
    assert tuple(timing.breakdown) == CAUSES
    assert sum(timing.breakdown.values()) == timing.cycles
    assert min(timing.breakdown.values()) >= 0


@settings(max_examples=100, deadline=None)
@given(SIZES, SIZES, SIZES, SETTINGS, ZEROS)
def test_nobody_works_more_than_all_the_time(tokens, features, outputs, settings_, zeros):
    arch, gemm, pattern, nonzeros = case(tokens, features, outputs, settings_, zeros)
    timing = time_layer(gemm, arch, pattern, LATENCIES, nonzeros=nonzeros)
    array = arch.array.rows * arch.array.cols * arch.array.lanes
    busy = kept_products(timing.plan.items, timing.plan.product, arch, pattern).sum(axis=1)
    assert (busy <= array * timing.plan.compute.array.sum(axis=1)).all(), "a core's lanes do more than they can"
    activity = count_activity(gemm, arch, pattern, timing, zeros)
    padded = pattern is not None and timing.plan.product.windows is None
    assert activity.multiplies == busy.sum() or padded, "padded slots count as multiplications"
    assert 0 <= activity.zero_multiplies <= activity.multiplies
    assert activity.multiplies <= array * arch.cores.count * timing.cycles
    moved = timing.plan.dram_read_bytes + timing.plan.traffic.write.sum() * arch.dram.turnaround
    assert moved <= timing.cycles * arch.dram.bytes_per_cycle


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, SIZES, SETTINGS, ZEROS)
def test_every_tiling_does_all_the_work(tokens, features, outputs, settings_, zeros):
    arch, gemm, pattern, nonzeros = case(tokens, features, outputs, settings_, zeros)
    product = Product.of(gemm, nonzeros)
    products = set()
    for tiling in tilings(product, arch, pattern):
        one = plan(product, arch, pattern, tiling, LATENCIES)
        items = one.items
        assert (items.tokens * items.outputs * items.features).sum() == tokens * product.features * product.outputs
        assert (items.tokens * items.outputs)[:, items.completes].sum() == tokens * product.outputs
        assert one.traffic.write.sum() == tokens * product.outputs * arch.array.stored_output_bytes
        assert items.loaded_weights.sum() >= product.features * product.outputs
        if not product.gathers_features:
            assert items.loaded_activations.sum() >= tokens * features
        products.add(int(kept_products(items, product, arch, pattern).sum()))
    assert len(products) == 1, "the work does not depend on how it is cut"


AMOUNTS = {
    "loaded_activations": lambda plan: plan.items.loaded_activations,
    "loaded_weights": lambda plan: plan.items.loaded_weights,
    "bytes of activations": lambda plan: plan.items.activation_bytes,
    "bytes of weights": lambda plan: plan.items.weight_bytes,
    "read": lambda plan: plan.traffic.read,
    "write": lambda plan: plan.traffic.write,
    "buffered": lambda plan: plan.traffic.buffered,
    "exclusive": lambda plan: np.broadcast_to(plan.items.exclusive, plan.items.tokens.shape),
    "shared": lambda plan: np.broadcast_to(
        plan.pipeline.shared[-plan.items.tokens.shape[1] :], plan.items.tokens.shape
    ),
    **{reason: lambda plan, reason=reason: getattr(plan.compute, reason) for reason in REASONS},
    **{
        stage: lambda plan, number=number: plan.item_durations[..., number]
        for number, stage in enumerate(("load", "select", "compute", "requantising", "store"))
    },
}


@settings(max_examples=400, deadline=None)
@given(UNITS, FEATURES, UNITS, SETTINGS, ZEROS, st.data(), st.booleans(), st.booleans())
def test_every_item_is_what_plain_loops_make_of_it(tokens, features, outputs, settings_, zeros, data, read, written):
    arch, gemm, pattern, nonzeros = case(tokens, features, outputs, settings_, zeros)
    product = replace(Product.of(gemm, nonzeros), activations_on_chip=read, outputs_on_chip=written)
    tiling = data.draw(st.sampled_from(tilings(product, arch, pattern)))
    one = plan(product, arch, pattern, tiling, LATENCIES)
    plain = PlainProduct(product, arch, pattern, tiling, LATENCIES.compute).items
    for name, of in AMOUNTS.items():
        assert of(one).tolist() == [[item.amounts[name] for item in core] for core in plain], name


@settings(max_examples=100, deadline=None)
@given(SIZES, SIZES, SIZES, SETTINGS, ZEROS)
def test_every_tiling_stays_in_its_buffers(tokens, features, outputs, settings_, zeros):
    arch, gemm, pattern, nonzeros = case(tokens, features, outputs, settings_, zeros)
    product = Product.of(gemm, nonzeros)
    stored = formats(product, arch, pattern)
    halves = {"never": 1, "single": 1, "resident": 1, "double": 2, "chunks": 2}
    for tiling in tilings(product, arch, pattern):
        items = cut(product, arch, pattern, tiling)
        sides = {
            "activations": (items.tokens, stored.activation_sram_bytes, arch.sram.activation_bytes),
            "weights": (items.outputs, stored.weight_sram_bytes, arch.sram.weight_bytes),
        }
        for name, (units, row_bytes, capacity) in sides.items():
            how = tiling.replacement if name == tiling.held else tiling.streaming
            at_once = units.max() * (items.features.max() if how == "chunks" else product.features)
            if how == "resident":
                at_once = items.loaded_activations if name == "activations" else items.loaded_weights
                at_once = at_once.sum(axis=1).max()
            assert halves[how] * at_once * row_bytes <= capacity * product.features
        assert 2 * (items.tokens * items.outputs).max() <= arch.sram.output_bytes
        assert "chunks" not in (tiling.streaming, tiling.replacement) or items.tiles.max() == 1, (
            "sums stay in the array"
        )
        if arch.array.dataflow == "weight_stationary":
            sums = 4 * tiling.panel_tokens * arch.array.cols
            assert sums * (2 if arch.array.drain == "overlapped" else 1) <= arch.sram.accumulator_bytes


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, SIZES, SETTINGS, ZEROS, st.sampled_from([2, 3.3, 10]))
def test_more_bandwidth_is_never_slower_at_the_same_tiling(tokens, features, outputs, settings_, zeros, factor):
    arch, gemm, pattern, nonzeros = case(tokens, features, outputs, settings_, zeros)
    faster = machine(settings_ | {"dram.bytes_per_cycle": settings_["dram.bytes_per_cycle"] * factor})
    product = Product.of(gemm, nonzeros)
    tiling = candidates(product, arch, pattern, LATENCIES)[0].tiling
    slow, fast = (plan(product, one, pattern, tiling, LATENCIES).pipeline for one in (arch, faster))
    assert compiled.run(fast).makespan <= compiled.run(slow).makespan
    assert select_site(*gemm.shape[:2], faster, pattern).cycles <= select_site(*gemm.shape[:2], arch, pattern).cycles


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, SIZES, SETTINGS, ZEROS, st.sampled_from([2, 5]))
def test_bigger_buffers_are_never_slower_at_the_same_tiling(tokens, features, outputs, settings_, zeros, factor):
    arch, gemm, pattern, nonzeros = case(tokens, features, outputs, settings_, zeros)
    product = Product.of(gemm, nonzeros)
    tiling = candidates(product, arch, pattern, LATENCIES)[0].tiling
    buffers = ("sram.activation_bytes", "sram.weight_bytes", "sram.output_bytes", "sram.accumulator_bytes")
    roomier = machine(settings_ | {buffer: settings_[buffer] * factor for buffer in buffers})
    small, large = (plan(product, one, pattern, tiling, LATENCIES).pipeline for one in (arch, roomier))
    assert compiled.run(large).makespan <= compiled.run(small).makespan


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, SIZES, SETTINGS, ZEROS)
def test_more_zeros_are_never_slower(tokens, features, outputs, settings_, zeros):
    arch, gemm, pattern, nonzeros = case(tokens, features, outputs, settings_, zeros)
    assume(arch.sparsity.window_banks is None or pattern is None or pattern.keeps_all)  # see unstructured_windows
    if nonzeros is None or nonzeros.windows is None:
        return
    codes = activations(tokens, features, zeros)
    codes[:, ::3] = 0
    sparser = found(gemm, arch, pattern, codes)
    tiling = candidates(Product.of(gemm), arch, pattern, LATENCIES)[0].tiling
    before, after = (
        plan(Product.of(gemm, one), arch, pattern, tiling, LATENCIES).pipeline for one in (nonzeros, sparser)
    )
    assert (after.durations <= before.durations).all()


@pytest.mark.parametrize("name", shipped_archs())
def test_engines_agree_on_every_shipped_machine(name):
    arch = load_arch(name)
    gemm = Gemm("layer", "site", 70, 576, 200)
    for pattern in arch.sparsity.patterns or (None,):
        made = Machine(arch, arch.pattern(pattern))
        nonzeros = found(gemm, arch, made.pattern, activations(70, 576, 0.4))
        timing = made.time(gemm, nonzeros)
        np.testing.assert_array_equal(timing.schedule.end, event.run(timing.plan.pipeline).end)
        assert sum(timing.breakdown.values()) == timing.cycles
