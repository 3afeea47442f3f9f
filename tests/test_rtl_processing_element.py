"""Every accumulator of a processing element is that of the NumPy reference, bit for bit."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from functional_inputs import STYLES
from functional_inputs import codes as codes_of_style
from rtl_operands import (
    SHIPPED_PROJECTION,
    SHIPPED_SITE,
    assert_refused,
    dense_stream,
    first_steps,
    group_metadata,
    real_operands,
    require_simulator,
    shipped_trace,
    sparse_stream,
    sums_of,
)

from accel_sim.functional import requantize, select, sparse_matmul
from accel_sim.functional.fixed_point import multipliers
from accel_sim.functional.numpy_backend import slots
from accel_sim.pattern import Pattern
from accel_sim.rtl.processing_element import DotProduct, ProcessingElement, ShiftingProcessingElement, SparseDotProduct
from accel_sim.rtl.requantiser import Requantiser
from accel_sim.rtl.simulation import run

OPERAND_MUXES, ENCODINGS = ("restricted", "onehot", "full"), ("bitmap", "index", "enumerative")
PATTERNS = ("1:4", "2:4", "3:4", "4:8", "8:16", "16:32")
ALL_PARTS = [
    (pattern, mux, metadata)
    for pattern, mux, metadata in product(PATTERNS, OPERAND_MUXES, ENCODINGS)
    if (pattern, metadata) != ("16:32", "enumerative")  # tens of thousands of gates: below, by itself
]


def assert_equals_the_reference(unit, x, w, simulator="amaranth"):
    """Sums of a sparse or dense PE against `accel_sim.functional`, on the numpy backend."""
    if unit.pattern is None:
        stream, steps = dense_stream(x, w, unit.lanes)
        wanted = sparse_matmul(x, w, "1:1")
    else:
        stream, steps = sparse_stream(x, w, unit.pattern, unit.lanes, unit.encoding)
        wanted = sparse_matmul(x, w, unit.pattern)
    np.testing.assert_array_equal(sums_of(unit, stream, steps, wanted.shape, simulator), wanted)


@pytest.mark.parametrize(("pattern", "mux", "metadata"), ALL_PARTS)
def test_captured_rows_through_every_multiplexer_and_metadata(pattern, mux, metadata):
    x, w = real_operands(2, 70, 2)  # 70 is no multiple of any M
    lanes = max(8, Pattern(pattern).n)
    assert_equals_the_reference(ProcessingElement(lanes, Pattern(pattern), mux, metadata), x, w)


@pytest.mark.parametrize("mux", OPERAND_MUXES)
def test_a_register_behind_the_multiplexers_costs_one_cycle(mux):
    x, w = real_operands(2, 70, 2)
    unit = ProcessingElement(8, Pattern("4:8"), mux, operand_mux_register=True)
    assert unit.latency == 4
    assert_equals_the_reference(unit, x, w)


@pytest.mark.slow
@pytest.mark.parametrize("mux", OPERAND_MUXES)
def test_the_enumerative_code_of_16_32(mux):
    unit = ProcessingElement(16, Pattern("16:32"), mux, "enumerative")
    assert_equals_the_reference(unit, *real_operands(2, 70, 2))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("pattern", [None, "4:4", "1:4", "3:4", "4:8"])
def test_adversarial_codes(pattern, style):
    x, w = codes_of_style((3, 45), style, seed=1), codes_of_style((45, 3), "largest", seed=2)
    unit = ProcessingElement(8, pattern and Pattern(pattern), "onehot", "bitmap")
    assert_equals_the_reference(unit, x, w)


@pytest.mark.parametrize("features", [1, 7, 16])
def test_one_token_with_at_most_one_group(features):
    x, w = codes_of_style((1, features), "any", 5), codes_of_style((features, 1), "any", 6)
    assert_equals_the_reference(ProcessingElement(8, Pattern("8:16"), "restricted"), x, w)


def test_lanes_beyond_whole_groups_stay_idle():
    x, w = real_operands(2, 48, 2)
    unit = ProcessingElement(11, Pattern("3:4"))
    assert unit.groups == 3
    stream, steps = sparse_stream(x, w, unit.pattern, 11, "bitmap")
    stream["activations"] = np.array(stream["activations"])
    stream["activations"][:, 9:] = 99  # meets no operand
    np.testing.assert_array_equal(sums_of(unit, stream, steps, (2, 2), "amaranth"), sparse_matmul(x, w, "3:4"))


def test_a_pattern_that_keeps_all_makes_a_dense_element():
    unit = ProcessingElement(8, Pattern("4:4"))
    assert set(unit.signature.members) == {"activations", "weights", "clear", "accumulator"}
    assert_equals_the_reference(unit, *real_operands(1, 20, 2))


def test_a_dense_element_takes_captured_rows():
    assert_equals_the_reference(ProcessingElement(16), *real_operands(3, 100, 3))


@pytest.mark.parametrize(("pattern", "register"), [(None, False), ("2:4", False), ("2:4", True)])
def test_a_bias_starts_the_sum_and_a_narrow_accumulator_wraps(pattern, register):
    x, w = codes_of_style((2, 64), "largest", 3), codes_of_style((64, 3), "largest", 4)
    bias = np.array([-(2**17), 2**17 - 1, 12345])
    chosen = pattern and Pattern(pattern)
    unit = ProcessingElement(4, chosen, operand_mux_register=register, accumulator_bits=18, bias=True)
    stream, steps = sparse_stream(x, w, chosen, 4, "bitmap") if chosen else dense_stream(x, w, 4)
    stream["bias"] = np.where(stream["clear"] == 1, np.tile(np.repeat(bias, steps), 2), 77)  # 77 must not be taken
    exact = sparse_matmul(x, w, pattern or "1:1", bias=bias.astype(np.int32)).astype(np.int64)
    wrapped = (exact + 2**17) % 2**18 - 2**17
    assert (wrapped != exact).any()
    np.testing.assert_array_equal(sums_of(unit, stream, steps, (2, 3), "amaranth"), wrapped)


def test_activations_of_zero_make_an_idle_cycle():
    x, w = real_operands(2, 64, 3)
    unit = ProcessingElement(8, Pattern("4:8"))
    stream, steps = sparse_stream(x, w, unit.pattern, 8, "bitmap")
    draw, cycles = np.random.default_rng(8), len(stream["clear"])
    idle = {
        "activations": np.zeros((cycles, 8), dtype=np.int64),
        "metadata": draw.integers(0, 256, (cycles, 2)),  # no code words, most of them
        "weights": draw.integers(-128, 128, (cycles, 16)),
        "clear": np.zeros(cycles, dtype=np.int64),
    }
    spread = {
        name: np.stack([values, idle[name]], axis=1).reshape(-1, *values.shape[1:]) for name, values in stream.items()
    }
    np.testing.assert_array_equal(sums_of(unit, spread, 2 * steps, (2, 3), "amaranth"), sparse_matmul(x, w, "4:8"))


def test_bare_dot_products_have_the_same_sums():
    x, w = real_operands(2, 64, 2)
    stream, steps = dense_stream(x, w, 16)
    stream["operands"] = stream.pop("weights")
    np.testing.assert_array_equal(
        sums_of(DotProduct(16), stream, steps, (2, 2), "amaranth"), sparse_matmul(x, w, "1:1")
    )


def flexible_stream(x, w, patterns: list[Pattern]) -> tuple[dict[str, np.ndarray], int, np.ndarray]:
    """One stream for a PE of the first pattern, N lanes, whose pattern changes from sum to sum.

    Returns the inputs, the cycles of a sum, and the sums [T·F, patterns].
    """
    streams, wanted = [], []
    for pattern in patterns:
        stream, steps = sparse_stream(x, w, pattern, patterns[0].n, "bitmap")
        places = np.arange(stream["metadata"].shape[1]) * pattern.m
        stream["metadata"] = (stream["metadata"] << places).sum(axis=1, keepdims=True)  # consecutive bitmaps are one
        streams.append(stream)
        wanted.append(sparse_matmul(x, w, pattern).reshape(-1))
    mixed = {}
    for name, values in streams[0].items():
        of_sums = [stream[name].reshape(len(wanted[0]), steps, *values.shape[1:]) for stream in streams]
        mixed[name] = np.stack(of_sums, axis=1).reshape(-1, *values.shape[1:])
    return mixed, steps, np.stack(wanted, axis=1)


@pytest.mark.parametrize("mux", OPERAND_MUXES)
@pytest.mark.parametrize(
    ("simulator", "patterns"),
    [
        ("amaranth", "16:32 8:16 4:8 2:4"),
        ("amaranth", "3:12 1:4"),
        ("icarus", "8:16 4:8 2:4"),
        pytest.param("icarus", "16:32 8:16 4:8 2:4", marks=pytest.mark.slow),
        pytest.param("verilator", "16:32 8:16 4:8 2:4", marks=pytest.mark.slow),
    ],
)
def test_the_network_of_a_pattern_serves_smaller_ones_switched_at_run_time(simulator, patterns, mux):
    require_simulator(simulator)
    patterns = [Pattern(text) for text in patterns.split()]
    stream, steps, wanted = flexible_stream(*real_operands(2, 96, 2), patterns)
    assert len(np.unique(wanted)) > wanted.shape[0]  # the patterns give unlike sums
    unit = ProcessingElement(patterns[0].n, patterns[0], mux)
    np.testing.assert_array_equal(sums_of(unit, stream, steps, wanted.shape, simulator), wanted)


def shifting_stream(x, w, pattern: Pattern, lanes: int, metadata: str) -> tuple[dict[str, np.ndarray], int]:
    """Inputs of a shifting PE and the cycles of a sum; between loads, weights and metadata are garbage."""
    tokens, outputs, groups = len(x), w.shape[1], pattern.groups(x.shape[1])
    passes = -(-pattern.n // lanes)
    values, positions = slots(x, select(x, pattern), pattern)
    draw = np.random.default_rng(4)
    kept = np.zeros((tokens, outputs, groups, passes * lanes), dtype=np.int64)
    kept[..., : pattern.n] = values[:, None]
    windows = np.pad(w.T, ((0, 0), (0, groups * pattern.m - len(w)))).reshape(outputs, groups, 1, pattern.m)
    every = (tokens, outputs, groups, passes)
    loads = np.broadcast_to(np.arange(passes) == 0, every)
    codes = group_metadata(positions, pattern, metadata)[:, None, :, None]
    garbage = draw.integers(-127, 128, (*every, pattern.m))
    return {
        "activations": kept.reshape(-1, lanes),
        "weights": np.where(loads[..., None], windows, garbage).reshape(-1, pattern.m),
        "metadata": np.where(loads, codes, 1).reshape(-1),
        "load": loads.astype(np.int64).reshape(-1),
        "clear": first_steps(tokens * outputs, groups * passes),
    }, groups * passes


@pytest.mark.parametrize(("metadata", "register"), [("bitmap", False), ("index", True)])
@pytest.mark.parametrize("mux", OPERAND_MUXES)
@pytest.mark.parametrize(("pattern", "lanes"), [("2:4", 1), ("4:8", 2), ("8:16", 3), ("8:16", 4), ("16:32", 8)])
def test_fewer_lanes_than_slots_take_several_cycles(pattern, lanes, mux, metadata, register):
    pattern = Pattern(pattern)
    x, w = real_operands(2, 72, 2)
    unit = ShiftingProcessingElement(lanes, pattern, mux, metadata, register)
    stream, steps = shifting_stream(x, w, pattern, lanes, metadata)
    assert steps == pattern.groups(72) * unit.passes
    np.testing.assert_array_equal(sums_of(unit, stream, steps, (2, 2), "amaranth"), sparse_matmul(x, w, pattern))


@pytest.mark.parametrize(
    ("pattern", "simulator"), [*((pattern, "amaranth") for pattern in (None, *PATTERNS)), ("8:16", "icarus")]
)
def test_captured_rows_become_int8_codes(pattern, simulator):
    """Accumulators of the PE through the requantiser, with the captured scales: every code of the public functions."""
    require_simulator(simulator)
    tokens, outputs = 4, 6
    x, w = real_operands(tokens, 200, outputs)
    chosen = pattern and Pattern(pattern)
    stream, steps = sparse_stream(x, w, chosen, 16, "bitmap") if chosen else dense_stream(x, w, 16)
    acc = sums_of(ProcessingElement(16, chosen), stream, steps, (tokens, outputs), simulator)
    scale_x = shipped_trace().scales(SHIPPED_SITE)[:tokens]
    scale_w = shipped_trace().weight(SHIPPED_PROJECTION).scales[:outputs]
    c = multipliers(scale_x, scale_w, scale_y=0.01)
    inputs = {
        "accumulator": acc.reshape(-1),
        "token_mantissa": np.repeat(c.token_mantissa, outputs),
        "token_exponent": np.repeat(c.token_exponent, outputs),
        "output_mantissa": np.tile(c.output_mantissa, tokens),
        "output_exponent": np.tile(c.output_exponent, tokens),
    }
    codes = run(Requantiser(), inputs, simulator)["code"].reshape(tokens, outputs)
    wanted = requantize(sparse_matmul(x, w, pattern or "1:1"), scale_x, scale_w, 0.01)
    assert len(np.unique(wanted)) > 8
    np.testing.assert_array_equal(codes, wanted)


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_the_emitted_verilog_of_fewer_lanes_than_slots(simulator):
    require_simulator(simulator)
    x, w = real_operands(2, 72, 2)
    pattern = Pattern("8:16")
    stream, steps = shifting_stream(x, w, pattern, 3, "bitmap")
    sums = sums_of(ShiftingProcessingElement(3, pattern), stream, steps, (2, 2), simulator)
    np.testing.assert_array_equal(sums, sparse_matmul(x, w, pattern))


@pytest.mark.parametrize("pattern", [None, "1:4", "2:4", "3:4", "4:8"])
def test_the_emitted_verilog_on_icarus_in_every_pattern(pattern):
    require_simulator("icarus")
    unit = ProcessingElement(16, pattern and Pattern(pattern))
    assert_equals_the_reference(unit, *real_operands(2, 100, 2), "icarus")


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
@pytest.mark.parametrize(("pattern", "mux", "metadata"), ALL_PARTS)
def test_the_emitted_verilog_through_every_multiplexer_and_metadata(pattern, mux, metadata, simulator):
    require_simulator(simulator)
    unit = ProcessingElement(16, Pattern(pattern), mux, metadata, operand_mux_register=True)
    size = (2, 100, 2) if simulator == "icarus" else (8, 300, 8)
    assert_equals_the_reference(unit, *real_operands(*size), simulator)


def o_proj_operands(outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """All captured rows of two sites of 576 features, and weights of the projection that one of them feeds."""
    x = np.concatenate([shipped_trace().codes(f"layers.{layer}.self_attn.o_proj") for layer in (0, 15)])
    return x, shipped_trace().weight(SHIPPED_PROJECTION).codes[:, :outputs]


def test_a_hundred_thousand_captured_sums_at_8_16_on_verilator():
    require_simulator("verilator")
    x, w = o_proj_operands(576)
    assert len(x) * w.shape[1] == 110_592
    assert_equals_the_reference(ProcessingElement(16, Pattern("8:16")), x, w, "verilator")


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [None, "2:4", "8:16", "16:32"])
@pytest.mark.parametrize("projection", ["self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"])
def test_the_other_captured_projections_on_verilator(projection, pattern):
    require_simulator("verilator")
    trace = shipped_trace()
    (site,) = (
        site for site in trace.sites_of_layers("15") for each in site.projections if each.name.endswith(projection)
    )
    w = trace.weight(f"model.layers.15.{projection}").codes[:, :48]
    unit = ProcessingElement(16, pattern and Pattern(pattern))
    assert_equals_the_reference(unit, trace.codes(site.name)[:32], w, "verilator")


@pytest.mark.slow
def test_a_thousand_captured_sums_at_8_16_on_icarus():
    require_simulator("icarus")
    assert_equals_the_reference(ProcessingElement(16, Pattern("8:16")), *o_proj_operands(6), "icarus")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DotProduct(0), "lanes: got 0"),
        (lambda: DotProduct(4, accumulator_bits=15), "at least the 16 of a product"),
        (lambda: ProcessingElement(4, Pattern("8:16")), "at least the 8 slots of a group of 8:16"),
        (lambda: SparseDotProduct(1, Pattern("2:4")), "at least the 2 slots"),
        (lambda: ProcessingElement(8, operand_mux_register=True), "no operand multiplexers"),
        (lambda: ProcessingElement(8, Pattern("2:4"), "mux"), "operand_mux 'mux': expected one of"),
        (lambda: ProcessingElement(8, Pattern("2:4"), metadata="runs"), "expected one of bitmap, index, enumerative"),
        (lambda: ProcessingElement(8, "2:4"), "expected a Pattern of one level"),
        (lambda: ShiftingProcessingElement(8, Pattern("8:16")), "expected 1 … 7"),
        (lambda: ShiftingProcessingElement(2, Pattern("8:8")), "keeps all"),
    ],
)
def test_elements_that_cannot_be_built_are_refused_at_once(build, message):
    assert_refused(build, message)
