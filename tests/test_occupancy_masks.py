"""Statistical stand-ins for masks: their densities, their independence, and that a site's draw is its own."""

import numpy as np
import pytest
from functional_inputs import all_codes, codes, patterns
from hypothesis import given

from accel_sim import AccelSimError, Pattern
from accel_sim.occupancy import (
    DRAWN_MODELS,
    MASK_MODELS,
    Masks,
    drawn_masks,
    elastic_windows,
    needed_features,
    reference,
    unstructured_windows,
)

ELASTIC = {"rows": 32, "slices": 16, "elastic_lanes": 1, "sync_window": 32}
UNSTRUCTURED = {"rows": 32, "lanes": 4, "sync_window": 8, "banks": 32}


def channel_codes(tokens: int, density: np.ndarray, seed: int) -> np.ndarray:
    """Codes int8 [T, K] whose channel k is non-zero with density[k], independently."""
    nonzero = np.random.default_rng(seed).random((tokens, len(density))) < density
    return codes(nonzero.shape, "largest", seed) * nonzero


# Draws


def test_iid_has_one_density():
    mask = np.zeros((400, 250), dtype=bool)
    mask[:100] = True  # a quarter, in a quarter of the tokens
    drawn = drawn_masks(mask, "iid", 0)
    deviation = np.sqrt(0.25 * 0.75)
    assert abs(drawn.mean() - 0.25) < 5 * deviation / np.sqrt(mask.size)
    assert (abs(drawn.mean(axis=0) - 0.25) < 5 * deviation / np.sqrt(400)).all()
    assert (abs(drawn.mean(axis=1) - 0.25) < 5 * deviation / np.sqrt(250)).all()


def test_marginal_has_the_density_of_each_channel():
    density = np.linspace(0, 1, 301)
    mask = channel_codes(2000, density, seed=1) != 0
    drawn = drawn_masks(mask, "marginal", 2)
    wanted = mask.mean(axis=0)
    assert (abs(drawn.mean(axis=0) - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / 2000)).all()
    assert not drawn[:, 0].any() and drawn[:, -1].all()


def test_marginal_forgets_what_tokens_have_in_common():
    """Channels that are all set in the same half of the tokens become independent: none or all is then unheard of."""
    mask = np.zeros((1000, 64), dtype=bool)
    mask[::2] = True
    drawn = drawn_masks(mask, "marginal", 3)
    assert np.ptp(mask.sum(axis=1)) == 64
    assert abs(drawn.sum(axis=1).mean() - 32) < 0.7  # 5 standard errors: 5·4/√1000
    assert 3.5 < drawn.sum(axis=1).std() < 4.5  # √(64·¼) = 4 for independent channels


def test_token_has_the_density_of_each_token():
    density = np.linspace(0, 1, 301)
    mask = channel_codes(2000, density, seed=11).T != 0
    drawn = drawn_masks(mask, "token", 12)
    wanted = mask.mean(axis=1)
    assert (abs(drawn.mean(axis=1) - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / 2000)).all()
    assert not drawn[0].any() and drawn[-1].all()


def test_token_forgets_what_channels_have_in_common():
    """Half of the channels are always set, the others never: every channel then has the density of the tokens, ½."""
    mask = np.zeros((1000, 64), dtype=bool)
    mask[:, ::2] = True
    drawn = drawn_masks(mask, "token", 13)
    assert (abs(drawn.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(1000)).all()


@pytest.mark.parametrize("model", DRAWN_MODELS)
def test_certain_masks_are_not_left_to_chance(model):
    for certain in (np.zeros((7, 9), dtype=bool), np.ones((7, 9), dtype=bool)):
        np.testing.assert_array_equal(drawn_masks(certain, model, 0), certain)
    assert drawn_masks(np.zeros((0, 9), dtype=bool), model, 0).shape == (0, 9)


def test_drawn_codes_let_chance_decide_what_is_kept():
    """8:16 of values without zeros keeps every position of a group equally often, not the lowest ones."""
    x = codes((500, 16), "largest", seed=4)
    kept = reference.kept_nonzeros(Masks("iid", "site", 0).codes(x), Pattern("8:16"))
    assert (abs(kept.mean(axis=0) - 0.5) < 0.12).all()  # 5 standard errors are 0.112; ties lean to the lower


@given(all_codes, patterns())
def test_real_masks_are_the_codes(x, text):
    assert Masks().codes(x) is x
    np.testing.assert_array_equal(Masks().kept(x, Pattern(text)), reference.kept_nonzeros(x, Pattern(text)))


def test_drawn_codes_are_codes():
    x = channel_codes(300, np.linspace(0, 1, 300), seed=5)
    for model in DRAWN_MODELS:
        drawn = Masks(model, "site", 0).codes(x)
        assert drawn.dtype == np.int8 and drawn.min() == 0 and drawn.max() == 127
        assert abs(np.count_nonzero(drawn) - np.count_nonzero(x)) < 5 * np.sqrt(x.size / 4)


# A site's draw is its own


def test_a_draw_depends_on_site_and_seed_alone():
    x = channel_codes(50, np.full(40, 0.5), seed=6)

    def draw(site: str, seed: int) -> bytes:
        return Masks("marginal", site, seed).codes(x).tobytes()

    first = draw("layers.0", 0), draw("layers.1", 0)
    assert (draw("layers.1", 0), draw("layers.0", 0)) == first[::-1]
    assert len({*first, draw("layers.0", 1), draw("layers.1", 1)}) == 4


def test_a_draw_is_the_same_everywhere():
    """The figures of a report hang on these bits; the generator is NumPy's PCG64, seeded from CRC-32 of the site."""
    mask = np.full((1, 16), False)
    mask[:, ::2] = True
    drawn = Masks("iid", "layers.0.mlp.down_proj", 7).kept(mask.astype(np.int8), None)
    assert np.packbits(drawn).tobytes().hex() == "3752"


# The three uses


def relative_difference(cycles: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Of the mean window times of two machines: others / cycles − 1, and its standard error over the windows."""
    error = np.sqrt(cycles.var(ddof=1) / cycles.size + others.var(ddof=1) / others.size)
    return others.mean() / cycles.mean() - 1, error / cycles.mean()


@pytest.mark.parametrize("text", ["8:16", "16:16"])
def test_independent_codes_take_as_long_as_their_iid_stand_in(text):
    x = channel_codes(2048, np.full(2048, 0.3), seed=8)
    for windows, machine in ((elastic_windows, ELASTIC), (unstructured_windows, UNSTRUCTURED)):
        real, iid = (windows(x, text, **machine, masks=Masks(model, "site", 0)).cycles for model in ("real", "iid"))
        difference, error = relative_difference(real, iid)
        assert abs(difference) < 5 * error < 0.03


def test_unequal_channels_take_longer_than_iid_masks_say():
    """The groups of one slice in sixteen are fuller than all others, and independent of each other.

    The marginal model knows all of that; `iid` spreads the work, and believes in a third of the cycles."""
    x = channel_codes(2048, np.repeat(np.tile([0.7] + [0.05] * 15, 8), 16), seed=9)
    real, iid, marginal = (
        elastic_windows(x, "16:16", **ELASTIC, masks=Masks(model, "site", 0)).cycles
        for model in ("real", "iid", "marginal")
    )
    difference, error = relative_difference(real, marginal)
    assert abs(difference) < 5 * error < 0.03
    assert iid.sum() < 0.4 * real.sum()


def test_unequal_tokens_take_longer_than_iid_and_marginal_masks_say():
    """One token in 32 is dense, the others nearly empty, all channels alike: a panel waits for its dense token.

    The token model knows that; the other two spread its non-zeros over all rows."""
    x = channel_codes(512, np.tile([0.9] + [0.05] * 31, 64), seed=15).T.copy()
    real, *drawn = (
        unstructured_windows(x, "16:16", **UNSTRUCTURED, masks=Masks(model, "site", 0)).cycles for model in MASK_MODELS
    )
    iid, marginal, token = drawn
    difference, error = relative_difference(real, token)
    assert abs(difference) < 5 * error < 0.03
    assert iid.sum() < 0.4 * real.sum() and marginal.sum() < 0.4 * real.sum()


def test_masks_run_on_drawn_codes():
    x, masks = channel_codes(70, np.full(90, 0.4), seed=10), Masks("iid", "site", 3)
    drawn = masks.codes(x)
    for windows, machine in ((elastic_windows, ELASTIC), (unstructured_windows, UNSTRUCTURED)):
        got, expected = windows(x, "2:4", **machine, masks=masks), windows(drawn, "2:4", **machine)
        np.testing.assert_array_equal(got.cycles, expected.cycles)


def test_needed_features_with_a_pencil():
    x = np.array([[3, 2, 1, 0], [0, 0, 1, 0]], dtype=np.int8)
    assert needed_features(x).tolist() == [True, True, True, False]
    assert needed_features(x, "1:2").tolist() == [True, False, True, False]
    assert needed_features(x, "2:2").tolist() == needed_features(x, None).tolist()


@given(all_codes, patterns())
def test_needed_features_are_the_union_over_tokens(x, text):
    expected = reference.kept_nonzeros(x, Pattern(text)).any(axis=0)
    np.testing.assert_array_equal(needed_features(x, text), expected)


def test_needed_features_of_drawn_masks():
    """Two tokens that need the same half of 4,000 features. iid, token: 1 − ½·½ of them; marginal: as it was."""
    x = np.tile(np.arange(4000) % 2, (2, 1)).astype(np.int8)
    real, iid, marginal, token = (needed_features(x, masks=Masks(model, "site", 0)) for model in MASK_MODELS)
    assert real.sum() == 2000
    assert abs(iid.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)
    assert abs(token.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)
    np.testing.assert_array_equal(marginal, real)


def test_no_tokens_need_nothing():
    x = np.zeros((0, 8), dtype=np.int8)
    assert not any(needed_features(x, "2:4", masks=Masks(model, "site", 0)).any() for model in MASK_MODELS)


# What is refused


@pytest.mark.parametrize("model", ["real", "uniform"])
def test_only_statistics_are_drawn_from(model):
    with pytest.raises(AccelSimError, match=f"masks {model!r}: expected one of iid, marginal, token"):
        drawn_masks(np.ones((2, 2), dtype=bool), model, 0)


def test_unknown_model():
    with pytest.raises(AccelSimError, match="masks 'uniform': expected one of real, iid, marginal, token"):
        Masks("uniform")


@pytest.mark.parametrize("seed", [-1, None, 0.5])
def test_seeds_are_whole_numbers(seed):
    with pytest.raises(AccelSimError, match=r"seed .*expected whole numbers of at least 0"):
        drawn_masks(np.ones((2, 2), dtype=bool), "iid", seed)
    with pytest.raises(AccelSimError, match=r"seed .*expected whole numbers of at least 0"):
        Masks("iid", "site", seed)


def test_masks_are_bool():
    with pytest.raises(AccelSimError, match="mask: got int8"):
        drawn_masks(np.ones((2, 2), dtype=np.int8), "iid", 0)


def test_two_levels_are_refused():
    with pytest.raises(AccelSimError, match="one level"):
        needed_features(np.zeros((2, 8), dtype=np.int8), "1:2 of 2:4")
