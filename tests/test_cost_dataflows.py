"""What weight-stationary arrays, several cores and static weight sparsity cost, by hand."""

from dataclasses import replace

import pytest
from cost_machines import NANGATE, NOTHING, WORK, flip_flops, machine, stationary

from accel_sim import cost
from accel_sim.cost import sram
from accel_sim.cost.parts import parts
from accel_sim.pattern import Pattern


def components(arch) -> dict[str, float]:
    return cost.area(arch).components_um2


def energy(arch, work, clock_hz=5e8) -> dict[str, float]:
    return cost.energy(arch, arch.pattern(), work, clock_hz).components_pj


def test_every_element_holds_the_weights_of_its_groups_and_those_of_the_next_fold():
    # 8:16 on 16 lanes: two groups of 16 weights of 8 bits an element.
    bits = 32 * 32 * 2 * 16 * 8
    assert flip_flops(stationary("8:16"), "weight_registers") == 2 * bits
    assert flip_flops(stationary("8:16", array={"fold_overlap": False}), "weight_registers") == bits
    load_or_hold = 2 * bits / 8 * cost.unit("select_restricted", 1, 2).area_um2
    assert components(stationary("8:16"))["weight_load_multiplexers"] == pytest.approx(load_or_hold / 0.7)


def test_the_dot_products_own_adders_sum_the_columns():
    moving, standing = components(machine()), components(stationary())
    assert standing["multipliers_and_adder_trees"] == moving["multipliers_and_adder_trees"]
    assert standing["accumulator_drain"] == 0 < moving["accumulator_drain"]


def test_a_columns_tree_and_its_accumulator_by_hand():
    # 32 rows: 5 levels of 0.915 ns in 2.227 ns cycles take 3, two levels each, so registers stand behind levels 2, 4
    # and 5, where 8, 2 and 1 sums of 32 bits are left; one adder and two registers a column at the accumulator SRAM.
    tree, accumulator = 32 * (8 + 2 + 1), 2 * 32
    assert flip_flops(stationary(), "column_sums") == 32 * (tree + accumulator)
    assert flip_flops(stationary(array={"interconnect": "systolic"}), "column_sums") == 32 * accumulator
    by_hand = 32 * ((tree + accumulator) * 4.522 + 193.38) / 0.7
    assert components(stationary())["column_sums"] == pytest.approx(by_hand)


def test_sums_take_a_tree_and_an_accumulator_longer():
    latency = {
        kind: cost.delays(stationary(array={"interconnect": kind}), None).compute_latency_cycles
        for kind in ("broadcast", "systolic")
    }
    assert latency == {"broadcast": 3 + 3 + 1, "systolic": 3 + 1}


def test_the_accumulator_sram_reads_and_writes_a_row_of_sums_a_cycle():
    # 2 × 32 × 4 bytes; twice that where one half empties behind the other: four 64 KB banks with 128-byte buses.
    overlapped, serial = stationary(), stationary(array={"drain": "serial"})
    assert sram.memories(serial).accumulator.port_bytes == 256
    assert sram.memories(overlapped).accumulator.port_bytes == 512
    assert components(overlapped)["sram_accumulator"] == pytest.approx(4 * 268_500)
    assert components(serial)["sram_accumulator"] == pytest.approx(4 * 203_700)
    assert components(machine())["sram_accumulator"] == 0


def test_partial_sums_are_paid_for():
    # A sum: an INT32 addition, and the tree's and the accumulator's registers; 128 bytes by one 128-byte bus.
    work = replace(NOTHING, accumulator_sram_read_bytes=40_000, accumulator_sram_write_bytes=40_000)
    spent = energy(stationary(), work)
    bits = 32 * (8 + 2 + 1) + 2 * 32
    assert spent["column_sums"] == pytest.approx(10_000 * 0.215 * (0.4513 + bits * NANGATE.register_data_energy_pj))
    assert spent["sram_accumulator"] == pytest.approx(40_000 * (92.62 + 190.7) / 128)
    area = cost.area(stationary())
    # Half of five levels of the tree cross the block's height; both transfers cross the SRAM.
    millimetres = 2.5 * (area.block_um2 / 1e6) ** 0.5 + 2 * (4 * 0.2685) ** 0.5
    assert spent["wires"] == pytest.approx(40_000 * 8 * 0.121 * millimetres)


def test_stationary_weights_load_once_a_fold_and_stay():
    work = replace(NOTHING, weight_sram_read_bytes=1000)
    loads = {
        (kind, overlap): energy(stationary(array={"interconnect": kind, "fold_overlap": overlap}), work)
        for kind in ("broadcast", "systolic")
        for overlap in (True, False)
    }
    bits = {key: spent["registers_and_clock"] / 0.215 / NANGATE.register_data_energy_pj for key, spent in loads.items()}
    assert bits == pytest.approx(
        {
            ("broadcast", False): 8000,
            ("broadcast", True): 2 * 8000,
            ("systolic", False): 16.5 * 8000,
            ("systolic", True): 17.5 * 8000,
        }
    )


def test_zero_gating_needs_no_register_for_weights_that_stay():
    assert flip_flops(machine(zero_gating="operand"), "zero_gating") == 32 * 32 * 16 * 8 + 32 * 16
    assert flip_flops(stationary(zero_gating="operand"), "zero_gating") == 32 * 16


def test_a_group_that_takes_several_cycles_steps_along_weights_that_stay():
    # 8:16 on 4 lanes: two cycles, a reach of 4 + 16 − 8 weights.
    built = components(stationary("8:16", array={"lanes": 4}))["weight_shift_multiplexers"]
    two_to_one = cost.unit("select_full", 1, 2).area_um2
    assert built == pytest.approx(32 * 32 * (4 + 16 - 8) * two_to_one / 0.7)


@pytest.mark.parametrize("pattern", [(), "8:16"])
def test_cores_cost_as_many_times_one_core_and_the_buffer_they_share(pattern):
    one, three = machine(pattern), machine(pattern, cores={"count": 3, "shared_buffer_bytes": 2**20})
    shared = components(three)["shared_buffer"]
    assert cost.area(three).total_um2 == pytest.approx(3 * cost.area(one).total_um2 + shared)
    assert cost.area(three).array_um2 == pytest.approx(3 * cost.area(one).array_um2)
    # 1024 bytes a cycle: 16 banks of 64 KB with 64-byte buses.
    assert shared == pytest.approx(16 * 203_700)
    assert cost.area(one).components_um2["shared_buffer"] == 0


def test_the_dense_counterpart_has_as_many_cores():
    arch = machine("8:16", cores={"count": 4, "shared_buffer_bytes": 2**20})
    assert components(arch.dense())["shared_buffer"] == components(arch)["shared_buffer"]
    assert cost.area(arch).overhead_array(cost.area(arch.dense())) == pytest.approx(
        cost.area(machine("8:16")).overhead_array(cost.area(machine()))
    )


def test_every_core_is_clocked_and_leaks_in_every_cycle():
    waiting = replace(NOTHING, cycles=1000)
    one, four = energy(machine(), waiting), energy(machine(cores={"count": 4}), waiting)
    for name in ("registers_and_clock", "leakage"):
        assert four[name] == pytest.approx(4 * one[name])


def test_a_transfer_through_the_shared_buffer_crosses_it_and_the_cores():
    arch = machine(cores={"count": 2, "shared_buffer_bytes": 2**20})
    spent = energy(arch, replace(NOTHING, shared_buffer_read_bytes=1024))
    assert spent["shared_buffer"] == pytest.approx(16 * 40.35)
    millimetres = (16 * 0.2037) ** 0.5 + (cost.area(arch).cores_um2 / 1e6) ** 0.5
    assert spent["wires"] == pytest.approx(1024 * 8 * 0.121 * millimetres)


def test_static_weights_put_decoders_at_the_columns_and_multiplexers_in_front_of_activations():
    arch = machine("8:16", operand="weights")
    assert flip_flops(arch, "activation_registers") == 32 * 2 * 16 * 8, "two groups of features a row"
    assert flip_flops(arch, "weight_registers") == 32 * 16 * 8, "a kept weight a lane"
    assert flip_flops(arch, "metadata_registers") == 32 * 2 * 16
    built, pruned = components(arch), components(machine("8:16"))
    for name in ("operand_multiplexers", "metadata_decoders", "select_line_registers"):
        assert built[name] == pytest.approx(pruned[name]) and built[name] > 0, "square array: as many columns as rows"
    assert built["selectors"] == built["selector_pipeline_registers"] == 0
    assert cost.delays(arch, arch.pattern()).selector_latency_cycles == 0


def test_decoders_of_static_weights_follow_the_columns():
    wide = machine("8:16", operand="weights", array={"cols": 64})
    decoders = [part.count for part in parts(wide) if part.component == "metadata_decoders"]
    assert decoders == [64 * 2]


def test_static_weights_that_stay_are_decoded_where_they_stand():
    arch = stationary("8:16", operand="weights")
    assert [part.count for part in parts(arch) if part.component == "metadata_decoders"] == [32 * 32 * 2]
    assert flip_flops(arch, "metadata_registers") == 2 * 32 * 32 * 2 * 16
    assert flip_flops(arch, "weight_registers") == 2 * 32 * 32 * 16 * 8
    assert components(arch)["select_line_registers"] == 0


def test_metadata_are_a_part_of_the_pruned_operands_accesses():
    spent = {operand: energy(machine("8:16", operand=operand), WORK) for operand in ("activations", "weights")}
    whole = {operand: parts["sram_metadata"] for operand, parts in spent.items()}
    assert whole["weights"] > 0 < whole["activations"]
    pruned = machine("8:16", operand="weights")
    buffer, width = sram.memories(pruned).weight, sram.weight_width(pruned, Pattern("8:16"))
    read, write = buffer.read_pj_per_byte(width), buffer.write_pj_per_byte()
    assert spent["weights"]["sram_weight"] == pytest.approx(7.2e6 * read + 0.9e6 * write)


def test_gating_selected_activations_holds_both_operands_and_selects_the_flag():
    arch = machine("8:16", operand="weights", zero_gating="operand")
    assert flip_flops(arch, "zero_gating") == 32 * 32 * 16 * (8 + 8) + 32 * 2 * 16
    flags = [part for part in parts(arch) if part.component == "zero_gating" and "flags" in part.unit.name]
    multiplexers = components(arch)["operand_multiplexers"]
    assert sum(part.area_um2 for part in flags) / 0.7 == pytest.approx(multiplexers / 8)


def test_a_vector_operation_is_a_published_fused_multiply_add():
    work = replace(NOTHING, vector_operations=1000)
    assert energy(machine(), work)["vector_unit"] == pytest.approx(1000 * (0.9 + 3.7))
    raw = energy(machine(technology={"energy_scale": "raw"}), work)["vector_unit"]
    assert raw == pytest.approx(1000 * (0.9 + 3.7) / 0.215), "on the scale of the netlists"
    assert "vector unit" in cost.defaults_line(machine(), vector_unit=True)
    assert "vector unit" not in cost.defaults_line(machine())
