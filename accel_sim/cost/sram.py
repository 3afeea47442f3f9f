"""On-chip buffers: banks from CACTI tables at 45, 32 and 22 nm, ganged until the port is as wide as asked.

Below 22 nm the 22 nm bank is scaled by the rule in `scaling`, which overstates how SRAM shrinks: extrapolated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost.scaling import energy_ratio, node
from accel_sim.cost.tables import Source, Status, constant, table
from accel_sim.pattern import Pattern

SMALLEST_TABLE_NM = 22
MM2 = 1e6
"""µm² in a mm²."""
ACCUMULATOR_BYTES = 4
"""An INT32 partial sum."""


@dataclass(frozen=True)
class Bank:
    """One single-port bank with a bus of a given width."""

    bank_bytes: int
    bus_bytes: int
    area_um2: float
    read_pj: float
    """One access of the whole bus."""
    write_pj: float
    leakage_mw: float
    cycle_ns: float
    """Least time between two accesses, of the table's node."""
    status: Status
    source: str


@cache
def banks(node_nm: int, kind: str, bank_bytes: int) -> tuple[Bank, ...]:
    """The banks of one size at a node, by bus width, narrow first."""
    table_nm = max(node_nm, SMALLEST_TABLE_NM)
    area = energy = 1.0
    status: Status = "computed"
    if node_nm < table_nm:
        reference, target = node(table_nm), node(node_nm)
        area = target.area_factor / reference.area_factor
        energy = energy_ratio(table_nm, reference.nominal_supply_v, node_nm, target.nominal_supply_v)
        status = "extrapolated"
    wanted = (str(table_nm), kind, str(bank_bytes))
    return tuple(
        Bank(
            bank_bytes=bank_bytes,
            bus_bytes=int(row["bus_bytes"]),
            area_um2=float(row["area_mm2"]) * MM2 * area,
            read_pj=float(row["read_pj"]) * energy,
            write_pj=float(row["write_pj"]) * energy,
            leakage_mw=float(row["leakage_mw"]) * energy,
            cycle_ns=float(row["cycle_ns"]),
            status=status,
            source=row["source"] + (f"; {table_nm} nm scaled to {node_nm} nm" if status == "extrapolated" else ""),
        )
        for row in table("sram")
        if (row["node_nm"], row["kind"], row["bank_bytes"]) == wanted
    )


@dataclass(frozen=True)
class Sram:
    """A buffer: `count` equal banks that together hold the capacity and serve the port."""

    name: str
    capacity_bytes: int
    port_bytes: int
    """Width of the port that was asked for, bytes a cycle."""
    bank: Bank
    count: int

    @property
    def area_um2(self) -> float:
        return self.bank.area_um2 * self.count

    @property
    def leakage_nw(self) -> float:
        return self.bank.leakage_mw * self.count * 1e6

    def read_pj_per_byte(self, width_bytes: int | None = None) -> float:
        """Energy per useful byte when `width_bytes` (the port when None) are read together: whole buses count."""
        return self._accesses_per_byte(width_bytes) * self.bank.read_pj

    def write_pj_per_byte(self, width_bytes: int | None = None) -> float:
        """As `read_pj_per_byte`, for a write."""
        return self._accesses_per_byte(width_bytes) * self.bank.write_pj

    def _accesses_per_byte(self, width_bytes: int | None) -> float:
        width = width_bytes or self.port_bytes
        return -(-width // self.bank.bus_bytes) / width

    def source(self) -> Source:
        what = (
            f"SRAM {self.name}: {self.count} banks of {self.bank.bank_bytes} B, {self.bank.bus_bytes} B bus,"
            f" read {self.bank.read_pj:.3g} pJ, write {self.bank.write_pj:.3g} pJ,"
            f" leakage {self.bank.leakage_mw:.3g} mW a bank"
        )
        return Source(what, self.area_um2, "um2", self.bank.status, self.bank.source)


def build(name: str, capacity_bytes: int, port_bytes: int, arch: Arch) -> Sram:
    """The smallest set of banks with the capacity and the port; more banks than the capacity needs where even the
    widest bus of each is too narrow. A bus wider than needed may be the smaller bank, so widths compete by area."""
    choices = banks(arch.technology.node_nm, arch.sram.kind, arch.sram.bank_bytes)
    by_capacity = -(-capacity_bytes // arch.sram.bank_bytes)
    sized = [
        Sram(name, capacity_bytes, port_bytes, bank, max(by_capacity, -(-port_bytes // bank.bus_bytes)))
        for bank in choices
    ]
    return min(sized, key=lambda sram: (sram.area_um2, sram.bank.read_pj))


@dataclass(frozen=True)
class Memories:
    """The buffers of one core."""

    activation: Sram
    weight: Sram
    output: Sram
    accumulator: Sram | None
    """Weight-stationary arrays only."""

    def __iter__(self) -> Iterator[Sram]:
        return iter(filter(None, (self.activation, self.weight, self.output, self.accumulator)))


@cache
def memories(arch: Arch) -> Memories:
    """Buffers with ports as wide as the array, the requantisers and DRAM ask for."""
    output_port = max(arch.array.requantisers, ceil(arch.dram.bytes_per_cycle))
    stationary = arch.array.dataflow == "weight_stationary"
    return Memories(
        activation=build("activation", arch.sram.activation_bytes, derived.activation_port_bytes_per_cycle(arch), arch),
        weight=build("weight", arch.sram.weight_bytes, derived.weight_port_bytes_per_cycle(arch), arch),
        output=build("output", arch.sram.output_bytes, output_port, arch),
        accumulator=build("accumulator", arch.sram.accumulator_bytes, accumulator_port(arch), arch)
        if stationary
        else None,
    )


def accumulator_width(arch: Arch) -> int:
    """Bytes of one row of partial sums."""
    return ACCUMULATOR_BYTES * arch.array.cols


def accumulator_port(arch: Arch) -> int:
    """Bytes a cycle of the accumulator SRAM: a row of sums read and one written, or what the requantisers read if that
    is more; in each of two halves where one empties while the other is at work, as they take turns."""
    accesses = int(constant("accumulator_accesses_per_cycle"))
    half = max(accesses * accumulator_width(arch), ACCUMULATOR_BYTES * arch.array.requantisers)
    return half * (2 if arch.array.drain == "overlapped" else 1)


@cache
def shared_buffer(arch: Arch) -> Sram | None:
    """The buffer between DRAM and the cores, which serves one transfer at a time; None where none is built."""
    cores = arch.cores
    if cores.shared_buffer_bytes == 0:
        return None
    return build("shared_buffer", cores.shared_buffer_bytes, cores.shared_buffer_bytes_per_cycle, arch)


def all_memories(arch: Arch) -> tuple[Sram, ...]:
    """One core's buffers, and the shared one."""
    return tuple(filter(None, (*memories(arch), shared_buffer(arch))))


def weight_width(arch: Arch, pattern: Pattern | None) -> int:
    """Bytes of weights read together when `pattern` runs: its demand, or the port where that is narrower."""
    demand = arch.array.cols * derived.weight_bytes_per_column_cycle(arch, pattern)
    return min(demand, derived.weight_port_bytes_per_cycle(arch))


def activation_width(arch: Arch, pattern: Pattern | None) -> int:
    """Bytes of kept activations and metadata read together when `pattern` runs, or the port where that is narrower."""
    demand = -(-arch.array.rows * derived.activation_bits_per_row_cycle(arch, pattern) // 8)
    return min(demand, derived.activation_port_bytes_per_cycle(arch))


def row_scale_buffer(arch: Arch) -> tuple[float, float]:
    """(area in µm², leakage in nW) of the buffer that holds a token until its maximum is known.

    Only a selector behind the producing unit (`write_back`) needs one: its scores are codes, codes need the scale.
    """
    at_write_back = arch.sparsity.selector.placement == "write_back"
    if not (at_write_back and any(derived.selects(arch, pattern) for pattern in arch.sparsity.patterns)):
        return 0.0, 0.0
    return part_of_a_bank(arch, constant("row_buffer_features") * constant("row_buffer_bytes_per_feature"))


def part_of_a_bank(arch: Arch, size_bytes: float) -> tuple[float, float]:
    """(area in µm², leakage in nW) of a small buffer, by the byte of a bank."""
    bank = min(banks(arch.technology.node_nm, arch.sram.kind, arch.sram.bank_bytes), key=lambda bank: bank.area_um2)
    share = size_bytes / bank.bank_bytes
    return bank.area_um2 * share, bank.leakage_mw * share * 1e6
