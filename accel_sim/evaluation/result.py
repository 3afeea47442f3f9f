"""What was measured of one recipe on one kind of text, and how two recipes differ on the same text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from accel_sim.errors import AccelSimError
from accel_sim.evaluation.bootstrap import mean_interval

DENSE = "dense"
"""What results call the model as it is."""

Interval = tuple[float, float]


class Blocks(BaseModel):
    """Sums over blocks of consecutive tokens: what is resampled, and what pairs of recipes are compared by."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    strata: tuple[int, ...]
    """How many of the blocks each kind of text has, in order."""
    tokens: tuple[int, ...]
    """That were predicted, of each block."""
    nll: tuple[float, ...]
    """−Σ log p(token) of each block, in nats."""
    kl: tuple[float, ...]
    """Σ KL(dense ‖ sparse) of each block, in nats."""
    agreements: tuple[int, ...]
    """Tokens of each block for which both models find the same token likeliest."""

    @classmethod
    def of_kinds(cls, kinds: Sequence[Sequence[Blocks]]) -> Blocks:
        """All windows' blocks; those of one kind of text are one stratum."""
        names = cls.model_fields.keys() - {"strata"}
        windows = [window for kind in kinds for window in kind]
        sums = {name: tuple(value for window in windows for value in getattr(window, name)) for name in names}
        return cls(strata=tuple(sum(len(window.tokens) for window in kind) for kind in kinds), **sums)


class Evaluation(BaseModel):
    """One recipe on one kind of text, or on all kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    recipe: str
    text_kind: str
    """`all` for the kinds together."""
    tokens: int
    """That were predicted."""
    perplexity: float
    """exp(mean −log p) over the tokens."""
    perplexity_ci: Interval
    """95 %, from a bootstrap over blocks of tokens."""
    over_dense: float
    """Perplexity over the dense model's, less one."""
    over_dense_ci: Interval
    """95 %; both models on the same blocks in every resample, so narrower than the perplexities' intervals."""
    kl: float
    """Mean KL(dense ‖ sparse) of the distribution over the vocabulary, per token, in nats."""
    kl_ci: Interval
    top1_agreement: float
    """Share of the tokens for which both models find the same token likeliest."""
    greedy_agreement: float | None = None
    """Mean over the prompts of the share of the greedy continuation that comes before the first token in which it
    differs from the dense model's."""
    codes_selected_differently: float | None = None
    """Of elements whose INT8 code is not zero, the share that scores of codes select and scores of floats do not, or
    the other way round; None for recipes that score floats."""
    tasks: Mapping[str, Mapping[str, float]] | None = None
    """Metrics of lm-eval by task; of `all` alone."""
    text_sha256: str
    """Of the cuts that were evaluated."""
    blocks: Blocks


@dataclass(frozen=True)
class Difference:
    """Mean negative log-likelihood of one recipe less another's, in nats a token."""

    mean: float
    low: float
    high: float
    """The 95 % interval is from low to high."""

    @property
    def perplexity_ratio(self) -> float:
        return exp(self.mean)


def paired(one: Evaluation, other: Evaluation, resamples: int = 2000, seed: int = 0) -> Difference:
    """`one` less `other`, bootstrapped over the same blocks of both, since texts differ more than recipes do.

    Raises AccelSimError unless both were measured on the same blocks of the same text.
    """
    if (one.text_sha256, one.blocks.tokens) != (other.text_sha256, other.blocks.tokens):
        raise AccelSimError(
            f"{one.recipe} on {one.text_kind} and {other.recipe} on {other.text_kind}: measured on different text; "
            "expected evaluations of the same windows"
        )
    sums = np.subtract(one.blocks.nll, other.blocks.nll)
    tokens = np.array(one.blocks.tokens)
    low, high = mean_interval(sums, tokens, one.blocks.strata, resamples, seed)
    return Difference(float(sums.sum() / tokens.sum()), low, high)


def evaluation_of(
    recipe: str,
    text_kind: str,
    text_sha256: str,
    blocks: Blocks,
    dense: Blocks,
    resamples: int,
    seed: int,
    greedy_agreement: float | None = None,
    codes_selected_differently: float | None = None,
    tasks: Mapping[str, Mapping[str, float]] | None = None,
) -> Evaluation:
    """All figures of a recipe from its blocks and the dense model's, which are of the same tokens."""
    tokens = np.array(blocks.tokens)

    def mean(sums: Sequence[float] | np.ndarray) -> tuple[float, Interval]:
        sums = np.asarray(sums, np.float64)
        return float(sums.sum() / tokens.sum()), mean_interval(sums, tokens, blocks.strata, resamples, seed)

    nll, nll_ci = mean(blocks.nll)
    excess, excess_ci = mean(np.subtract(blocks.nll, dense.nll))
    kl, kl_ci = mean(blocks.kl)
    return Evaluation(
        recipe=recipe,
        text_kind=text_kind,
        tokens=int(tokens.sum()),
        perplexity=exp(nll),
        perplexity_ci=_exp(nll_ci),
        over_dense=exp(excess) - 1,
        over_dense_ci=tuple(each - 1 for each in _exp(excess_ci)),
        kl=kl,
        kl_ci=kl_ci,
        top1_agreement=sum(blocks.agreements) / int(tokens.sum()),
        greedy_agreement=greedy_agreement,
        codes_selected_differently=codes_selected_differently,
        tasks=tasks,
        text_sha256=text_sha256,
        blocks=blocks,
    )


def _exp(interval: Interval) -> Interval:
    return exp(interval[0]), exp(interval[1])


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations of a JSON file that `accel-sim evaluate` wrote. Raises AccelSimError for any other file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("not a list of objects")
        known = Evaluation.model_fields
        return [Evaluation.model_validate({key: row[key] for key in known if key in row}) for row in rows]
    except OSError as error:
        raise AccelSimError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    except ValueError as error:
        reason = str(error)
    raise AccelSimError(f"{path}: expected evaluations as accel-sim evaluate writes them: {reason}")
