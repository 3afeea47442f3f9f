"""What skipping zeros, two levels of sparsity, gathering and software selection cost, by hand and in order."""

from dataclasses import replace

import pytest
from cost_machines import NANGATE, NOTHING, WORK, elastic, flip_flops, machine, machines, stationary, unstructured
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accel_sim import cost
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, hierarchy, skipping
from accel_sim.cost.parts import parts
from accel_sim.pattern import HierarchicalPattern, Pattern


def components(arch: Arch) -> dict[str, float]:
    return cost.area(arch).components_um2


def lane_tree() -> float:
    """A 16:1 tree of 8 bits: one of the eight slots of the full 8:16 network."""
    return cost.unit("select_full", 8, 16).area_um2 / 8


def test_elastic_slices_by_hand():
    # 16 slices of a lane. A slice has 2 of the window's 32 groups to choose from, 16 weights each; windows are held
    # twice, 512 weights a column; a row holds 2 × 16 groups of 8 values with 4 bits of position and a flag.
    arch = elastic("8:16")
    built, two_to_one = components(arch), cost.unit("select_full", 1, 2).area_um2
    assert built["operand_multiplexers"] == pytest.approx(1024 * 16 * lane_tree() / 0.7)
    assert built["window_multiplexers"] == pytest.approx(1024 * 16 * 16 * two_to_one / 0.7)
    assert flip_flops(arch, "window_buffers") == 32 * 2 * 512 * 8 + 32 * 2 * 16 * 8 * (8 + 4 + 1)
    assert built["weight_registers"] == 0
    decoder = cost.unit("decode_bitmap_index", 8, 16).area_um2
    assert built["metadata_decoders"] == pytest.approx(32 * 4 * decoder / 0.7), "four groups arrive in a cycle"


def test_a_window_of_one_group_a_slice_needs_no_choice_of_group():
    assert components(elastic(sync_window=16))["window_multiplexers"] == 0


def test_systolic_windows_stand_in_every_element():
    broadcast, systolic = elastic(), elastic(array={"interconnect": "systolic"})
    windows = 2 * 512 * 8
    assert flip_flops(systolic, "window_buffers") - flip_flops(broadcast, "window_buffers") == 32 * 31 * windows


def test_a_window_that_all_rows_read_is_wired_to_all_of_them():
    fixed, windowed = cost.area(machine("8:16")), cost.area(elastic())
    assert windowed.track_use > 1 > fixed.track_use
    assert windowed.components_um2["wires"] > 0
    assert cost.area(elastic(array={"interconnect": "systolic"})).components_um2["wires"] == 0


def test_unstructured_multiplexers_reach_the_whole_window():
    whole = components(unstructured())["operand_multiplexers"]
    assert whole == pytest.approx(1024 * 16 * circuits.tree(NANGATE, 512).area_um2 / 0.7)
    banked = components(unstructured(window_banks=32))["operand_multiplexers"]
    by_hand = 32 * circuits.tree(NANGATE, 16).area_um2 + 16 * circuits.tree(NANGATE, 32).area_um2
    assert banked == pytest.approx(1024 * by_hand / 0.7)
    assert banked < whole


def test_the_widest_tree_slows_the_clock():
    delays = cost.delays(unstructured(), None)
    assert delays.critical_stage == "operand_select_and_multiply"
    assert delays.clock_hz < cost.delays(unstructured(window_banks=32), None).clock_hz


@settings(max_examples=30, deadline=None)
@given(machines(skipping="elastic"), st.integers(1, 16))
def test_a_larger_window_of_elastic_slices_never_costs_less(arch, more):
    sparsity = arch.sparsity.model_copy(update={"sync_window": arch.sparsity.sync_window + more})
    wider = arch.model_copy(update={"sparsity": sparsity})
    assume(cost.delays(wider, None).clock_hz == cost.delays(arch, None).clock_hz)  # slower: fewer pipeline registers
    assume(arch.sparsity.weight_groups_per_cycle is not None)
    assert cost.area(wider).total_um2 >= cost.area(arch).total_um2


@pytest.mark.parametrize("build", [elastic, unstructured])
def test_what_prunes_nothing_pays_for_skipping_alone(build):
    arch = build("16:16")
    built = components(arch)
    assert built["selectors"] == built["metadata_decoders"] == 0
    assert built["zero_skipping"] > 0 < built["window_buffers"]
    pruned = components(build("8:16"))
    assert pruned["selectors"] > 0 < pruned["metadata_decoders"]
    delays = cost.delays(arch, Pattern("16:16"))
    assert delays.selector_latency_cycles == 0
    assert delays.compute_latency_cycles > cost.delays(machine(), None).compute_latency_cycles


def test_zero_detectors_see_every_value_that_arrives():
    detectors = [part for part in parts(elastic("16:16")) if part.unit.name == "zero detector"]
    assert [part.count for part in detectors] == [32 * 4 * 16]


def test_skipping_zeros_spends_energy_where_it_is_done():
    for arch in (elastic(), unstructured(), unstructured(window_banks=32)):
        spent = cost.energy(arch, arch.pattern(), WORK, 5e8).components_pj
        assert spent["zero_skipping"] > 0 < spent["operand_select"]
    fixed = cost.energy(machine("8:16"), Pattern("8:16"), WORK, 5e8).components_pj
    assert fixed["zero_skipping"] == 0


def test_turning_to_another_group_switches_the_window_multiplexers_of_every_column():
    groups = replace(NOTHING, decoded_groups=1000)
    spent = cost.energy(elastic(), Pattern("8:16"), groups, 5e8).components_pj["operand_select"]
    assert spent == pytest.approx(1000 * 32 * 16 * circuits.tree(NANGATE, 2).energy_pj * 0.215)


def test_weights_pass_both_halves_of_the_window():
    one = replace(NOTHING, weight_sram_read_bytes=1000)
    fixed, windowed = (
        cost.energy(arch, Pattern("8:16"), one, 5e8).components_pj["registers_and_clock"]
        for arch in (machine("8:16"), elastic())
    )
    assert windowed == pytest.approx(2 * fixed)


def test_a_finder_has_an_encoder_for_every_pick_and_is_as_deep_as_a_prefix_count():
    one, four = skipping.finder(NANGATE, 1, 16), skipping.finder(NANGATE, 4, 16)
    assert four.area_um2 == pytest.approx(4 * one.area_um2)
    assert one.area_um2 == pytest.approx(cost.unit("decode_bitmap_index", 1, 16).area_um2)
    assert four.delay_ns == one.delay_ns < skipping.finder(NANGATE, 4, 64).delay_ns
    assert skipping.finder(NANGATE, 16, 16) is None, "one cycle takes them all"


def test_two_levels_by_hand():
    # 1:2 of 4:8: an outer choice of one of two for each of 8 operands, then the 4:8 network on them.
    network = hierarchy.multiplexer(NANGATE, "onehot", HierarchicalPattern("1:2 of 4:8"))
    by_hand = 8 * cost.unit("select_onehot", 1, 2).area_um2 + cost.unit("select_onehot", 4, 8).area_um2
    assert network.area_um2 == pytest.approx(by_hand)
    assert hierarchy.select_bits("onehot", HierarchicalPattern("1:2 of 4:8")) == 1 * 2 + 4 * 5
    decoder = hierarchy.decoder(NANGATE, "onehot", "bitmap", HierarchicalPattern("1:2 of 4:8"))
    assert decoder.area_um2 == pytest.approx(
        cost.unit("decode_bitmap_onehot", 1, 2).area_um2 + cost.unit("decode_bitmap_onehot", 4, 8).area_um2
    )


def test_two_levels_cost_less_than_one_of_the_same_reach():
    two = components(machine("1:2 of 4:8", skipping="hierarchical"))
    one = components(machine("4:16"))
    for name in ("operand_multiplexers", "metadata_decoders", "selectors"):
        assert 0 < two[name] < one[name]


def test_a_level_that_keeps_all_needs_no_circuit():
    outer_only = hierarchy.multiplexer(NANGATE, "onehot", HierarchicalPattern("1:2 of 8:8"))
    assert outer_only.area_um2 == pytest.approx(8 * cost.unit("select_onehot", 1, 2).area_um2)
    inner_only = hierarchy.multiplexer(NANGATE, "onehot", HierarchicalPattern("2:2 of 4:8"))
    assert inner_only.area_um2 == pytest.approx(2 * cost.unit("select_onehot", 4, 8).area_um2)


def test_a_two_level_selector_by_hand():
    # Two 4:8 selectors; sums of four 8-bit scores in 10 bits; a 1:2 top-N of those; four values and the inner bitmap of
    # 8 bits move together: five bytes of one-hot select with its decoder.
    arch = machine("1:2 of 4:8", skipping="hierarchical")
    inner = sum(
        cost.unit(*unit).area_um2
        for unit in (
            ("top_n_rank", 4, 8),
            ("decode_bitmap_onehot", 4, 8),
            ("select_onehot", 4, 8),
            ("magnitude", None, 8),
        )
    )
    outer = cost.unit("top_n_rank", 1, 2).area_um2 * 10 / 8 + cost.unit("decode_bitmap_onehot", 1, 2).area_um2
    sums, moved = 2 * 3 * 10 / 32 * 193.38, 5 * cost.unit("select_onehot", 1, 2).area_um2
    selector = hierarchy.selector(NANGATE, arch.sparsity.selector, "bitmap", HierarchicalPattern("1:2 of 4:8"))
    assert selector.area_um2 == pytest.approx(2 * inner + sums + outer + moved)


@pytest.mark.parametrize("pattern", ["8:16", "1:2 of 4:8"])
def test_selecting_in_software_needs_no_selector(pattern):
    how = "hierarchical" if " of " in pattern else "fixed"
    arch = machine(pattern, skipping=how, selector={"placement": "software"})
    built = components(arch)
    assert built["selectors"] == built["selector_pipeline_registers"] == built["row_scale_buffer"] == 0
    assert built["operand_multiplexers"] > 0 < built["metadata_decoders"]
    assert cost.delays(arch, arch.pattern()).selector_latency_cycles == 0
    assert cost.energy(arch, arch.pattern(), WORK, 5e8).components_pj["selector"] == 0


def test_gathered_weights_reach_a_dense_array_through_a_crossbar():
    arch = machine("8:16", skipping="row_gather")
    built = components(arch)
    assert built["operand_multiplexers"] == built["metadata_decoders"] == 0
    assert built["selectors"] == components(machine("8:16"))["selectors"]
    crossbar = [part.count for part in parts(arch) if part.unit is circuits.tree(NANGATE, 16)]
    assert crossbar == [32 * 16]
    assert components(machine("8:16", skipping="output_gather"))["operand_multiplexers"] > 0
    latency = cost.delays(arch, arch.pattern()).selector_latency_cycles
    assert latency > cost.delays(machine("8:16"), Pattern("8:16")).selector_latency_cycles


def test_gathering_both_costs_as_much_as_each():
    gathered = {how: components(machine(skipping=how)) for how in ("fixed", "row_gather", "output_gather", "gather")}
    for name in ("gathering", "gather_masks"):
        areas = {how: built[name] for how, built in gathered.items()}
        assert areas["fixed"] == 0 < areas["row_gather"]
        assert areas["gather"] == pytest.approx(areas["row_gather"] + areas["output_gather"])
    for how in ("row_gather", "output_gather", "gather"):
        arch = machine(skipping=how)
        assert cost.energy(arch, None, WORK, 5e8).components_pj["gathering"] > 0


FREE = machine("8:16")
NOT_FREE = {
    "elastic": (machine("8:16", operand_mux="full"), elastic()),
    "elastic, unpruned": (machine(), elastic("16:16")),
    "unstructured": (machine("8:16", operand_mux="full"), unstructured("8:16")),
    "banked": (machine(), unstructured("16:16", window_banks=32)),
    "hierarchical": (machine(), machine("1:2 of 4:8", skipping="hierarchical")),
    "row gather": (machine(), machine(skipping="row_gather")),
    "output gather": (FREE, machine("8:16", skipping="output_gather")),
    "gather": (machine(skipping="output_gather"), machine(skipping="gather")),
    "static weights": (machine(), machine("8:16", operand="weights")),
    "stationary": (machine(), stationary()),
    "stationary, systolic": (machine(), stationary(array={"interconnect": "systolic"})),
    "stationary, sparse": (stationary(), stationary("8:16")),
    "stationary, static weights": (stationary(), stationary("8:16", operand="weights")),
    "preloading": (stationary(array={"fold_overlap": False}), stationary()),
    "draining behind": (machine(array={"drain": "serial"}), machine()),
    "cores": (FREE, machine("8:16", cores={"count": 2})),
    "shared buffer": (FREE, machine("8:16", cores={"shared_buffer_bytes": 1})),
    "wider shared buffer": (
        machine(cores={"shared_buffer_bytes": 65536, "shared_buffer_bytes_per_cycle": 64}),
        machine(cores={"shared_buffer_bytes": 65536, "shared_buffer_bytes_per_cycle": 512}),
    ),
    "larger window": (elastic(), elastic(sync_window=64)),
    "wider port": (elastic(), elastic(weight_groups_per_cycle=8)),
    "gating": (FREE, machine("8:16", zero_gating="operand")),
    "gating what stays": (stationary(), stationary(zero_gating="operand")),
    "multiplexer register": (FREE, machine("8:16", operand_mux_register=True)),
}


@pytest.mark.parametrize("option", NOT_FREE)
def test_no_option_is_free(option):
    without, with_it = NOT_FREE[option]
    assert cost.area(with_it).total_um2 > cost.area(without).total_um2
    waiting = replace(NOTHING, cycles=1000)
    leaks = [cost.energy(arch, arch.pattern(), waiting, 5e8).total_pj for arch in (without, with_it)]
    assert leaks[0] < leaks[1], "it is clocked or leaks"


@pytest.mark.parametrize("option", NOT_FREE)
def test_every_figure_of_every_option_has_a_source(option):
    arch = NOT_FREE[option][1]
    rows = cost.sources(arch)
    listed = {row.quantity for row in rows}
    assert len({(row.quantity, row.unit) for row in rows}) == len(rows)
    assert all(row.source for row in rows)
    for part in parts(arch):
        assert {f"{part.unit.name}: {figure}" for figure in ("area", "energy", "leakage")} <= listed
    for stage in cost.delays(arch, None).stages:
        assert f"delay of {stage.name}" in listed


@settings(max_examples=60, deadline=None)
@given(machines())
def test_one_name_means_one_circuit(arch):
    """A source is listed by its name, so two circuits of one name would hide one of them."""
    sizes: dict[str, float] = {}
    for part in parts(arch):
        assert sizes.setdefault(part.unit.name, part.unit.area_um2) == pytest.approx(part.unit.area_um2)


def test_assumed_counts_are_listed_where_they_are_used():
    listed = {row.quantity for row in cost.sources(elastic())}
    assert {"window_buffer_copies", "zero_gating_detector_gates"} <= listed
    assert "accumulator_accesses_per_cycle" in {row.quantity for row in cost.sources(stationary())}
    assert "gather_features" in {row.quantity for row in cost.sources(machine(skipping="gather"))}
    assert not {"gather_features", "window_buffer_copies"} & {row.quantity for row in cost.sources(machine("8:16"))}


def test_trees_over_more_than_the_table_holds_are_marked_as_extrapolated():
    rows = {row.quantity: row.status for row in cost.sources(unstructured())}
    assert rows["512:1 multiplexer tree, 8 bits: area"] == "extrapolated"
    rows = {row.quantity: row.status for row in cost.sources(elastic())}
    assert rows["16:1 multiplexer tree, 8 bits: area"] == "computed"


@pytest.mark.parametrize("option", NOT_FREE)
def test_zero_gating_works_on_every_machine(option):
    plain = NOT_FREE[option][1].model_copy(update={"zero_gating": "none"})
    gated = plain.model_copy(update={"zero_gating": "operand"})
    spent = [cost.energy(arch, arch.pattern(), WORK, 5e8).components_pj["multiply"] for arch in (plain, gated)]
    assert spent[0] - spent[1] == pytest.approx(WORK.zero_multiplies * 0.215 * cost.unit("multiplier").energy_pj)
    assert components(gated)["zero_gating"] > 0 == components(plain)["zero_gating"]
