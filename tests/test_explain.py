"""What `simulate --explain` says of each kind of machine, held to figures worked by hand."""

import re
from functools import cache

import numpy as np
import pytest

from accel_sim.arch import load_arch
from accel_sim.cli.explain import find_operation, print_explanation
from accel_sim.cli.explanation.cores import core_shares, memory_waits
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine, Settings, Simulation
from accel_sim.timing import CAUSES
from accel_sim.workload import (
    Gemm,
    SiteActivations,
    Workload,
    decode_workload,
    gemm_workload,
    load_policy,
    preset_workload,
)

ELASTIC = ["sparsity.skipping=elastic", "sparsity.operand_mux=full"]
STATIONARY = ["array.dataflow=weight_stationary", "array.rows=8", "array.cols=8", "array.lanes=4"]
TWO_CORES = ["cores.count=2"]


def simulation(
    workload: Workload, arch: str = "8x16", changes: tuple[str, ...] | list[str] = (), **settings
) -> Simulation:
    built = load_arch(arch, changes)
    return Simulation(Machine(built, built.pattern()), workload, settings=Settings(**settings))


def by_hand(specification: str, arch: str = "8x16", changes: tuple[str, ...] | list[str] = ()) -> Simulation:
    return simulation(gemm_workload([specification]), arch, changes)


def with_codes(codes: np.ndarray, outputs: int, changes: list[str], **gemm) -> Simulation:
    """One product whose activations are `codes` int8 [T, K], on 8x16 with `changes`."""
    product = Gemm("layer", "site", *codes.shape, outputs, **gemm)
    site = SiteActivations(lambda: (codes, np.ones(len(codes), np.float32)))
    return simulation(Workload("drawn", "codes", (product,), {"site": site, "reader": site}), "8x16", changes)


@pytest.fixture
def explained(capsys):
    """What is printed of a layer, every run of white space as one blank."""

    def explain(of: Simulation, layer: str = "") -> str:
        print_explanation(of, of.result(), find_operation(of, layer, "--explain"))
        return " ".join(capsys.readouterr().out.split())

    return explain


@cache
def smollm2() -> Workload:
    return preset_workload("smollm2-135m", 64)


def test_an_output_stationary_tile_is_groups_over_groups_a_cycle(explained):
    text = explained(by_hand("70x600x50"))
    assert "3 panels of 32 tokens (the last of 6) × 2 panels of 32 outputs (the last of 18): 6 tiles" in text
    # 600 features are 37.5 groups of 16, two a cycle.
    assert "38 groups of 16, 2 a cycle: 19 cycles (dense 38); the last group holds 8 of 16 features" in text


def test_a_panel_that_does_not_fit_comes_in_pieces(explained):
    text = explained(by_hand("32x8192x64", "dense", ["sram.activation_bytes=65536", "sram.weight_bytes=65536"]))
    # Half of a buffer is an eighth of a panel of 32 × 8,192 codes.
    assert "1 panel of 32 tokens × 2 panels of 32 outputs: 2 tiles, each in 8 pieces of the features" in text


def test_a_group_with_more_slots_than_lanes_takes_several_cycles(explained):
    assert "2 groups of 64, 2 cycles each: 4 cycles" in explained(
        by_hand("32x128x32", "8x16", ["sparsity.patterns=['32:64']"])
    )


def test_folds_and_what_preloading_them_costs_without_overlap(explained):
    # 8 rows × 4 lanes hold 32 features, 8 columns 8 outputs: 3 folds × 2 panels = 6 for one panel of 20 tokens. Each
    # loads 8 rows and lets the skew of 8 + 8 − 2 cycles run out: 6 · (8 + 14) = 132.
    changes = [*STATIONARY, "array.fold_overlap=false", "array.interconnect=systolic", "mapping.panel_tokens=20"]
    of = by_hand("20x70x16", "dense", changes)
    text = explained(of)
    assert "8 rows × 4 features = 32 features of 8 outputs; 3 folds over 70 features" in text
    assert "the last fold holds 6 of 32 features; 6 in all" in text
    assert "each streams 20 cycles (1 a token) and preloads its weights in 8 cycles (8 rows)" in text
    assert "preloading and 14 to run empty costs 132 cycles in all" in text
    assert "panel: 20 tokens, asked for by mapping.panel_tokens" in text


def test_preloads_that_overlap_show_where_few_tokens_stream_past(explained):
    # 3 tokens stream past in 3 cycles, the next fold's 8 rows take 8: each of 6 folds is seen for 5, the first whole.
    text = explained(by_hand("3x70x16", "dense", STATIONARY))
    assert "8 for the first fold, 30 where one takes longer than the tokens stream" in text


def test_a_narrow_weight_port_makes_preloads_longer(explained):
    # A row of 8 outputs × 4 lanes is 32 B; the port brings 16.
    text = explained(by_hand("20x70x16", "dense", [*STATIONARY, "sram.weight_port_bytes_per_cycle=16"]))
    assert "preloads its weights in 16 cycles (8 rows, 2 a row)" in text


def test_a_pruned_fold_spans_more_features(explained):
    # 16 lanes take 2 groups of 16: 32 rows × 32 = 1,024 features, where the dense machine's rows hold 512.
    text = explained(by_hand("64x1024x32", "8x16", ["array.dataflow=weight_stationary"]))
    assert "32 rows × 2 groups = 1024 features of 32 outputs; 1 fold over 1024 features" in text


def test_cores_get_whole_panels(explained):
    # 144 outputs are 5 panels of 32, the last of 16: the first core gets 3, the other 2.
    of = by_hand("64x256x144", "8x16", TWO_CORES)
    text = explained(of)
    assert "2 cores split the outputs; the activations come once for all of them" in text
    shares = core_shares(of.time(of.workload.gemms[0]), of.machine)
    assert [share.units for share in shares] == [96, 48]
    assert re.search(r"cores core outputs .* 0 96 .* 1 48 ", text)
    assert re.search(r"critical path, .* stage core items from", text)


def test_cores_that_split_the_tokens_share_the_weights(explained):
    of = by_hand("64x256x144", "8x16", [*TWO_CORES, "cores.split=tokens"])
    assert "2 cores split the tokens; the weights come once for all of them (37 kB)" in explained(of)
    assert [share.units for share in core_shares(of.time(of.workload.gemms[0]), of.machine)] == [32, 32]


def test_cores_wait_for_each_other_only_where_there_are_several():
    layer = gemm_workload(["128x512x256"]).gemms[0]
    for changes in ([], TWO_CORES, [*TWO_CORES, "cores.split=tokens"], ["cores.count=8"]):
        waits = memory_waits(by_hand("128x512x256", "8x16", changes).time(layer))
        assert waits.min() >= 0
        assert waits[0, 0, 0] == 0
        assert len(waits) == 1 or waits[1:, 0, 0].min() > 0  # the first core's first load goes ahead of theirs


def test_a_shared_buffer_says_what_it_saves_and_what_its_port_costs(explained):
    # With the smallest blocks the streaming operand is fetched again for every block.
    changes = [*TWO_CORES, "mapping.held=weights", "mapping.block_panels=1", "sram.activation_bytes=40000"]
    text = explained(
        by_hand(
            "256x512x256",
            "8x16",
            [*changes, "cores.shared_buffer_bytes=1000000", "cores.shared_buffer_bytes_per_cycle=64"],
        )
    )
    fetched, read = re.search(r"cores fetch (\d+) kB through it, (\d+) kB of that from DRAM", text).groups()
    assert int(fetched) > int(read)
    assert "its port, 64 B a cycle, makes loads" in text


def test_groups_that_do_not_deal_evenly_are_named(explained):
    # 36 groups on 16 slices: a window of 32 is two rounds, one of 4 a third. All groups empty: a cycle each.
    text = explained(with_codes(np.zeros((40, 576), np.int8), 32, ELASTIC))
    assert "36 groups do not deal evenly over 16 slices: 3 rounds (windows of 32 + 4) where 2.25 would do" in text
    # Full groups take 8 cycles a round; the fixed rate 36 / 2, a dense machine 576 / 16.
    assert "3 cycles, mean 3.0 over 2 panels of tokens; every group full: 24; fixed skipping 18, dense 36" in text
    assert "0.0% of the kept slots hold no zero" in text


def test_groups_that_deal_evenly_are_not_complained_about(explained):
    text = explained(with_codes(np.ones((32, 512), np.int8), 32, ELASTIC))
    assert "32 groups deal evenly, 2 rounds" in text
    assert "16 cycles, mean 16.0 over 1 panel of tokens" in text
    assert "0.0% of the array's time is synchronisation: rows and slices wait" in text


def test_one_full_row_makes_all_others_wait(explained):
    # 16 groups on 16 slices, one round: the full row takes 8 cycles. Of 32 rows one works 8 and 31 work 1: 39 / 32,
    # which is 2 in whole cycles, so 6 of 8 are waiting.
    codes = np.zeros((32, 256), np.int8)
    codes[0] = 1
    text = explained(with_codes(codes, 32, ELASTIC))
    assert "75.0% of the array's time is synchronisation" in text


def test_unstructured_rows_round_every_window_up(explained):
    # Two windows of 2 groups; a row needs ceil(3 / 16) = 1 cycle for the first, and 1 for the empty one.
    codes = np.zeros((32, 64), np.int8)
    codes[:, :3] = 1
    changes = ["sparsity.skipping=unstructured", "sparsity.operand_mux=full", "sparsity.sync_window=2"]
    text = explained(with_codes(codes, 32, changes))
    assert "max(1, ceil(non-zeros / 16)) cycles a window; 2 windows of 2 groups, each rounded up" in text
    assert "2 cycles, mean 2.0" in text
    assert "its fullest of 16 banks" in explained(with_codes(codes, 32, [*changes, "sparsity.window_banks=16"]))


def test_a_narrow_supply_of_windows_is_named(explained):
    # One group a cycle for a window of 32: 32 cycles, where empty groups would take 2.
    changes = [*ELASTIC, "sparsity.weight_groups_per_cycle=1"]
    text = explained(with_codes(np.zeros((32, 512), np.int8), 32, changes))
    assert "supplies 1 group a cycle, so a window of 32 takes 32 cycles at least" in text
    assert "30 cycles of waiting; activations" in text


def test_gathered_features_are_counted_and_their_bursts(explained):
    codes = np.zeros((2, 64), np.int8)
    codes[0, [1, 5, 40]] = codes[1, [1, 50]] = 1
    changes = ["sparsity.skipping=row_gather", "mapping.held=weights", "mapping.block_panels=2"]
    text = explained(with_codes(codes, 48, changes))
    assert "gathered: 4 of 64 features are needed by some token (6.2%)" in text
    assert "the weights of one, 48 outputs, are a run of 2 bursts of 32 B" in text
    # 2 rows of 64 codes and a scale are 136 B, 5 bursts: 160 B, at 256 B a cycle.
    assert "all activations are read once to know which: 160 B in 1 cycles" in text
    assert "activations with the scan" in text


def test_gathered_outputs_are_those_a_reader_needs(explained):
    codes = np.zeros((2, 64), np.int8)
    codes[0, :10] = 1  # 8 of the first group of 16 are kept
    changes = ["sparsity.skipping=output_gather"]
    text = explained(with_codes(codes, 64, changes, consumer_site="reader"))
    assert "gathered: 8 of 64 outputs are needed by some token of reader (12.5%)" in text
    assert "nothing is gathered" in explained(with_codes(codes, 64, changes))


def test_selection_by_software_is_a_pass_in_front_of_the_first_reader(explained):
    of = simulation(smollm2(), "8x16", ["sparsity.selector.placement=software"], quality=False)
    # 64 rows of 576 + 4 B read, of 36·(8 + 2) + 4 written, at 256 B a cycle: 145 + 91 behind 2,500 + 50.
    first = explained(of, "layers.0.self_attn.q_proj")
    assert "launch 2,500 + DRAM latency 50 + transfers 236 = 2,786 cycles" in first
    assert re.search(r"in the report: [\d,]+ cycles, 1 × [\d,]+ and 2,786 of selection by software", first)
    assert "that pass is counted with model.layers.0.self_attn.q_proj" in explained(of, "layers.0.self_attn.k_proj")


def test_selection_at_load_counts_every_fetch(explained):
    # Blocks of one weight panel, and activations that do not fit: every token passes the selectors for all 4 blocks.
    changes = ["mapping.held=weights", "mapping.block_panels=1", "sram.activation_bytes=50000"]
    assert "selected at load: every token 4 times, 32 groups each" in explained(by_hand("256x512x128", "8x16", changes))


def test_selection_at_write_back_happens_elsewhere(explained):
    text = explained(by_hand("64x512x64", "8x16", ["sparsity.selector.placement=write_back"]))
    # 32 groups of 8 codes and 2 B of bitmap, and a scale.
    assert "324 B a token from DRAM instead of 516, and no selection in these cycles" in text


def test_static_weights_are_stored_pruned(explained):
    text = explained(by_hand("64x512x64", "8x16", ["sparsity.operand=weights"]))
    assert (
        "weights are pruned once, before the run: 324 B an output with metadata and scale in DRAM, 320 in SRAM" in text
    )


def test_a_mapping_that_is_asked_for_stands_beside_the_free_choice(explained):
    free = by_hand("512x512x512")
    best = free.time(free.workload.gemms[0])
    text = explained(by_hand("512x512x512", "8x16", ["mapping.held=activations", "mapping.block_panels=1"]))
    assert "held to mapping.held activations, mapping.block_panels 1" in text
    assert f"a free search takes {best.cycles:,} cycles: {best.plan.tiling}" in text


def test_a_serial_drain_and_slow_requantisers_are_named(explained):
    # 32 × 32 accumulators through 8 requantisers: 128 cycles for each of 4 tiles.
    serial = explained(by_hand("64x64x64", "8x16", ["array.requantisers=8", "array.drain=serial"]))
    assert (
        "emptying a tile takes 128 cycles through 8 requantisers, and the array waits for it: 512 cycles in all"
        in serial
    )
    late = explained(
        by_hand("64x64x64", "8x16", ["array.requantisers=8", "mapping.held=weights", "mapping.block_panels=2"])
    )
    # An item of two tiles of 2 cycles waits 126 between them; and the second item 126 for the first one.
    assert "the array waits: 378 cycles in all" in late


def test_a_vector_operation_is_explained_by_its_lanes(explained):
    of = simulation(smollm2(), "8x16", scope="model", quality=False)
    # Load the stream, square, times root, times weight, quantise 3: 7 an element; 14 a row. 512 lanes beside 16,384.
    text = explained(of, "layers.0.self_attn.norm")
    total = 64 * (576 * 7 + 14)
    assert (
        f"7 operations an element and 14 a row of 576, {total:,} in all; 512 lanes: {total / 512:,.1f} cycles" in text
    )
    assert "64 rows in 32 chunks" in text and "nothing is selected behind the lanes" in text


def test_a_vector_operation_selects_at_write_back(explained):
    of = simulation(smollm2(), "8x16", ["sparsity.selector.placement=write_back"], scope="model", quality=False)
    assert f"selected behind the lanes (write_back): {64 * 36:,} groups of 8:16" in explained(of, "layers.0.mlp.norm")


def test_what_is_never_pruned_says_so(explained):
    of = simulation(smollm2(), "8x16", scope="model", quality=False)
    text = explained(of, "layers.0.self_attn.scores")
    assert "attention product that is never pruned: runs dense" in text
    assert "outputs which stay on chip" in text
    # 3 KV heads, each a product of its own.
    assert re.search(r"in the report: [\d,]+ cycles, 3 × ", text)


def test_a_policy_is_named_where_it_decides(explained):
    of = simulation(smollm2(), "8x16", policy=load_policy("dense-qkv"), quality=False)
    assert "runs dense, as policy dense-qkv.yaml says" in explained(of, "layers.0.self_attn.q_proj")
    assert "runs 8:16, as policy dense-qkv.yaml says" in explained(of, "layers.0.mlp.up_proj")


MACHINES = {
    "dense": [],
    "narrow port": ["sram.weight_port_bytes_per_cycle=300"],
    "weight-stationary": ["array.dataflow=weight_stationary"],
    "elastic": ELASTIC,
    "unstructured": ["sparsity.skipping=unstructured", "sparsity.operand_mux=full", "sparsity.patterns=['16:16']"],
    "two levels": ["sparsity.skipping=hierarchical", "sparsity.patterns=['1:2 of 4:8']"],
    "gather": ["sparsity.skipping=gather"],
    "software": ["sparsity.selector.placement=software"],
    "weights": ["sparsity.operand=weights"],
    "eight cores": ["cores.count=8", "cores.shared_buffer_bytes=65536"],
}


@pytest.mark.parametrize("name", MACHINES)
def test_causes_and_critical_path_add_up_on_every_kind_of_machine(name, explained):
    workload = decode_workload(smollm2(), 3)
    of = simulation(workload, "dense" if name == "dense" else "8x16", MACHINES[name], quality=False)
    for layer in ("layers.1.mlp.gate_proj", "layers.1.mlp.down_proj"):
        text = explained(of, layer)
        cycles = of.time(find_operation(of, layer, "--explain")).cycles
        assert f"outputs in {cycles:,} cycles" in text
        causes = dict(re.findall(r"(\w+) ([\d,]+)", text[text.rindex("causes: ") :]))
        assert sum(int(value.replace(",", "")) for value in causes.values()) == cycles
        assert set(causes) <= set(CAUSES)
        assert text.count("→") == 1  # one tiling is taken
        last = re.search(r"store (?:\d+ )?\d+ [\d,]+ ([\d,]+) [\d,]+ causes", text)
        assert int(last[1].replace(",", "")) == cycles


def test_both_engines_are_explained_alike(explained):
    workload, arch = gemm_workload(["70x300x90"]), load_arch("8x16", TWO_CORES)
    texts = [
        explained(Simulation(Machine(arch, Pattern("8:16"), engine), workload)) for engine in ("compiled", "event")
    ]
    assert texts[0] == texts[1]


def test_a_layer_that_is_not_there_is_an_error_that_names_some():
    with pytest.raises(AccelSimError, match=r"--explain nonsense: no such layer; there are model\.layers\.0"):
        find_operation(simulation(smollm2()), "nonsense", "--explain")
    with pytest.raises(AccelSimError, match="--explain softmax: not a linear projection; --scope model counts it"):
        find_operation(simulation(smollm2()), "softmax", "--explain")
