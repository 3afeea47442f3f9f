"""The gated FFNs of a model: y = W_down(act(W_gate x) ⊙ W_up x), one in every decoder block."""

from __future__ import annotations

from torch import nn

from accel_sim.capture.projections import decoder_blocks
from accel_sim.errors import AccelSimError

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def gated_mlps(model: nn.Module) -> dict[str, nn.Module]:
    """The gated FFN of every decoder block in order, by its module path.

    Raises AccelSimError for a block without one (gate_proj, up_proj, down_proj and act_fn), such as one of experts.
    """
    blocks, found = decoder_blocks(model), {}
    for layer, block in enumerate(blocks.modules):
        mlps = [(path, module) for path, module in block.named_modules() if _is_gated_mlp(module)]
        if len(mlps) != 1:
            what = f"{len(mlps)} gated MLPs" if mlps else "no gated MLP"
            raise AccelSimError(
                f"{type(model).__name__}: layer {layer} has {what}; expected one, with the linear layers "
                f"{', '.join(PROJECTIONS)} and an activation act_fn, as in Llama, Qwen2, Mistral and Gemma"
            )
        ((path, module),) = mlps
        found[f"{blocks.path}.{layer}.{path}"] = module
    return found


def _is_gated_mlp(module: nn.Module) -> bool:
    linear = all(isinstance(getattr(module, name, None), nn.Linear) for name in PROJECTIONS)
    return linear and callable(getattr(module, "act_fn", None))
