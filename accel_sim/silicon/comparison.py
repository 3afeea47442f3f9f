"""Measured beside predicted: fit on a third of the shapes, judge on the other two thirds, beside two baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from statistics import median

from pydantic import BaseModel, ConfigDict

from accel_sim.arch import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern, parse_pattern
from accel_sim.silicon import baselines
from accel_sim.silicon.families import FAMILIES, Family, Predictor
from accel_sim.silicon.fit import Fit, fit
from accel_sim.silicon.model import with_pattern
from accel_sim.silicon.result import Dtype, Machine, Measurements, Row
from accel_sim.silicon.shapes import SPLIT_RULE, Shape, fitted_third

WANTED = 0.10
"""Median error that the model is held to."""
OUTLIER = 0.25
"""Error from which on a held-out shape is named and explained."""
EXTRAPOLATED = ("8:16", "16:32")
QUANTITIES = ("dense", "sparse", "select", "speed-up", "speed-up on the fly")
MODELS = ("simulator", "constant", "roofline")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Part):
    """One quantity of one shape. Times are seconds, speed-ups are over the dense product."""

    dtype: Dtype
    quantity: str
    tokens: int
    features: int
    outputs: int
    kind: str
    fitted: bool
    measured: float
    simulator: float
    constant: float
    roofline: float
    why: str = ""
    """Of a held-out time that is far off: what the model thinks it is made of, and what speaks against that."""

    def error(self, model: str) -> float:
        """|predicted / measured − 1|."""
        return abs(getattr(self, model) / self.measured - 1)

    @property
    def shape(self) -> Shape:
        return Shape(self.tokens, self.features, self.outputs)


class ErrorRow(_Part):
    """Errors of a quantity on the held-out shapes of a kind; `kind` "all" is all of them."""

    dtype: Dtype
    quantity: str
    kind: str
    shapes: int
    median: dict[str, float]
    """Model → median error."""
    p90: dict[str, float]
    """Model → the smallest error that nine tenths of the shapes do not exceed."""

    @property
    def beats_baselines(self) -> bool:
        return all(self.median["simulator"] < self.median[other] for other in MODELS[1:])


class FittedFamily(_Part):
    family: str
    shapes: int
    parameters: dict[str, float]
    searched: list[str]
    error: float
    evaluations: int
    at_bound: list[str]

    @classmethod
    def of(cls, name: str, family: Family, found: Fit, shapes: int) -> FittedFamily:
        """`shapes` is how many were fitted."""
        return cls(
            family=name,
            shapes=shapes,
            parameters=found.parameters.described(),
            searched=list(family.searched),
            error=found.error,
            evaluations=found.evaluations,
            at_bound=list(found.at_bound),
        )


class Extrapolation(_Part):
    """Predicted speed-up of a pattern that the chip does not have."""

    dtype: Dtype
    pattern: str
    kind: str
    shapes: int
    speedup: float
    """Median over the shapes, X packed beforehand."""
    on_the_fly: float


class Comparison(_Part):
    arch: str
    machine: Machine
    command: str
    split: str = SPLIT_RULE
    fits: list[FittedFamily]
    points: list[Point]
    errors: list[ErrorRow]
    extrapolations: list[Extrapolation]
    inexact: list[str]
    """Shapes whose INT8 sums differ from the functional mode."""
    exact_shapes: int
    refused: list[str]


def compare(measurements: Measurements, arch: Arch, progress: Callable[[str], None] = lambda step: None) -> Comparison:
    """Raises AccelSimError for a machine that is not a chip with a selection kernel, or too few measured shapes."""
    if not arch.technology.existing_chip:
        raise AccelSimError(f"arch {arch.name}: expected technology.existing_chip true, as h200.yaml has")
    shapes = {row.shape for row in measurements.rows}
    third = fitted_third(tuple(shapes))
    fits: dict[Family, Fit] = {}
    predictors: dict[Family, Predictor] = {}
    points: list[Point] = []
    for family in FAMILIES:
        rows = [row for row in measurements.rows if row.dtype == family.dtype and family.measured(row) is not None]
        if not rows:
            continue
        progress(f"fitting {family}")
        predictors[family] = Predictor.of(arch, family)
        times = {family.ran(row): family.measured(row) for row in rows if row.shape in third}
        fits[family] = fit(predictors[family], times)
        points += _times(rows, predictors[family], fits[family], third)
    if not points:
        raise AccelSimError("measurements: rows: nothing was measured; every row is refused")
    for dtype in ("int8", "fp16"):
        points += _speedups(measurements, points, dtype)
    progress("extrapolating")
    return Comparison(
        arch=arch.name,
        machine=measurements.machine,
        command=measurements.command,
        fits=[_fitted(family, found, points) for family, found in fits.items()],
        points=points,
        errors=list(_errors(points)),
        extrapolations=list(_extrapolations(arch, points, fits, predictors)),
        inexact=[str(row.shape) for row in measurements.rows if row.exact is False],
        exact_shapes=sum(row.exact is True for row in measurements.rows),
        refused=[
            f"{row.dtype} {row.shape}, {what}: {said}"
            for row in measurements.rows
            for what, said in row.refused.items()
        ],
    )


def explained(measured: float, predicted: float, roofline: float, breakdown: dict[str, float]) -> list[str]:
    """What the model's time is made of, and what the measurement says beside the peaks; no guess beyond that."""
    said = [f"predicted {predicted / measured:.2f} × measured"]
    if breakdown:
        largest = sorted(breakdown, key=lambda cause: -breakdown[cause])[:2]
        said.append("the model spends " + ", ".join(f"{breakdown[cause]:.0%} in {cause}" for cause in largest))
    return [*said, f"measured is {measured / roofline:.1f} × the roofline"]


def p90(errors: Iterable[float]) -> float:
    """The smallest value that at least nine tenths do not exceed."""
    ordered = sorted(errors)
    return ordered[ceil(0.9 * len(ordered)) - 1]


def _times(rows: list[Row], predictor: Predictor, found: Fit, third: frozenset[Shape]) -> list[Point]:
    family = predictor.family
    fitted = [family.measured(row) for row in rows if row.shape in third]
    middle = baselines.constant(fitted)
    points = []
    for row in rows:
        ran, measured = family.ran(row), family.measured(row)
        point = Point(
            dtype=family.dtype,
            quantity=family.work,
            **vars(row.shape),
            kind=row.shape.kind,
            fitted=row.shape in third,
            measured=measured,
            simulator=predictor.seconds(ran, found.parameters),
            constant=middle,
            roofline=baselines.roofline(predictor.arch, family, ran, predictor.pattern),
        )
        if not point.fitted and point.error("simulator") > OUTLIER:
            point = point.model_copy(update={"why": _why(point, predictor.breakdown(ran, found.parameters), row)})
        points.append(point)
    return points


def _why(point: Point, breakdown: dict[str, float], row: Row) -> str:
    """What can be said of a time that is far off, and what the library did."""
    said = explained(point.measured, point.simulator, point.roofline, breakdown)
    if point.quantity == "sparse" and row.dense_s and row.sparse_s and row.sparse_s > row.dense_s:
        said.append("the library's sparse kernel is slower than its dense one")
    if row.sparse_tokens != row.tokens or row.dense_tokens != row.tokens:
        said.append("the library needed padding tokens")
    return "; ".join(said)


def _speedups(measurements: Measurements, points: list[Point], dtype: Dtype) -> list[Point]:
    """Dense over sparse, and over selecting, packing and multiplying, of shapes where both were measured."""
    times = {(point.quantity, point.shape): point for point in points if point.dtype == dtype}
    made: list[Point] = []
    for quantity in QUANTITIES[3:]:
        some = []
        for row in measurements.rows:
            dense, sparse = times.get(("dense", row.shape)), times.get(("sparse", row.shape))
            select = times.get(("select", row.shape))
            on_the_fly = quantity == QUANTITIES[4]
            took = row.on_the_fly_s if on_the_fly else row.sparse_s
            if row.dtype != dtype or None in (dense, sparse, took) or (on_the_fly and select is None):
                continue
            spent = {name: getattr(sparse, name) for name in MODELS}
            if on_the_fly:
                spent = {name: spent[name] + getattr(select, name) for name in MODELS}
            ratios = {name: getattr(dense, name) / spent[name] for name in MODELS}
            update = {"quantity": quantity, "measured": dense.measured / took, "why": "", **ratios}
            some.append(dense.model_copy(update=update))
        fitted = [point.measured for point in some if point.fitted]
        middle = baselines.constant(fitted) if fitted else None
        made += [point.model_copy(update={"constant": middle}) for point in some if middle is not None]
    return made


def _errors(points: list[Point]) -> Iterable[ErrorRow]:
    held_out = [point for point in points if not point.fitted]
    for dtype, quantity in dict.fromkeys((point.dtype, point.quantity) for point in held_out):
        mine = [point for point in held_out if (point.dtype, point.quantity) == (dtype, quantity)]
        for kind in ("all", *dict.fromkeys(point.kind for point in mine)):
            some = [point for point in mine if kind in ("all", point.kind)]
            errors = {model: [point.error(model) for point in some] for model in MODELS}
            yield ErrorRow(
                dtype=dtype,
                quantity=quantity,
                kind=kind,
                shapes=len(some),
                median={model: median(found) for model, found in errors.items()},
                p90={model: p90(found) for model, found in errors.items()},
            )


def _fitted(family: Family, found: Fit, points: list[Point]) -> FittedFamily:
    used = [one for one in points if (one.dtype, one.quantity, one.fitted) == (family.dtype, family.work, True)]
    return FittedFamily.of(str(family), family, found, len(used))


def _extrapolations(
    arch: Arch, points: list[Point], fits: dict[Family, Fit], predictors: dict[Family, Predictor]
) -> Iterable[Extrapolation]:
    """The same chip with other patterns, the parameters those of its 2:4 kernels."""
    for dtype in ("int8", "fp16"):
        dense, sparse, select = (Family(dtype, work) for work in ("dense", "sparse", "select"))
        if not {dense, sparse, select} <= set(fits):
            continue
        shapes = sorted({point.shape for point in points if point.dtype == dtype})
        dense_s = {shape: predictors[dense].seconds(shape, fits[dense].parameters) for shape in shapes}
        for pattern in (parse_pattern(name) for name in EXTRAPOLATED):
            yield from _with(pattern, arch, dtype, dense_s, fits[sparse], fits[select])


def _with(
    pattern: Pattern, arch: Arch, dtype: Dtype, dense_s: dict[Shape, float], sparse: Fit, select: Fit
) -> Iterable[Extrapolation]:
    chip = with_pattern(arch, pattern)
    product, selection = (Predictor.of(chip, Family(dtype, work), pattern) for work in ("sparse", "select"))
    gains = {}
    for shape, dense in dense_s.items():
        took = product.seconds(shape, sparse.parameters)
        gains[shape] = dense / took, dense / (took + selection.seconds(shape, select.parameters))
    for kind in ("all", *dict.fromkeys(shape.kind for shape in gains)):
        some = [gain for shape, gain in gains.items() if kind in ("all", shape.kind)]
        yield Extrapolation(
            dtype=dtype,
            pattern=str(pattern),
            kind=kind,
            shapes=len(some),
            speedup=median(one for one, _ in some),
            on_the_fly=median(one for _, one in some),
        )
