"""Teacher and student: the model as it was, and the one whose FFNs learn."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from accel_sim.capture.gated_mlps import PROJECTIONS, gated_mlps
from accel_sim.capture.relu_form import ReluForm, apply_form
from accel_sim.errors import AccelSimError


@dataclass(frozen=True, eq=False)
class Pair:
    """A teacher that stays, and a student of which the FFN weights alone learn."""

    teacher: nn.Module
    """In the type of the arithmetic."""
    student: nn.Module
    """FFN weights in float32, which small steps do not vanish in; all others as they were loaded."""
    arithmetic: torch.dtype
    """Of the forward passes: float32 or bfloat16."""

    @property
    def mlps(self) -> tuple[nn.Module, ...]:
        """The student's FFNs, layer by layer."""
        return tuple(gated_mlps(self.student).values())

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by their name in the student."""
        return {name: each for name, each in self.student.named_parameters() if each.requires_grad}

    def computing(self) -> AbstractContextManager:
        """A context in which the student computes in `arithmetic`."""
        device = next(self.student.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.arithmetic == torch.bfloat16)


def pair_of(model: nn.Module, arithmetic: torch.dtype) -> Pair:
    """`model`, which becomes the student and is a copy of the teacher until `swap`.

    Raises AccelSimError for a model without gated FFNs, for one whose gates are ReLUs already, and for one of
    quantised weights.
    """
    for layer, mlp in enumerate(gated_mlps(model).values()):
        if isinstance(mlp.act_fn, nn.ReLU | nn.Threshold):
            raise AccelSimError(
                f"{type(model).__name__}: layer {layer} has a ReLU in its gate already; expected SiLU, GELU or the like"
            )
    _forget_quantisation(model)
    model.requires_grad_(False)
    teacher = copy.deepcopy(model)
    for parameter in teacher.parameters():  # not the buffers: the rotary frequencies must stay exact
        parameter.data = parameter.data.to(arithmetic)
    for mlp in gated_mlps(model).values():
        mlp.float()
        for name in PROJECTIONS:
            mlp.get_submodule(name).requires_grad_(True)
    return Pair(teacher, model, arithmetic)


def _forget_quantisation(model: nn.Module) -> None:
    """A model from a GGUF file has plain weights, but its notes of where it is from would keep it from being saved."""
    quantised = next((name for name, each in model.named_parameters() if not each.is_floating_point()), None)
    if quantised is not None:
        raise AccelSimError(
            f"{type(model).__name__}: {quantised} is quantised; expected a model of floating-point weights"
        )
    quantiser = getattr(model, "hf_quantizer", None)
    if quantiser is not None:
        quantiser.remove_quantization_config(model)


def swap(pair: Pair, form: ReluForm) -> None:
    """Give the student its new activation. Raises AccelSimError where a saved configuration would not express it."""
    apply_form(pair.student, form)
    with torch.device("meta"):
        rebuilt = type(pair.student)(pair.student.config)
    if not all(isinstance(mlp.act_fn, nn.ReLU) for mlp in gated_mlps(rebuilt).values()):
        raise AccelSimError(
            f"{type(pair.student).__name__}: a model saved with its configuration would not have a ReLU (no hidden_act)"
        )
