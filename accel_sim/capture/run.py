"""The capture: load a model, cut the text, run it, and finish the trace."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from typing import Any

import accel_sim
from accel_sim.capture.finished import finished_trace
from accel_sim.capture.forward import run_prompts
from accel_sim.capture.load import LoadedModel, load_model
from accel_sim.capture.options import CaptureOptions
from accel_sim.capture.projections import (
    LinearParameter,
    decoder_blocks,
    experts_per_token,
    find_projections,
    text_config,
)
from accel_sim.capture.recorder import Recorder
from accel_sim.capture.stream import TraceStream
from accel_sim.capture.text import Prompt, cut_prompts, read_texts, standard_texts
from accel_sim.capture.watch import Observer
from accel_sim.capture.weights import store_weights
from accel_sim.errors import AccelSimError
from accel_sim.trace.folder import check_vacant, occupant
from accel_sim.trace.format import Coverage, Manifest, ModelInfo, Site, TokenizerInfo
from accel_sim.trace.layers import select_layers
from accel_sim.trace.writer import TraceWriter


def capture(options: CaptureOptions, observer: Observer | None = None) -> Manifest:
    """Capture a trace into `options.out` and return its manifest.

    Raises AccelSimError for input that cannot be used, a full disk, an activation that is not finite, and projections
    that were not seen unless `options.allow_partial`; the folder then does not read as a trace.
    """
    observer = observer or Observer()
    finished = finished_trace(options)
    if finished is not None:
        return finished
    check_vacant(options.out, options.force, options.resume)
    texts = read_texts(options.texts) or standard_texts()
    loaded = load_model(options, observer.on_status)
    _check_length(loaded, options)
    prompts = cut_prompts(loaded.tokenizer, texts, options.sequences, options.tokens)
    return record(loaded, prompts, options, observer)


def record(
    loaded: LoadedModel, prompts: tuple[Prompt, ...], options: CaptureOptions, observer: Observer | None = None
) -> Manifest:
    """Capture `prompts` run through a model that is loaded already; see :func:`capture`."""
    observer = observer or Observer()
    model = loaded.model
    blocks = decoder_blocks(model)
    parameters = find_projections(model, blocks, options.layers, options.sites, options.lm_head)
    weight_layers = _weight_layers(options, len(blocks.modules))
    writer = _open_writer(options, _identity(loaded, prompts, options))
    progress = writer.progress
    observer.on_status("capturing")
    with TraceStream(writer, options.buffer_bytes) as stream:
        recorder = Recorder(model, blocks, parameters, stream, options.dtype, experts_per_token(model) is not None)
        recorder.macs.update(progress.get("macs", {}))
        run_prompts(loaded, prompts, options, recorder, stream, progress, observer)
    observer.on_streamed(stream.streamed)
    coverage = _coverage(parameters, recorder.macs, options)
    if coverage.missing and not options.allow_partial:
        raise AccelSimError(
            f"captured {coverage.fraction:.2%} of the linear multiply-accumulates; not, or not wholly, seen: "
            f"{_some(coverage.missing)}; --allow-partial stores what there is"
        )
    sites = store_weights(model, writer, _in_order(writer.sites), weight_layers, observer.on_status)
    observer.on_status("writing checksums")
    return writer.finish(
        sites,
        {
            "model": _model_info(loaded),
            "tokenizer": TokenizerInfo(name=type(loaded.tokenizer).__name__, vocabulary=len(loaded.tokenizer)),
            "text": tuple(prompt.cut for prompt in prompts),
            "token_ids_sha256": _token_ids_sha256(prompts),
            "phase": options.phase,
            "tokens_per_sequence": options.tokens,
            "sequences": options.sequences,
            "new_tokens": options.new_tokens,
            "dtype": options.dtype,
            "layers": select_layers(options.layers, range(len(blocks.modules))),
            "layers_in_model": len(blocks.modules),
            "site_filter": options.sites,
            "coverage": coverage,
            "versions": _versions(),
            "command": options.command,
        },
    )


def _open_writer(options: CaptureOptions, identity: dict[str, Any]) -> TraceWriter:
    if options.resume and occupant(options.out) is not None:
        return TraceWriter.resume(options.out, identity)
    return TraceWriter.start(options.out, identity, options.force)


def _check_length(loaded: LoadedModel, options: CaptureOptions) -> None:
    asked = options.tokens + (options.new_tokens or 0)
    most = getattr(text_config(loaded.model), "max_position_embeddings", None)
    if most is not None and asked > most:
        raise AccelSimError(f"--tokens: a sequence of {asked} tokens, but {loaded.id} has {most} positions")


def _weight_layers(options: CaptureOptions, count: int) -> tuple[int | None, ...]:
    captured = select_layers(options.layers, range(count))
    if options.weight_layers is not None:
        return select_layers(options.weight_layers, captured, "--weight-layers")
    if not options.weights:
        return ()
    return (*captured, None) if options.lm_head else captured


def _identity(loaded: LoadedModel, prompts: tuple[Prompt, ...], options: CaptureOptions) -> dict[str, Any]:
    """What must be the same for a capture to go on where another stopped, as JSON gives it back."""
    names = ("phase", "tokens", "sequences", "new_tokens", "layers", "sites", "lm_head", "dtype", "chunk", "device")
    names += ("device_map", "compute_dtype", "weights", "weight_layers")
    identity = {"model": loaded.id, "model_sha256": loaded.file_sha256, "token_ids_sha256": _token_ids_sha256(prompts)}
    return json.loads(json.dumps(identity | {name: getattr(options, name) for name in names}))


def _coverage(parameters: tuple[LinearParameter, ...], macs: dict[str, int], options: CaptureOptions) -> Coverage:
    tokens = options.sequences * (options.new_tokens if options.phase == "decode" else options.tokens)
    expected = {each.name: each.macs_per_token * tokens for each in parameters}
    missing = tuple(name for name, count in expected.items() if macs.get(name, 0) < count)
    # A weight that is applied to more than one activation a token must not make up for one that was not seen.
    captured = sum(min(macs.get(name, 0), count) for name, count in expected.items())
    return Coverage(expected_macs=sum(expected.values()), captured_macs=captured, missing=missing)


def _in_order(sites: tuple[Site, ...]) -> tuple[Site, ...]:
    """Execution order. Experts come in ascending order where the first of them ran, whichever got tokens first."""
    unit_rank: dict[tuple, int] = {}
    keys = []
    for index, site in enumerate(sites):
        unit: tuple = (site.layer, site.name)
        if site.expert is not None:
            unit = (site.layer, site.projections[0].parameter.rpartition(".")[0])
        keys.append((unit_rank.setdefault(unit, index), -1 if site.expert is None else site.expert, index))
    order = sorted(range(len(sites)), key=lambda i: (_layer_rank(sites[i]), *keys[i]))
    return tuple(sites[i] for i in order)


def _layer_rank(site: Site) -> float:
    return float("inf") if site.layer is None else site.layer


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _token_ids_sha256(prompts: tuple[Prompt, ...]) -> str:
    return hashlib.sha256(b"".join(prompt.token_ids.astype("<i4").tobytes() for prompt in prompts)).hexdigest()


def _model_info(loaded: LoadedModel) -> ModelInfo:
    model = loaded.model
    config = json.loads(model.config.to_json_string(use_diff=False))
    config.pop("_name_or_path", None)  # a path of this machine
    return ModelInfo(
        id=loaded.id,
        architecture=type(model).__name__,
        dtype=str(model.dtype).removeprefix("torch."),
        device=loaded.device.type,
        parameters=sum(each.numel() for each in model.parameters()),
        file_sha256=loaded.file_sha256,
        config=config,
    )


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("torch", "transformers", "numpy")}
    return {"accel_sim": accel_sim.__version__, "python": platform.python_version(), **libraries}
