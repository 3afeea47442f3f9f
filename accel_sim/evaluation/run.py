"""Evaluate recipes on one model: the dense model once, then every recipe on the same windows and prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import accel_sim
from accel_sim import sparsify
from accel_sim.capture.projections import check_positions
from accel_sim.errors import AccelSimError
from accel_sim.evaluation.corpora import ALL, Corpora, standard_corpora
from accel_sim.evaluation.dense import DenseReference, window_logits
from accel_sim.evaluation.fingerprint import model_fingerprint
from accel_sim.evaluation.generation import common_shares, continue_greedily
from accel_sim.evaluation.journal import Journal
from accel_sim.evaluation.metrics import compare_logits
from accel_sim.evaluation.predictions import mean_quality
from accel_sim.evaluation.result import DENSE, Blocks, Evaluation, evaluation_of
from accel_sim.evaluation.settings import EvaluationSettings
from accel_sim.evaluation.tasks import TaskSettings, run_task
from accel_sim.evaluation.windows import cut_corpora
from accel_sim.sparsify import Recipe
from accel_sim.sparsify.context import Predictions, Selections
from accel_sim.sparsify.contextual.metrics import PredictorQuality
from accel_sim.sparsify.fitting import needs_calibration
from accel_sim.sparsify.live import sparsifier_of


def evaluate(
    model: Any,
    tokenizer: Any,
    recipes: Iterable[Recipe],
    corpora: Corpora | None = None,
    settings: EvaluationSettings | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[Evaluation]:
    """The dense model and every recipe, each on every kind of text and on all together, in that order.

    `model` and `tokenizer` are a causal language model of transformers, which is given back dense. See
    :class:`Evaluator` for what is raised, and for evaluating one recipe after another as they come up.
    """
    evaluator = Evaluator(model, tokenizer, corpora, settings, on_step=on_step)
    found = evaluator.dense()
    for recipe in recipes:
        found += evaluator.evaluate(recipe)
    return found


class Evaluator:
    """One model and one set of texts, on which recipes are measured one by one; the dense model is run once.

    Raises AccelSimError for texts that are too short, a window longer than the model's positions, a recipe that does
    not fit the model, logits that are not finite, and a journal of something else.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        corpora: Corpora | None = None,
        settings: EvaluationSettings | None = None,
        tasks: TaskSettings | None = None,
        journal: Path | None = None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`journal` is a file that keeps every finished step, so that an interrupted evaluation goes on; `on_step` is
        called before every step with what it is (`steps` of them a recipe)."""
        self._model, self._tokenizer = model, tokenizer
        self.settings = settings or EvaluationSettings()
        self._tasks = tasks
        if sparsifier_of(model) is not None:
            raise AccelSimError("the model is sparsified: expected it dense, since recipes are compared with that")
        self._check_positions()
        self.cuts = cut_corpora(tokenizer, corpora or standard_corpora(), self.settings)
        ids = self.cuts.calibration_ids
        self._calibration = None if ids is None else torch.from_numpy(ids)
        self._windows = [torch.from_numpy(window.token_ids).to(model.device) for window in self.cuts.windows]
        self.fingerprint = model_fingerprint(model)
        self._findings = _Findings(Journal(journal, self._identity()) if journal else None)
        self.on_step = on_step
        self._reference = DenseReference(model)
        self._dense: list[Blocks] | None = None

    @property
    def steps(self) -> int:
        """Of each recipe, and of the dense model."""
        return len(self._windows) + self.settings.generation + (len(self._tasks.names) if self._tasks else 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know about how they came about."""
        if not self._reference.keeps_logits:
            return ()
        name = type(self._model).__name__
        return (f"{name}: its output head cannot be run on stored hidden states, so all dense logits were kept",)

    def dense(self) -> list[Evaluation]:
        """The model as it is."""
        blocks, shares = self._dense_blocks(), None
        if self.settings.generation:
            self.on_step(f"{DENSE}: greedy text")
            self._dense_continuations()
            shares = [1.0] * len(self._prompts)
        return self._results(DENSE, blocks, shares, tasks=self._task_metrics(DENSE, DENSE, lambda: None))

    def evaluate(self, recipe: Recipe) -> list[Evaluation]:
        """One recipe on every kind of text, and on all of them together."""
        key = _key(recipe)
        with self._sparsified_when_needed(recipe) as sparsified:
            windows = [self._window(recipe, key, index, sparsified) for index in range(len(self._windows))]
            shares = self._shares(recipe, key, sparsified) if self.settings.generation else None
            tasks = self._task_metrics(recipe.name, key, sparsified)
        blocks = [Blocks.model_validate(window["blocks"]) for window in windows]
        return self._results(recipe.name, blocks, shares, [window["selections"] for window in windows], tasks)

    def predictions(self, recipe: Recipe) -> dict[str, PredictorQuality]:
        """By gate projection, how well a recipe's predictors predict on the first window of each kind of text: means
        over the windows. What a gate reads there is what the recipe makes of the layers before it."""
        self.on_step(f"{recipe.name}: predictors")
        with self._sparsified_when_needed(recipe) as sparsified:
            found = self._findings.get(f"{_key(recipe)} predictions", lambda: self._measured_predictions(sparsified))
        return {name: PredictorQuality(**quality) for name, quality in found.items()}

    def _measured_predictions(self, sparsified: Callable[[], None]) -> dict[str, dict[str, float | None]]:
        sparsified()
        collected: Predictions = {}
        sparsifier = sparsifier_of(self._model)
        sparsifier.predictions = collected
        try:
            for index in range(0, len(self._windows), self.settings.windows):
                window_logits(self._model, self._windows[index])
        finally:
            sparsifier.predictions = None
        return {name: asdict(mean_quality(qualities)) for name, qualities in collected.items()}

    @contextmanager
    def _sparsified_when_needed(self, recipe: Recipe) -> Iterator[Callable[[], None]]:
        """A function that sparsifies the model, once; a recipe whose steps are all in the journal is never fitted."""
        done = False

        def sparsified() -> None:
            nonlocal done
            if not done:
                # What needs the dense model comes before.
                self._dense_logits(len(self._windows) - 1)
                if self.settings.generation:
                    self._dense_continuations()
                done = True
                fitted = any(map(needs_calibration, recipe.treatments))
                sparsify(self._model, recipe, calibration=self._calibration if fitted else None)

        try:
            yield sparsified
        finally:
            if done:
                sparsify.remove(self._model)

    def _window(self, recipe: Recipe, key: str, index: int, sparsified: Callable[[], None]) -> dict[str, Any]:
        kind = self.cuts.windows[index].kind
        self.on_step(f"{recipe.name}: {kind}")

        def measure() -> dict[str, Any]:
            sparsified()
            with _counted_selections(self._model) as selections:
                logits = window_logits(self._model, self._windows[index])
            measures = compare_logits(self._dense_logits(index), logits, self._windows[index])
            blocks = measures.blocks(self.settings.block)
            _check_finite(blocks, f"recipe {recipe.name}: window {index} ({kind})")
            return {"blocks": blocks.model_dump(), "selections": [selections.elements, selections.differing]}

        return self._findings.get(f"{key} window {index}", measure)

    def _shares(self, recipe: Recipe, key: str, sparsified: Callable[[], None]) -> list[float]:
        """Of each prompt's continuation, what comes before it leaves the dense model's."""
        self.on_step(f"{recipe.name}: greedy text")

        def measure() -> list[list[int]]:
            sparsified()
            return self._continuations()

        found = self._findings.get(f"{key} {self._generation_key}", measure)
        return common_shares(torch.tensor(self._dense_continuations()), torch.tensor(found))

    def _task_metrics(self, name: str, key: str, sparsified: Callable[[], None]) -> dict[str, dict[str, float]] | None:
        if self._tasks is None:
            return None
        found = {}
        for task in self._tasks.names:
            self.on_step(f"{name}: {task}")

            def measure(task: str = task) -> dict[str, float]:
                sparsified()
                return run_task(self._model, self._tokenizer, task, self._tasks)

            found[task] = self._findings.get(f"{key} task {task} {self._tasks.key}", measure)
        return found

    def _dense_blocks(self) -> list[Blocks]:
        if self._dense is None:
            self._dense = []
            for index, window in enumerate(self.cuts.windows):
                self.on_step(f"{DENSE}: {window.kind}")
                found = self._findings.get(f"{DENSE} window {index}", lambda i=index: self._dense_window(i))
                self._dense.append(Blocks.model_validate(found))
        return self._dense

    def _dense_window(self, index: int) -> dict[str, Any]:
        logits = self._dense_logits(index)
        blocks = compare_logits(logits, logits, self._windows[index]).blocks(self.settings.block)
        _check_finite(blocks, f"the dense model: window {index} ({self.cuts.windows[index].kind})")
        return blocks.model_dump()

    def _dense_logits(self, index: int) -> torch.Tensor:
        """[T, V]; the model must be dense when a window is asked for the first time."""
        while len(self._reference) <= index:
            self._reference.add(self._windows[len(self._reference)])
        return self._reference.logits(index)

    def _dense_continuations(self) -> list[list[int]]:
        return self._findings.get(f"{DENSE} {self._generation_key}", self._continuations)

    def _continuations(self) -> list[list[int]]:
        """Token ids that the model, as it is now, adds to each prompt."""
        length = self.settings.prompt_tokens
        prompts = torch.stack([self._windows[index][start : start + length] for index, start in self._prompts])
        return continue_greedily(self._model, prompts, self.settings.new_tokens).tolist()

    @property
    def _prompts(self) -> list[tuple[int, int]]:
        """Window and first token of every prompt, spread over each kind of text."""
        settings, kinds, chosen = self.settings, len(self.cuts.kinds), self.settings.prompts_of_kind
        places = [divmod(part * settings.tokens // chosen, settings.window) for part in range(chosen)]
        last = settings.window - settings.prompt_tokens
        return [
            (kind * settings.windows + window, min(start, last)) for kind in range(kinds) for window, start in places
        ]

    @property
    def _generation_key(self) -> str:
        settings = self.settings
        return f"generation {settings.prompts} {settings.prompt_tokens} {settings.new_tokens}"

    def _results(
        self,
        recipe: str,
        blocks: Sequence[Blocks],
        shares: Sequence[float] | None,
        selections: Sequence[Sequence[int]] = (),
        tasks: dict[str, dict[str, float]] | None = None,
    ) -> list[Evaluation]:
        """Of every kind of text, and of all, from what each window and each prompt gave."""
        kinds, windows, dense = self.cuts.kinds, self.cuts.windows, self._dense_blocks()
        found = []
        for name, members in (*((kind, (kind,)) for kind in kinds), (ALL, kinds)):
            by_kind = [[i for i, window in enumerate(windows) if window.kind == kind] for kind in members]
            counted = [selections[i] for i in chain(*by_kind)] if selections else []
            elements, differing = sum(each[0] for each in counted), sum(each[1] for each in counted)
            kept = [
                share for share, (i, _) in zip(shares or (), self._prompts, strict=False) if windows[i].kind in members
            ]
            found.append(
                evaluation_of(
                    recipe,
                    name,
                    self.cuts.sha256(*members),
                    Blocks.of_kinds([[blocks[i] for i in indices] for indices in by_kind]),
                    Blocks.of_kinds([[dense[i] for i in indices] for indices in by_kind]),
                    self.settings.resamples,
                    self.settings.seed,
                    greedy_agreement=fmean(kept) if kept else None,
                    codes_selected_differently=differing / elements if elements else None,
                    tasks=tasks if name == ALL else None,
                )
            )
        return found

    def _identity(self) -> dict[str, Any]:
        """What windows and continuations depend on, beside the recipe."""
        return {
            "accel_sim": accel_sim.__version__,
            "torch": torch.__version__,
            "model": self.fingerprint,
            "device": self._model.device.type,
            "token_ids": _digest([window.token_ids.tolist() for window in self.cuts.windows]),
            "calibration_ids": _digest([prompt.token_ids.tolist() for prompt in self.cuts.calibration]),
            "block": self.settings.block,
        }

    def _check_positions(self) -> None:
        settings = self.settings
        check_positions(self._model, settings.window, f"--window {settings.window}")
        if settings.generation:
            asked = settings.prompt_tokens + settings.new_tokens
            check_positions(self._model, asked, f"greedy text of {asked} tokens (--no-generation leaves it out)")


class _Findings:
    """A journal, or what stands for one where none is kept."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._found: dict[str, Any] = {}

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """What is known for `key`, measured now if nothing is."""
        known = self._found.get(key) if self._journal is None else self._journal.get(key)
        if known is None:
            known = measure()
            if self._journal is None:
                self._found[key] = known
            else:
                self._journal.add(key, known)
        return known


@contextmanager
def _counted_selections(model: Any) -> Iterator[Any]:
    """Counts how codes and floats select differently, for recipes that score codes."""
    counted, sparsifier = Selections(), sparsifier_of(model)
    sparsifier.selections = counted
    try:
        yield counted
    finally:
        sparsifier.selections = None


def _check_finite(blocks: Blocks, what: str) -> None:
    if not torch.tensor([*blocks.nll, *blocks.kl]).isfinite().all():
        raise AccelSimError(f"{what}: the logits are not finite")


def _key(recipe: Recipe) -> str:
    return _digest({name: each for name, each in recipe.as_mapping().items() if name != "description"})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
