"""Which of a model's parameters are the linear projections of its decoder blocks, and what products they owe.

This is the expectation that a capture is held against, so it comes from the parameters and the configuration alone,
never from the products that were seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from accel_sim.errors import AccelSimError
from accel_sim.trace.layers import select_layers

_TOP_K_KEYS = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k", "experts_top_k")
_NOT_LINEAR = (nn.Embedding, nn.modules.conv._ConvNd)


@dataclass(frozen=True, eq=False)
class LinearParameter:
    """The weight of one linear projection, or of one projection of every expert, stacked."""

    name: str
    """The parameter's name in the model."""
    layer: int | None
    """Index of its decoder block; None for the LM head."""
    tensor: torch.Tensor
    """[F, K] or [K, F]; stacked experts have the expert in front. On `meta` where accelerate off-loads it."""
    macs_per_token: int
    """Multiply-accumulates that one token of the sequence costs here; experts: those it is routed to."""
    owner: nn.Module
    """The module whose parameter it is."""

    @property
    def experts(self) -> int | None:
        """Number of stacked experts."""
        return self.tensor.shape[0] if self.tensor.dim() == 3 else None

    @property
    def offloaded(self) -> bool:
        """Whether accelerate brings the weight to the device only while its module runs."""
        return self.tensor.is_meta

    def now(self) -> torch.Tensor:
        """The weight where it is at this moment, which differs from pass to pass for one that is off-loaded."""
        return getattr(self.owner, self.name.rpartition(".")[2]) if self.offloaded else self.tensor

    @property
    def paths(self) -> tuple[str, ...]:
        """Module paths of all projections that it holds: one, or one an expert."""
        return tuple(map(self.path, range(self.experts) if self.experts else (None,)))

    def path(self, expert: int | None = None) -> str:
        """Module path of the projection; a stacked expert's index stands before the last name."""
        path = self.name.removesuffix(".weight")
        if expert is None:
            return path
        owner, _, leaf = path.rpartition(".")
        return f"{owner}.{expert}.{leaf}"


@dataclass(frozen=True)
class DecoderBlocks:
    """The repeated blocks of a decoder."""

    path: str
    """Module path of the list that holds them."""
    modules: nn.ModuleList


def decoder_blocks(model: nn.Module) -> DecoderBlocks:
    """Find the decoder's blocks: its outermost list with as many modules as the configuration has layers.

    Raises AccelSimError when there is none.
    """
    count = text_config(model).num_hidden_layers
    inside = {id(module) for module in decoder_of(model).modules()}
    lists = [
        DecoderBlocks(path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and id(module) in inside
    ]
    if not lists:
        raise AccelSimError(f"{type(model).__name__}: no list of {count} decoder blocks found; is it a causal LM?")
    return min(lists, key=lambda each: each.path.count("."))


def decoder_of(model: nn.Module) -> nn.Module:
    """The part of a causal language model below its LM head; the model itself where it does not name one."""
    found = model.get_decoder() if hasattr(model, "get_decoder") else None
    return model if found is None else found


def text_config(model: nn.Module) -> object:
    """The configuration of the language part, for models that have others."""
    return model.config.get_text_config(decoder=True)


def check_positions(model: nn.Module, tokens: int, what: str) -> None:
    """Raise AccelSimError, which starts with `what`, where so many tokens are more than the model has positions."""
    most = getattr(text_config(model), "max_position_embeddings", None)
    if most is not None and tokens > most:
        raise AccelSimError(f"{what}: the model has {most} positions")


def experts_per_token(model: nn.Module) -> int | None:
    """How many routed experts a token takes; None for a dense model."""
    config = text_config(model)
    return next((value for key in _TOP_K_KEYS if (value := getattr(config, key, None))), None)


def find_projections(
    model: nn.Module,
    blocks: DecoderBlocks,
    layers: str | None = None,
    sites: tuple[str, ...] = (),
    lm_head: bool = False,
) -> tuple[LinearParameter, ...]:
    """The projections of the chosen `layers` (as 0-5,29) whose paths match one of `sites`, in the model's order.

    Every 2-D parameter of a chosen block that no embedding or convolution owns is one, and every 3-D one is a stack of
    experts. Raises AccelSimError when nothing is chosen.
    """
    found = []
    for layer in select_layers(layers, range(len(blocks.modules))):
        for name, tensor, owner in _weights(blocks.modules[layer]):
            macs = tensor.numel()
            if tensor.dim() == 3:
                macs = macs // tensor.shape[0] * _top_k(model, f"{blocks.path}.{layer}.{name}")
            found.append(LinearParameter(f"{blocks.path}.{layer}.{name}", layer, tensor, macs, owner))
    if lm_head:
        head = model.get_output_embeddings()
        if head is None:
            raise AccelSimError(f"{type(model).__name__} has no LM head to capture")
        name = next(path for path, module in model.named_modules() if module is head)
        found.append(LinearParameter(f"{name}.weight", None, head.weight, head.weight.numel(), head))
    chosen = tuple(each for each in found if _wanted(each.path(), sites))
    if not chosen:
        known = ", ".join(dict.fromkeys(each.path().rpartition(".")[2] for each in found))
        raise AccelSimError(f"--sites {', '.join(sites)}: no projection matches; the model has {known}")
    return chosen


def _weights(block: nn.Module) -> Iterator[tuple[str, torch.Tensor, nn.Module]]:
    for path, module in block.named_modules():
        if isinstance(module, _NOT_LINEAR):
            continue
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            # Stacked experts keep their biases in 2-D parameters; RWKV keeps vectors as [1, 1, K].
            stack_of_vectors = parameter.dim() == 3 and 1 in parameter.shape[1:]
            if parameter.dim() in (2, 3) and not name.endswith("bias") and not stack_of_vectors:
                yield name, parameter, module


def _top_k(model: nn.Module, name: str) -> int:
    found = experts_per_token(model)
    if found is None:
        raise AccelSimError(f"{name}: stacked experts, but the configuration has none of {', '.join(_TOP_K_KEYS)}")
    return found


def _wanted(path: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(pattern in path or fnmatchcase(path, pattern) for pattern in patterns)
