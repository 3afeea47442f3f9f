"""The label of a model that was turned into a ReLU one: what it was made of, how, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from accel_sim.capture.relu_form import LABEL_NAME
from accel_sim.errors import AccelSimError
from accel_sim.evaluation.corpora import ALL
from accel_sim.reluify.checkpoint import RefitError, Sample
from accel_sim.reluify.measure import Measurement


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Form(_Part):
    """What the FFNs compute; see :class:`accel_sim.capture.relu_form.ReluForm`."""

    activation: Literal["relu", "drelu"]
    threshold: float


class ModelSource(_Part):
    """The model that was turned."""

    id: str
    file_sha256: str | None
    """Of the GGUF file, when it was one."""
    fingerprint: str
    """sha256 of the configuration and a sample of the parameters."""


class TextSource(_Part):
    """Part of the text that was learnt from, after what is held out was taken out of it."""

    kind: str
    name: str
    characters: int
    dropped_characters: int
    """Of paragraphs that share a run of words with text that is evaluated, calibrated with or captured on."""
    sha256: str


class HeldOutText(_Part):
    """What the measurements were made on."""

    kind: str
    name: str
    tokens: int
    sha256: str
    """Of the cuts."""


class Label(_Part):
    """Content of `reluified.json`."""

    form: Form
    source: ModelSource
    finished: bool
    """False for the state of a training that was still to go on."""
    tokens: int
    """Seen in distillation, each once."""
    seconds: float
    """Of distillation."""
    settings: dict[str, Any]
    arithmetic: str
    """Type of the forward passes, also of those that measured."""
    device: str
    trained: str
    """Which parameters learnt."""
    text: tuple[TextSource, ...]
    windows: dict[str, int]
    """Of the text that there was, by kind; taken in turn."""
    windows_sha256: str
    held_out: tuple[HeldOutText, ...]
    dense: Measurement
    """The model as it was."""
    swapped: Measurement
    """With the new activation alone."""
    refitted: Measurement
    """After the output projections were refitted."""
    distilled: Measurement
    """As it is in this folder."""
    refit: tuple[RefitError, ...]
    curve: tuple[Sample, ...]
    """Held-out text as the distillation went on."""
    versions: dict[str, str]
    identity: str
    """sha256 of all that the training depends on; the same command finds its own result by it."""

    @property
    def statement(self) -> str:
        """What may be said of the model in a line."""
        form = "ReLU" if self.form.activation == "relu" else "dReLU"
        threshold = f" above {self.form.threshold:g}" if self.form.threshold else ""
        after, before = self.distilled.perplexity[ALL], self.dense.perplexity[ALL]
        return (
            f"{self.source.id}, made {form}{threshold} here with {self.tokens:,} tokens of distillation: perplexity "
            f"{after:.2f} against {before:.2f} of the model it was, {self.distilled.mean_gate_zeros:.1%} zeros behind "
            "the gates"
        )


def read_label(folder: Path) -> Label | None:
    """The label in `folder`; None where there is none. Raises AccelSimError for a file that is no label."""
    path = folder / LABEL_NAME
    if not path.is_file():
        return None
    try:
        return Label.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError, OSError):
        raise AccelSimError(f"{path}: not a label of `accel-sim reluify`") from None
