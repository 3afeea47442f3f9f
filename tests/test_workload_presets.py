"""Linear shapes of published models."""

import pytest

from accel_sim.errors import AccelSimError
from accel_sim.workload import preset_workload, presets


def macs_per_token(name: str, tokens: int = 256) -> float:
    return sum(gemm.macs for gemm in preset_workload(name, tokens).gemms) / tokens


# Amber Pruner (arXiv 2508.02128) keeps k, v, o and up dense everywhere, prunes down everywhere, and q and gate in all
# but a few layers; it reports the share of linear computation that becomes sparse. The router is not counted.
@pytest.mark.parametrize(
    ("name", "skipped", "published"),
    [
        ("llama-3.1-8b", {19, 21, 28, 30, 31}, 0.561),
        ("qwen2-7b", {0, 6, 23, 26, 27}, 0.576),
        ("qwen3-30b-a3b", {41, 46, 47}, 0.569),
    ],
)
def test_the_share_that_amber_pruner_covers_follows_from_the_shapes(name, skipped, published):
    covered = total = 0
    for gemm in preset_workload(name, tokens=2048).gemms:
        layer, projection = int(gemm.name.split(".")[2]), gemm.name.split(".")[-1]
        if projection == "gate":
            continue
        total += gemm.macs
        pruned = projection == "down_proj" or (projection in ("q_proj", "gate_proj") and layer not in skipped)
        covered += gemm.macs if pruned else 0
    assert round(covered / total, 3) == published


# Published parameter counts, less embedding and LM head (one matrix where tied), norms and the biases of q, k and v.
@pytest.mark.parametrize(
    ("name", "published", "vocabulary_matrices", "norms", "biases"),
    [
        ("llama-2-7b", 6_738_415_616, 2, 65, 0),
        ("llama-3.1-8b", 8_030_261_248, 2, 65, 0),
        ("llama-3.1-70b", 70_553_706_496, 2, 161, 0),
        ("qwen2.5-7b", 7_615_616_512, 2, 57, 28 * (3584 + 512 + 512)),
        ("smollm2-135m", 134_515_008, 1, 61, 0),
    ],
)
def test_linear_weights_add_up_to_the_published_parameters(name, published, vocabulary_matrices, norms, biases):
    shape = presets()[name]
    outside = (vocabulary_matrices * shape.vocab_size + norms) * shape.hidden_size
    assert macs_per_token(name) == published - outside - biases


def test_the_mixture_computes_its_active_parameters():
    # 3.3e9 active (its model card), embedding and LM head of 151,936 × 2048 among them.
    assert macs_per_token("qwen3-30b-a3b") + 2 * presets()["qwen3-30b-a3b"].vocab_size * 2048 == pytest.approx(
        3.3e9, rel=0.02
    )


@pytest.mark.parametrize("tokens", [1, 7, 16, 17, 100, 2048])
def test_balanced_routing_computes_every_routed_token_once(tokens):
    gemms = preset_workload("qwen3-30b-a3b", tokens).gemms
    routed = [gemm for gemm in gemms if gemm.name.startswith("model.layers.0.mlp.experts") and "up_proj" in gemm.name]
    assert sum(gemm.tokens * gemm.repeat for gemm in routed) == 8 * tokens
    assert sum(gemm.repeat for gemm in routed) == min(128, 8 * tokens)


def test_query_keys_and_values_share_one_site():
    gemms = preset_workload("llama-3.1-8b", 16).gemms
    assert len({gemm.site for gemm in gemms}) == 32 * 4
    assert len({gemm.site for gemm in gemms[:3]}) == 1


def test_every_preset_names_its_model_and_has_a_site_for_every_product():
    for name, shape in presets().items():
        workload = preset_workload(name, 4)
        assert shape.model in workload.source
        assert {gemm.site for gemm in workload.gemms} | {"lm_head.input"} == set(workload.sites)


def test_sites_have_the_shape_their_products_state():
    workload = preset_workload("smollm2-135m", 20)
    for gemm in workload.gemms[:7]:
        codes, scales = workload.sites[gemm.site].load()
        assert codes.shape == (20, gemm.features)
        assert scales.shape == (20,)


def test_a_long_site_is_represented_by_a_sample_that_the_source_states():
    workload = preset_workload("smollm2-135m", 512, sample_rows=8)
    site = workload.sites[workload.gemms[0].site]
    assert site.sampled_rows == 8
    assert site.load()[0].shape == (8, 576)
    assert "8 sampled rows" in workload.source


def test_a_short_site_is_there_in_full():
    workload = preset_workload("smollm2-135m", 3)
    assert all(site.sampled_rows is None for site in workload.sites.values())
    assert "every row" in workload.source


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(AccelSimError, match=r"'gpt-5': no such preset; known: llama-2-7b, .*smollm2-135m"):
        preset_workload("gpt-5", 512)


def test_no_tokens_are_refused():
    with pytest.raises(AccelSimError, match="tokens must be at least 1"):
        preset_workload("llama-2-7b", 0)
