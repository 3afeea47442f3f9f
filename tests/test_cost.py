"""Area, clock and energy of whole machines: what must add up, grow, and be ordered."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from cost_machines import LADDER, MUXES, NANGATE, WORK, machine, machines
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_sim import cost
from accel_sim.arch import load_arch, shipped_archs
from accel_sim.arch.schema import Arch
from accel_sim.cost.parts import LOGIC_COMPONENTS, parts
from accel_sim.pattern import Pattern
from accel_sim.timing.activity import Activity


@settings(max_examples=60)
@given(machines())
def test_components_add_up_and_none_is_negative(arch):
    area = cost.area(arch)
    assert area.total_um2 == sum(area.components_um2.values()) > 0
    assert min(area.components_um2.values()) >= 0
    assert 0 < area.array_um2 < area.total_um2
    pattern = arch.pattern()
    energy = cost.energy(arch, pattern, WORK, cost.delays(arch, pattern).clock_hz)
    assert energy.total_pj == sum(energy.components_pj.values()) > 0
    assert min(energy.components_pj.values()) >= 0


@settings(max_examples=40)
@given(machines(), st.sampled_from(["rows", "cols", "lanes"]))
def test_more_array_never_shrinks_the_machine(arch, dimension):
    bigger = {**arch.array.model_dump(), dimension: 2 * getattr(arch.array, dimension)}
    grown = Arch.model_validate({**arch.model_dump(), "array": bigger})
    before, after = cost.area(arch), cost.area(grown)
    name = "multipliers_and_adder_trees"
    assert after.components_um2[name] > before.components_um2[name]
    assert after.total_um2 > before.total_um2


@settings(max_examples=40)
@given(machines())
def test_the_clock_keeps_its_target_and_its_critical_path(arch):
    delays = cost.delays(arch, arch.pattern())
    assert delays.clock_hz == min(arch.technology.clock_target_hz, 1e9 / delays.critical_path_ns)
    limits = [stage for stage in delays.stages if not stage.pipelined]
    assert delays.critical_path_ns == max(stage.delay_ns for stage in limits)
    assert delays.critical_stage in [stage.name for stage in limits]
    assert delays.requantiser_latency_cycles >= 1


@settings(max_examples=25)
@given(machines())
def test_the_dense_counterpart_is_never_larger(arch):
    assert cost.area(arch).overhead(cost.area(arch.dense())) >= 0


@pytest.mark.parametrize("mux", MUXES)
def test_overhead_rises_with_the_group(mux):
    overheads = []
    for pattern in LADDER:
        arch = machine(pattern, operand_mux=mux)
        overheads.append(cost.area(arch).overhead_array(cost.area(arch.dense())))
    assert overheads == sorted(overheads)
    assert 0 < overheads[0] < 0.1 < overheads[-1]


@pytest.mark.parametrize("mux", MUXES)
def test_a_flexible_unit_pays_for_its_largest_pattern(mux):
    flexible = cost.area(machine(LADDER, operand_mux=mux))
    for pattern in LADDER:
        single = cost.area(machine(pattern, operand_mux=mux))
        assert all(flexible.components_um2[name] >= size for name, size in single.components_um2.items())


@pytest.mark.parametrize("pattern", LADDER)
def test_the_one_hot_network_is_the_smallest_and_the_full_one_the_largest(pattern):
    sizes = [
        cost.area(machine(pattern, operand_mux=mux)).components_um2["operand_multiplexers"]
        for mux in ("onehot", "restricted", "full")
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_a_narrow_weight_port_saves_sram():
    wide, narrow = cost.area(load_arch("8x16.yaml")), cost.area(load_arch("8x16_narrow.yaml"))
    assert narrow.components_um2["sram_weight"] < wide.components_um2["sram_weight"]
    assert narrow.components_um2["operand_multiplexers"] == wide.components_um2["operand_multiplexers"]


def test_multiplexers_are_the_table_times_the_array():
    arch = machine("8:16", technology={"utilisation": 1.0})
    groups = 32 * 32 * 2
    assert cost.area(arch).components_um2["operand_multiplexers"] == pytest.approx(groups * 476.67)


def test_the_areas_of_a_machine_by_hand():
    # 32×32 elements of 16 lanes with two 8:16 groups side by side; rows of the unit table over 0.7 utilisation.
    area, flip_flop = cost.area(machine("8:16")).components_um2, 4.522
    one_hot, decoder = 476.67, 184.34
    expected = {
        "multipliers_and_adder_trees": 1024 * 10173.17,
        "operand_multiplexers": 1024 * 2 * one_hot,
        "activation_registers": 32 * 16 * 8 * flip_flop,
        "weight_registers": 32 * 32 * 8 * flip_flop,
        "metadata_registers": 32 * 2 * 16 * flip_flop,
        "metadata_decoders": 32 * 2 * decoder,
        "select_line_registers": 32 * 2 * 8 * 9 * flip_flop,
        "selectors": 32 * 2 * (336.22 + 3428.21 + decoder + one_hot),
        "selector_pipeline_registers": 32 * 2 * 10 * 16 * flip_flop,
    }
    assert {name: area[name] * 0.7 for name in expected} == pytest.approx(expected)
    banks = {"sram_activation": 10, "sram_weight": 16, "sram_output": 4}
    assert {name: area[name] for name in banks} == pytest.approx({n: count * 203700 for n, count in banks.items()})


def test_selectors_for_full_rate_are_a_small_share_when_they_are_shared():
    arch = machine("8:16", selector={"placement": "write_back", "sized_for_outputs": 4096})
    area = cost.area(arch)
    assert 0 < area.components_um2["selectors"] / area.components_um2["multipliers_and_adder_trees"] < 0.02


def test_only_write_back_needs_the_buffer_that_waits_for_the_rows_maximum():
    at_load = cost.area(machine("8:16", selector={"placement": "load"}))
    behind = cost.area(machine("8:16", selector={"placement": "write_back"}))
    assert at_load.components_um2["row_scale_buffer"] == 0 < behind.components_um2["row_scale_buffer"]


def test_a_group_larger_than_the_lanes_shifts_its_weights():
    shifting = machine("8:16", array={"lanes": 4})
    whole = machine("4:8", array={"lanes": 4})
    assert cost.area(shifting).components_um2["weight_shift_multiplexers"] > 0
    assert cost.area(whole).components_um2["weight_shift_multiplexers"] == 0


def test_overlapped_drain_pays_for_a_second_accumulator():
    double = cost.area(machine(array={"drain": "overlapped"})).components_um2["accumulator_drain"]
    single = cost.area(machine(array={"drain": "serial"})).components_um2["accumulator_drain"]
    assert double - single == pytest.approx(32 * 32 * 32 * 4.522 / 0.7)


def test_a_multiplexer_register_moves_the_multiplexer_out_of_the_multipliers_stage():
    plain = cost.delays(machine("16:32"), Pattern("16:32"))
    held = cost.delays(machine("16:32", operand_mux_register=True), Pattern("16:32"))
    named = {stage.name: stage.delay_ns for stage in held.stages}
    joint = {stage.name: stage.delay_ns for stage in plain.stages}["operand_select_and_multiply"]
    assert max(named["multiply"], named["operand_select"]) < joint
    assert held.compute_latency_cycles == plain.compute_latency_cycles + 1


def test_dense_and_sparse_machines_share_the_clock_of_their_adder_tree():
    dense, sparse = (cost.delays(machine(pattern), None) for pattern in ((), "16:32"))
    assert dense.critical_stage == sparse.critical_stage == "adder_tree_and_accumulate"
    assert dense.clock_hz == sparse.clock_hz == pytest.approx(449e6, rel=0.01)


def test_a_slower_target_is_met():
    assert cost.delays(machine(technology={"clock_target_hz": 200e6}), None).clock_hz == 200e6


@pytest.mark.parametrize(("pattern", "cycles"), [("2:4", 1), ("4:8", 1), ("8:16", 2), ("16:32", 3)])
def test_bitmap_decoders_at_a_gigahertz_take_one_to_three_cycles(pattern, cycles):
    decoder = cost.unit("decode_bitmap_onehot", Pattern(pattern).n, Pattern(pattern).m)
    assert -(-decoder.delay_ns // 1.0) == cycles


def test_decoder_and_selector_latencies_grow_with_the_group():
    delays = [cost.delays(machine(pattern), Pattern(pattern)) for pattern in LADDER]
    for name in ("compute_latency_cycles", "selector_latency_cycles"):
        latencies = [getattr(each, name) for each in delays]
        assert latencies == sorted(latencies) and latencies[0] < latencies[-1]


def test_running_dense_needs_neither_selector_nor_decoder():
    delays = cost.delays(machine("8:16"), None)
    assert delays.selector_latency_cycles == 0
    assert delays.compute_latency_cycles == cost.delays(machine(), None).compute_latency_cycles


def test_the_block_sparse_gain_is_near_the_published_one():
    """STA-DBB over STA at iso-throughput: 3.14 / 2.08 = 1.51× in area (arXiv 2005.08098); 4:8 here, arrays alone."""
    dense = cost.area(machine(array={"lanes": 16})).array_um2
    halved = cost.area(machine("4:8", array={"lanes": 8}, operand_mux="restricted")).array_um2
    assert dense / halved == pytest.approx(1.51, rel=0.25)


def test_energies_by_hand():
    # 16 lanes have no energy row: 11.4365 pJ of 8 lanes by area, less the clock of their 289 flip-flops, 8.022 fJ each.
    dot_product = 11.4365 * 10173.17 / 5280.1 - 289 * 0.00802208
    spent = cost.energy(machine("8:16"), Pattern("8:16"), WORK, 5e8).components_pj
    assert spent["multiply"] == pytest.approx(120e6 * 0.215 * dot_product / 16, rel=1e-5)
    assert spent["operand_select"] == pytest.approx(120e6 * 0.215 * 1.364 / 8)
    assert spent["selector"] == pytest.approx(60e3 * 0.215 * (0.7366 + 9.335 + 0.3702 + 1.364)), "|x|, rank, compaction"
    assert spent["metadata"] == pytest.approx(500e3 * 0.215 * 0.3702)
    # 64 KB banks with 64-byte buses: 40.35 pJ a read, 139.1 pJ a write.
    assert spent["sram_weight"] == pytest.approx((8e6 * 40.35 + 1e6 * 139.1) / 64)
    assert spent["sram_activation"] == pytest.approx((3.2e6 * 40.35 + 0.4e6 * 139.1) / 64)
    assert spent["sram_metadata"] == pytest.approx((0.8e6 * 40.35 + 0.1e6 * 139.1) / 64)
    assert spent["sram_output"] == pytest.approx((0.2e6 * 40.35 + 0.2e6 * 139.1) / 64)
    assert spent["dram"] == pytest.approx(2.2e6 * 8 * 6.25)


def test_leakage_is_time_times_the_power_of_banks_and_logic():
    # 16 banks for the weights' 1024 B a cycle, 10 for the activations' 640, 4 for 256 KB of outputs, 67.76 mW each;
    # of low-standby-power ones 10.93 µW. The logic is the same.
    arch, quiet = machine("8:16"), machine("8:16", sram={"kind": "lstp"})
    hot, cold = (cost.energy(each, Pattern("8:16"), WORK, 5e8).components_pj["leakage"] for each in (arch, quiet))
    seconds = 10_000 / 5e8
    assert hot - cold == pytest.approx(seconds * 30 * (67.76e-3 - 10.93e-6) * 1e12, rel=1e-3)
    logic_nw = 0.215 * sum(part.leakage_nw for part in parts(arch))
    assert hot == pytest.approx(seconds * (30 * 67.76e-3 + logic_nw * 1e-9) * 1e12)
    slow = cost.energy(arch, Pattern("8:16"), WORK, 2.5e8).components_pj["leakage"]
    assert slow == pytest.approx(2 * hot), "half the clock, twice the time"


def test_every_register_is_clocked_in_every_cycle():
    waiting = Activity(**{f.name: 0 for f in fields(Activity)} | {"cycles": 1000})
    spent = cost.energy(machine(), None, waiting, 5e8).components_pj["registers_and_clock"]
    array = 32 * 32 * (16 * 16 + 33 + 32)  # products, accumulator, second accumulator
    operands = 2 * 32 * 16 * 8
    behind = 64 * (3 * 96 + 32) + 12 * 32  # requantisers and running maxima; counters
    assert spent == pytest.approx(1000 * 0.215 * 0.00802208 * (array + operands + behind), rel=1e-5)


def test_energy_is_linear_in_the_activity():
    arch, pattern = machine("8:16"), Pattern("8:16")
    one, three = (cost.energy(arch, pattern, WORK.times(k), 5e8).components_pj for k in (1, 3))
    assert three == pytest.approx({name: 3 * value for name, value in one.items()})


def test_a_stall_costs_clock_and_leakage_alone():
    waiting = Activity(**{f.name: 0 for f in fields(Activity)} | {"cycles": 1000})
    spent = cost.energy(machine("8:16"), Pattern("8:16"), waiting, 5e8).components_pj
    assert {name for name, value in spent.items() if value} == {"registers_and_clock", "leakage"}


def test_zero_gating_saves_the_multiplications_it_holds():
    plain, gated = machine("8:16"), machine("8:16", zero_gating="operand")
    before, after = (cost.energy(arch, Pattern("8:16"), WORK, 5e8).components_pj for arch in (plain, gated))
    saved = before["multiply"] - after["multiply"]
    assert saved == pytest.approx(WORK.zero_multiplies * 0.215 * cost.unit("multiplier").energy_pj)
    assert after["registers_and_clock"] > before["registers_and_clock"]
    assert cost.area(gated).components_um2["zero_gating"] > 0 == cost.area(plain).components_um2["zero_gating"]


def test_memory_and_wires_are_not_on_the_logic_energy_scale():
    raw, anchored = (
        cost.energy(
            machine("8:16", technology={"energy_scale": scale, "supply_v": 0.9}), Pattern("8:16"), WORK, 5e8
        ).components_pj
        for scale in ("raw", "anchored")
    )
    for name in ("sram_activation", "sram_weight", "dram", "wires"):
        assert raw[name] == anchored[name]
    for name in ("multiply", "operand_select", "selector"):
        assert raw[name] > 2 * anchored[name]


def test_metadata_are_reported_apart_and_counted_once():
    with_metadata = cost.energy(machine("8:16"), Pattern("8:16"), WORK, 5e8).components_pj
    none = Activity(
        **{f.name: getattr(WORK, f.name) for f in fields(Activity)}
        | {"metadata_sram_read_bytes": 0, "metadata_sram_write_bytes": 0}
    )
    without = cost.energy(machine("8:16"), Pattern("8:16"), none, 5e8).components_pj
    assert without["sram_metadata"] == 0 < with_metadata["sram_metadata"]
    both = with_metadata["sram_activation"] + with_metadata["sram_metadata"]
    assert both == pytest.approx(without["sram_activation"])


def test_wires_can_be_switched_off_and_carry_a_band():
    on, off = (
        cost.energy(machine("8:16", technology={"wires": wires}), Pattern("8:16"), WORK, 5e8) for wires in (True, False)
    )
    low, high = on.wires_band_pj
    assert low < on.components_pj["wires"] < high
    assert off.components_pj["wires"] == 0


def test_wires_by_hand():
    area = cost.area(machine("8:16"))
    outside = ("selectors", "selector_pipeline_registers", "requantisers", "token_scale_units", "control")
    logic = [name for name in LOGIC_COMPONENTS if name not in outside]
    side_mm = sum(area.components_um2[name] for name in logic) ** 0.5 / 1000
    nothing = {f.name: 0 for f in fields(Activity)}

    def wires(**done: int) -> float:
        work = Activity(**nothing | done)
        return cost.energy(machine("8:16"), Pattern("8:16"), work, 5e8).components_pj["wires"]

    assert wires(requantised=1000) == pytest.approx(1000 * 32 * 0.121 * side_mm), "32 bits of every sum"
    one_hot = 8 * 2 * (1 - 1 / 9)  # two of a slot's nine lines change, unless the slot repeats
    assert wires(decoded_groups=1000) == pytest.approx(1000 * one_hot * 0.240 * side_mm)
    weight_side_mm = (16 * 0.2037) ** 0.5
    assert wires(weight_sram_read_bytes=1000) == pytest.approx(8000 * 0.121 * (side_mm + weight_side_mm))


def test_selecting_at_write_back_writes_and_reads_the_row_that_waits_for_its_maximum():
    arch = machine("8:16", selector={"placement": "write_back"})
    spent = cost.energy(arch, Pattern("8:16"), WORK, 5e8).components_pj["row_scale_buffer"]
    assert spent == pytest.approx(60_000 * 16 * 2 * (40.35 + 139.1) / 64), "two bytes a feature"


def test_only_lanes_that_hold_a_slot_have_a_multiplexer():
    # Two 7:16 groups on 16 lanes keep 14 busy.
    area = cost.area(machine("7:16")).components_um2["operand_multiplexers"]
    assert area == pytest.approx(1024 * 2 * cost.unit("select_onehot", 7, 16).area_um2 / 0.7)


def test_tracks_enlarge_only_a_block_that_is_too_small_for_them():
    roomy, crowded = cost.area(machine("2:4")), cost.area(machine("32:64"))
    assert roomy.track_use < 1 and roomy.components_um2["wires"] == 0
    assert crowded.track_use > 1 and crowded.components_um2["wires"] > 0


def test_operand_select_energy_per_kept_lane():
    """0.013, 0.026, 0.053, 0.135 pJ a kept lane with the restricted tree, on the anchored scale."""
    work = Activity(**{f.name: 0 for f in fields(Activity)} | {"multiplies": 1_000_000})
    found = [
        cost.energy(machine(p, operand_mux="restricted"), Pattern(p), work, 5e8).components_pj["operand_select"] / 1e6
        for p in LADDER
    ]
    assert found == pytest.approx([0.013, 0.026, 0.053, 0.135], rel=0.03)


def test_a_smaller_node_shrinks_everything_but_dram():
    at = [machine("8:16", technology={"node_nm": nm}) for nm in (45, 16)]
    large, small = (cost.area(arch) for arch in at)
    assert small.total_um2 < 0.4 * large.total_um2
    spent = [cost.energy(arch, Pattern("8:16"), WORK, 5e8).components_pj for arch in at]
    assert spent[1]["dram"] == spent[0]["dram"]
    assert spent[1]["multiply"] < 0.3 * spent[0]["multiply"]


@pytest.mark.parametrize("name", shipped_archs())
def test_every_figure_of_a_shipped_machine_has_a_source(name):
    arch = load_arch(name)
    rows = cost.sources(arch)
    assert len({(row.quantity, row.unit) for row in rows}) == len(rows) > 30
    assert all(row.source and row.unit for row in rows)
    listed = {row.quantity for row in rows}
    assert all(f"{part.unit.name}: area" in listed for part in parts(arch))


@pytest.mark.parametrize("mux", MUXES)
@pytest.mark.parametrize("metadata", ["bitmap", "index", "enumerative"])
def test_every_table_row_inside_a_sum_has_its_own_source(mux, metadata):
    rows = cost.sources(machine("8:16", operand_mux=mux, metadata=metadata))
    listed = {row.quantity for row in rows}
    sums = [row.source.removeprefix("sum of its parts: ") for row in rows if row.source.startswith("sum of its parts")]
    from_table = {part for each in sums for part in each.split(" + ") if part.partition(" ")[0] in NANGATE.kinds()}
    assert len(from_table) >= 5
    assert {f"{part}: area" for part in from_table} <= listed


def test_the_extrapolated_decoder_is_marked_in_the_sources():
    rows = cost.sources(machine("16:32", metadata="enumerative"))
    decoder = next(row for row in rows if row.quantity == "decode_enumerative 16:32: area")
    assert decoder.status == "extrapolated"


def test_the_defaults_line_says_what_a_report_rests_on():
    line = cost.defaults_line(load_arch("8x16.yaml"))
    for part in (
        "nangate45",
        "45 nm",
        "500 MHz",
        "0.7",
        "hp",
        "64 KB",
        "0.215",
        "6.25 pJ/bit",
        "DRAM PHY not included",
    ):
        assert part in line
    assert "\n" not in line


def test_the_documented_tables_are_what_their_programs_print(capsys):
    text = (Path(__file__).parent.parent / "docs" / "cost.md").read_text(encoding="utf-8")
    pairs = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, flags=re.DOTALL)
    assert len(pairs) == 4
    for program, printed in pairs:
        exec(compile(program, "docs/cost.md", "exec"), {})
        assert capsys.readouterr().out == printed


def test_a_systolic_array_holds_operands_and_select_lines_in_every_element():
    # 8:16 on 32×32 elements of 16 lanes: 2 groups of 16 weights and 16 kept activations of 8 bits an element; one-hot
    # select lines 2 groups × 8 slots × 9 positions. A broadcast array holds them once a column, once a row.
    def flip_flops(interconnect: str, component: str) -> float:
        arch = machine("8:16", array={"interconnect": interconnect})
        return sum(part.count for part in parts(arch) if part.component == component)

    assert flip_flops("systolic", "weight_registers") == 32 * 32 * 2 * 16 * 8
    assert flip_flops("systolic", "activation_registers") == 32 * 32 * 16 * 8
    for component in ("weight_registers", "activation_registers"):
        assert flip_flops("systolic", component) == 32 * flip_flops("broadcast", component)
    added = flip_flops("systolic", "select_line_registers") - flip_flops("broadcast", "select_line_registers")
    assert added == 32 * 32 * 2 * 8 * 9


def test_operands_load_a_register_in_every_element_they_pass():
    broadcast, systolic = (
        cost.energy(machine("8:16", array={"interconnect": kind}), Pattern("8:16"), WORK, 5e8).components_pj
        for kind in ("broadcast", "systolic")
    )
    assert systolic["registers_and_clock"] > 2 * broadcast["registers_and_clock"]
    assert systolic["multiply"] == broadcast["multiply"]
