"""Figures held against their definitions: divergence, perplexity, intervals, greedy text, and the dense reference."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from capture_helpers import PROMPT, tiny_model  # noqa: E402

from accel_sim import sparsify  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.evaluation import paired  # noqa: E402
from accel_sim.evaluation.bootstrap import mean_interval  # noqa: E402
from accel_sim.evaluation.dense import DenseReference, window_logits  # noqa: E402
from accel_sim.evaluation.generation import common_shares, continue_greedily  # noqa: E402
from accel_sim.evaluation.metrics import compare_logits  # noqa: E402
from accel_sim.evaluation.result import Blocks, evaluation_of  # noqa: E402
from accel_sim.sparsify.recipe import recipe_from_mapping  # noqa: E402

HALF = recipe_from_mapping("half", {"default": {"pattern": "2:4"}})


def random_logits(seed: int, tokens: int = 150, vocabulary: int = 50) -> torch.Tensor:
    return 3 * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))


def test_tokens_are_compared_by_the_definitions():
    dense, sparse = random_logits(0), random_logits(1)
    ids = torch.randint(0, 50, (150,), generator=torch.Generator().manual_seed(2))
    measures = compare_logits(dense, sparse, ids)
    p, q = (each.double().softmax(-1).numpy()[:-1] for each in (dense, sparse))
    np.testing.assert_allclose(measures.kl, (p * np.log(p / q)).sum(1), rtol=1e-5)
    np.testing.assert_allclose(measures.nll, -np.log(q[np.arange(149), ids[1:]]), rtol=1e-5)
    np.testing.assert_array_equal(measures.agrees, p.argmax(1) == q.argmax(1))


def test_nothing_diverges_from_itself():
    measures = compare_logits(random_logits(0), random_logits(0), torch.arange(150) % 50)
    assert (measures.kl == 0).all() and measures.agrees.all()


def test_blocks_are_of_positions_and_add_up():
    measures = compare_logits(random_logits(0), random_logits(1), torch.arange(150) % 50)
    blocks = measures.blocks(64)
    assert blocks.tokens == (63, 64, 22) and blocks.strata == (3,)
    assert blocks.nll[1] == pytest.approx(measures.nll[63:127].sum())
    assert sum(blocks.kl) == pytest.approx(measures.kl.sum()) and sum(blocks.agreements) == measures.agrees.sum()
    assert compare_logits(random_logits(0), random_logits(1), torch.arange(17)).blocks(16).tokens == (15, 1)


def made_up(nll: list[float], strata: tuple[int, ...] | None = None, tokens: int = 10) -> Blocks:
    count = len(nll)
    return Blocks(
        strata=strata or (count,), tokens=(tokens,) * count, nll=nll, kl=[0.5] * count, agreements=(4,) * count
    )


def evaluated(name: str, blocks: Blocks, dense: Blocks | None = None, text: str = "text"):
    return evaluation_of(name, "all", text, blocks, dense or blocks, 2000, 0)


def test_perplexity_and_the_like_are_means_over_tokens():
    found = evaluated("one", made_up([10.0, 20.0]), made_up([10.0, 10.0]))
    assert found.perplexity == pytest.approx(np.exp(1.5)) and found.over_dense == pytest.approx(np.exp(0.5) - 1)
    assert found.kl == pytest.approx(0.05) and found.top1_agreement == pytest.approx(0.4) and found.tokens == 20
    assert found.perplexity_ci == pytest.approx((np.exp(1), np.exp(2)))


def test_intervals_are_those_of_a_normal_mean():
    """For many independent blocks the interval is mean ± 1.96 standard errors."""
    sums = np.random.default_rng(0).normal(50, 10, 400)
    low, high = mean_interval(sums, np.full(400, 10), (400,), 4000, 1)
    error = sums.std() / np.sqrt(400) / 10
    assert low == pytest.approx(sums.mean() / 10 - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(sums.mean() / 10 + 1.96 * error, abs=0.1 * error)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(3)
    hits = 0
    for trial in range(300):
        low, high = mean_interval(random.normal(0, 1, 60), np.ones(60), (60,), 300, trial)
        hits += low <= 0 <= high
    assert 0.90 < hits / 300 < 0.98


def test_kinds_of_text_are_drawn_apart():
    """What differs between kinds only does not widen the interval; without strata it would."""
    sums, tokens = np.repeat([10.0, 30.0], 8), np.full(16, 10)
    assert mean_interval(sums, tokens, (8, 8), 500, 0) == (2.0, 2.0)
    low, high = mean_interval(sums, tokens, (16,), 500, 0)
    assert low < 1.8 and high > 2.2


def test_a_pair_is_compared_on_the_same_blocks():
    """Texts that differ much hide a small difference of two recipes, unless it is taken block by block."""
    random = np.random.default_rng(0)
    base = random.normal(40, 15, 32)
    one = evaluated("one", made_up((base + 1 + random.normal(0, 0.2, 32)).tolist()))
    other = evaluated("other", made_up(base.tolist()))
    difference = paired(one, other)
    assert 0.08 < difference.low < difference.mean < difference.high < 0.12
    assert difference.perplexity_ratio == pytest.approx(one.perplexity / other.perplexity)
    assert one.perplexity_ci[0] < other.perplexity < one.perplexity_ci[1]
    back = paired(other, one)
    assert (back.mean, back.low, back.high) == pytest.approx((-difference.mean, -difference.high, -difference.low))


def test_pairs_of_different_text_are_refused():
    one = evaluated("one", made_up([1.0, 2.0]))
    for other in (evaluated("other", made_up([1.0, 2.0]), text="more"), evaluated("other", made_up([1.0, 2.0, 3.0]))):
        with pytest.raises(AccelSimError, match="one on all and other on all: measured on different text"):
            paired(one, other)


def test_the_same_seed_gives_the_same_interval():
    blocks = made_up(np.random.default_rng(0).normal(40, 15, 32).tolist())
    first, again = evaluated("a", blocks), evaluated("a", blocks)
    other = evaluation_of("a", "all", "text", blocks, blocks, 2000, 1)
    assert first == again and first.perplexity_ci != other.perplexity_ci


def test_greedy_text_is_what_the_model_finds_likeliest_token_by_token():
    model = tiny_model("llama")
    prompts = torch.tensor([PROMPT, PROMPT[::-1]])
    found = continue_greedily(model, prompts, 5)
    for prompt, continuation in zip(prompts, found, strict=True):
        tokens = prompt
        for token in continuation:
            assert token == window_logits(model, tokens)[-1].argmax()
            tokens = torch.cat([tokens, token[None]])


def test_a_model_without_a_cache_continues_just_so():
    model = tiny_model("llama")
    prompts = torch.tensor([PROMPT])
    expected = continue_greedily(model, prompts, 5)
    forward = model.forward

    def without_cache(*args, **kwargs):
        assert kwargs.get("past_key_values") is None
        output = forward(*args, **kwargs | {"use_cache": False})
        output.past_key_values = None
        return output

    model.forward = without_cache
    assert torch.equal(continue_greedily(model, prompts, 5), expected)


def test_shares_end_at_the_first_token_that_differs():
    one = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    other = torch.tensor([[1, 2, 3, 4], [1, 2, 9, 4], [9, 2, 3, 4]])
    assert common_shares(one, other) == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("name", "changes"),
    [("llama", {}), ("gpt2", {}), ("neox", {}), ("gemma3", {"final_logit_softcapping": 5.0})],
)
def test_dense_logits_can_be_had_while_the_model_is_sparsified(name, changes):
    model = tiny_model(name, **changes)
    windows = [torch.tensor(PROMPT), torch.tensor(PROMPT[::-1])]
    expected = [window_logits(model, ids) for ids in windows]
    reference = DenseReference(model)
    for ids in windows:
        reference.add(ids)
    assert not reference.keeps_logits
    sparsify(model, HALF)
    sparse = [window_logits(model, ids) for ids in windows]
    for index in (0, 1):
        assert torch.equal(reference.logits(index), expected[index]), name
        assert not torch.allclose(sparse[index], expected[index], rtol=0.01)
        assert torch.equal(window_logits(model, windows[index]), sparse[index])  # reading them changes nothing
    sparsify.remove(model)
    assert torch.equal(window_logits(model, windows[0]), expected[0])


@pytest.mark.parametrize("name", ["mixtral", "deepseek_v3"])
def test_a_head_behind_experts_is_run_on_its_own_too(name):
    model = tiny_model(name)
    reference = DenseReference(model)
    reference.add(torch.tensor(PROMPT))
    assert not reference.keeps_logits
    assert torch.equal(reference.logits(0), window_logits(model, torch.tensor(PROMPT)))


def test_soft_capped_logits_would_not_be_the_heads_own():
    """Why the model's own forward runs the head: the head alone gives something else."""
    model = tiny_model("gemma3", final_logit_softcapping=5.0)
    logits = window_logits(model, torch.tensor(PROMPT))
    states = model.model(input_ids=torch.tensor([PROMPT])).last_hidden_state
    assert not torch.allclose(model.lm_head(states)[0], logits, rtol=0.01)


def test_logits_are_kept_whole_where_the_head_is_not_all_behind_the_decoder():
    model = tiny_model("llama")
    forward = model.forward

    def adds_what_the_decoder_reads(input_ids, **kwargs):
        output = forward(input_ids=input_ids, **kwargs)
        output.logits = output.logits + model.model.calls
        return output

    model.model.calls = 0.0
    model.model.register_forward_hook(lambda module, args, output: setattr(module, "calls", module.calls + 1.0))
    model.forward = adds_what_the_decoder_reads
    reference = DenseReference(model)
    reference.add(torch.tensor(PROMPT))
    assert reference.keeps_logits
    assert torch.equal(reference.logits(0), forward(input_ids=torch.tensor([PROMPT])).logits[0] + 1.0)
