"""Unit costs: what one multiplier, multiplexer, selector, decoder or register costs in the 45 nm library.

A row of the synthesised table where there is one, else the closed form fitted to those rows. A cell the table lacks
(energy of the largest units, delay of some) comes from the nearest row of the same kind: energy and leakage in
proportion to area, delay by the power of M fitted to that kind. Whatever is not a complete table row says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, comb, log2
from statistics import linear_regression, median

from accel_sim.cost.tables import Status, constant, constants, number, table
from accel_sim.errors import AccelSimError


@dataclass(frozen=True)
class UnitCost:
    """One instance at 45 nm and the library's supply, before utilisation, node and energy scale."""

    name: str
    area_um2: float
    """Cell area."""
    delay_ns: float
    """Combinational delay of the slowest path; with registers, from clock edge to setup."""
    energy_pj: float
    """One operation on random data; for a flip-flop, its clock in one cycle."""
    leakage_nw: float
    status: Status
    """The weakest of the four figures'."""
    source: str
    area_status: Status | None = None
    """The area's own, where it is better: a row may have an area and nothing else."""
    made_of: tuple[UnitCost, ...] = ()
    """Units whose figures this one's follow from; none for a row of the table or its closed form."""

    @property
    def nand2(self) -> float:
        """Area in NAND2-equivalents (GE)."""
        return self.area_um2 / constant("nand2_area")

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
        status=_weaker("computed", *(part.status for part in parts)),
        area_status=_weaker("computed", *(part.area_status or part.status for part in parts)),
        source=f"{rule}: {' + '.join(part.name for part in parts)}",
        made_of=parts,
    )


@dataclass(frozen=True)
class _Row:
    """One row of units.csv; None where the table has no figure."""

    kind: str
    n: int | None
    m: int | None
    k: int | None
    w: int
    area_um2: float
    flip_flops: int
    sta_ns: float | None
    abc_ns: float | None
    energy_pj: float | None
    leakage_nw: float | None
    source: str


@cache
def _rows(kind: str) -> tuple[_Row, ...]:
    def whole(text: str) -> int | None:
        return int(text) if text else None

    def read(row: dict[str, str]) -> _Row:
        picoseconds = number(row["abc_delay_ps"])
        return _Row(
            kind=row["unit"],
            n=whole(row["N"]),
            m=whole(row["M"]),
            k=whole(row["K"]),
            w=int(row["W"]),
            area_um2=float(row["area_um2"]),
            flip_flops=int(row["ff"]),
            sta_ns=number(row["sta_delay_ns"]),
            abc_ns=None if picoseconds is None else picoseconds / 1000,
            energy_pj=number(row["energy_pJ_per_op"]),
            leakage_nw=number(row["leak_nW"]),
            source=row["source"],
        )

    return tuple(read(row) for row in table("units") if row["unit"] == kind)


def kinds() -> tuple[str, ...]:
    """Every kind of unit in the table."""
    return tuple(dict.fromkeys(row["unit"] for row in table("units")))


def largest_n(kind: str, m: int) -> int | None:
    """The largest N among the rows of a kind with groups of m; None where the table has no such row."""
    return max((row.n for row in _rows(kind) if row.m == m and row.w == 8 and row.n), default=None)


@cache
def unit(kind: str, n: int | None = None, m: int | None = None, k: int | None = None, w: int = 8) -> UnitCost:
    """The cost of one unit of `kind`, as named in units.csv, for pattern n:m, k lanes, w-bit operands.

    Raises AccelSimError for a kind that the table does not have, or a shape that has neither row nor closed form.
    """
    rows = _rows(kind)
    if not rows:
        raise AccelSimError(f"unit kind {kind!r}: known kinds: {', '.join(kinds())}")
    for row in rows:
        if (row.n, row.m, row.k, row.w) == (n, m, k, w):
            return _complete(row)
    if kind == "dotk" and k is not None:
        return _dot_product(k)
    if m is None or (n is None and kind != "absm"):
        raise AccelSimError(f"unit {kind} with n={n}, m={m}, k={k}, w={w}: no row and no closed form")
    return _by_closed_form(kind, n, m, w)


def _complete(row: _Row) -> UnitCost:
    """A table row, with the cells it lacks filled from the nearest row of its kind."""
    whole = None not in (row.sta_ns, row.energy_pj, row.leakage_nw)
    energy, leakage = _densities(row.kind, row.n, row.m, row.k)
    return UnitCost(
        name=_name(row.kind, row.n, row.m, row.k, row.w),
        area_um2=row.area_um2,
        delay_ns=_row_delay(row) or _delay(row.kind, row.n, row.m),
        energy_pj=row.area_um2 * energy if row.energy_pj is None else row.energy_pj,
        leakage_nw=row.area_um2 * leakage if row.leakage_nw is None else row.leakage_nw,
        status="measured" if whole else "extrapolated",
        area_status="measured",
        source=row.source if whole else f"{row.source}; missing cells from the nearest row of its kind",
    )


def _by_closed_form(kind: str, n: int | None, m: int, w: int) -> UnitCost:
    area, rule = _form_area(kind, n, m, w)
    energy, leakage = _densities(kind, n, m, None)
    largest = max(row.m for row in _rows(kind) if row.m)
    return UnitCost(
        name=_name(kind, n, m, None, w),
        area_um2=area,
        delay_ns=_delay(kind, n, m),
        energy_pj=area * energy,
        leakage_nw=area * leakage,
        status="extrapolated" if m >= largest or kind in ("bm2enum", "enum2bm") else "computed",
        source=rule,
    )


def _dot_product(lanes: int) -> UnitCost:
    """dotk without a row: area by its line, energy by area, delay on a line in log2 K through neighbouring rows."""
    area = (_coefficient("dotk_lane") * lanes + _coefficient("dotk_fixed")) * constant("nand2_area")
    energy, leakage = _densities("dotk", None, None, lanes)
    known = sorted((row.k, _complete(row).delay_ns) for row in _rows("dotk"))
    below = max((pair for pair in known[:-1] if pair[0] <= lanes), default=known[0])
    above = known[known.index(below) + 1]
    share = (log2(lanes) - log2(below[0])) / (log2(above[0]) - log2(below[0]))
    slope = above[1] - below[1] if lanes < above[0] else max(0.0, above[1] - below[1])
    return UnitCost(
        name=_name("dotk", None, None, lanes, 8),
        area_um2=area,
        delay_ns=below[1] + share * slope,
        energy_pj=area * energy,
        leakage_nw=area * leakage,
        status="computed" if lanes <= known[-1][0] else "extrapolated",
        source="closed form 771 K + 377 NAND2 of the dotk rows; energy by area, delay between neighbouring rows",
    )


def _name(kind: str, n: int | None, m: int | None, k: int | None, w: int) -> str:
    pattern = f"{n}:{m}" if n is not None else f"M={m}" if m is not None else ""
    parts = (pattern, f"K={k}" if k is not None else "", f"W={w}" if w != 8 else "")
    return " ".join((kind, *filter(None, parts)))


@cache
def _sta_over_abc(kind: str) -> float:
    """Median ratio of the timing analyser's delay to the mapper's, over the rows of a kind that have both."""
    pairs = [(row.sta_ns, row.abc_ns) for row in _rows(kind) if row.sta_ns and row.abc_ns]
    return median(sta / abc for sta, abc in pairs)


def _nearest(rows: Iterable[_Row], n: int | None, m: int | None, k: int | None) -> _Row:
    """The row closest in size (log2 of M or K), then in density, then the larger."""

    def distance(row: _Row) -> tuple[float, float]:
        if k is not None and row.k:
            return abs(log2(row.k / k)), -row.k
        if m is None or not row.m:
            return 0.0, 0.0
        density = abs(log2((row.n / row.m) / (n / m))) if row.n and n else 0.0
        return abs(log2(row.m / m)) + density, -row.m

    return min(rows, key=distance)


def _densities(kind: str, n: int | None, m: int | None, k: int | None) -> tuple[float, float]:
    """Energy (pJ) and leakage (nW) per µm² of the nearest row that has both."""
    row = _nearest((row for row in _rows(kind) if row.energy_pj and row.leakage_nw), n, m, k)
    return row.energy_pj / row.area_um2, row.leakage_nw / row.area_um2


def _delay(kind: str, n: int | None, m: int) -> float:
    """Delay of the nearest row with one, times the ratio of M to the power fitted over the rows of the kind."""
    row = _nearest((row for row in _rows(kind) if row.w == 8 and _row_delay(row)), n, m, None)
    return _row_delay(row) * (m / row.m) ** _delay_exponent(kind)


def _row_delay(row: _Row) -> float | None:
    """The timing analyser's delay, else the mapper's times the kind's usual ratio between the two, else None."""
    if row.sta_ns is not None:
        return row.sta_ns
    return None if row.abc_ns is None else row.abc_ns * _sta_over_abc(row.kind)


@cache
def _delay_exponent(kind: str) -> float:
    """Power of M in the delay, over the rows of groups of 8 and more: those of 4 are a gate or two."""
    timed = [row for row in _rows(kind) if row.w == 8 and row.m >= 8 and _row_delay(row)]
    return linear_regression([log2(row.m) for row in timed], [log2(_row_delay(row)) for row in timed]).slope


@cache
def _coefficients() -> dict[str, float]:
    return {row["kind"]: float(row["coefficient"]) for row in table("closed_forms")}


def _coefficient(kind: str) -> float:
    return _coefficients()[kind]


def _code_bits(n: int, m: int) -> int:
    return (comb(m, n) - 1).bit_length()


def _merge_sort_comparators(m: int) -> int:
    """Comparators of Batcher's odd-even merge sort of the next power of two: 5, 19, 63, 191 for 4, 8, 16, 32."""
    p = max(1, ceil(log2(m)))
    return (p * p - p + 4) * 2**p // 4 - 1


_FORMS: dict[str, Callable[[int, int, int], float]] = {
    "sel_naive": lambda n, m, w: n * (m - 1) * w,
    "sel_restr": lambda n, m, w: n * (m - n) * w,
    "sel_onehot": lambda n, m, w: n * (m - n + 1) * w,
    "bm2oh": lambda n, m, w: n * (m - n + 1) * log2(m),
    "bm2idx": lambda n, m, w: n * (m - n + 1) * log2(m),
    "topn_rank": lambda n, m, w: m * (m - 1) / 2 - m / 2,
    "topn_rank_small": lambda n, m, w: m * (m - 1) / 2,
    "topn_itermax": lambda n, m, w: n * (m - 1),
    "topn_radix": lambda n, m, w: 8 * m,
    "topn_oems": lambda n, m, w: _merge_sort_comparators(m) * (8 + log2(m)),
    "absm": lambda n, m, w: 8 * m,
    "bm2enum": lambda n, m, w: m * min(n, m - n) * _code_bits(n, m),
    "enum2bm": lambda n, m, w: m * min(n, m - n) * _code_bits(n, m),
}


def _form_area(kind: str, n: int | None, m: int, w: int) -> tuple[float, str]:
    """Area in µm² without a row of its own, and the rule that gave it."""
    if kind == "enum2bm" and any((row.n, row.m) == (n, m) for row in _rows("bm2enum")):
        ratio = _decoder_over_encoder()
        encoder = unit("bm2enum", n, m)
        return encoder.area_um2 * ratio, f"bm2enum {n}:{m} × the median enum2bm/bm2enum area ratio {ratio:.2f}"
    form = "topn_rank_small" if kind == "topn_rank" and m < 4 else kind
    if form not in _FORMS:
        raise AccelSimError(f"unit {kind} {n}:{m}: no row and no closed form")
    gates = _coefficient(form) * _FORMS[form](n or m, m, w)
    text = next(row["form"] for row in table("closed_forms") if row["kind"] == form)
    return gates * constant("nand2_area"), f"closed form {_coefficient(form):g} × {text} NAND2"


@cache
def _decoder_over_encoder() -> float:
    """Median area of an enumerative decoder over its encoder, for groups of 8 and more."""
    encoders = {(row.n, row.m): row.area_um2 for row in _rows("bm2enum")}
    return median(row.area_um2 / encoders[row.n, row.m] for row in _rows("enum2bm") if row.m >= 8)


@cache
def flip_flop() -> UnitCost:
    """One register bit. Its energy is the clock's: internal power of both edges and the clock pin, each cycle."""
    pin = constant("flip_flop_clock_pin_capacitance") * constant("library_supply") ** 2
    return UnitCost(
        name="flip-flop",
        area_um2=constant("flip_flop_area"),
        delay_ns=constant("flip_flop_clock_to_q") + constant("flip_flop_setup"),
        energy_pj=(constant("flip_flop_clock_internal_energy") + pin) / 1000,
        leakage_nw=constant("flip_flop_leakage"),
        status="published",
        source=constants()["flip_flop_area"].source,
    )


@cache
def register_data_energy_pj() -> float:
    """Energy of loading one random bit into a register, without the clock.

    The two multiply-accumulate netlists differ by their operand and product registers alone, so their difference per
    flip-flop, less the clock, is the data's part.
    """
    piped, plain = _rows("mac_lane")[0], _rows("mac_min")[0]
    per_bit = (piped.energy_pj - plain.energy_pj) / (piped.flip_flops - plain.flip_flops)
    return per_bit - flip_flop().energy_pj


def dot_product_flip_flops(lanes: int) -> int:
    """Registers inside a dot-product unit: a 16-bit product a lane and the accumulator, 16 K + 33 in every row."""
    line = linear_regression([row.k for row in _rows("dotk")], [row.flip_flops for row in _rows("dotk")])
    return round(line.slope * lanes + line.intercept)
