"""Benchmarks by lm-eval (EleutherAI's harness, the `tasks` extra), run on the model as it is now.

One sequence a forward pass: the harness pads the shorter sequences of a batch without telling the model, and padding
must not enter what a recipe works out from a sequence.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accel_sim.errors import AccelSimError

_STDERR = "_stderr"
_REQUESTS = ("loglikelihood", "loglikelihood_rolling", "generate_until")


@dataclass(frozen=True)
class TaskSettings:
    """Which tasks, and how much of them. Raises AccelSimError for values that cannot be."""

    names: tuple[str, ...]
    """As lm-eval calls them, such as arc_easy, or as files in `folder` do."""
    folder: Path | None = None
    """Of task definitions of one's own (lm-eval's YAML), which may read local data."""
    limit: int | None = None
    """Examples of each task; None for all."""

    def __post_init__(self) -> None:
        if not self.names or "" in self.names:
            raise AccelSimError("--tasks: an empty name; expected names of lm-eval's tasks separated by commas")
        if self.folder is not None and not any(self.folder.glob("**/*.yaml")):
            raise AccelSimError(
                f"--tasks-folder {self.folder}: no .yaml file there; expected lm-eval's task definitions"
            )
        if self.limit is not None and self.limit < 1:
            raise AccelSimError(f"--tasks-limit {self.limit}: expected a whole number from 1 on")

    @property
    def key(self) -> str:
        """What the figures of a task depend on, beside its name and the model."""
        definitions = sorted(self.folder.glob("**/*.yaml")) if self.folder else ()
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in definitions)).hexdigest()
        return f"{digest if definitions else 'lm-eval'} {self.limit}"


def require_lm_eval() -> None:
    """Raise AccelSimError unless lm-eval is installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise AccelSimError("--tasks needs lm-eval, not installed here: pip install 'accel_sim[tasks]'")


def run_task(model: Any, tokenizer: Any, name: str, settings: TaskSettings) -> dict[str, float]:
    """The metrics of one task, or of a group of tasks together, by name; standard errors end in `_stderr`.

    Raises AccelSimError for a task that there is not, and whatever keeps lm-eval from running it.
    """
    require_lm_eval()
    try:
        evaluator = importlib.import_module("lm_eval.evaluator")
        harness = importlib.import_module("lm_eval.models.huggingface").HFLM
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        wrapped = harness(pretrained=model, tokenizer=tokenizer, batch_size=1)
        for request in _REQUESTS:  # without bars of its own, also into pipes
            setattr(wrapped, request, partial(getattr(wrapped, request), disable_tqdm=True))
        folder = str(settings.folder) if settings.folder else None
        manager = importlib.import_module("lm_eval.tasks").TaskManager(include_path=folder)
        found = evaluator.simple_evaluate(
            model=wrapped, tasks=[name], task_manager=manager, limit=settings.limit, log_samples=False
        )
        metrics = found["results"][name]
    except Exception as error:  # no such task, no data set, no hub … each of them an error of a library of its own
        reason = next(iter(str(error).splitlines()), "no reason given")
        raise AccelSimError(f"--tasks {name}: lm-eval cannot run it: {type(error).__name__}: {reason}") from error
    return {
        _plain(key): float(value) for key, value in metrics.items() if "," in key and isinstance(value, int | float)
    }


def _plain(key: str) -> str:
    """`acc` of lm-eval's `acc,none`, `exact_match strict-match` of `exact_match,strict-match`; errors' names end in
    `_stderr`."""
    metric, _, post_processing = key.partition(",")
    suffix = _STDERR if metric.endswith(_STDERR) else ""
    words = [metric.removesuffix(_STDERR)] + ([post_processing] if post_processing != "none" else [])
    return " ".join(words) + suffix
