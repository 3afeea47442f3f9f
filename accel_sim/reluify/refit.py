"""Refit every output projection to the teacher, layer by layer, on the student's own hidden states."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from accel_sim.capture.gated_mlps import gated_mlps
from accel_sim.capture.projections import decoder_of
from accel_sim.reluify.checkpoint import RefitError
from accel_sim.reluify.models import Pair

RIDGE = 0.01
"""Of the mean of the squared norms of the features."""


def refit(pair: Pair, token_ids: Tensor, on_layer: Callable[[int], None] = lambda _: None) -> tuple[RefitError, ...]:
    """Refit `down_proj` (and its bias) of each layer by ridge least squares; token ids int64 [B, T].

    One forward pass of the student: when it comes to a layer's FFN, the layers before are refitted already, and so the
    layer sees what it will see. Its target is what the teacher's FFN makes of the very same hidden states.
    """
    device = next(pair.student.parameters()).device
    ids = token_ids.to(device)
    teachers = tuple(gated_mlps(pair.teacher).values())
    found: list[RefitError] = []

    def refitting(layer: int) -> Callable:
        def refit_layer(mlp: nn.Module, args: tuple, output: Tensor) -> Tensor:
            on_layer(layer)
            wanted = teachers[layer](args[0].to(pair.arithmetic))
            with torch.autocast(device.type, enabled=False):
                target = wanted.flatten(0, -2).float()
                features = rows.pop()
                weight, bias = ridge_fit(features, target, with_bias=mlp.down_proj.bias is not None)
                mlp.down_proj.weight.copy_(weight)
                if bias is not None:
                    mlp.down_proj.bias.copy_(bias)
                fitted = nn.functional.linear(features, mlp.down_proj.weight, mlp.down_proj.bias)
                norm = target.norm()
                before = output.flatten(0, -2).float() - target
                errors = [float(error.norm() / norm) for error in (before, fitted - target)]
                found.append(RefitError(layer=layer, before=errors[0], after=errors[1]))
            return fitted.view_as(output).to(output.dtype)

        return refit_layer

    rows: list[Tensor] = []  # what the layer's output projection reads
    handles = []
    for layer, mlp in enumerate(pair.mlps):
        keep = mlp.down_proj.register_forward_pre_hook(lambda _, args: rows.append(args[0].flatten(0, -2).float()))
        handles += [keep, mlp.register_forward_hook(refitting(layer))]
    try:
        with torch.no_grad(), pair.computing():
            decoder_of(pair.student)(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found)


def ridge_fit(features: Tensor, target: Tensor, with_bias: bool = False) -> tuple[Tensor, Tensor | None]:
    """(W [F, K], b [F] or None) of least ‖features·Wᵀ + b − target‖² + λ‖W‖².

    Features float32 [n, K], target [n, F]; λ = RIDGE · mean of the diagonal of featuresᵀ·features, and the bias carries
    no penalty. Solved in float64.
    """
    count = features.shape[1]
    if with_bias:
        features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    gram = (features.mT @ features).double()
    diagonal = gram.diagonal()
    # A layer whose gates are all shut has features of 0 alone; its weight is 0 then.
    penalty = (RIDGE * diagonal[:count].mean()).clamp(min=torch.finfo(torch.float32).tiny)
    diagonal[:count] += penalty
    solution = torch.linalg.solve(gram, (features.mT @ target).double()).mT.to(target.dtype)
    return (solution[:, :count], solution[:, count]) if with_bias else (solution, None)
