"""What a live model pays for being sparsified, against its own dense forward pass, in one run.

    python -m benchmarks.sparsify [--rounds 3] [--json FILE]

The model is the default one, SmolLM2-135M in float32, the text the language reference of CPython, 512 tokens at a time.
The dense and the sparsified model share their weights and take turns in every round, and the fastest round of each
counts, so that a busy machine hits both alike; one round before compiles and warms. Five minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel_sim.sparsify.kept import parse_kept
from accel_sim.sparsify.recipe import load_recipe, recipe_from_mapping
from benchmarks.progress import say
from benchmarks.rows import Row, Wanted, markdown, write_json
from benchmarks.versions import versions

if TYPE_CHECKING:
    import torch

GROUP = "A sparsified model: SmolLM2-135M, 512 tokens, float32"
COMMAND = "python -m benchmarks.sparsify"
PATTERNS = ("2:4", "4:8", "8:16", "16:32")
TWICE = Wanted("most", 2)
TOKENS, CALIBRATION_SEQUENCES = 512, 4
PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 4, 64, 64
OTHERS: dict[str, dict[str, Any]] = {
    "unstructured 50%": {"pattern": "unstructured 50%"},
    "threshold 50%": {"pattern": "threshold 50%"},
    "W8A8 alone": {"precision": "w8a8"},
    "8:16 of W8A8": {"pattern": "8:16", "precision": "w8a8"},
    "8:16 of W8A8, scored as codes": {"pattern": "8:16", "precision": "w8a8", "score": "codes"},
    "8:16 by Amber's robust norm": {"pattern": "8:16", "criterion": "amber_robust"},
    "8:16 by CLACT": {"pattern": "8:16", "criterion": "clact"},
    "8:16 by CLACT, running": {"pattern": "8:16", "criterion": "clact_running"},
    "8:16 with the median shift": {"pattern": "8:16", "shift": "median"},
    "8:16 with the mean shift": {"pattern": "8:16", "shift": "mean"},
    "8:16 with the static shift": {"pattern": "8:16", "shift": "static"},
    "8:16 with the variance scale": {"pattern": "8:16", "variance": True},
    "8:16 with scale and shift of outputs": {"pattern": "8:16", "output": "scale_and_shift"},
    "8:16 behind smoothing": {"pattern": "8:16", "smoothing": {"alpha": 0.5}},
    "8:16 and rank 64": {"pattern": "8:16", "low_rank": {"rank": 64}},
    "8:16 of rotated activations": {"pattern": "8:16", "rotation": "activations"},
}
"""One treatment each, so that what it adds to magnitude 8:16 can be read off."""
FITTED = ("amber_8x16", "outstanding_8x16", "sparsegpt_8x16")
"""Shipped recipes whose fitting is timed: weights alone, activation maxima, second moments."""
LEARNED: dict[str, dict[str, Any]] = {
    "a shift of the inputs (L-PTS)": {"pattern": "8:16", "shift": "learned"},
    "scale and shift of the outputs (LS, L-PTS)": {"pattern": "8:16", "output": "scale_and_shift"},
    "low-rank factors (R-Sparse, rank 64)": {"pattern": "8:16", "low_rank": {"rank": 64, "factors": "fitted"}},
}
"""What is learned for every linear."""
LONGEST_LEARNING = 600.0
"""Seconds."""


def rows(rounds: int = 3) -> Iterator[Row]:
    """All rows, of the default model. Raises AccelSimError where it cannot be loaded."""
    from accel_sim.capture.load import load_model
    from accel_sim.capture.options import CaptureOptions
    from accel_sim.capture.text import cut_prompts, standard_texts

    loaded = load_model(CaptureOptions(out=Path(), compute_dtype="float32", device="cpu"), say)
    prose = standard_texts()[:1]
    cuts = cut_prompts(loaded.tokenizer, prose, 1 + CALIBRATION_SEQUENCES, TOKENS)
    yield from rows_of(loaded.model, *(cut.token_ids for cut in cuts), rounds=rounds)


def rows_of(model: Any, text: Any, *calibration: Any, rounds: int) -> Iterator[Row]:
    """All rows of one model: one sequence of token ids int64 [T], and more of the same length to fit recipes to."""
    import torch

    ids = torch.from_numpy(text)[None]
    fitted_to = torch.stack([torch.from_numpy(each) for each in calibration])
    bench = _Bench(model, ids, fitted_to, rounds)
    yield from bench.forwards()
    yield from bench.selections()
    yield from bench.metrics()
    yield from bench.generation()
    yield from bench.fitting()
    yield from bench.learning()


class _Bench:
    def __init__(self, model: Any, ids: torch.Tensor, calibration: torch.Tensor, rounds: int) -> None:
        self.dense, self.sparse = model, twin(model)
        self.ids, self.calibration, self.rounds = ids, calibration, rounds

    def forwards(self) -> Iterator[Row]:
        for pattern in PATTERNS:
            yield self._forward(f"forward pass, magnitude {pattern} on every linear", {"pattern": pattern}, TWICE)
        for name, treatment in OTHERS.items():
            yield self._forward(f"forward pass, {name}", treatment)

    def selections(self) -> Iterator[Row]:
        """Every activation that linears of the model read, each once: selection alone."""
        import torch

        from accel_sim.sparsify.torch_selection import prune_tensor

        activations = activations_of(self.dense, self.ids)
        millions = sum(x.numel() for x in activations) / 1e6
        for text in (*PATTERNS, "unstructured 50%"):
            kept = parse_kept(text)

            def peer(kept: Any = kept) -> None:
                for x in activations:
                    if hasattr(kept, "m"):
                        missing = -x.shape[1] % kept.m
                        groups = torch.nn.functional.pad(x.abs(), (0, missing)).unflatten(1, (-1, kept.m))
                        groups.topk(kept.n, dim=2)
                    else:
                        x.abs().topk(kept.kept_of(x.shape[1]), dim=1)

            ours, theirs = self._seconds(lambda kept=kept: [prune_tensor(x, kept) for x in activations], peer)
            name = f"selection alone, {text}, {millions:.1f} M activations, against torch.topk"
            yield self._row(name, ours, theirs, faster=True)

    def metrics(self) -> Iterator[Row]:
        """Perplexity, divergence and agreement of one window's logits, against the pass that makes them."""
        from accel_sim.evaluation.metrics import compare_logits

        logits = forward(self.dense, self.ids)[0]
        ours, dense = self._seconds(lambda: compare_logits(logits, logits, self.ids[0]), self._dense_forward)
        yield self._row("metrics of one window, against a dense forward pass", ours, dense)

    def generation(self) -> Iterator[Row]:
        from accel_sim.evaluation.generation import continue_greedily

        prompts = self.calibration[:, :PROMPT_TOKENS][:PROMPTS]
        new = min(NEW_TOKENS, self.ids.shape[1] - prompts.shape[1])
        name = f"{new} tokens behind {len(prompts)} prompts of {prompts.shape[1]}"
        for pattern in ("8:16", "2:4"):
            with _Sparsified(self.sparse, {"pattern": pattern}, self.calibration):
                ours, dense = self._seconds(
                    lambda: continue_greedily(self.sparse, prompts, new),
                    lambda: continue_greedily(self.dense, prompts, new),
                    rounds=min(self.rounds, 3),
                )
            yield self._row(f"greedy generation, magnitude {pattern}, {name}", ours, dense)

    def fitting(self) -> Iterator[Row]:
        """What comes once, before a recipe runs, against a dense forward pass over as many tokens. Timed once."""
        import accel_sim

        begin = time.perf_counter()
        forward(self.dense, self.calibration)
        dense = time.perf_counter() - begin
        for recipe in FITTED:
            begin = time.perf_counter()
            try:
                accel_sim.sparsify(self.sparse, load_recipe(recipe), self.calibration)
                seconds = time.perf_counter() - begin
            finally:
                accel_sim.sparsify.remove(self.sparse)
            tokens = f"{self.calibration.numel():,} tokens of calibration"
            yield self._row(f"fitting {recipe} to {tokens}, against a dense forward pass over them", seconds, dense)

    def learning(self) -> Iterator[Row]:
        """Learned methods on every linear, against the time that they may take. Timed once."""
        for name, treatment in LEARNED.items():
            begin = time.perf_counter()
            with _Sparsified(self.sparse, treatment, self.calibration):
                seconds = time.perf_counter() - begin
            tokens = f"{self.calibration.numel():,} tokens of calibration"
            yield self._row(f"learning {name} from {tokens}", seconds, LONGEST_LEARNING, Wanted("most", 1))

    def _forward(self, name: str, treatment: dict[str, Any], wanted: Wanted | None = None) -> Row:
        with _Sparsified(self.sparse, treatment, self.calibration):
            ours, dense = self._seconds(lambda: forward(self.sparse, self.ids), self._dense_forward)
        return self._row(name, ours, dense, wanted)

    def _dense_forward(self) -> None:
        forward(self.dense, self.ids)

    def _seconds(
        self, ours: Callable[[], object], peer: Callable[[], object], rounds: int | None = None
    ) -> tuple[float, float]:
        """Wall time of the fastest round of each, in turns; the first round is not counted."""
        taken: tuple[list[float], list[float]] = [], []
        for _ in range((rounds or self.rounds) + 1):
            for work, times in zip((ours, peer), taken, strict=True):
                begin = time.perf_counter()
                work()
                times.append(time.perf_counter() - begin)
        return min(taken[0][1:]), min(taken[1][1:])

    def _row(self, name: str, ours: float, peer: float, wanted: Wanted | None = None, faster: bool = False) -> Row:
        import torch
        import transformers

        say(f"{name}: {ours:.3f} s / {peer:.3f} s = {ours / peer:.2f}")
        used = versions(torch=torch.__version__, transformers=transformers.__version__)
        return Row(GROUP, name, ours, peer, "s", COMMAND, used, faster=faster, wanted=wanted)


class _Sparsified:
    """While active, `model` runs one treatment everywhere, fitted to `calibration` only where it must be."""

    def __init__(self, model: Any, treatment: dict[str, Any], calibration: torch.Tensor) -> None:
        from accel_sim.sparsify.fitting import needs_calibration

        self.model = model
        self.recipe = recipe_from_mapping("benchmark", {"default": treatment})
        self.calibration = calibration if needs_calibration(self.recipe.default) else None

    def __enter__(self) -> None:
        import accel_sim

        accel_sim.sparsify(self.model, self.recipe, self.calibration)

    def __exit__(self, *_: object) -> None:
        import accel_sim

        accel_sim.sparsify.remove(self.model)


def twin(model: Any) -> Any:
    """A second model on the same weights, so that one may be sparsified while the other stays dense."""
    import copy

    return copy.deepcopy(model, {id(each): each for each in model.parameters()})


def forward(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits [B, T, V]."""
    import torch

    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def activations_of(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """What the linears of all blocks read, [T, K] each, once where several read the same."""
    from accel_sim.capture.projections import decoder_blocks, find_projections
    from accel_sim.sparsify.sites import projections_by_site

    parameters = tuple(find_projections(model, decoder_blocks(model)))
    read = [site[0].activation for site in projections_by_site(model, parameters, ids)]
    return [x.reshape(-1, x.shape[-1]) for x in read]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    made = list(rows(arguments.rounds))
    print(markdown(made))
    if arguments.json:
        write_json(made, arguments.json)


if __name__ == "__main__":
    main()
