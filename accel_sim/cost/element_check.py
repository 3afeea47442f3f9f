"""Sums of parts against whole synthesised processing elements, and against what others published."""

from __future__ import annotations

from dataclasses import dataclass

from accel_sim.cost.processing_element import ElementCost, area_tax, energy_tax, implied_tax, iso_throughput_gain, pe
from accel_sim.cost.run import ElementRow, synthesis_run
from accel_sim.cost.tables import constant, table
from accel_sim.cost.units import BASE
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, Pattern, parse_pattern

POINTS = 0.03
"""Least tolerance of an area tax: three percentage points."""
SHARE = 0.15
"""Else a share of the synthesised tax."""


@dataclass(frozen=True)
class ElementCheck:
    """The area tax of one whole synthesised element beside the prediction from units and closed forms."""

    library: str
    lanes: int
    pattern: Pattern
    operand_mux: str
    metadata: Encoding
    operand_mux_register: bool
    synthesised: float
    """Area over the whole synthesised dense element with the same lanes, less one."""
    predicted: float
    noise: tuple[float, float] | None
    """The synthesised tax over other mappings of the same two netlists; None where they were not made."""
    synthesised_energy: float | None
    """Energy tax a cycle; None where the run has no energies."""
    predicted_energy: float
    synthesised_delay_ns: float | None
    predicted_delay_ns: float

    @property
    def middle(self) -> float:
        """The tax that the prediction is held against: the middle over the mappings, as their order is nothing that a
        circuit has; the only mapping's where there are no others."""
        return self.synthesised if self.noise is None else sum(self.noise) / 2

    @property
    def error(self) -> float:
        """Predicted less synthesised, in fractions of the dense element."""
        return self.predicted - self.middle

    @property
    def tolerance(self) -> float:
        return max(POINTS, SHARE * self.middle)

    @property
    def holds(self) -> bool:
        return abs(self.error) <= self.tolerance


@dataclass(frozen=True)
class ElementChecks:
    """All whole elements of one run."""

    checks: tuple[ElementCheck, ...]
    unchecked: tuple[str, ...]
    """Elements with a part that the run did not synthesise by itself, and which part."""


def element_checks(library: str) -> ElementChecks:
    """Every sparse element that a run synthesised whole, in the order of its table. Empty where it has none.

    Raises AccelSimError for an unknown library, and a sparse element without a dense one of the same lanes.
    """
    rows = synthesis_run(library).elements
    dense = {row.lanes: row for row in rows if row.m is None}
    missing = sorted({row.lanes for row in rows} - set(dense))
    if missing:
        raise AccelSimError(f"library {library}: no whole dense element of {missing[0]} lanes to compare with")
    checks, unchecked = [], []
    for row in rows:
        if row.m is None:
            continue
        try:
            checks.append(_check(library, row, dense[row.lanes]))
        except AccelSimError as lacking:
            unchecked.append(f"{row.lanes} lanes {row.n}:{row.m} {row.operand_mux} {row.metadata}: {lacking}")
    return ElementChecks(tuple(checks), tuple(unchecked))


def _check(library: str, row: ElementRow, dense: ElementRow) -> ElementCheck:
    pattern = Pattern(f"{row.n}:{row.m}")
    built = pe(row.lanes, pattern, row.operand_mux, row.metadata, library, row.operand_mux_register)
    plain = pe(row.lanes, library=library)
    energies = row.energy_pj, dense.energy_pj
    return ElementCheck(
        library=built.library,
        lanes=row.lanes,
        pattern=pattern,
        operand_mux=row.operand_mux,
        metadata=row.metadata,
        operand_mux_register=row.operand_mux_register,
        synthesised=row.area_um2 / dense.area_um2 - 1,
        predicted=area_tax(built, plain),
        noise=_noise(row, dense),
        synthesised_energy=None if None in energies else energies[0] / energies[1] - 1,
        predicted_energy=energy_tax(built, plain),
        synthesised_delay_ns=row.delay_ns,
        predicted_delay_ns=built.delay_ns,
    )


def _noise(row: ElementRow, dense: ElementRow) -> tuple[float, float] | None:
    ends = row.noise_low_um2, row.noise_high_um2, dense.noise_low_um2, dense.noise_high_um2
    if None in ends:
        return None
    low, high, dense_low, dense_high = ends
    return low / dense_high - 1, high / dense_low - 1


@dataclass(frozen=True)
class PublishedGain:
    """A published gain at equal throughput beside this model's, as gain and as the tax behind it."""

    name: str
    pattern: Pattern
    quantity: str
    library: str
    operand_mux: str
    published_gain: float
    published_tax: float
    gain: float
    tax: float
    tax_with_smaller_multipliers: float | None
    """Of an area: if multipliers and adder trees were as small as commercial tools make them."""
    source: str


def _shrunk_tax(built: ElementCost, dense: ElementCost) -> float:
    shrunk = 1 - 1 / constant("multiplexer_to_multiplier_high")
    gone = shrunk * sum(dense.parts[name].area_um2 for name in ("multipliers", "adder_tree"))
    return (built.area_um2 - dense.area_um2) / (dense.area_um2 - gone)


def published_gains(library: str = BASE, lanes: int = 16, operand_mux: str = "full") -> list[PublishedGain]:
    """Every row of published.csv beside one processing element of this model. Raises as `pe` does."""
    found = []
    for row in table("published"):
        pattern = parse_pattern(row["pattern"])
        gain = float(row["sparse_gain"]) / float(row["dense_gain"])
        built, dense = pe(lanes, pattern, operand_mux, library=library), pe(lanes, library=library)
        tax = (area_tax if row["quantity"] == "area" else energy_tax)(built, dense)
        found.append(
            PublishedGain(
                name=row["name"],
                pattern=pattern,
                quantity=row["quantity"],
                library=built.library,
                operand_mux=operand_mux,
                published_gain=gain,
                published_tax=implied_tax(pattern, gain),
                gain=iso_throughput_gain(pattern, tax),
                tax=tax,
                tax_with_smaller_multipliers=_shrunk_tax(built, dense) if row["quantity"] == "area" else None,
                source=row["source"],
            )
        )
    return found
