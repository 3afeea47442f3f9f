"""What tells two models apart without reading every weight."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_SAMPLED = 1024
"""Elements of each parameter, spread over it."""


def model_fingerprint(model: Any) -> str:
    """sha256 of the configuration, of every parameter's name, type and shape, and of a sample of its elements.

    Models of one configuration that differ in a few elements only may share it; trained and untrained ones do not.
    """
    config = json.loads(model.config.to_json_string(use_diff=False))
    for where_from in ("_name_or_path", "transformers_version"):
        config.pop(where_from, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLED)].float().cpu().numpy()
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()
