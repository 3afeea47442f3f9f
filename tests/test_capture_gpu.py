"""Capturing on a CUDA device: what is stored is what the modules were given, though nothing waited for it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from capture_helpers import MODELS, loaded_model, options, prompts, tiny_model  # noqa: E402

from accel_sim.capture.load import LoadedModel  # noqa: E402
from accel_sim.capture.run import record  # noqa: E402
from accel_sim.quantize import quantize_tokens  # noqa: E402
from accel_sim.trace import Trace  # noqa: E402

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_stored_rows_are_what_the_modules_were_given(tmp_path, dtype):
    """Several chunks, so that memory is given away and taken again while rows are on their way."""
    loaded = LoadedModel(tiny_model("llama").to("cuda", torch.bfloat16), loaded_model("llama").tokenizer, "llama", None)
    given: dict[str, list[torch.Tensor]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: given.setdefault(name, []).append(args[0].clone()))
        for name, module in loaded.model.named_modules()
        if name.endswith("proj")
    ]
    record(loaded, prompts(4, 60), options(tmp_path / "t", sequences=4, tokens=60, chunk=7, dtype=dtype, device="cuda"))
    for hook in hooks:
        hook.remove()
    trace = Trace.open(tmp_path / "t")
    assert trace.manifest.model.device == "cuda" and trace.manifest.coverage.fraction == 1
    for site in trace.sites:
        for projection in site.projections:
            rows = torch.cat([each.reshape(-1, site.features) for each in given[projection.name]]).float().cpu().numpy()
            codes, scales = quantize_tokens(rows)
            np.testing.assert_array_equal(trace.codes(site.name), codes)
            np.testing.assert_array_equal(trace.scales(site.name), scales)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_seen_whole(tmp_path, name):
    loaded = loaded_model(name)
    loaded.model.to("cuda")
    record(loaded, prompts(2, 12), options(tmp_path / "t", sequences=2, chunk=5, device="cuda"))
    assert Trace.open(tmp_path / "t").manifest.coverage.fraction == 1


def test_a_model_in_two_places_gives_the_trace_of_one(tmp_path):
    """Half of the weights stay in the host's memory and come to the device for their module's pass."""
    import transformers

    tiny_model("llama").save_pretrained(tmp_path / "model")
    names = {"model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head", "model.layers.0"}
    places = dict.fromkeys(names, 0) | {"model.layers.1": "cpu", "model.layers.2": "cpu"}
    for out, device_map in (("whole", {"": 0}), ("apart", places)):
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", device_map=device_map)
        loaded = LoadedModel(model.eval(), loaded_model("llama").tokenizer, "llama", None)
        record(loaded, prompts(2, 12), options(tmp_path / out, sequences=2, chunk=5, weights=True, device="cuda"))
    assert Trace.open(tmp_path / "whole").manifest.files == Trace.open(tmp_path / "apart").manifest.files
