"""Unit costs: what one multiplier, multiplexer, selector, decoder or register costs in one synthesised library.

A row of the run's table where there is one, else the closed form fitted to those rows. A cell the table lacks (energy
of the largest units, delay of some) comes from the nearest row of the same kind: energy and leakage in proportion to
area, delay by the power of M fitted to that kind. Whatever is not a complete table row says so. All figures stay at
the library's own node and supply; `accel_sim.cost.scaling` brings them to a machine's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import log2
from statistics import linear_regression, mean, median

from accel_sim.arch.schema import Arch
from accel_sim.cost.forms import FITTED_BITS, FORMS
from accel_sim.cost.run import Row, SynthesisRun, synthesis_run
from accel_sim.cost.tables import Status, constant
from accel_sim.errors import AccelSimError

_MEASURED = ("energy_pj", "leakage_nw", "delay_ns")
BASE = "nangate45"
"""The library at the node that every other one is brought to."""


@dataclass(frozen=True)
class UnitCost:
    """One instance at its library's node and supply, before utilisation, node and energy scale."""

    name: str
    area_um2: float
    """Cell area."""
    delay_ns: float
    """Combinational delay of the slowest path; with registers, from clock edge to setup."""
    energy_pj: float
    """One operation; for a flip-flop, its clock in one cycle."""
    leakage_nw: float
    status: Status
    """The weakest of the four figures'."""
    source: str
    nand2_um2: float
    """The library's NAND2."""
    flip_flops: float = 0
    """Register bits inside; their clock is part of `energy_pj`."""
    area_status: Status | None = None
    """The area's own, where it is better: a row may have an area and nothing else."""
    made_of: tuple[UnitCost, ...] = ()
    """Units whose figures this one's follow from; none for a row of the table or its closed form."""

    @property
    def nand2(self) -> float:
        """Area in NAND2-equivalents (GE)."""
        return self.area_um2 / self.nand2_um2

    @property
    def estimated(self) -> bool:
        """True unless area, delay, energy and leakage all stand in one row of the table."""
        return self.status != "measured"

    def times(self, factor: float, name: str, status: Status = "computed", rule: str = "") -> UnitCost:
        """`factor` of this unit's area, energy and leakage at the same delay."""
        return replace(
            self,
            name=name,
            area_um2=self.area_um2 * factor,
            energy_pj=self.energy_pj * factor,
            leakage_nw=self.leakage_nw * factor,
            flip_flops=self.flip_flops * factor,
            status=_weaker(self.status, status),
            area_status=_weaker(self.area_status or self.status, status),
            source=f"{rule} × {self.source}" if rule else self.source,
            made_of=(self,),
        )


_STRENGTH: tuple[Status, ...] = ("measured", "published", "computed", "extrapolated", "assumed")


def _weaker(*statuses: Status) -> Status:
    return max(statuses, key=_STRENGTH.index)


def total(name: str, parts: Iterable[UnitCost], rule: str = "sum of its parts") -> UnitCost:
    """A unit made of others in series: areas, energies, leakages and delays add."""
    parts = tuple(parts)
    return UnitCost(
        name=name,
        area_um2=sum(part.area_um2 for part in parts),
        delay_ns=sum(part.delay_ns for part in parts),
        energy_pj=sum(part.energy_pj for part in parts),
        leakage_nw=sum(part.leakage_nw for part in parts),
        nand2_um2=parts[0].nand2_um2 if parts else 1.0,  # nothing is 0 of any gate
        flip_flops=sum(part.flip_flops for part in parts),
        status=_weaker("computed", *(part.status for part in parts)),
        area_status=_weaker("computed", *(part.area_status or part.status for part in parts)),
        source=f"{rule}: {' + '.join(part.name for part in parts)}",
        made_of=parts,
    )


class Library:
    """The units of one synthesis run. One instance a run: see `library`."""

    def __init__(self, run: SynthesisRun) -> None:
        self.run = run
        self._by_unit: dict[str, list[Row]] = {}
        for row in run.rows:
            self._by_unit.setdefault(row.unit, []).append(row)

    @property
    def name(self) -> str:
        return self.run.library

    def kinds(self) -> tuple[str, ...]:
        """Every kind of unit that the run has."""
        return tuple(self._by_unit)

    def rows(self, kind: str) -> list[Row]:
        """Rows of a kind. Raises AccelSimError for one that the run lacks."""
        if kind not in self._by_unit:
            known = ", ".join(self.kinds())
            raise AccelSimError(f"library {self.name}: no unit {kind!r} was synthesised; it has: {known}")
        return self._by_unit[kind]

    def has(self, kind: str) -> bool:
        """Whether any row of a kind was synthesised."""
        return kind in self._by_unit

    def row(
        self, kind: str, n: int | None = None, m: int | None = None, lanes: int | None = None, bits: int = FITTED_BITS
    ) -> Row | None:
        """The row of exactly this shape; None where the run has none."""
        return next((row for row in self._by_unit.get(kind, ()) if row.shape == (n, m, lanes, bits)), None)

    def largest_n(self, kind: str, m: int) -> int | None:
        """The largest N among the rows of a kind with groups of m; None where the run has no such row."""
        rows = self.rows(kind)
        return max((row.n for row in rows if row.m == m and row.bits == FITTED_BITS and row.n), default=None)

    @cache  # noqa: B019 - libraries live as long as the process
    def unit(
        self, kind: str, n: int | None = None, m: int | None = None, lanes: int | None = None, bits: int = FITTED_BITS
    ) -> UnitCost:
        """The cost of one unit of `kind` for pattern n:m, so many lanes, a data path of `bits` bits.

        Raises AccelSimError for a kind that the run lacks, or a shape that has neither row nor closed form.
        """
        rows = self.rows(kind)
        if row := self.row(kind, n, m, lanes, bits):
            return self._complete(row)
        if kind == "dot_product" and lanes is not None:
            return self._dot_product(lanes)
        if m is None or (n is None and all(row.n is not None for row in rows)):
            shape = f"n={n}, m={m}, lanes={lanes}, bits={bits}"
            raise AccelSimError(f"library {self.name}: unit {kind} with {shape}: no row and no closed form")
        return self._by_closed_form(kind, n, m, bits)

    def only(self, kind: str) -> UnitCost:
        """The unit of a kind that comes in one shape. Raises AccelSimError where the run has none, or several."""
        rows = self.rows(kind)
        if len(rows) > 1:
            raise AccelSimError(f"library {self.name}: {kind} was synthesised in {len(rows)} shapes; expected one")
        return self._complete(rows[0])

    def _cost(
        self,
        name: str,
        area: float,
        delay: float,
        energy: float,
        leakage: float,
        status: Status,
        source: str,
        flip_flops: float = 0,
        area_status: Status | None = None,
    ) -> UnitCost:
        nand2 = self.run.nand2_area_um2
        return UnitCost(name, area, delay, energy, leakage, status, source, nand2, flip_flops, area_status)

    def _complete(self, row: Row) -> UnitCost:
        """A table row, with the cells it lacks filled from the nearest row of its kind."""
        whole = None not in (row.delay_ns, row.energy_pj, row.leakage_nw)
        energy, leakage = row.energy_pj, row.leakage_nw
        if energy is None or leakage is None:
            densities = self._densities(row.unit, row.n, row.m, row.lanes)
            energy = row.area_um2 * densities[0] if energy is None else energy
            leakage = row.area_um2 * densities[1] if leakage is None else leakage
        delay = self._row_delay(row)
        return self._cost(
            _name(row.unit, row.n, row.m, row.lanes, row.bits),
            row.area_um2,
            self._delay(row.unit, row.n, row.m) if delay is None else delay,
            energy,
            leakage,
            status="measured" if whole else "extrapolated",
            flip_flops=row.flip_flops,
            area_status="measured",
            source=row.source if whole else f"{row.source}; missing cells from the nearest row of its kind",
        )

    def _by_closed_form(self, kind: str, n: int | None, m: int, bits: int) -> UnitCost:
        area, rule = self.form_area(kind, n, m, bits)
        energy, leakage = self._densities(kind, n, m, None)
        largest = max(row.m for row in self.rows(kind) if row.m)
        loose = m >= largest or kind in ("encode_enumerative", "decode_enumerative")
        return self._cost(
            _name(kind, n, m, None, bits),
            area,
            self._delay(kind, n, m),
            area * energy,
            area * leakage,
            status="extrapolated" if loose else "computed",
            source=rule,
        )

    def form_area(self, kind: str, n: int | None, m: int, bits: int = FITTED_BITS) -> tuple[float, str]:
        """Area in µm² of a shape without a row, and the rule that gave it."""
        if kind == "decode_enumerative" and self.row("encode_enumerative", n, m):
            ratio = self._decoder_over_encoder
            encoder = self.unit("encode_enumerative", n, m)
            rule = f"encode_enumerative {n}:{m} × the median ratio of decoder to encoder area, {ratio:.2f}"
            return encoder.area_um2 * ratio, rule
        form = "top_n_rank_small" if kind == "top_n_rank" and m < 4 else kind
        coefficient = self.run.coefficients.get(form)
        if coefficient is None:
            shape = f"{n}:{m}" if n is not None else f"M={m}"
            raise AccelSimError(f"library {self.name}: unit {kind} {shape}: no row, and no closed form was fitted")
        if bits != FITTED_BITS and not FORMS[form].has_width:
            raise AccelSimError(f"library {self.name}: unit {kind} {n}:{m} of {bits} bits: no row, form without width")
        gates = coefficient.value * FORMS[form].pieces(n or m, m, bits)
        return gates * self.run.nand2_area_um2, f"closed form {coefficient.text}"

    @cached_property
    def _decoder_over_encoder(self) -> float:
        """Median area of an enumerative decoder over its encoder, for groups of 8 and more."""
        encoders = {row.shape: row.area_um2 for row in self.rows("encode_enumerative")}
        pairs = [row for row in self.rows("decode_enumerative") if row.m and row.m >= 8 and encoders.get(row.shape)]
        if not pairs:
            raise AccelSimError(f"library {self.name}: no enumerative decoder of 8 or more was synthesised")
        return median(row.area_um2 / encoders[row.shape] for row in pairs)

    def _dot_product(self, lanes: int) -> UnitCost:
        """Without a row: area by its line, energy by area, delay on a line in log2 of the lanes through neighbouring
        rows."""
        lane, fixed = (self.run.coefficients.get(f"dot_product_{term}") for term in ("lane", "fixed"))
        known = sorted((row.lanes, self._complete(row).delay_ns) for row in self.rows("dot_product") if row.lanes)
        if lane is None or fixed is None or len(known) < 2:
            raise AccelSimError(f"library {self.name}: no dot_product of {lanes} lanes, nor two others and their line")
        area = (lane.value * lanes + fixed.value) * self.run.nand2_area_um2
        energy, leakage = self._densities("dot_product", None, None, lanes)
        below = max((pair for pair in known[:-1] if pair[0] <= lanes), default=known[0])
        above = known[known.index(below) + 1]
        share = (log2(lanes) - log2(below[0])) / (log2(above[0]) - log2(below[0]))
        slope = above[1] - below[1] if lanes < above[0] else max(0.0, above[1] - below[1])
        line = f"closed form {lane.value:g} lanes + {fixed.value:g} NAND2 of the dot_product rows"
        return self._cost(
            _name("dot_product", None, None, lanes, FITTED_BITS),
            area,
            below[1] + share * slope,
            area * energy,
            area * leakage,
            status="computed" if lanes <= known[-1][0] else "extrapolated",
            source=f"{line}; energy by area, delay between neighbouring rows",
            flip_flops=self._flip_flops_on_the_line(lanes),
        )

    @cache  # noqa: B019
    def _timing_over_mapper(self, kind: str) -> float:
        """Median ratio of the timing analyser's delay to the mapper's, over the rows of a kind that have both."""
        pairs = [(row.delay_ns, row.mapper_delay_ns) for row in self.rows(kind)]
        ratios = [timed / mapped for timed, mapped in pairs if timed and mapped]
        if not ratios:
            raise AccelSimError(f"library {self.name}: no {kind} row has both delay_ns and mapper_delay_ns")
        return median(ratios)

    def _densities(self, kind: str, n: int | None, m: int | None, lanes: int | None) -> tuple[float, float]:
        """Energy (pJ) and leakage (nW) per µm² of the nearest row that has both."""
        rows = (row for row in self.rows(kind) if row.area_um2)
        measured = [row for row in rows if row.energy_pj is not None and row.leakage_nw is not None]
        if not measured:
            raise AccelSimError(f"library {self.name}: no {kind} row has energy_pj and leakage_nw")
        row = _nearest(measured, n, m, lanes)
        assert row.energy_pj is not None and row.leakage_nw is not None
        return row.energy_pj / row.area_um2, row.leakage_nw / row.area_um2

    def _delay(self, kind: str, n: int | None, m: int | None) -> float:
        """Delay of the nearest row with one, times the ratio of M to the power fitted over the rows of the kind."""
        timed = self._timed(kind)
        if not timed or m is None:
            raise AccelSimError(f"library {self.name}: no {kind} row has a delay")
        row = _nearest(timed, n, m, None)
        delay = self._row_delay(row)
        assert delay is not None
        return delay * (m / row.m) ** self._delay_exponent(kind) if row.m else delay

    def _timed(self, kind: str) -> list[Row]:
        return [row for row in self.rows(kind) if row.bits == FITTED_BITS and self._row_delay(row)]

    def _row_delay(self, row: Row) -> float | None:
        """The timing analyser's delay, else the mapper's times the kind's usual ratio between the two, else None."""
        if row.delay_ns is not None:
            return row.delay_ns
        return None if row.mapper_delay_ns is None else row.mapper_delay_ns * self._timing_over_mapper(row.unit)

    @cache  # noqa: B019
    def _delay_exponent(self, kind: str) -> float:
        """Power of M in the delay, over the rows of groups of 8 and more: those of 4 are a gate or two. 0 where they
        are all of one size."""
        timed = [(row.m, self._row_delay(row)) for row in self._timed(kind) if row.m and row.m >= 8]
        points = [(log2(m), log2(delay)) for m, delay in timed if delay]
        if len({size for size, _ in points}) < 2:
            return 0.0
        return linear_regression([size for size, _ in points], [delay for _, delay in points]).slope

    @cache  # noqa: B019
    def width_ratios(self, kind: str, bits: int) -> tuple[float, float, float, float] | None:
        """Median ratios of area, energy, leakage and delay, rows of `bits` over those of the usual width; None where no
        complete pair was synthesised."""
        pairs = [(row, self.row(kind, row.n, row.m, row.lanes)) for row in self.rows(kind) if row.bits == bits]
        figures = [
            (wide.area_um2 / narrow.area_um2, *(getattr(wide, name) / getattr(narrow, name) for name in _MEASURED))
            for wide, narrow in pairs
            if narrow and narrow.area_um2 and all(getattr(row, name) for row in (wide, narrow) for name in _MEASURED)
        ]
        return tuple(median(column) for column in zip(*figures, strict=True)) if figures else None  # type: ignore[return-value]

    @cached_property
    def flip_flop(self) -> UnitCost:
        """One register bit. Its energy is the clock's: internal power of both edges and the clock pin, each cycle."""
        cell = self.run.flip_flop
        return self._cost(
            "flip-flop",
            cell.area_um2,
            cell.clock_to_q_ns + cell.setup_ns,
            cell.clock_energy_pj,
            cell.leakage_nw,
            status="published",
            source=f"{cell.cell} of {self.name}",
            flip_flops=1,
        )

    @property
    def register_data_energy_pj(self) -> float:
        """Energy of loading one random bit into a register, without the clock."""
        return self.run.flip_flop.data_energy_pj

    def _flip_flops_on_the_line(self, lanes: int) -> int:
        """Registers inside a dot product without a row: a product a lane and the accumulator."""
        rows = self.rows("dot_product")
        line = linear_regression([row.lanes for row in rows], [row.flip_flops for row in rows])
        return round(line.slope * lanes + line.intercept)

    def without_clock(self, circuit: UnitCost) -> float:
        """Energy (pJ) of one operation without the clock of the registers inside."""
        return circuit.energy_pj - circuit.flip_flops * self.flip_flop.energy_pj

    @cached_property
    def anchor_factor(self) -> float:
        """One factor from this library's energies to published 45 nm ones, to three digits: the mean over an INT8
        multiplication and an INT32 addition of the published energy over the library's."""
        multiply, add = self.unit("multiplier"), self.unit("adder")
        ratios = (constant("anchor_multiply") / multiply.energy_pj, constant("anchor_add") / add.energy_pj)
        return float(f"{mean(ratios):.3g}")


@cache
def load_library(name: str) -> Library:
    """The library of a shipped run, or of the run in a folder. Raises as `synthesis_run` does."""
    return Library(synthesis_run(name))


def library_of(arch: Arch) -> Library:
    """The library that a machine is built from."""
    return load_library(arch.technology.library)


def unit(
    kind: str,
    n: int | None = None,
    m: int | None = None,
    lanes: int | None = None,
    bits: int = FITTED_BITS,
    library: str = BASE,
) -> UnitCost:
    """The cost of one unit as one library gives it: see `Library.unit`."""
    return load_library(library).unit(kind, n, m, lanes, bits)


def _name(kind: str, n: int | None, m: int | None, lanes: int | None, bits: int) -> str:
    pattern = f"{n}:{m}" if n is not None else f"M={m}" if m is not None else ""
    width = f"{bits} bits" if bits != FITTED_BITS else ""
    return " ".join(filter(None, (kind, pattern, f"{lanes} lanes" if lanes is not None else "", width)))


def _nearest(rows: Iterable[Row], n: int | None, m: int | None, lanes: int | None) -> Row:
    """The row closest in size (log2 of M or of the lanes), then in density, then the larger."""

    def distance(row: Row) -> tuple[float, float]:
        if lanes is not None and row.lanes:
            return abs(log2(row.lanes / lanes)), -row.lanes
        if m is None or not row.m:
            return 0.0, 0.0
        density = abs(log2((row.n / row.m) / (n / m))) if row.n and n else 0.0
        return abs(log2(row.m / m)) + density, -row.m

    return min(rows, key=distance)
