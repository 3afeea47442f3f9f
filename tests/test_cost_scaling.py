"""Node scaling and SRAM against the published figures they come from."""

import pytest

from accel_sim.arch.schema import Arch, Technology
from accel_sim.cost import sram
from accel_sim.cost.scaling import Scale, energy_ratio, node
from accel_sim.cost.tables import dram
from accel_sim.errors import AccelSimError

NODES = [45, 32, 20, 16, 14, 10, 7]


def test_the_energy_polynomial_gives_the_corrigendums_worked_example():
    assert node(65).energy(1.3) == pytest.approx(2.604, abs=5e-4)


def test_energy_ratios_between_nodes():
    assert energy_ratio(45, 0.9, 16, 0.8) == pytest.approx(0.142, abs=1e-3)
    assert energy_ratio(45, 0.9, 7, 0.7) == pytest.approx(0.057, abs=1e-3)


def test_the_library_supply_explains_a_part_of_the_anchor():
    assert energy_ratio(45, 0.9, 45, 1.1) == pytest.approx(1.44, abs=0.01)


def test_smaller_nodes_are_smaller_and_use_less():
    scales = [Scale.of(Technology(node_nm=nm)) for nm in NODES]
    assert [scale.area for scale in scales] == sorted((scale.area for scale in scales), reverse=True)
    assert [scale.energy for scale in scales] == sorted((scale.energy for scale in scales), reverse=True)


def test_one_energy_scale_at_45_nm():
    assert Scale.of(Technology(energy_scale="raw")).energy == 1
    assert Scale.of(Technology(energy_scale="anchored")).energy == pytest.approx(0.215)


def test_wires_follow_the_square_of_the_supply():
    assert Scale.of(Technology(supply_v=0.45)).wire == pytest.approx(0.25)


def test_a_node_between_rows_lies_between_them():
    assert node(20).area_factor < node(22).area_factor < node(32).area_factor


def test_a_node_outside_the_table_is_an_error():
    with pytest.raises(AccelSimError, match="5 nm"):
        node(5)


@pytest.mark.parametrize(("kind", "pj"), [("hbm2", 6.25), ("hbm3", 4.05), ("hbm4", 3.2), ("lpddr4", 8), ("ddr3", 70)])
def test_dram_energy_per_bit(kind, pj):
    assert dram(kind).value == pj


@pytest.mark.parametrize(
    ("kilobytes", "mm2", "pj", "milliwatts"),
    [(64, 0.188, 33, 60), (128, 0.414, 41, 119), (256, 0.866, 55, 239), (512, 1.60, 87, 453), (1024, 3.25, 115, 905)],
)
def test_cacti_banks_at_45_nm(kilobytes, mm2, pj, milliwatts):
    bank = next(bank for bank in sram.banks(45, "hp", kilobytes * 1024) if bank.bus_bytes == 16)
    assert bank.area_um2 / 1e6 == pytest.approx(mm2, rel=0.005)
    assert bank.read_pj == pytest.approx(pj, rel=0.02)
    assert bank.leakage_mw == pytest.approx(milliwatts, rel=0.04)


def test_wide_buses_read_more_at_once():
    narrow, wide = (
        next(bank for bank in sram.banks(45, "hp", 1 << 20) if bank.bus_bytes == width) for width in (16, 64)
    )
    assert wide.read_pj == pytest.approx(311, rel=0.01)
    assert wide.read_pj / 64 < narrow.read_pj / 16


def test_low_standby_banks_leak_thousands_of_times_less():
    high, low = (sram.banks(45, kind, 1 << 20)[1].leakage_mw for kind in ("hp", "lstp"))
    assert high / low == pytest.approx(5800, rel=0.1)


def test_banks_below_the_table_are_extrapolated():
    assert {bank.status for bank in sram.banks(45, "hp", 65536)} == {"computed"}
    assert {bank.status for bank in sram.banks(7, "hp", 65536)} == {"extrapolated"}
    areas = [sram.banks(nm, "hp", 65536)[1].area_um2 for nm in NODES]
    assert areas == sorted(areas, reverse=True)


def test_a_buffer_holds_its_capacity_and_serves_its_port():
    arch = Arch(name="x")
    for capacity, port in [(1, 1), (65537, 16), (1 << 20, 512), (1 << 20, 100_000)]:
        buffer = sram.build("weight", capacity, port, arch)
        assert buffer.count * buffer.bank.bank_bytes >= capacity
        assert buffer.count * buffer.bank.bus_bytes >= port


def test_a_wider_port_never_shrinks_a_buffer():
    arch = Arch(name="x")
    areas = [sram.build("weight", 1 << 20, port, arch).area_um2 for port in (1, 64, 256, 512, 1024, 4096, 20_000)]
    assert areas == sorted(areas)
    assert areas[0] < areas[-1]


def test_reading_part_of_a_bus_costs_the_whole_bus():
    buffer = sram.build("weight", 65536, 16, Arch(name="x"))
    assert buffer.read_pj_per_byte(1) == pytest.approx(buffer.bank.read_pj)
