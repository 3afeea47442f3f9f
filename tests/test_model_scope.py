"""A whole decoder around its linear projections."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_sim.errors import AccelSimError
from accel_sim.workload import (
    AttentionOptions,
    Gemm,
    VectorOperation,
    decode_workload,
    gemm_workload,
    preset_workload,
    presets,
)
from accel_sim.workload.vector import operation_table


def operations(workload, kind=None, layer=None):
    return [
        each
        for each in workload.operations("model")
        if (kind is None or each.kind == kind) and (layer is None or each.layer == layer)
    ]


def macs(gemms):
    return sum(gemm.macs for gemm in gemms)


def test_causal_attention_of_one_llama_layer_has_the_macs_of_its_blocks():
    # By hand: 2,048 tokens are 16 blocks of 128 queries; block i sees 128·i keys, so 128·128·(1 + … + 16) = 2,228,224
    # pairs a head; two products of 128 multiplications a pair, 32 heads.
    workload = preset_workload("llama-3.1-8b", 2048)
    assert macs(operations(workload, "attention", layer=5)) == 2_228_224 * 2 * 128 * 32


def test_query_heads_that_share_a_key_value_head_are_tokens_of_one_product():
    # Llama-3.1-8B: 32 query heads on 8 KV heads, so 4 rows a query token; 3 sequences.
    workload = preset_workload("llama-3.1-8b", 128, sequences=3)
    scores, values = operations(workload, "attention", layer=0)
    assert (scores.shape, scores.repeat) == ((4 * 128, 128, 128), 8 * 3)
    assert (values.shape, values.repeat) == ((4 * 128, 128, 128), 8 * 3)


@given(tokens=st.integers(1, 300), block=st.integers(1, 100))
def test_blocks_of_queries_cover_the_triangle_and_never_more_than_the_square(tokens, block):
    workload = preset_workload("smollm2-135m", tokens, attention=AttentionOptions(query_block=block))
    scores = [gemm for gemm in operations(workload, "attention", layer=0) if "scores" in gemm.name]
    pairs = sum(gemm.tokens // 3 * gemm.outputs for gemm in scores)  # 3 query heads a KV head
    assert sum(gemm.tokens for gemm in scores) == 3 * tokens
    assert tokens * (tokens + 1) // 2 <= pairs <= tokens * tokens
    # By hand: each query computes at most block − 1 keys too many.
    assert pairs <= tokens * (tokens + 1) // 2 + tokens * (block - 1) / 2


def test_blocks_of_one_query_are_the_triangle_itself():
    workload = preset_workload("smollm2-135m", 40, attention=AttentionOptions(query_block=1))
    assert macs(operations(workload, "attention", layer=0)) == 40 * 41 // 2 * 2 * 64 * 9


def test_the_approximation_of_causal_attention_is_named_with_its_size():
    # By hand: 2,228,224 pairs for 2,048·2,049 / 2 = 2,098,176.
    assert "causal in blocks of 128 queries (6.2% above the triangle)" in preset_workload("qwen2-7b", 2048).model.source


@given(batch=st.integers(1, 64), context=st.integers(1, 5000), name=st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b"]))
def test_a_decode_step_reads_the_closed_form_of_its_kv_cache(batch, context, name):
    shape = presets()[name]
    step = decode_workload(preset_workload(name, 1), batch, context)
    cache = sum(gemm.features * gemm.outputs * gemm.repeat for gemm in operations(step, "attention"))
    assert cache == 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * context * batch


def test_a_decode_step_writes_new_keys_and_values_once():
    step = decode_workload(preset_workload("llama-3.1-8b", 1), 5, 1000)
    new = sum(gemm.tokens * gemm.outputs for gemm in step.gemms if gemm.name.endswith(("k_proj", "v_proj")))
    assert new == 2 * 32 * 8 * 128 * 5
    assert not any(gemm.outputs_on_chip for gemm in step.gemms)


def test_the_lm_heads_share_of_a_decode_step():
    # By hand for Llama-3.1-8B at batch 1 and context 2,048: projections 32·218,103,808, attention 2·32·32·128·2,048,
    # LM head 4,096·128,256 = 525,336,576, which is 6.53 %.
    step = decode_workload(preset_workload("llama-3.1-8b", 1), 1, 2048)
    (head,) = operations(step, "lm_head")
    everything = macs(each for each in operations(step) if isinstance(each, Gemm))
    assert head.macs == 525_336_576
    assert everything == 32 * 218_103_808 + 2 * 32 * 32 * 128 * 2048 + 525_336_576
    assert round(head.macs / everything, 4) == 0.0653


def test_prefill_computes_the_logits_of_the_last_token_of_every_sequence():
    (head,) = operations(preset_workload("smollm2-135m", 100, sequences=4), "lm_head")
    assert head.shape == (4, 576, 49152)


def test_a_window_limits_what_most_layers_of_gemma_3_attend_to():
    # Layers 5, 11, 17, 23 and 29 of 34 attend to everything, the others to 1,024 positions.
    step = decode_workload(preset_workload("gemma-3-4b", 1), 1, 4096)
    keys = [gemm.outputs for gemm in operations(step, "attention") if "scores" in gemm.name]
    assert Counter(keys) == {1024: 29, 4096: 5}
    assert [layer for layer, width in enumerate(keys) if width == 4096] == [5, 11, 17, 23, 29]


def test_a_window_slides_with_the_queries():
    # By hand: queries 1,152 … 1,279 are the tenth block; its first one sees keys 129 …, so 1,280 − 129 in all.
    workload = preset_workload("gemma-3-4b", 1280)
    scores = [gemm for gemm in operations(workload, "attention", layer=0) if "scores" in gemm.name]
    assert scores[-1].outputs == 1280 - 129


@pytest.mark.parametrize("name", presets())
def test_every_site_is_produced_before_it_is_read(name):
    workload = preset_workload(name, 64)
    produced, linear = set(), []
    for each in workload.operations("model"):
        if isinstance(each, Gemm) and each.kind != "attention":
            assert (each.rows_of or each.site) in produced
            linear += [each] if each.kind == "linear" else []
        produced.add(each.produces if isinstance(each, Gemm) else each.site)
    assert tuple(linear) == workload.gemms == workload.operations("linear")


@pytest.mark.parametrize("name", presets())
def test_only_linear_projections_but_routers_may_be_pruned(name):
    for each in preset_workload(name, 64).operations("model"):
        if isinstance(each, Gemm):
            assert each.prunable == (each.kind == "linear" and not each.name.endswith(".gate"))


def test_fused_attention_keeps_scores_and_probabilities_on_chip():
    def on_chip(fused: bool) -> list[bool]:
        workload = preset_workload("smollm2-135m", 64, attention=AttentionOptions(fused=fused))
        scores, values = operations(workload, "attention", layer=0)
        (softmax,) = operations(workload, "softmax", layer=0)
        flags = (scores.outputs_on_chip, softmax.inputs_on_chip, softmax.outputs_on_chip, values.activations_on_chip)
        assert not (scores.activations_on_chip or values.outputs_on_chip)  # queries come from DRAM, results go there
        return list(flags)

    assert on_chip(True) == [True] * 4
    assert on_chip(False) == [False] * 4


def test_unfused_scores_pass_through_dram_once_written_and_once_read():
    # By hand: 9 heads, 64 × 64 scores of one byte.
    workload = preset_workload("smollm2-135m", 64, attention=AttentionOptions(fused=False))
    (softmax,) = operations(workload, "softmax", layer=0)
    assert (softmax.dram_read_bytes, softmax.dram_written_bytes) == (9 * 64 * 64, 9 * 64 * 64)


def test_gate_and_up_feed_down():
    for gemm in preset_workload("qwen3-30b-a3b", 64).gemms:
        feeds = gemm.name.endswith(("gate_proj", "up_proj"))
        expected = gemm.name.rpartition(".")[0] + ".down_proj.input" if feeds else None
        assert gemm.consumer_site == expected


def test_norms_of_a_layer_move_the_residual_stream():
    # By hand, 10 tokens of 576: 16-bit stream and INT8 codes. The first norm reads embeddings and writes codes; every
    # later one adds the output before it: reads both, writes both.
    workload = preset_workload("smollm2-135m", 10)
    first, second, third = operations(workload, "norm")[:3]
    assert (first.read_bytes, first.written_bytes) == (10 * 576 * 2, 10 * 576)
    assert (second.read_bytes, second.written_bytes) == (10 * 576 * 3, 10 * 576 * 3)
    assert (third.read_bytes, third.written_bytes) == (10 * 576 * 3, 10 * 576 * 3)
    assert len(operations(workload, "norm")) == 2 * 30 + 1


def test_experts_are_activated_and_combined_token_by_token():
    workload = preset_workload("qwen3-30b-a3b", 100)
    activations, (combine,) = operations(workload, "activation", 0), operations(workload, "combine", 0)
    assert sum(each.elements * each.repeat for each in activations) == 8 * 100 * 768
    assert combine.elements == 8 * 100 * 2048
    # The experts' outputs have joined the residual stream, so the next norm only reads it.
    norms = operations(workload, "norm", 1)
    assert norms[0].read_bytes == 100 * 2048 * 2


def test_experts_read_rows_of_what_the_norm_produces():
    workload = preset_workload("qwen3-30b-a3b", 100)
    readers = [gemm.name.rpartition("mlp.")[2] for gemm in workload.readers("model.layers.7.mlp.input")]
    parts = ["experts[0-31]", "experts[32-127]"]  # 800 routed tokens: 32 experts with 7, 96 with 6
    assert readers == ["gate", *(f"{part}.{name}_proj" for part in parts for name in ("gate", "up"))]


def test_products_by_hand_have_no_model_around_them():
    with pytest.raises(
        AccelSimError, match=r"scope model: .* by hand .*; use a published model's shapes \(--workload\)"
    ):
        gemm_workload(["4x64x8"]).operations("model")


@pytest.mark.parametrize(
    ("steps", "element", "row"),
    [
        # dequantise 2, maximum, subtract, power of two 6, sum, divide, round; a reciprocal of 5 a row
        (["dequantise", "softmax"], 2 + 1 + 1 + 6 + 1 + 1 + 1, 5),
        # two dequantised factors, e^-x 7, + 1, reciprocal 5, times x, times up, quantise 3; a scale and its reciprocal
        (["dequantise", "dequantise", "silu", "multiply", "quantise"], 4 + 7 + 1 + 5 + 1 + 1 + 3, 1 + 5),
        # load, add 3, square, times root, times weight, quantise 3; mean, root 7, scale, reciprocal
        (["load_residual", "add_residual", "rms_norm", "quantise"], 1 + 3 + 3 + 3, 1 + 7 + 1 + 5),
        (["rotary"], 2, 0),
    ],
)
def test_lane_operations_of_the_common_functions(steps, element, row):
    assert operation_table().count(steps) == (element, row)


def test_every_function_of_the_table_can_be_counted():
    table = operation_table()
    for name in table.functions:
        element, row = table.count([name])
        assert element > 0 and row >= 0


def test_a_cubic_is_enough_for_powers_of_two():
    f = np.linspace(-0.5, 0.5, 10_001)
    cubic = np.polynomial.Chebyshev.interpolate(np.exp2, 3, domain=[-0.5, 0.5])
    assert np.max(np.abs(cubic(f) / np.exp2(f) - 1)) < 1.1e-4


def test_newtons_two_steps_take_an_estimate_of_8_bits_beyond_float32():
    x = np.linspace(1, 2, 1001)
    reciprocal = (1 + 2.0**-8) / x
    root = (1 + 2.0**-8) / np.sqrt(x)
    for _ in range(2):
        reciprocal = reciprocal * (2 - x * reciprocal)
        root = root * (1.5 - 0.5 * x * root * root)
    assert np.max(np.abs(reciprocal * x - 1)) < 2.0**-24
    assert np.max(np.abs(root * np.sqrt(x) - 1)) < 2.0**-24


@pytest.mark.parametrize("wrong", [{"elements": 0}, {"rows": 3}, {"read_bytes": -1}, {"repeat": 0}])
def test_a_vector_operation_refuses_impossible_sizes(wrong):
    sizes = {"elements": 8, "operations_per_element": 1, "read_bytes": 0, "written_bytes": 0} | wrong
    with pytest.raises(AccelSimError, match="operation x: "):
        VectorOperation(name="x", kind="norm", **sizes)


def test_an_empty_block_of_queries_is_refused():
    with pytest.raises(AccelSimError, match="query_block 0"):
        AttentionOptions(query_block=0)
