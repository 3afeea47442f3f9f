"""A capture that is asked to go on and finds its trace finished: is it the one that is asked for, and whole?

Nothing here needs a model, so `--resume` on a finished trace answers at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from accel_sim.capture.options import CaptureOptions
from accel_sim.capture.text import read_texts, standard_texts
from accel_sim.errors import AccelSimError
from accel_sim.trace import Manifest, Trace
from accel_sim.trace.folder import occupant
from accel_sim.trace.layers import select_layers


def finished_trace(options: CaptureOptions) -> Manifest | None:
    """The manifest of the trace in `options.out` if `--resume` finds it finished; None if there is a capture to do.

    Every file's sha256 is checked. Raises AccelSimError for a damaged trace, and for one that was made with other
    options or from other text, naming the first difference. Options that do not change what is stored (`--chunk`,
    `--device`) are not compared.
    """
    if not options.resume or occupant(options.out) != "a trace":
        return None
    manifest = Trace.open(options.out).manifest
    for name, held, asked in _facts(options, manifest):
        if held != asked:
            raise AccelSimError(
                f"{options.out}: holds a finished trace with {name} {held}, not {asked}; "
                "name another folder with --out, or replace it with --force"
            )
    return manifest


def _facts(options: CaptureOptions, manifest: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """What the trace holds and what is asked for, by name."""
    layers = select_layers(options.layers, range(manifest.layers_in_model))
    yield "model", manifest.model.id, options.model_name
    yield "phase", manifest.phase, options.phase
    yield "tokens_per_sequence", manifest.tokens_per_sequence, options.tokens
    yield "sequences", manifest.sequences, options.sequences
    yield "new_tokens", manifest.new_tokens, options.new_tokens
    yield "dtype", manifest.dtype, options.dtype
    yield "layers", manifest.layers, layers
    yield "site_filter", manifest.site_filter, options.sites
    yield "LM head", any(site.layer is None for site in manifest.sites), options.lm_head
    with_weights = {site.layer for site in manifest.sites for each in site.projections if each.has_weight}
    yield "weights of layers", sorted(with_weights - {None}), list(_weight_layers(options, layers))
    texts = read_texts(options.texts) or standard_texts()
    for index, cut in enumerate(manifest.text):
        text = texts[index % len(texts)]
        content = text.content[cut.start : cut.start + cut.characters]
        yield "text", cut.source, text.name
        yield f"text {cut.source} of sha256", cut.sha256, hashlib.sha256(content.encode()).hexdigest()


def _weight_layers(options: CaptureOptions, layers: tuple[int, ...]) -> tuple[int, ...]:
    if options.weight_layers is not None:
        return select_layers(options.weight_layers, layers, "--weight-layers")
    return layers if options.weights else ()
