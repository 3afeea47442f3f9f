"""What every pruning criterion and every mitigation is built of, from circuits of the machine's own library.

So many in every selector, at every requantiser and once a core; bytes of tables; multiplications and passes that a
token needs besides the product. What can be folded into weights, biases or the requantiser's mantissas before the run
costs nothing here, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Literal

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits
from accel_sim.cost.units import Library, UnitCost, library_of, total
from accel_sim.errors import AccelSimError
from accel_sim.pattern import HierarchicalPattern, Pattern

CODE_BITS = 8
WORD_BYTES = 4
SUM_BITS = 32
SCORE_BITS = 16
COLUMN_SUM_BITS = 26
"""Sum of up to 133,144 INT8 weights: η·(1·W) multiplies it."""
ROOT_CYCLES = 32
"""Steps of an iterative division or square root, one bit each."""

LOW_RANK = "R-Sparse, rank "
ROTATION = "La RoSA, rotation"


@dataclass(frozen=True)
class Circuit:
    """A circuit that stands there once and is used so many times for a group, an output or a token."""

    unit: UnitCost
    uses: float = 1

    @property
    def energy_pj(self) -> float:
        return self.unit.energy_pj * self.uses


@dataclass(frozen=True)
class Bill:
    """What one method is built of, before counts and scales."""

    name: str
    kind: Literal["criterion", "mitigation"]
    rule: str
    selector: tuple[Circuit, ...] = ()
    """In every selector; uses are for a group."""
    requantiser: tuple[Circuit, ...] = ()
    """At every requantiser; uses are for an output."""
    core: tuple[Circuit, ...] = ()
    """Once a core; uses are for a token."""
    table_bytes: float = 0.0
    weight_bytes: float = 0.0
    feature_bytes_read: float = 0.0
    """Of tables, for a feature of as many tokens as the array has rows of them."""
    feature_bytes_written: float = 0.0
    output_bytes_read: float = 0.0
    """Likewise for an output."""
    passes: float = 0.0
    """Over the token's codes besides the one that selects."""
    macs: float = 0.0


@dataclass(frozen=True)
class Shape:
    """What the bills are made for."""

    library: Library
    arch: Arch
    pattern: Pattern
    features: int
    outputs: int


def shape_for(arch: Arch, features: int, outputs: int) -> Shape:
    """What the bills of a machine are made for: its largest pattern, where it has several.

    Raises AccelSimError for a machine that selects nothing by a circuit, for patterns of two levels, and for sizes
    below 1.
    """
    if features < 1 or outputs < 1:
        raise AccelSimError(f"features, outputs: got {features}, {outputs}, expected at least 1")
    selected = [pattern for pattern in arch.sparsity.patterns if derived.selects(arch, pattern)]
    if not selected:
        raise AccelSimError(f"arch {arch.name}: selects nothing by a circuit, so no method has a place in it")
    largest = max(selected, key=lambda pattern: pattern.m)
    if isinstance(largest, HierarchicalPattern):
        raise AccelSimError(f"arch {arch.name}: pattern {largest} has two levels; methods are costed for N:M")
    return Shape(library_of(arch), arch, largest, features, outputs)


def all_bills(shape: Shape) -> list[Bill]:
    """Every method, criteria first."""
    return [bill for make in _METHODS for bill in make(shape)]


def bills_of(shape: Shape, names: Iterable[str]) -> list[Bill]:
    """The methods of these names, in the order of all; low-rank products of any rank. Raises KeyError for no method."""
    known = {bill.name: bill for bill in all_bills(shape)}
    for name in names:
        if name not in known:
            prefix, _, rank = name.partition(LOW_RANK)
            if prefix or not rank.isdigit():
                raise KeyError(name)
            known[name] = _of_rank(shape, int(rank))
    wanted = set(names)
    return [bill for name, bill in known.items() if name in wanted]


def _magnitude(shape: Shape) -> list[Bill]:
    return [Bill("magnitude", "criterion", "the machine's own selector: |x| and top-N of 8-bit scores")]


def _factored_selector(shape: Shape) -> UnitCost:
    """What a selector of |x|·f has more than one of |x|, both from parts: multipliers, a top-N of 16-bit scores."""
    settings = shape.arch.sparsity.selector
    plain, factored = (
        circuits.selector_of_parts(
            shape.library,
            settings.model_copy(update={"channel_factors": factors}),
            shape.arch.sparsity.metadata,
            shape.pattern,
        )
        for factors in (False, True)
    )
    return replace(
        factored,
        name=f"{factored.name}, 16-bit scores less 8-bit ones",
        area_um2=factored.area_um2 - plain.area_um2,
        energy_pj=factored.energy_pj - plain.energy_pj,
        leakage_nw=factored.leakage_nw - plain.leakage_nw,
        delay_ns=factored.delay_ns - plain.delay_ns,
        made_of=(factored, plain),
    )


def _factors(shape: Shape) -> tuple[Circuit, ...]:
    """What |x|·f takes; nothing where the machine's own selector scores so."""
    return () if shape.arch.sparsity.selector.channel_factors else (Circuit(_factored_selector(shape)),)


def _static_factors(shape: Shape) -> list[Bill]:
    """The criteria that differ in how the table is made before the run, and not in hardware."""
    names = {
        "Amber, raw column norm": "‖W_j‖",
        "Amber, robust norm": "the norm of the standardised column without outliers",
        "WINA": "‖W_j‖ of the orthogonalised weights",
        "R-Sparse score": "the norm of row j of V·Σ",
        "gradient": "the gradient's sum over calibration tokens",
        "variance of weights": "the variance of W_j over the outputs",
    }
    factored = _factors(shape)
    return [
        Bill(
            name,
            "criterion",
            f"a factor multiplier an element, 16-bit scores, a byte a feature for {what}, made before the run",
            selector=factored,
            table_bytes=shape.features,
            feature_bytes_read=1,
        )
        for name, what in names.items()
    ]


def _clact(shape: Shape) -> list[Bill]:
    """|x_j| times the norm of column j over the batch; the token's own norm changes no ranking."""
    library, m = shape.library, shape.pattern.m
    squares = library.unit("multiplier").times(m, f"{m} squares", rule="one multiplier an element")
    sums = circuits.adder(library, SUM_BITS, f"{m} running norms, {SUM_BITS} bits", m)
    return [
        Bill(
            "CLACT",
            "criterion",
            "factor multipliers and 16-bit scores as for a table; a square and a 32-bit sum an element, running norms"
            " in SRAM, a root unit (once a feature and batch), a pass over all tokens before the one that selects",
            selector=(*_factors(shape), Circuit(squares), Circuit(sums)),
            core=(Circuit(_root(library), uses=0),),
            table_bytes=shape.features * (1 + WORD_BYTES),
            feature_bytes_read=1 + WORD_BYTES,
            feature_bytes_written=WORD_BYTES,
            passes=1,
        )
    ]


def _root(library: Library) -> UnitCost:
    """A divider or square root, one bit a cycle: a subtractor and three registers of 32 bits."""
    registers = library.flip_flop.times(3 * SUM_BITS, f"{3 * SUM_BITS} register bits")
    return total("root and division, a bit a cycle", [library.unit("adder"), registers])


def _subtractors(shape: Shape) -> UnitCost:
    """η off every element, saturating: the run's own circuit, else a 9-bit adder and two 2:1 multiplexers."""
    library, m = shape.library, shape.pattern.m
    if library.row("token_shift", m=m):
        return library.unit("token_shift", m=m)
    subtract = circuits.adder(library, CODE_BITS + 1, f"{m} subtractions of {CODE_BITS + 1} bits", m)
    clamp = circuits.multiplexer_2(library, 2 * CODE_BITS * m, "clamps at ±127")
    return total(f"{m} saturating subtractors", [subtract, clamp])


def _static_shifts(shape: Shape) -> list[Bill]:
    subtract = _subtractors(shape)
    back = "η·(1·W) is known before the run and joins the INT32 bias"
    return [
        Bill(
            "S-PTS",
            "mitigation",
            f"a saturating subtractor an element, one η a site; {back}",
            selector=(Circuit(subtract),),
            table_bytes=WORD_BYTES * shape.outputs,
            output_bytes_read=WORD_BYTES,
        ),
        *(
            Bill(
                name,
                "mitigation",
                f"a saturating subtractor an element, a byte a feature for the {which} η; {back}",
                selector=(Circuit(subtract),),
                table_bytes=shape.features + WORD_BYTES * shape.outputs,
                feature_bytes_read=1,
                output_bytes_read=WORD_BYTES,
            )
            for name, which in (("S-PTS, by feature", "collected"), ("L-PTS", "learned"))
        ),
    ]


def _rank_one(library: Library) -> UnitCost:
    """η·(1·W) of one output onto its sum: the run's own circuit, else an 8×26-bit multiplier and an adder."""
    if library.has("rank1_epilogue"):
        return library.only("rank1_epilogue")
    share = COLUMN_SUM_BITS / CODE_BITS
    product = library.unit("multiplier").times(share, f"8×{COLUMN_SUM_BITS}-bit multiplier", rule="bit products")
    product = replace(product, delay_ns=product.delay_ns * log2(COLUMN_SUM_BITS) / log2(CODE_BITS))
    return total("rank-1 epilogue", [product, library.unit("adder")])


def _sum_of(library: Library, values: int, bits: int) -> UnitCost:
    """A tree over `values` values of `bits` bits and a running sum: one adder a value."""
    wide = bits + ceil(log2(max(2, values)))
    tree = circuits.adder(library, wide, f"tree over {values} values of {bits} bits", max(1, values - 1))
    levels = ceil(log2(max(2, values)))
    tree = replace(tree, delay_ns=levels * tree.delay_ns)
    register = library.flip_flop.times(SUM_BITS, f"{SUM_BITS} register bits")
    return total(f"sum of {values} values", [tree, library.unit("adder"), register])


def _dynamic_shifts(shape: Shape) -> list[Bill]:
    library, m = shape.library, shape.pattern.m
    epilogue = _rank_one(library)
    epilogue_text = "a saturating subtractor an element; η·(1·W) is added behind the array, a word of 1·W an output"
    small = library.unit("multiplier")
    reciprocal = small.times((SUM_BITS / CODE_BITS) ** 2, "sum times 1/K", rule="bit products")
    # Bit by bit from the top, whether at least half of the codes lie above the value so far: as a radix selector finds
    # its threshold, with K in the place of M and every pass over the whole row.
    above = circuits.adder(library, CODE_BITS, f"{m} comparisons of {CODE_BITS} bits", m)
    shared = {
        "requantiser": (Circuit(epilogue),),
        "table_bytes": WORD_BYTES * shape.outputs,
        "output_bytes_read": WORD_BYTES,
    }
    return [
        Bill(
            "D-PTS, mean",
            "mitigation",
            "an adder an element in the pass that finds the token's maximum, one multiplication by 1/K;"
            f" {epilogue_text}",
            selector=(Circuit(_subtractors(shape)), Circuit(_sum_of(library, m, CODE_BITS))),
            core=(Circuit(reciprocal),),
            **shared,
        ),
        Bill(
            "D-PTS, median",
            "mitigation",
            f"a comparison an element and a count, {CODE_BITS} passes over the row, a bit each; {epilogue_text}",
            selector=(
                Circuit(_subtractors(shape)),
                Circuit(above, CODE_BITS),
                Circuit(_sum_of(library, m, 1), CODE_BITS),
            ),
            passes=CODE_BITS,
            **shared,
        ),
    ]


def _variance(shape: Shape) -> list[Bill]:
    """√(Var[X] / Var[X kept]): both need a sum and a sum of squares, and the kept ones are among all."""
    library, n, m = shape.library, shape.pattern.n, shape.pattern.m
    squares = library.unit("multiplier").times(m, f"{m} squares", rule="one multiplier an element")
    trees = [_sum_of(library, count, bits) for count in (m, n) for bits in (CODE_BITS, SCORE_BITS)]
    scale = (
        library.only("token_scale")
        if library.has("token_scale")
        else library.unit("multiplier").times((SUM_BITS / CODE_BITS) ** 2, "scale times ν", rule="bit products")
    )
    return [
        Bill(
            "VAR",
            "mitigation",
            "a square an element and four sums, of codes and squares, of all and of the kept; a division and a root a"
            " token; ν multiplies into the token's mantissa",
            selector=tuple(map(Circuit, (squares, *trees))),
            core=(Circuit(_root(library), 2 * ROOT_CYCLES), Circuit(scale)),
        )
    ]


def _folded(shape: Shape) -> list[Bill]:
    return [
        Bill(
            "LS", "mitigation", "a scale an output joins the output's mantissa before the run, a shift the INT32 bias"
        ),
        Bill(
            "PCS",
            "mitigation",
            "static scales fold into the weights and into the norm or the projection before; scales of the running"
            " batch would cost what CLACT's norms do",
        ),
    ]


def _low_rank(shape: Shape) -> list[Bill]:
    return [_of_rank(shape, rank) for rank in (64, 128)]


def _of_rank(shape: Shape, rank: int) -> Bill:
    return Bill(
        f"{LOW_RANK}{rank}",
        "mitigation",
        f"what is not kept goes through K×{rank} by the dense rule and {rank}×F; the sums join the product's"
        " before requantisation",
        weight_bytes=rank * (shape.features + shape.outputs),
        macs=rank * (shape.features + shape.outputs),
    )


def _rotation(shape: Shape) -> list[Bill]:
    return [
        Bill(
            ROTATION,
            "mitigation",
            "W·Q is folded; X·Q is a dense K×K product a token where the layer before is not linear (free where Q folds"
            " into it)",
            weight_bytes=shape.features**2,
            macs=shape.features**2,
        )
    ]


def _layer_skip(shape: Shape) -> list[Bill]:
    dropped = 1 - shape.pattern.density
    return [
        Bill(
            "layer skip",
            "mitigation",
            "no circuit: a skipped product runs by the dense rule; these are the multiplications one such product gives"
            " back",
            macs=dropped * shape.features * shape.outputs,
        )
    ]


_METHODS: tuple[Callable[[Shape], list[Bill]], ...] = (
    _magnitude,
    _static_factors,
    _clact,
    _static_shifts,
    _dynamic_shifts,
    _variance,
    _folded,
    _low_rank,
    _rotation,
    _layer_skip,
)
