"""A tiny model with a tokenizer of one token a byte, and short texts: what the evaluation tests share."""

from __future__ import annotations

import numpy as np
import transformers
from capture_helpers import tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from accel_sim.capture.text import Text
from accel_sim.evaluation import Corpora, EvaluationSettings

SETTINGS = {
    "tokens": 64, "window": 32, "calibration_tokens": 96, "block": 16, "resamples": 200, "prompts": 2,
    "prompt_tokens": 8, "new_tokens": 6,
}  # fmt: skip


def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def byte_model(name: str = "llama", **changes) -> transformers.PreTrainedModel:
    return tiny_model(name, vocab_size=256, **changes)


def words(seed: int, lines: int = 12) -> str:
    """Lines of random letters, different for every seed."""
    letters = np.random.default_rng(seed).integers(97, 123, (lines, 20)).astype(np.uint8)
    return "".join(line.tobytes().decode() + "\n" for line in letters)


def corpora() -> Corpora:
    evaluation = {"letters": Text("letters.txt", words(1)), "others": Text("others.txt", words(2))}
    return Corpora(evaluation, (Text("third.txt", words(3)), Text("fourth.txt", words(4))))


def settings(**changes) -> EvaluationSettings:
    return EvaluationSettings(**(SETTINGS | changes))
