"""What is synthesised: every circuit of the cost model by name and shape, with its operand streams and what it returns.

A unit's `drive` gives the values of all input ports over the cycles, and of the output ports as the reference has them
`latency` cycles earlier: [cycles, 64 streams, …].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, Pattern
from accel_sim.rtl import arithmetic, epilogue, metadata, requantiser, scores
from accel_sim.rtl.operand_select import OPERAND_MUXES, OperandMux, OperandSelect
from accel_sim.rtl.processing_element import DotProduct, ProcessingElement
from accel_sim.rtl.selector import Selector
from accel_sim.rtl.top_n import TOP_N_KINDS, TopN
from accel_sim.synthesis import reference
from accel_sim.synthesis.front_ends import front_ends
from accel_sim.synthesis.operands import Operands
from accel_sim.synthesis.power import STREAMS
from accel_sim.synthesis.unit import Ports, Unit, is_half

PATTERNS = tuple(Pattern(text) for text in ("1:4", "2:4", "3:4", "2:8", "4:8", "4:16", "8:16", "8:32", "16:32"))
LANES = (1, 2, 4, 8, 16, 32)
LARGEST_ENUMERATIVE = 16
"""Decoders of the enumerative code from M = 32 on take minutes to map, for circuits that nobody would build."""


def catalogue(patterns: tuple[Pattern, ...] = PATTERNS) -> list[Unit]:
    """All units over the patterns. Processing elements, which most depends on, come first."""
    groups = (
        _processing_elements,
        _arithmetic,
        _selects,
        _decoders,
        _encoders,
        _scores,
        _top_n,
        _selectors,
        front_ends,
        _epilogues,
    )
    return [unit for group in groups for unit in group(patterns)]


def chosen(units: list[Unit], names: tuple[str, ...]) -> list[Unit]:
    """The units of these names; `processing_elements` are the whole ones. Raises AccelSimError for an unknown name."""
    known = dict.fromkeys(unit.name for unit in units)
    wanted = {"processing_element" if name == "processing_elements" else name for name in names}
    for name in wanted - set(known):
        raise AccelSimError(f"unit {name!r}: expected some of processing_elements, {', '.join(list(known)[1:])}")
    return [unit for unit in units if not wanted or unit.name in wanted]


def _of_pattern(name: str, pattern: Pattern, build, drive, bits: int = 8) -> Unit:
    return Unit(name, build, drive, n=pattern.n, m=pattern.m, bits=bits)


# Whole processing elements


def _processing_elements(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    for lanes in (16, 8, 32):
        yield processing_element(lanes, None)
        for pattern in patterns:
            if pattern.n > lanes:
                continue
            if lanes != 16 and not is_half(pattern):
                continue
            muxes = OPERAND_MUXES if lanes < 32 and is_half(pattern) else ("onehot",)
            for operand_mux in muxes:
                yield processing_element(lanes, pattern, operand_mux)
    for pattern in [pattern for pattern in patterns if is_half(pattern) and pattern.n <= 16]:
        yield processing_element(16, pattern, "onehot", register=True)
        yield processing_element(16, pattern, "full", "index")
        if pattern.m <= 8:
            yield processing_element(16, pattern, "onehot", "index")
            yield processing_element(16, pattern, "onehot", "enumerative")


def processing_element(
    lanes: int,
    pattern: Pattern | None,
    operand_mux: OperandMux = "onehot",
    encoding: Encoding = "bitmap",
    register: bool = False,
) -> Unit:
    """A whole processing element, dense or of a pattern."""

    def drive(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
        tiles = operands.tiles(cycles, lanes, pattern)
        inputs = {"activations": tiles.activations, "weights": tiles.weights, "clear": tiles.clear}
        met = tiles.weights
        if pattern:
            inputs["metadata"] = reference.metadata(tiles.positions, pattern, encoding)
            met = reference.picked(tiles.weights, tiles.positions)
        products = (tiles.activations[..., : met.shape[-1]] * met).sum(axis=-1)
        return inputs, {"accumulator": reference.accumulate(products, tiles.clear)}

    return Unit(
        "processing_element",
        lambda: ProcessingElement(lanes, pattern, operand_mux, encoding, register),
        drive,
        n=pattern.n if pattern else None,
        m=pattern.m if pattern else None,
        lanes=lanes,
        processing_element=(operand_mux, encoding, register),
    )


# Dense arithmetic


def _arithmetic(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    yield Unit("multiplier", arithmetic.Multiplier, _multiply)
    yield Unit("adder", arithmetic.Adder, _add)
    yield Unit("multiply_accumulate", arithmetic.MultiplyAccumulate, _multiply_accumulate)
    yield Unit("multiply_accumulate_registered", lambda: arithmetic.MultiplyAccumulate(True), _multiply_accumulate)
    for lanes in LANES:
        yield Unit("dot_product", lambda lanes=lanes: DotProduct(lanes), _dot_product(lanes), lanes=lanes)


def _multiply(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
    tiles = operands.tiles(cycles, 1)
    a, b = tiles.activations[..., 0], tiles.weights[..., 0]
    return {"a": a, "b": b}, {"product": a * b}


def _add(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
    tiles = operands.tiles(cycles, 1)
    products = tiles.activations[..., 0] * tiles.weights[..., 0]
    sums = reference.accumulate(products, tiles.clear)
    return {"a": sums - products, "b": products}, {"total": sums}


def _multiply_accumulate(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
    (inputs, outputs), tiles = _multiply(operands, cycles), operands.tiles(cycles, 1)
    return {**inputs, "clear": tiles.clear}, {"accumulator": reference.accumulate(outputs["product"], tiles.clear)}


def _dot_product(lanes: int) -> Callable[[Operands, int], tuple[Ports, Ports]]:
    def drive(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
        tiles = operands.tiles(cycles, lanes)
        sums = reference.accumulate((tiles.activations * tiles.weights).sum(axis=-1), tiles.clear)
        inputs = {"activations": tiles.activations, "operands": tiles.weights, "clear": tiles.clear}
        return inputs, {"accumulator": sums}

    return drive


# Operand multiplexers, metadata


def _selects(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    for operand_mux in OPERAND_MUXES:
        for pattern in patterns:

            def drive(operands: Operands, cycles: int, pattern=pattern, operand_mux=operand_mux) -> tuple[Ports, Ports]:
                tiles = operands.groups(cycles, pattern)
                steering = reference.lines(tiles.positions[:, :, 0], operand_mux)
                selected = reference.picked(tiles.weights, tiles.positions)
                return {"window": tiles.weights, "lines": steering}, {"selected": selected}

            def build(pattern=pattern, operand_mux=operand_mux) -> OperandSelect:
                return OperandSelect(pattern, operand_mux)

            yield _of_pattern(f"select_{operand_mux}", pattern, build, drive)


_FROM_BITMAP = {"onehot": metadata.BitmapToOneHot, "offset": metadata.BitmapToOffset, "index": metadata.BitmapToIndex}
_FROM_INDEX = {"onehot": metadata.IndexToOneHot, "offset": metadata.IndexToOffset}
_STEERED = {"onehot": "onehot", "offset": "restricted", "index": "full"}


def _decoders(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    for source, parts in (("bitmap", _FROM_BITMAP), ("index", _FROM_INDEX)):
        for target, part in parts.items():
            for pattern in patterns:
                drive = _decoding(pattern, source, _STEERED[target])
                yield _of_pattern(f"decode_{source}_{target}", pattern, lambda p=pattern, part=part: part(p), drive)
    for pattern in patterns:
        if pattern.m <= LARGEST_ENUMERATIVE:
            build = lambda p=pattern: metadata.EnumerativeToBitmap(p)  # noqa: E731
            yield _of_pattern("decode_enumerative", pattern, build, _code_and_bitmap(pattern, "code", "bitmap"))


def _decoding(pattern: Pattern, source: str, operand_mux: str) -> Callable[[Operands, int], tuple[Ports, Ports]]:
    def drive(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
        positions = operands.groups(cycles, pattern).positions[:, :, 0]
        given = {"bitmap": reference.bitmap(positions)} if source == "bitmap" else {"index": positions}
        return given, {"lines": reference.lines(positions, operand_mux)}

    return drive


def _code_and_bitmap(pattern: Pattern, given: str, made: str) -> Callable[[Operands, int], tuple[Ports, Ports]]:
    def drive(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
        positions = operands.groups(cycles, pattern).positions[:, :, 0]
        words = {
            "bitmap": reference.bitmap(positions),
            "code": reference.metadata(positions, pattern, "enumerative"),
        }
        return {given: words[given]}, {made: words[made]}

    return drive


def _encoders(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    for pattern in patterns:
        build = lambda p=pattern: metadata.BitmapToEnumerative(p)  # noqa: E731
        yield _of_pattern("encode_enumerative", pattern, build, _code_and_bitmap(pattern, "bitmap", "code"))


# Selectors


def _scores(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    for count in sorted({pattern.m for pattern in patterns}):
        group = Pattern(f"1:{count}")

        def magnitudes(operands: Operands, cycles: int, group=group) -> tuple[Ports, Ports]:
            values = operands.groups(cycles, group).values[:, :, 0]
            return {"values": values}, {"scores": np.abs(values)}

        def factored(operands: Operands, cycles: int, group=group) -> tuple[Ports, Ports]:
            values = operands.groups(cycles, group).values[:, :, 0]
            factors = _factors(values)
            return {"values": values, "factors": factors}, {"scores": np.abs(values) * factors}

        yield Unit("magnitude", lambda c=count: scores.Magnitudes(c), magnitudes, m=count)
        yield Unit("factored_magnitude", lambda c=count: scores.FactoredMagnitudes(c), factored, m=count)


def _factors(values: np.ndarray) -> np.ndarray:
    """A factor a feature, for want of a criterion's own: 1 … 255 at random, the same for every token (stream)."""
    draw = np.random.default_rng(0)
    one_row = draw.integers(1, 256, (values.shape[0], 1, values.shape[2]))
    return np.broadcast_to(one_row, values.shape)


def _top_n(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    for bits in (8, 16):
        for kind in TOP_N_KINDS:
            for pattern in patterns:

                def drive(operands: Operands, cycles: int, pattern=pattern, bits=bits) -> tuple[Ports, Ports]:
                    values = operands.groups(cycles, pattern).values[:, :, 0]
                    given = np.abs(values) * (_factors(values) if bits == 16 else 1)
                    return {"scores": given}, {"bitmap": reference.bitmap(reference.top_n(given, pattern))}

                def build(pattern=pattern, kind=kind, bits=bits) -> TopN:
                    return TopN(pattern, kind, bits)

                yield _of_pattern(f"top_n_{kind}", pattern, build, drive, bits)


def _selectors(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    for kind in TOP_N_KINDS:
        for pattern in patterns:
            build = lambda p=pattern, k=kind: Selector(p, k)  # noqa: E731
            yield _of_pattern(f"selector_{kind}", pattern, build, _selecting(pattern))


def _selecting(pattern: Pattern) -> Callable[[Operands, int], tuple[Ports, Ports]]:
    def drive(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
        tiles = operands.groups(cycles, pattern)
        values, positions = tiles.values[:, :, 0], tiles.positions[:, :, 0]
        bitmap = reference.bitmap(positions)
        kept = np.take_along_axis(values, positions, axis=-1)
        inputs = {"values": values, "valid_count": np.full((cycles, STREAMS), pattern.m)}
        return inputs, {"kept": kept, "metadata": bitmap, "bitmap": bitmap}

    return drive


# Behind the product


def _epilogues(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    yield Unit("requantiser", lambda: requantiser.Requantiser(pipelined=True), _requantise)
    yield Unit("rank1_epilogue", lambda: epilogue.RankOneEpilogue(pipelined=True), _rank_one)
    yield Unit("token_scale", lambda: epilogue.TokenScale(pipelined=True), _token_scale)
    for count in sorted({pattern.m for pattern in patterns}):
        yield Unit("token_shift", lambda c=count: epilogue.TokenShift(c), _token_shift(count), m=count)


def _requantise(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
    given = operands.accumulators(cycles)
    wanted = ("accumulator", "token_mantissa", "token_exponent", "output_mantissa", "output_exponent")
    return {name: given[name] for name in wanted}, {"code": reference.requantised(given)}


def _rank_one(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
    given = operands.accumulators(cycles)
    inputs = {name: given[name] for name in ("accumulator", "shift", "column_sum")}
    return inputs, {"corrected": given["accumulator"] + given["shift"] * given["column_sum"]}


def _token_scale(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
    given = operands.accumulators(cycles)
    mantissa, exponent = given["token_mantissa"], given["token_exponent"]
    by, by_exponent = given["output_mantissa"], given["output_exponent"]
    inputs = {"mantissa": mantissa, "exponent": exponent, "scale_mantissa": by, "scale_exponent": by_exponent}
    made, loses = reference.scaled_mantissa(mantissa, by)
    return inputs, {"scaled_mantissa": made, "scaled_exponent": exponent + by_exponent - loses}


def _token_shift(count: int) -> Callable[[Operands, int], tuple[Ports, Ports]]:
    def drive(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
        values = operands.groups(cycles, Pattern(f"1:{count}")).values[:, :, 0]
        shift = operands.accumulators(cycles)["shift"]
        return {"values": values, "shift": shift}, {"shifted": np.clip(values - shift[..., None], -127, 127)}

    return drive
