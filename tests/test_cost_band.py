"""The band of the overhead: over libraries, and what only adds to it."""

import pytest
from cost_machines import machine

from accel_sim import cost
from accel_sim.arch import load_arch
from accel_sim.cost.run import shipped
from accel_sim.errors import AccelSimError
from accel_sim.simulation import simulate
from accel_sim.workload import gemm_workload


def test_the_band_holds_the_same_machine_with_every_library():
    arch = load_arch("8x16.yaml")
    band = cost.overhead_band(arch, arch.dense())
    assert set(band.by_library) | set(band.missing) == set(shipped())
    assert band.by_library["nangate45"] == cost.area(arch).overhead(cost.area(arch.dense()))
    assert band.low == min(band.by_library.values()) <= band.high == max(band.by_library.values())
    assert band.effects


def test_smaller_multipliers_make_the_same_multiplexers_dearer():
    arch = machine("8:16")
    sparse, dense = cost.area(arch), cost.area(arch.dense())
    gone = (1 - 1 / 1.4) * dense.components_um2["multipliers_and_adder_trees"]
    expected = (sparse.total_um2 - gone) / (dense.total_um2 - gone) - 1
    assert cost.overhead_band(arch, arch.dense()).smaller_multipliers == pytest.approx(expected)
    assert expected > sparse.overhead(dense)


def test_raw_energies_do_not_keep_a_library_out_of_the_band():
    raw = machine("8:16", technology={"energy_scale": "raw"})
    anchored = machine("8:16")
    bands = [cost.overhead_band(arch, arch.dense()) for arch in (raw, anchored)]
    assert bands[0].by_library == pytest.approx(bands[1].by_library)


def test_a_result_carries_the_band_of_its_machine():
    arch = load_arch("8x16.yaml")
    found = simulate(arch, gemm_workload(["64x512x512"])).area.band
    band = cost.overhead_band(arch, arch.dense())
    assert (found.low, found.high, found.by_library) == (band.low, band.high, band.by_library)
    assert found.smaller_multipliers == band.smaller_multipliers


def test_a_library_that_lacks_a_circuit_is_named_and_left_out(monkeypatch):
    from accel_sim.cost import band

    def lacking(arch, library, methods=None):
        if library == "sg13g2":
            raise AccelSimError("library sg13g2: no unit 'x' was synthesised")
        return cost.area(arch)

    monkeypatch.setattr(band, "_area", lacking)
    monkeypatch.setattr(band, "shipped", lambda: ("nangate45", "sg13g2"))
    found = band._band.__wrapped__(machine("8:16"), machine())
    assert set(found.by_library) == {"nangate45"} and "no unit 'x'" in found.missing["sg13g2"]
