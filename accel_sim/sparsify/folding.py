"""Smoothing that costs nothing at run time: 1/s folded into what produces an input, s into the weights that read it.

A norm's output is scaled by dividing its weight and bias; the input of a gated MLP's last projection, act(gate)·up, by
dividing the outputs of `up`. Where anything else reads that tensor too, or it comes from elsewhere (attention's own
output), nothing can be folded and x / s remains a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from accel_sim.capture.products import Product
from accel_sim.capture.projections import LinearParameter, decoder_blocks, find_projections
from accel_sim.errors import AccelSimError
from accel_sim.sparsify.provenance import Multiplied, Projected, Provenance, Scaled, watch_provenance
from accel_sim.sparsify.sites import Activation

TOLERANCE = 1e-4
"""Relative error of the logits that a fold may cause in float32; of 16-bit floats, 5 %."""
_TOKENS = 16

_Divide = Callable[[Tensor, Tensor | float], Tensor]
_NORM_WEIGHTS: tuple[_Divide, ...] = (
    lambda weight, scale: weight / scale,
    lambda weight, scale: (1 + weight) / scale - 1,  # Gemma multiplies with 1 + weight
)


@dataclass(frozen=True, eq=False)
class Folded:
    """What :func:`fold_smoothing` did to a model."""

    names: tuple[str, ...]
    """Projections that now read x / s and multiply with W·diag(s)."""
    left: Mapping[str, str]
    """The others that were asked for, and why they stayed as they were."""
    _before: list[tuple[Tensor, Tensor]] = field(default_factory=list, repr=False)

    def undo(self) -> None:
        """Give the model its parameters back, bit for bit."""
        with torch.no_grad():
            for parameter, value in self._before:
                parameter.copy_(value)


class _Refusal(Exception):
    """Why a site cannot be folded."""


def fold_smoothing(model: nn.Module, scales: Mapping[str, Tensor]) -> Folded:
    """Fold smoothing scales s [K] by projection path into the parameters of a causal language model, in place.

    The producers are found by watching which tensors go where in a forward pass over a few tokens, not by names: the
    norm that all readers of an input share, or the projection whose outputs are one factor of it. All projections that
    read an input must be in `scales` with the same s. Logits of that pass are compared before and after.

    Raises AccelSimError for paths that are no projections, scales that are no positive numbers of the right shape, and,
    with the model as it was, when the logits differ.
    """
    blocks = decoder_blocks(model)
    vocabulary = model.get_input_embeddings().num_embeddings
    tokens = (torch.arange(1, _TOKENS + 1, device=model.device) % vocabulary)[None]
    with torch.no_grad():
        expected = model(input_ids=tokens, use_cache=False).logits
    parameters = find_projections(model, blocks)
    seen = watch_provenance(model, parameters, tokens)
    _check_scales(scales, parameters, seen)
    fold = _Fold(model, seen, scales)
    names: list[str] = []
    left = {name: "it did not run by itself in the forward pass" for name in scales if name not in seen.reads}
    with torch.no_grad():
        for readers in _by_input(scales, seen):
            try:
                fold.site(readers)
                names += readers
            except _Refusal as reason:
                left.update(dict.fromkeys(readers, str(reason)))
        folded = Folded(tuple(names), left, fold.before)
        found = model(input_ids=tokens, use_cache=False).logits
    tolerance = TOLERANCE if expected.dtype.itemsize >= 4 else 0.05
    error = float((found - expected).double().norm() / expected.double().norm().clamp(min=1e-30))
    if not error <= tolerance:
        folded.undo()
        raise AccelSimError(f"folding: logits would change by {error:.2g} (relative); the model was left as it was")
    return folded


def _check_scales(scales: Mapping[str, Tensor], parameters: Sequence[LinearParameter], seen: Provenance) -> None:
    known = {path for each in parameters for path in each.paths}
    for name, s in scales.items():
        if name not in known:
            raise AccelSimError(f"folding: {name}: no projection of the model, which has {parameters[0].path()}, …")
        features = seen.products[name].weight.shape[1] if name in seen.products else s.numel()
        if s.shape != (features,) or not bool((torch.isfinite(s) & (s > 0)).all()):
            raise AccelSimError(f"folding: {name}: scales {list(s.shape)}; expected {features} positive numbers")


def _by_input(scales: Mapping[str, Tensor], seen: Provenance) -> list[list[str]]:
    """The projections that are to be folded, those of one input together."""
    groups: dict[object, list[str]] = {}
    for name in scales:
        if name in seen.reads:
            groups.setdefault(tuple(seen.reads[name]), []).append(name)
    return list(groups.values())


class _Fold:
    """Folds site by site, remembering what was there before."""

    def __init__(self, model: nn.Module, seen: Provenance, scales: Mapping[str, Tensor]) -> None:
        self._seen = seen
        self._scales = scales
        self._parameters = {path: parameter for path, parameter in model.named_parameters(remove_duplicate=False)}
        self._outputs: dict[str, list[Activation]] = {}
        for key, producer in seen.producers.items():
            if isinstance(producer, Scaled):
                self._outputs.setdefault(producer.path, []).append(key)
        self.before: list[tuple[Tensor, Tensor]] = []

    def site(self, readers: list[str]) -> None:
        """Fold the scales of the projections that read one input. Raises _Refusal, with nothing changed."""
        inputs = self._seen.reads[readers[0]]
        if len(inputs) != 1:
            raise _Refusal("it runs more than once in a forward pass")
        s = self._scales[readers[0]].detach().float()
        if any(not torch.equal(s, self._scales[name].detach().float().to(s.device)) for name in readers):
            raise _Refusal("projections that share its input have other scales")
        weights = [self._parameter(self._seen.products[name].parameter.tensor) for name in readers]
        producer = self._seen.producers.get(inputs[0])
        if isinstance(producer, Scaled):
            self._divide_norm(producer, readers, s)
        elif isinstance(producer, Multiplied):
            self._only_readers(inputs, readers)
            self._divide_projection(self._factor(producer), s)
        else:
            raise _Refusal("its input comes neither from a norm nor from a product of two tensors")
        for name, parameter in zip(readers, weights, strict=True):
            self._remember(parameter)
            weight = self._seen.products[name].weight
            weight.copy_(weight.float() * s.to(weight.device))

    def _divide_norm(self, norm: Scaled, readers: list[str], s: Tensor) -> None:
        self._only_readers(self._outputs[norm.path], readers)
        weight = self._parameter(norm.module.weight)
        bias = getattr(norm.module, "bias", None)
        bias = None if bias is None else self._parameter(bias)
        divide = _norm_weight(norm)
        self._remember(weight)
        weight.copy_(divide(weight.float(), s.to(weight.device)))
        if bias is not None:
            self._remember(bias)
            bias.copy_(bias.float() / s.to(bias.device))

    def _factor(self, product: Multiplied) -> Product:
        """The projection whose outputs, read by nothing else, are one of the two factors."""
        for operand in reversed(product.operands):
            producer = self._seen.producers.get(operand)
            if isinstance(producer, Projected) and len(self._seen.readers[operand]) == 1:
                return producer.product
        raise _Refusal("neither factor of its input is what a projection gives to nothing else")

    def _divide_projection(self, product: Product, s: Tensor) -> None:
        if len(self._seen.reads[product.name]) != 1:
            raise _Refusal(f"{product.name}, which makes its input, runs more than once in a forward pass")
        parameter = self._parameter(product.parameter.tensor)
        bias = None if product.bias is None else self._parameter(product.bias)
        self._remember(parameter)
        weight = product.weight
        weight.copy_(weight.float() / s.to(weight.device)[:, None])
        if bias is not None:
            self._remember(bias)
            bias.copy_(bias.float() / s.to(bias.device))

    def _only_readers(self, tensors: list[Activation], readers: list[str]) -> None:
        others = [each for key in tensors for each in self._seen.readers.get(key, []) if each not in readers]
        if others:
            raise _Refusal(f"its input is also read by {others[0]}")

    def _parameter(self, tensor: Tensor) -> Tensor:
        """The model's parameter that this is. Raises _Refusal if it is none, or also used under another name."""
        same = [each for each in self._parameters.values() if each.data_ptr() == tensor.data_ptr()]
        if len(same) != 1 or same[0].shape != tensor.shape:
            raise _Refusal("a parameter that would change is shared or computed")
        return same[0]

    def _remember(self, parameter: Tensor) -> None:
        if not any(each is parameter for each, _ in self.before):
            self.before.append((parameter, parameter.detach().clone()))


def _norm_weight(norm: Scaled) -> _Divide:
    """How this norm's weight is divided: tried out on the input that it had, by halving its output."""
    weight, bias = norm.module.weight, getattr(norm.module, "bias", None)
    before = [each.detach().clone() for each in (weight, bias) if each is not None]
    expected = norm.module(*norm.args, **norm.kwargs) / 2
    try:
        if bias is not None:
            bias.copy_(bias / 2)
        for divide in _NORM_WEIGHTS:
            weight.copy_(divide(before[0], 2.0))
            error = (norm.module(*norm.args, **norm.kwargs) - expected).float().norm()
            if error <= 0.02 * expected.float().norm():
                return divide
    finally:
        for parameter, value in zip([each for each in (weight, bias) if each is not None], before, strict=True):
            parameter.copy_(value)
    raise _Refusal(f"{norm.path}, which makes its input, does not scale with its weight")
