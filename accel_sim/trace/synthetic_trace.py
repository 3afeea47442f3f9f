"""A synthetic trace on disk: drawn activations in the format of captured ones, so that every reader runs on it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.quantize.int8 import quantize_tokens, quantize_weight
from accel_sim.trace.format import Coverage, ModelInfo, Projection, Site, TokenizerInfo
from accel_sim.trace.reader import Trace
from accel_sim.trace.synthetic import DISTRIBUTIONS, Distribution, distribution_named, draw_site
from accel_sim.trace.writer import TraceWriter


def write_synthetic_trace(
    path: Path,
    sites: Iterable[Site],
    distribution: str | Distribution = "heavy_tailed",
    seed: int = 0,
    weights: bool = False,
    force: bool = False,
) -> Trace:
    """Draw every site in full and write a trace of INT8 codes to folder `path`; one site is in memory at a time.

    `sites` give names, shapes and projections; what they say of types, files and weights is ignored. `weights` adds
    Gaussian weights. The manifest's model id states distribution and seed. Raises AccelSimError when two sites share
    a name, when the disk is full, and when `path` holds something (a trace is replaced with `force`).
    """
    drawn_from = distribution_named(distribution)
    wanted = tuple(sites)
    if not wanted or len({site.name for site in wanted}) < len(wanted):
        raise AccelSimError(f"{path}: a synthetic trace needs at least one site, and each a name of its own")
    identity = {"synthetic": str(drawn_from), "seed": seed, "sites": [site.name for site in wanted]}
    writer = TraceWriter.start(path, identity, force)
    for site in wanted:
        bare = site.model_copy(update={"dtype": "int8", "projections": tuple(map(_without_weight, site.projections))})
        codes, scales = quantize_tokens(draw_site(drawn_from, site.name, site.tokens, site.features, seed), site.name)
        writer.append(bare, codes, scales, np.arange(site.tokens, dtype=np.int32), sequence=0)
    written = writer.sites
    if weights:
        written = tuple(_with_weights(writer, site, seed) for site in written)
    writer.finish(written, _facts(written, f"synthetic: {drawn_from}, seed {seed}"))
    return Trace.open(path, verify=False)


def _without_weight(projection: Projection) -> Projection:
    return Projection(name=projection.name, features=projection.features, outputs=projection.outputs)


def _with_weights(writer: TraceWriter, site: Site, seed: int) -> Site:
    file = writer.write_weights(site.name, site.projections, partial(_weight, seed=seed))
    stored = {"has_weight": True, "weight_file": file}
    return site.model_copy(update={"projections": tuple(each.model_copy(update=stored) for each in site.projections)})


def _weight(projection: Projection, seed: int) -> dict[str, np.ndarray]:
    drawn = draw_site(DISTRIBUTIONS["gaussian"], projection.name, projection.outputs, projection.features, seed)
    codes, scales = quantize_weight(drawn, projection.name)
    return {"codes": codes, "scales": scales}


def _facts(sites: tuple[Site, ...], description: str) -> dict:
    macs = sum(site.tokens * each.features * each.outputs for site in sites for each in site.projections)
    layers = tuple(sorted({site.layer for site in sites if site.layer is not None}))
    return {
        "model": ModelInfo(id=description, architecture="none", dtype="float32", device="cpu", parameters=0, config={}),
        "tokenizer": TokenizerInfo(name="none", vocabulary=0),
        "text": (),
        "token_ids_sha256": hashlib.sha256(b"").hexdigest(),
        "phase": "prefill",
        "tokens_per_sequence": max(site.tokens for site in sites),
        "sequences": 1,
        "dtype": "int8",
        "layers": layers,
        "layers_in_model": len(layers),
        "coverage": Coverage(expected_macs=macs, captured_macs=macs),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "command": (),
    }
