"""How much of a language model a recipe leaves: perplexity, divergence from the dense model, greedy text, benchmarks.

    from accel_sim.evaluation import evaluate
    results = evaluate(model, tokenizer, [load_recipe("naive_8x16")])

What runs a model needs the `llm` extra, and is imported when it is first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from accel_sim.evaluation.corpora import Corpora, corpora_from_files, standard_corpora
from accel_sim.evaluation.grid import load_grid
from accel_sim.evaluation.result import Difference, Evaluation, paired, read_evaluations
from accel_sim.evaluation.settings import EvaluationSettings

__all__ = [
    "Corpora",
    "Difference",
    "Evaluation",
    "EvaluationSettings",
    "Evaluator",
    "corpora_from_files",
    "evaluate",
    "load_grid",
    "paired",
    "read_evaluations",
    "standard_corpora",
]

_NEED_TORCH = frozenset({"Evaluator", "evaluate"})


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(import_module("accel_sim.evaluation.run"), name)
    raise AttributeError(f"module 'accel_sim.evaluation' has no attribute {name!r}")
