"""Workloads of traces: the whole model around them, and decode batches of their rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_sim.cli.inputs import shipped_trace
from accel_sim.errors import AccelSimError
from accel_sim.quantize.int8 import quantize_tokens
from accel_sim.trace import Projection, Site, Trace
from accel_sim.trace.synthetic_trace import write_synthetic_trace
from accel_sim.trace.writer import TraceWriter
from accel_sim.workload import Gemm, decode_workload, gemm_workload, preset_workload, presets, workload_from_trace
from accel_sim.workload.shape import shape_of_config
from accel_sim.workload.to_trace import trace_sites
from accel_sim.workload.trace_rows import evenly

SHIPPED = Trace.open(shipped_trace(), verify=False)


def site(name: str, tokens: int, expert: int | None = None) -> Site:
    projection = Projection(name=f"model.{name}", features=32, outputs=8)
    return Site(name=name, layer=0, features=32, tokens=tokens, expert=expert, projections=(projection,))


def edited(trace: Trace, change) -> Trace:
    """The trace with another manifest."""
    path = trace.path / "trace.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return Trace.open(trace.path, verify=False)


def whole_smollm2(folder: Path, tokens: int = 2) -> Trace:
    """Drawn activations of every layer, with the published model's id."""

    def change(manifest):
        manifest["model"]["id"] = "HuggingFaceTB/SmolLM2-135M"
        manifest["tokens_per_sequence"] = tokens

    sites = trace_sites(preset_workload("smollm2-135m", tokens))
    return edited(write_synthetic_trace(folder, sites), change)


def decode_trace(folder: Path, sequences: int, steps: int, prompt: int) -> Trace:
    """Row r of sequence s at step t holds 10·s + t in its first feature."""
    writer, where = TraceWriter.start(folder, {}), site("layers.0.mlp.up_proj", 0)
    for sequence in range(sequences):
        rows = np.full((steps, 32), 127, np.int8)
        rows[:, 0] = 10 * sequence + np.arange(steps)
        positions = prompt + np.arange(steps, dtype=np.int32)
        writer.append(where, rows, np.ones(steps, np.float32), positions, sequence)
    like = json.loads((SHIPPED.path / "trace.json").read_text())
    kept = ("model", "tokenizer", "text", "token_ids_sha256", "dtype", "coverage", "versions", "command")
    facts = {key: like[key] for key in kept}
    facts |= {"phase": "decode", "tokens_per_sequence": prompt, "sequences": sequences, "new_tokens": steps}
    writer.finish(writer.sites, facts | {"layers": (0,), "layers_in_model": 1})
    return Trace.open(folder)


def rows_of(workload) -> np.ndarray:
    return workload.sites[workload.gemms[0].site].load()[0]


# --- the whole model ---


def test_the_configuration_in_a_trace_gives_the_published_shape():
    published = presets()["smollm2-135m"]
    model = SHIPPED.manifest.model
    found = shape_of_config(model.id, model.config)
    assert found.model_copy(update={"model": published.model, "intermediate_size": 1536}) == published


def test_the_captured_blocks_are_surrounded_as_in_the_model():
    ours = workload_from_trace(SHIPPED)
    published = preset_workload("smollm2-135m", 96)
    for captured, layer in zip((0, 15, 29), (0, 15, 29), strict=True):
        mine = [each for each in ours.operations("model") if each.layer == captured]
        theirs = [each for each in published.operations("model") if each.layer == layer]
        assert [each.kind for each in mine] == [each.kind for each in theirs]
        assert [each.macs if isinstance(each, Gemm) else each.lane_operations for each in mine] == [
            each.macs if isinstance(each, Gemm) else each.lane_operations for each in theirs
        ]


def test_a_part_of_the_blocks_leaves_out_the_lm_head_and_says_so():
    ours = workload_from_trace(SHIPPED)
    assert not [each for each in ours.operations("model") if each.kind == "lm_head"]
    assert "3 of 30 blocks, so no final norm and LM head" in ours.model.source


def test_a_trace_without_configuration_is_surrounded_by_the_preset_of_its_id(tmp_path):
    ours, published = workload_from_trace(whole_smollm2(tmp_path / "t")), preset_workload("smollm2-135m", 2)
    assert [each.name for each in ours.operations("model")] == [each.name for each in published.operations("model")]
    assert "whole model of HuggingFaceTB/SmolLM2-135M" in ours.model.source


def test_gate_and_up_of_a_trace_feed_the_site_of_down():
    feeds = {gemm.name: gemm.consumer_site for gemm in workload_from_trace(SHIPPED).gemms}
    assert feeds["model.layers.15.mlp.gate_proj"] == "layers.15.mlp.down_proj"
    assert feeds["model.layers.15.mlp.up_proj"] == "layers.15.mlp.down_proj"
    assert sum(feed is not None for feed in feeds.values()) == 2 * 3


def test_an_unknown_model_has_linear_scope_only(tmp_path):
    trace = write_synthetic_trace(tmp_path / "t", [site("layers.0.mlp.up_proj", 4)])
    workload = workload_from_trace(trace)
    assert len(workload.operations("linear")) == 1
    with pytest.raises(AccelSimError, match=r"scope model: model synthetic: .* no configuration .*\(--workload\)"):
        workload.operations("model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "config.model_type 'mamba': known are"),
        (
            {"num_attention_heads": 18},
            "attention has 960 outputs in front and 576 features behind, its heads make 1536",
        ),
        ({"num_attention_heads": None}, "its configuration has no num_attention_heads or n_head or num_heads"),
        ({"num_key_value_heads": 2}, "9 query heads cannot share 2 key-value heads evenly"),
        ({"hidden_act": "tanhshrink"}, "activation function 'tanhshrink': expected silu, "),
        ({"vocab_size": -1}, "config.vocab_size"),
        ({"attn_logit_softcapping": 50.0}, "capped attention scores are not modelled"),
    ],
)
def test_a_model_that_is_not_understood_is_named(change, message, tmp_path):
    import shutil

    shutil.copytree(SHIPPED.path, tmp_path / "t")
    trace = edited(Trace(tmp_path / "t", SHIPPED.manifest), lambda manifest: manifest["model"]["config"].update(change))
    with pytest.raises(AccelSimError, match=message) as error:
        workload_from_trace(trace).operations("model")
    assert "\n" not in str(error.value)


def test_a_captured_lm_head_is_not_a_linear_projection_of_the_blocks(tmp_path):
    head = Site(
        name="lm_head",
        features=32,
        tokens=4,
        projections=(Projection(name="lm_head", features=32, outputs=99),),
    )
    trace = write_synthetic_trace(tmp_path / "t", [site("layers.0.mlp.up_proj", 4), head])
    assert [gemm.name for gemm in workload_from_trace(trace).gemms] == ["model.layers.0.mlp.up_proj"]
    only = write_synthetic_trace(tmp_path / "only", [head])
    with pytest.raises(AccelSimError, match="no site has a token"):
        workload_from_trace(only)


# --- decode batches ---


@given(available=st.integers(1, 500), share=st.floats(0, 1))
def test_evenly_spread_rows_are_different_and_ascending(available, share):
    wanted = max(1, int(available * share))
    rows = evenly(available, wanted)
    assert len(set(rows)) == wanted
    assert rows.tolist() == sorted(rows) and rows[0] >= 0 and rows[-1] < available


def test_a_batch_takes_rows_from_the_middle_of_equal_stretches():
    # By hand: 96 tokens in 4 stretches of 24.
    step = decode_workload(workload_from_trace(SHIPPED), 4)
    assert np.array_equal(rows_of(step), SHIPPED.codes("layers.0.self_attn.q_proj+k_proj+v_proj")[[12, 36, 60, 84]])
    assert "4 of its tokens, evenly spread, stand for a decode step of 4 independent sequences" in step.source
    assert {gemm.tokens for gemm in step.gemms} == {4}


def test_a_batch_of_every_token_is_the_trace_itself():
    step = decode_workload(workload_from_trace(SHIPPED), 96)
    assert np.array_equal(rows_of(step), rows_of(workload_from_trace(SHIPPED)))


def test_the_context_of_a_trace_is_its_prompt_unless_given():
    captured = workload_from_trace(SHIPPED)
    assert "context 96" in decode_workload(captured, 2).name
    assert "context 4000" in decode_workload(captured, 2, 4000).name


def test_a_batch_larger_than_the_trace_is_refused():
    with pytest.raises(AccelSimError, match="batch 97: it holds 96 tokens, and one stands for each sequence; capture"):
        decode_workload(workload_from_trace(SHIPPED), 97)


def test_experts_decode_the_tokens_of_the_batch_that_were_routed_to_them(tmp_path):
    # By hand: a batch of 4 of 16 tokens is 2, 6, 10 and 14. Expert 1 got tokens 0 … 3, expert 2 tokens 0 and 1.
    sites = [
        site("layers.0.mlp.gate", 16),
        site("layers.0.mlp.experts.0.up_proj", 16, expert=0),
        site("layers.0.mlp.experts.1.up_proj", 4, expert=1),
        site("layers.0.mlp.experts.2.up_proj", 2, expert=2),
    ]
    trace = write_synthetic_trace(tmp_path / "t", sites)
    step = decode_workload(workload_from_trace(trace), 4)
    assert [gemm.tokens for gemm in step.gemms] == [4, 4, 1]
    assert step.readers("layers.0.mlp.gate") == step.gemms
    codes, scales = step.sites["layers.0.mlp.experts.1.up_proj"].load()
    assert np.array_equal(codes, trace.codes("layers.0.mlp.experts.1.up_proj")[[2]]) and len(scales) == 1
    assert "1 sites without a token left out" in step.source


def test_a_decode_step_of_the_captured_sequences_is_one_real_step(tmp_path):
    # By hand: the middle one of 4 steps is the third (step 2 from 0), at position 10 + 2; sequences 0 and 1.
    step = decode_workload(workload_from_trace(decode_trace(tmp_path / "t", 3, 4, prompt=10)), 2)
    assert rows_of(step)[:, 0].tolist() == [2, 12]
    assert "decode step 3 of 4, 2 of 3 sequences" in step.source
    assert "context 13" in step.name


def test_a_larger_batch_takes_further_steps_and_says_so(tmp_path):
    # By hand: 5 sequences of 3 captured ones take 2 of 4 steps, the second and the fourth.
    step = decode_workload(workload_from_trace(decode_trace(tmp_path / "t", 3, 4, prompt=10)), 5)
    assert rows_of(step)[:, 0].tolist() == [1, 3, 11, 13, 21]
    assert "2 decode steps of 3 sequences stand for one step of 5 independent sequences" in step.source


def test_all_steps_of_a_decode_trace_at_once_are_no_pass_of_a_model(tmp_path):
    workload = workload_from_trace(decode_trace(tmp_path / "t", 2, 3, prompt=5))
    assert workload.gemms[0].tokens == 6
    with pytest.raises(AccelSimError, match="many steps; make one decode step of it, with a batch"):
        workload.operations("model")


def test_every_row_of_a_drawn_batch_is_drawn():
    step = decode_workload(preset_workload("smollm2-135m", 512), 100)
    assert {gemm.tokens for gemm in step.gemms} == {100}
    assert rows_of(step).shape == (100, 576)
    assert all(one.sampled_rows is None for one in step.sites.values())
    assert "context 512" in step.name and "every row" in step.source


def test_a_batch_of_products_by_hand_keeps_their_weights():
    step = decode_workload(gemm_workload(["512x64x32", "7x32x16"]), 3)
    assert [gemm.shape for gemm in step.gemms] == [(3, 64, 32), (3, 32, 16)]


@pytest.mark.parametrize("batch", [1, 2, 17, 256])
def test_a_batch_of_a_mixture_is_routed_in_balance(batch):
    step = decode_workload(preset_workload("qwen3-30b-a3b", 1), batch)
    up = [gemm for gemm in step.gemms if gemm.layer == 3 and gemm.name.endswith("up_proj")]
    assert sum(gemm.tokens * gemm.repeat for gemm in up) == 8 * batch
    assert sum(gemm.repeat for gemm in up) == min(128, 8 * batch)


def test_codes_of_a_batch_are_quantised_per_token():
    codes, scales = decode_workload(gemm_workload(["9x64x8"]), 5).sites["gemm0.5x64x8.input"].load()
    again, _ = quantize_tokens(codes * scales[:, None], "x")
    assert np.array_equal(codes, again)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": 10**9}, {"batch": 1, "context": 0}])
def test_an_impossible_batch_is_refused(wrong):
    with pytest.raises(AccelSimError, match=r"(batch must be from 1|context must be at least 1)"):
        decode_workload(preset_workload("smollm2-135m", 1), **wrong)
