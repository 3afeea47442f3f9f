"""Criteria and mitigations: by hand, ordered, and free where everything folds away."""

import pytest
from cost_machines import NANGATE, machine

from accel_sim import cost
from accel_sim.arch.schema import Selector
from accel_sim.cost import circuits, sram
from accel_sim.cost.methods import methods_cost
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

K, F = 4096, 1024


def methods(pattern="8:16", **settings):
    return {one.name: one for one in methods_cost(machine(pattern, **settings), K, F)}


def test_what_folds_away_costs_nothing():
    found = methods()
    for name in ("magnitude", "LS", "PCS"):
        one = found[name]
        assert (one.area_um2, one.energy_pj_per_token, one.macs_per_token, one.cycles_per_token) == (0, 0, 0, 0)


def test_static_factors_by_hand():
    # 32 rows × 2 groups of selectors; a bank of 64 KB with its smallest bus holds the table of a byte a feature.
    selectors = [circuits.selector(NANGATE, Selector(channel_factors=on), "bitmap", Pattern("8:16")) for on in (0, 1)]
    extra = selectors[1].area_um2 - selectors[0].area_um2
    assert extra == pytest.approx(16 * 492.1 + 3428.21)
    one = methods()["Amber, robust norm"]
    assert one.area_um2 == pytest.approx(64 * extra / 0.7 + K / 65536 * 183700)
    assert one.overhead == pytest.approx(one.area_um2 / cost.area(machine("8:16")).total_um2)
    assert one.table_bytes == K


def test_energies_by_hand():
    # Tables are read once for the tokens of 32 rows, further passes for each; logic on the anchored scale.
    buffer = sram.memories(machine("8:16")).activation
    read = buffer.bank.read_pj / buffer.bank.bus_bytes
    found, groups = methods(), K / 16
    plain, factored = (
        circuits.selector(NANGATE, Selector(channel_factors=on), "bitmap", Pattern("8:16")) for on in (0, 1)
    )
    expected = 0.215 * (factored.energy_pj - plain.energy_pj) * groups + K / 32 * read
    assert found["WINA"].energy_pj_per_token == pytest.approx(expected)
    subtract = 16 * (9 / 32 * 0.4513 + 2 * NANGATE.unit("select_restricted", 1, 2).energy_pj)
    assert found["S-PTS"].energy_pj_per_token == pytest.approx(0.215 * subtract * groups + 4 * F / 32 * read)
    # A median compares and counts in all of its passes, and reads the codes again in each.
    above, count = 16 * 8 / 32 * 0.4513, 15 * 5 / 32 * 0.4513 + 0.4513 + 32 * NANGATE.flip_flop.energy_pj
    epilogue = 26 / 8 * 0.9588 + 0.4513
    logic = (subtract + 8 * (above + count)) * groups + epilogue * F
    median = 0.215 * logic + (8 * K + 4 * F / 32) * read
    assert found["D-PTS, median"].energy_pj_per_token == pytest.approx(median)


def test_weights_that_stay_read_a_table_for_every_token():
    moving, staying = methods(), methods(array={"dataflow": "weight_stationary"})
    assert staying["WINA"].energy_pj_per_token > moving["WINA"].energy_pj_per_token


def test_criteria_that_differ_only_in_their_table_cost_the_same():
    found = methods()
    names = ("Amber, raw column norm", "Amber, robust norm", "WINA", "R-Sparse score")
    assert len({found[name].area_um2 for name in names}) == 1
    assert len({found[name].energy_pj_per_token for name in names}) == 1


def test_running_norms_cost_more_than_a_table_and_a_pass():
    found = methods()
    assert found["CLACT"].area_um2 > 1.5 * found["WINA"].area_um2
    assert found["CLACT"].cycles_per_token == pytest.approx(K / 16 / 64)
    assert found["WINA"].cycles_per_token == 0


def test_a_shift_known_before_the_run_needs_no_epilogue():
    found = methods()
    subtractors = 64 * 16 * (9 / 32 * 193.38 + 16 / 8 * NANGATE.unit("select_restricted", 1, 2).area_um2) / 0.7
    assert found["S-PTS"].area_um2 == pytest.approx(subtractors + 4 * F / 65536 * 183700)
    assert found["S-PTS"].area_um2 < found["L-PTS"].area_um2 < found["D-PTS, mean"].area_um2


def test_a_median_takes_a_pass_a_bit_and_a_mean_none():
    found = methods()
    assert found["D-PTS, mean"].cycles_per_token == 0
    assert found["D-PTS, median"].cycles_per_token == pytest.approx(8 * K / 16 / 64)
    assert found["D-PTS, median"].energy_pj_per_token > found["D-PTS, mean"].energy_pj_per_token


def test_variance_costs_two_reductions_of_all_and_of_the_kept():
    found = methods()
    assert found["VAR"].area_um2 > 64 * 16 * 492.1 / 0.7
    assert found["VAR"].cycles_per_token == 0


def test_multiplications_of_low_rank_rotation_and_layer_skip():
    found = methods()
    multipliers = 32 * 32 * 16
    assert found["R-Sparse, rank 64"].macs_per_token == 64 * (K + F)
    assert found["R-Sparse, rank 128"].cycles_per_token == pytest.approx(128 * (K + F) / multipliers)
    assert found["R-Sparse, rank 128"].weight_bytes == 128 * (K + F)
    assert found["La RoSA, rotation"].macs_per_token == K * K
    assert found["layer skip"].macs_per_token == K * F / 2
    assert found["layer skip"].energy_overhead == pytest.approx(1)


def test_every_method_is_built_of_the_machines_own_library():
    names = {"criterion", "mitigation"}
    for pattern in ("2:4", "4:8", "16:32"):
        for one in methods(pattern).values():
            assert one.kind in names and one.rule and one.area_um2 >= 0 and one.energy_pj_per_token >= 0


@pytest.mark.parametrize(
    ("arch", "sizes", "message"),
    [
        (machine(), (K, F), "selects nothing"),
        (machine("8:16", selector={"placement": "software"}), (K, F), "selects nothing"),
        (machine("1:2 of 4:8", skipping="hierarchical"), (K, F), "two levels"),
        (machine("8:16"), (0, F), "expected at least 1"),
    ],
)
def test_what_has_no_place_for_a_method_says_so(arch, sizes, message):
    with pytest.raises(AccelSimError, match=message):
        methods_cost(arch, *sizes)
