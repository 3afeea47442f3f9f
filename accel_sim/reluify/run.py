"""Turn a model into a ReLU one: measure, swap the activation, refit, distil, write a folder that transformers loads."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import accel_sim
from accel_sim.capture.load import LoadedModel, load_model
from accel_sim.capture.options import CaptureOptions
from accel_sim.capture.projections import check_positions
from accel_sim.capture.relu_form import LABEL_NAME
from accel_sim.errors import AccelSimError
from accel_sim.evaluation.fingerprint import model_fingerprint
from accel_sim.evaluation.journal import Journal
from accel_sim.reluify.checkpoint import CHECKPOINT_NAME, Progress, load, save
from accel_sim.reluify.distil import CHECKPOINT_SECONDS, Distillation
from accel_sim.reluify.label import Form, HeldOutText, Label, ModelSource, TextSource, read_label
from accel_sim.reluify.loss import Head
from accel_sim.reluify.measure import HeldOut, Measurement
from accel_sim.reluify.models import Pair, pair_of, swap
from accel_sim.reluify.output import write_folder
from accel_sim.reluify.refit import refit
from accel_sim.reluify.settings import ReluifySettings
from accel_sim.reluify.text import TrainingText, training_text
from accel_sim.reluify.windows import TrainingWindows, cut_training

JOURNAL_NAME = "reluify.journal"
TRAINED = "gate, up and down projections of every FFN"


@dataclass(frozen=True)
class Observer:
    """Functions that are called as the work goes on."""

    on_status: Callable[[str], None] = lambda _: None
    on_step: Callable[[int, float, float], None] = lambda tokens, loss, fraction: None
    """After every step of the distillation: tokens, loss, and the fraction that is done."""


def reluify(
    options: CaptureOptions,
    settings: ReluifySettings,
    texts: Sequence[Path] = (),
    observer: Observer | None = None,
    export: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Label:
    """Make `options.out` a folder with the ReLU model and its label; what an interrupted call has done is not redone.

    `options` says which model, device and type; `texts` are files to learn from, none the default text. With `export`
    nothing is learnt: the newest checkpoint of `options.out`, which may be of a call that still runs, is measured and
    written to that folder instead.

    Raises AccelSimError for a folder that holds something else, a model without gated FFNs or with ReLUs already, text
    that is too short, a loss that is not finite, and with `export` where there is no checkpoint.
    """
    observer = observer or Observer()
    check_folder(options.out)
    if export is not None:
        check_vacant(export)
    # As it is stored; `compute_dtype` says what the forward passes are in.
    loaded = load_model(replace(options, compute_dtype="auto"), observer.on_status)
    observer.on_status("reading the text to learn from")
    return reluify_model(loaded, options, settings, training_text(texts), observer, export, checkpoint_seconds)


def reluify_model(
    loaded: LoadedModel,
    options: CaptureOptions,
    settings: ReluifySettings,
    text: TrainingText,
    observer: Observer | None = None,
    export: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Label:
    """The same with a model that is loaded already, which becomes the student; see :func:`reluify`."""
    observer = observer or Observer()
    dtype, out = loaded.model.dtype, options.out
    check_positions(loaded.model, settings.window, f"--window {settings.window}")
    arithmetic = arithmetic_of(options.compute_dtype, loaded.model)
    source = ModelSource(
        id=loaded.id, file_sha256=loaded.file_sha256, fingerprint=model_fingerprint(loaded.model)
    )  # before anything is changed
    windows = cut_training(loaded.tokenizer, text, settings.window, settings.seed)
    _check_enough(windows, settings)
    identity = _identity(loaded, source, settings, windows, arithmetic)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    finished = _finished(out, digest) if export is None else None
    if finished is not None:
        return finished
    if dtype != torch.bfloat16 or arithmetic == torch.float32:
        for parameter in loaded.model.parameters():  # not model.float(), which models from GGUF files refuse
            parameter.data = parameter.data.float()
    pair = pair_of(loaded.model, arithmetic)
    Head(pair.teacher).check(torch.from_numpy(windows.token_ids[:1]).long().to(loaded.model.device))
    held_out = HeldOut(pair, loaded.tokenizer, settings)
    journal = Journal(out / JOURNAL_NAME, identity)

    def known(key: str, measure: Callable[[], Measurement]) -> Measurement:
        found = journal.get(key)
        if found is None:
            observer.on_status(f"measuring the {key} model")
            found = measure().model_dump(mode="json")
            journal.add(key, found)
        return Measurement.model_validate(found)

    dense = known("dense", held_out.teacher)
    swap(pair, settings.form)
    swapped = known("swapped", held_out.student)
    distillation = _distillation(pair, settings, windows, out / CHECKPOINT_NAME, digest, observer, export)
    if export is None:
        observer.on_status("distilling")
        distillation.run(
            held_out.student,
            lambda: save(
                out / CHECKPOINT_NAME, digest, distillation.progress, distillation.weights, distillation.moments
            ),
            observer.on_step,
            checkpoint_seconds,
        )
    progress, tokens = distillation.progress, distillation.progress.steps * settings.tokens_of_step
    last = progress.curve[-1]
    if last.tokens != tokens:
        observer.on_status("measuring the checkpoint")
    label = Label(
        form=Form(**asdict(settings.form)),
        source=source,
        finished=export is None,
        tokens=tokens,
        seconds=progress.seconds,
        arithmetic=_name(arithmetic),
        device=loaded.model.device.type,
        dense=dense,
        swapped=swapped,
        refitted=progress.curve[0].measured,
        distilled=last.measured if last.tokens == tokens else held_out.student(),
        refit=progress.refit,
        curve=progress.curve,
        identity=digest,
        **_made_from(settings, text, windows, held_out),
    )
    observer.on_status("writing the model")
    write_folder(export or out, pair.student, loaded.tokenizer, dtype, label)
    if export is None:
        (out / CHECKPOINT_NAME).unlink(missing_ok=True)
    return label


def _finished(out: Path, identity: str) -> Label | None:
    """The label of a model that is done already.

    Raises AccelSimError for one that was made otherwise, and for one that was exported before its training ended.
    """
    found = read_label(out)
    if found is None:
        return None
    if found.identity != identity:
        raise AccelSimError(
            f"{out}: holds a model made of another one, of other text or with other settings; name another "
            "folder with --out"
        )
    if not found.finished:
        raise AccelSimError(
            f"{out}: holds a model exported after {found.tokens:,} tokens, whose training goes on in the folder that "
            "it was exported from; name that, or another, with --out"
        )
    return found


def _made_from(
    settings: ReluifySettings, text: TrainingText, windows: TrainingWindows, held_out: HeldOut
) -> dict[str, Any]:
    """Of a label: what was learnt, from what, measured on what, with what."""
    return {
        "settings": settings.as_mapping(),
        "trained": TRAINED,
        "text": tuple(TextSource(**_renamed(asdict(each))) for each in text.sources),
        "windows": windows.by_kind,
        "windows_sha256": windows.sha256,
        "held_out": _held_out(held_out),
        "versions": _versions(),
    }


def check_folder(out: Path) -> None:
    """Raise AccelSimError unless `out` is empty, or no folder yet, or one that `reluify` has written to."""
    if out.is_dir() and not any((out / name).is_file() for name in (JOURNAL_NAME, LABEL_NAME)):
        check_vacant(out)
    elif out.exists() and not out.is_dir():
        raise AccelSimError(f"{out}: is a file; expected a folder")


def check_vacant(folder: Path) -> None:
    """Raise AccelSimError unless `folder` is empty, or none yet."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AccelSimError(f"{folder}: holds something else; expected an empty folder or a new one")


def arithmetic_of(name: str, model: Any) -> torch.dtype:
    """Type of the forward passes. `auto` is bfloat16 where the model has it or the device is fast with it.

    Raises AccelSimError for float16, whose range a gradient leaves.
    """
    if name == "auto":
        fast = model.dtype == torch.bfloat16 or has_fast_bfloat16(model.device)
        return torch.bfloat16 if fast else torch.float32
    if name == "float16":
        raise AccelSimError("--dtype float16: gradients leave its range; expected auto, float32 or bfloat16")
    return getattr(torch, name)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 have instructions of their own there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _check_enough(windows: TrainingWindows, settings: ReluifySettings) -> None:
    least = settings.refit_windows + settings.batch
    if len(windows.token_ids) < least:
        raise AccelSimError(
            f"the training text has {len(windows.token_ids)} windows of {settings.window} tokens; refit and one step "
            f"need {least}; expected more --text, or fewer --refit-tokens"
        )


def _distillation(
    pair: Pair,
    settings: ReluifySettings,
    windows: TrainingWindows,
    checkpoint: Path,
    identity: str,
    observer: Observer,
    export: Path | None,
) -> Distillation:
    """As the checkpoint has left it; without one at its start, refitted. The refit's windows come first in order, and
    the distillation has all others."""
    ids = torch.from_numpy(windows.token_ids).long()
    distillation = Distillation(pair, settings, ids[settings.refit_windows :])
    kept = load(checkpoint, identity)
    if kept is not None:
        distillation.restore(*kept)
    elif export is not None:
        raise AccelSimError(f"--export: {checkpoint.parent} has no checkpoint to write")
    elif settings.refit_windows:
        layers = len(pair.mlps)
        found = refit(
            pair,
            ids[: settings.refit_windows],
            lambda layer: observer.on_status(f"refitting layer {layer} of {layers}"),
        )
        distillation.progress = Progress(refit=found)
    return distillation


def _identity(
    loaded: LoadedModel,
    source: ModelSource,
    settings: ReluifySettings,
    windows: TrainingWindows,
    arithmetic: torch.dtype,
) -> dict[str, Any]:
    """All that the weights depend on, as JSON gives it back."""
    identity = {
        "accel_sim": accel_sim.__version__,
        "torch": torch.__version__,
        "model": source.fingerprint,
        "device": loaded.model.device.type,
        "arithmetic": _name(arithmetic),
        "settings": settings.as_mapping(),
        "windows": windows.sha256,
    }
    return json.loads(json.dumps(identity))


def _held_out(held_out: HeldOut) -> tuple[HeldOutText, ...]:
    cuts = held_out.cuts
    found = []
    for kind in cuts.kinds:
        own = [window for window in cuts.windows if window.kind == kind]
        tokens = sum(len(window.token_ids) for window in own)
        found.append(HeldOutText(kind=kind, name=own[0].cut.source, tokens=tokens, sha256=cuts.sha256(kind)))
    return tuple(found)


def _renamed(source: dict[str, Any]) -> dict[str, Any]:
    return {"dropped_characters" if name == "dropped" else name: value for name, value in source.items()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("torch", "transformers", "numpy")}
    return {"accel_sim": accel_sim.__version__, "python": platform.python_version(), **libraries}
