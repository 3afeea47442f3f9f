"""What a model that was turned into a ReLU one computes beyond its configuration, and its label file.

transformers expresses a ReLU in the gate (`hidden_act`). It has no word for a ReLU on the up projection too (dReLU,
arXiv 2406.05955) nor for a threshold above zero (FATReLU, arXiv 2402.13516). A folder that `accel-sim reluify` wrote
says so in `reluified.json`, and `load_model` applies it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from accel_sim.capture.gated_mlps import gated_mlps
from accel_sim.errors import AccelSimError

if TYPE_CHECKING:  # so that settings can be checked where torch is not installed
    import torch
    from torch import nn

LABEL_NAME = "reluified.json"
Activation = Literal["relu", "drelu"]
_CONFIG_KEYS = ("hidden_act", "hidden_activation")


@dataclass(frozen=True)
class ReluForm:
    """FFN(x) = W_down(f(W_gate x) ⊙ g(W_up x)), where f(v) is v above `threshold` and else 0.

    g is the identity (`relu`) or f with threshold 0 (`drelu`). Raises AccelSimError for another activation and for a
    threshold below 0.
    """

    activation: Activation = "relu"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation):
            known = ", ".join(get_args(Activation))
            raise AccelSimError(f"--activation {self.activation}: expected one of {known}")
        if not 0 <= self.threshold < float("inf"):
            raise AccelSimError(f"--threshold {self.threshold:g}: expected a number from 0 on")

    @property
    def is_stock(self) -> bool:
        """True where `hidden_act: relu` says it all."""
        return self == ReluForm()

    def gate_activation(self) -> nn.Module:
        """f. A threshold of 0 is ReLU itself."""
        from torch import nn

        return nn.Threshold(self.threshold, 0.0) if self.threshold else nn.ReLU()


def apply_form(model: nn.Module, form: ReluForm) -> None:
    """Make every gated FFN of `model` compute `form`, weights untouched, and its configuration say so.

    To be called once on a model. Raises AccelSimError for a model without gated FFNs.
    """
    for mlp in gated_mlps(model).values():
        mlp.act_fn = form.gate_activation()
        if form.activation == "drelu":
            mlp.up_proj.register_forward_hook(_rectify)
    config = model.config.get_text_config(decoder=True)
    for key in _CONFIG_KEYS:
        if hasattr(config, key):
            setattr(config, key, "relu")
    if not form.is_stock:  # so that two models which compute different things have different configurations
        config.relu_form = asdict(form)


def read_form(folder: Path) -> ReluForm | None:
    """The form that a folder's label names; None for a folder without a label.

    Raises AccelSimError for a label that is none.
    """
    path = folder / LABEL_NAME
    if not path.is_file():
        return None
    try:
        form = json.loads(path.read_text(encoding="utf-8"))["form"]
        return ReluForm(str(form["activation"]), float(form["threshold"]))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, AccelSimError):
            raise AccelSimError(f"{path}: {str(error).removeprefix('--')}") from None
        raise AccelSimError(f"{path}: not a label that `accel-sim reluify` wrote: no form in it") from None


def apply_label(model: nn.Module, folder: Path) -> None:
    """Apply what a folder's label names beyond the configuration that transformers has read; no label, nothing."""
    form = read_form(folder)
    if form is not None and not form.is_stock:
        apply_form(model, form)


def _rectify(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
    return output.relu()
