"""Published product times beside predicted ones: the ideal card, and parameters fitted on a third of a table's shapes.

The path is that of `comparison`: the same machine, fit, split and baselines. What differs is where the times come from,
and that a sparse operand may be the weights: then the product is predicted transposed, W^T · X^T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict

from accel_sim.arch import load_arch
from accel_sim.errors import AccelSimError
from accel_sim.silicon import baselines
from accel_sim.silicon.comparison import OUTLIER, FittedFamily, explained, p90
from accel_sim.silicon.families import Family, Predictor
from accel_sim.silicon.fit import fit
from accel_sim.silicon.model import Parameters
from accel_sim.silicon.published_tables import Published, Table
from accel_sim.silicon.shapes import SPLIT_RULE, Shape, fitted_third

WORKS = ("dense", "sparse")
SPEEDUP = "speed-up"
ENOUGH = 12
"""Shapes from which on a table is fitted: four to learn from, the fewest that a fit takes."""
MOST_TOKENS = 4096
"""Of a shape that is fitted. Larger ones cost most of the time to simulate; all of them are judged."""
FASTER = 0.99
"""Part of the ideal card's time below which a published time cannot be: something is not as the model has it."""
IN_CACHE, BEYOND_CACHE = "fits the L2", "does not fit the L2"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Line(_Part):
    """One quantity of one shape of one table. Times are seconds, speed-ups are dense over sparse."""

    table: str
    quantity: str
    tokens: int
    features: int
    outputs: int
    kind: str
    fits_cache: bool
    """Whether the operands and results of the dense product fit the card's L2 together."""
    fitted: bool
    published: float
    predicted: dict[str, float]
    """Model (`ideal`, `fitted`, `constant`, `roofline`) → the same quantity."""
    why: str = ""
    """Of a time that was not fitted and is far off: what the model thinks it is made of."""

    def error(self, model: str) -> float:
        """|predicted / published − 1|."""
        return abs(self.predicted[model] / self.published - 1)

    @property
    def shape(self) -> Shape:
        return Shape(self.tokens, self.features, self.outputs)


class Errors(_Part):
    """Of one quantity on the shapes of a kind that were not fitted; `kind` "all" is all of them."""

    table: str
    quantity: str
    kind: str
    shapes: int
    median: dict[str, float]
    """Model → median error."""
    p90: dict[str, float]
    bias: dict[str, float]
    """Model → median of predicted / published."""


class Judged(_Part):
    """One table and what became of it."""

    table: Table
    fits: list[FittedFamily]
    lines: list[Line]
    errors: list[Errors]

    @property
    def faster_than_ideal(self) -> list[Line]:
        """Times that the ideal card could not reach."""
        times = [line for line in self.lines if line.quantity in WORKS]
        return [line for line in times if line.published < FASTER * line.predicted["ideal"]]


class Report(_Part):
    command: str
    split: str = f"of up to {MOST_TOKENS:,} tokens; {SPLIT_RULE}"
    tables: list[Judged]


def judge(
    tables: Sequence[Table], command: str, fitting: bool = True, progress: Callable[[str], None] = lambda step: None
) -> Report:
    """All tables, those first whose parameters others use. `fitting` False: the ideal card alone.

    Raises AccelSimError for a table that uses the parameters of one that is not among the `tables`.
    """
    found: dict[str, dict[str, Parameters]] = {}
    judged = []
    for table in sorted(tables, key=lambda one: one.parameters_of is not None):
        if fitting and table.parameters_of is not None and table.parameters_of not in found:
            raise AccelSimError(
                f"table {table.name}: parameters_of: {table.parameters_of} is not among the tables read"
            )
        made = _judge(table, found.get(table.parameters_of or ""), fitting, progress)
        found[table.name] = {fit.family: Parameters(**fit.parameters) for fit in made.fits}
        judged.append(made)
    return Report(command=command, tables=judged)


def _judge(table: Table, given: dict[str, Parameters] | None, fitting: bool, progress: Callable[[str], None]) -> Judged:
    arch, rows = load_arch(table.arch), list(table.rows)
    affordable = tuple(row.shape for row in rows if row.shape.tokens <= MOST_TOKENS)
    fits_itself = fitting and given is None and len(affordable) >= ENOUGH
    third = fitted_third(affordable) if fits_itself else frozenset()
    fits: list[FittedFamily] = []
    lines: list[Line] = []
    for work in WORKS:
        family = Family(table.dtype, work, getattr(table.output_bytes, work))
        predictor = Predictor.of(arch, family, warm=table.warm_cache)
        parameters = (given or {}).get(str(family)) if fitting else None
        if fits_itself:
            progress(f"fitting {family} of {table.name}")
            times = {table.ran(row.shape, work): row.seconds[work] for row in rows if row.shape in third}
            made = fit(predictor, times)
            parameters = made.parameters
            fits.append(FittedFamily.of(str(family), family, made, len(times)))
        middle = baselines.constant([row.seconds[work] for row in rows if row.shape in third]) if third else None
        progress(f"predicting {family} of {table.name}")
        # A predictor of its own, since the fit's has chosen its tiles with other parameters.
        ideal = Predictor.of(arch, family, warm=table.warm_cache)
        for row in rows:
            ran = table.ran(row.shape, work)
            predicted = {"ideal": ideal.seconds(ran, Parameters())}
            if parameters is not None:
                predicted["fitted"] = predictor.seconds(ran, parameters)
            if middle is not None:
                predicted["constant"] = middle
            predicted["roofline"] = baselines.roofline(arch, family, ran, predictor.pattern)
            line = _line(table, work, row, predictor, predicted, row.shape in third)
            if parameters is not None and not line.fitted and line.error("fitted") > OUTLIER:
                breakdown = predictor.breakdown(ran, parameters)
                said = explained(line.published, predicted["fitted"], predicted["roofline"], breakdown)
                line = line.model_copy(update={"why": "; ".join(said)})
            lines.append(line)
    lines += _speedups(rows, lines)
    return Judged(table=table, fits=fits, lines=lines, errors=list(_errors(table.name, lines)))


def _line(
    table: Table, work: str, row: Published, predictor: Predictor, predicted: dict[str, float], fitted: bool
) -> Line:
    dense = Family(table.dtype, "dense", table.output_bytes.dense)
    moved = baselines.moved_bytes(dense, row.shape, predictor.pattern)
    return Line(
        table=table.name,
        quantity=work,
        **vars(row.shape),
        kind=row.shape.kind,
        fits_cache=moved <= predictor.arch.cores.shared_buffer_bytes,
        fitted=fitted,
        published=row.seconds[work],
        predicted=predicted,
    )


def _speedups(rows: list[Published], lines: list[Line]) -> list[Line]:
    times = {(line.quantity, line.shape): line for line in lines}
    made = []
    for row in rows:
        dense, sparse = (times[work, row.shape] for work in WORKS)
        ratios = {model: dense.predicted[model] / sparse.predicted[model] for model in dense.predicted}
        update = {"quantity": SPEEDUP, "published": dense.published / sparse.published, "predicted": ratios, "why": ""}
        made.append(dense.model_copy(update=update))
    fitted = [line.published for line in made if line.fitted]
    if not fitted:
        return made
    middle = baselines.constant(fitted)
    return [line.model_copy(update={"predicted": line.predicted | {"constant": middle}}) for line in made]


def _errors(table: str, lines: list[Line]) -> Iterable[Errors]:
    judged = [line for line in lines if not line.fitted]
    for quantity in (*WORKS, SPEEDUP):
        mine = [line for line in judged if line.quantity == quantity]
        groups = {"all": mine}
        groups |= {IN_CACHE: [one for one in mine if one.fits_cache]}
        groups |= {BEYOND_CACHE: [one for one in mine if not one.fits_cache]}
        groups |= {kind: [one for one in mine if one.kind == kind] for kind in dict.fromkeys(one.kind for one in mine)}
        for kind, some in groups.items():
            if not some:
                continue
            models = some[0].predicted
            errors = {model: [line.error(model) for line in some] for model in models}
            yield Errors(
                table=table,
                quantity=quantity,
                kind=kind,
                shapes=len(some),
                median={model: median(found) for model, found in errors.items()},
                p90={model: p90(found) for model, found in errors.items()},
                bias={model: median(line.predicted[model] / line.published for line in some) for model in models},
            )
