"""From a treatment, a weight and the rows that a projection reads in calibration to what runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.quantize.int8 import LARGEST_CODE
from accel_sim.sparsify.arithmetic import quantize
from accel_sim.sparsify.context import Context
from accel_sim.sparsify.criteria import WeightCriterion, weight_factors
from accel_sim.sparsify.kept import Unstructured
from accel_sim.sparsify.learned import fit_output, learn_shift
from accel_sim.sparsify.low_rank import fitted_factors, svd_factors
from accel_sim.sparsify.product import TreatedProduct, WeightCodes
from accel_sim.sparsify.recipe import Recipe, Treatment
from accel_sim.sparsify.rotation import principal_axes, right_singular_vectors
from accel_sim.sparsify.selection import calibrated_threshold
from accel_sim.sparsify.smoothing import smoothing_scales
from accel_sim.sparsify.torch_selection import token_medians
from accel_sim.sparsify.weight_pruning import prune_weight


@dataclass(frozen=True, eq=False)
class Calibration:
    """What one projection reads in calibration, and what is known besides."""

    rows: Tensor | None
    """float32 [n, K], no padding; None where no calibration text was given."""
    sequences: int = 1
    """Of equal length that the rows are, one after the other; norms over a sequence need them apart."""
    siblings: Sequence[Tensor] = ()
    """Weights [F_i, K] of all projections that read the same activations, this one included."""
    gradient: Tensor | None = None
    """|Σ dL/dX_j| [K]."""
    shared: dict[Hashable, Tensor] = field(default_factory=dict)
    """What was worked out for the activations, whichever projection asked first."""

    def once(self, key: Hashable, work_out: Callable[[], Tensor]) -> Tensor:
        """One tensor for all projections that read the activations, so that they can share what follows from it."""
        if key not in self.shared:
            self.shared[key] = work_out()
        return self.shared[key]


def needs_calibration(treatment: Treatment) -> str | None:
    """The key of the treatment that cannot do without calibration text; None where nothing needs it."""
    pattern = treatment.pattern
    needs = {
        "smoothing": treatment.smoothing is not None,
        "rotation: activations": treatment.rotation == "activations",
        "activation_scale: tensor": treatment.precision == "w8a8" and treatment.activation_scale == "tensor",
        "weights.criterion": treatment.weights is not None and treatment.weights.criterion != "magnitude",
        "pattern: threshold": isinstance(pattern, Unstructured) and pattern.by == "threshold",
        f"shift: {treatment.shift}": treatment.prunes() and treatment.shift in ("static", "static_vector", "learned"),
        "low_rank.factors: fitted": treatment.low_rank is not None and treatment.low_rank.factors == "fitted",
        "output": treatment.prunes() and treatment.output != "none",
        "neurons": treatment.neurons is not None,
        "criterion: gradient": treatment.prunes() and treatment.criterion == "gradient",
    }
    return next((key for key, needed in needs.items() if needed), None)


def check_calibration(recipe: Recipe) -> None:
    """Raise AccelSimError for a recipe that needs calibration text."""
    for treatment in recipe.treatments:
        key = needs_calibration(treatment)
        if key is not None:
            raise AccelSimError(f"recipe {recipe.name}: {key}: needs calibration text, and none was given")


def fit(treatment: Treatment, weight: Tensor, calibration: Calibration) -> TreatedProduct:
    """The treated product of a projection with weight [F, K], each step worked out on what the steps before leave.

    Raises AccelSimError for a rank that the weight has not.
    """
    x = None if calibration.rows is None else calibration.rows.float()
    w, smoothing, rotation = weight, None, None
    if treatment.smoothing is not None:
        smoothing = calibration.once(
            treatment.smoothing,
            lambda: smoothing_scales(x.abs().amax(dim=0), calibration.siblings, treatment.smoothing),
        )
        x, w = x / smoothing, w.float() * smoothing
    if treatment.rotation != "none":
        if treatment.rotation == "weights":
            rotation = right_singular_vectors(w)
        else:
            rotation = calibration.once(("axes", treatment.smoothing), lambda: principal_axes(x))
        x, w = None if x is None else x @ rotation, w.float() @ rotation
    if treatment.weights is not None:
        w = prune_weight(w.float(), treatment.weights, x)
    product = TreatedProduct(treatment, w, smoothing, rotation)
    if treatment.precision == "w8a8":
        codes, scales = quantize(w.float())
        product = replace(product, weight_codes=WeightCodes(codes, scales[:, 0]))
        if treatment.activation_scale == "tensor":
            product = replace(product, tensor_scale=float(x.abs().max()) / LARGEST_CODE or 1.0)
    if treatment.prunes():
        product = _fit_pruning(product, x, calibration.gradient)
    if treatment.prunes() and treatment.output != "none":
        context = Context(_a_phase(treatment), calibration.sequences, len(x) // calibration.sequences)
        sparse = product.multiply(product.prepare(calibration.rows, context), None, context)
        dense = calibration.rows.float() @ weight.float().T
        scale, shift = fit_output(dense, sparse, treatment.output)
        product = replace(product, output_scale=scale if treatment.output == "scale_and_shift" else None)
        product = replace(product, output_shift=shift)
    return product


def _fit_pruning(product: TreatedProduct, x: Tensor | None, gradient: Tensor | None) -> TreatedProduct:
    """Factors, shift, threshold and low-rank factors, for rows [n, K] and a weight as they stand at the selection."""
    treatment, w = product.treatment, product.weight.float()
    factors = None
    if treatment.criterion in get_args(WeightCriterion):
        table = weight_factors(treatment.criterion, w.cpu().numpy(), treatment.outliers)
        factors = torch.from_numpy(table).float().to(w.device)
    elif treatment.criterion == "gradient":
        factors = gradient.float()
    product = replace(product, factors=factors)
    if treatment.shift == "static":
        product = replace(product, shift=token_medians(x).mean())
    elif treatment.shift == "static_vector":
        product = replace(product, shift=x.mean(dim=0))
    product = _with_threshold(product, x)
    if treatment.shift == "learned":
        product = replace(product, shift=learn_shift(x, w, _selection(product)))
        product = _with_threshold(product, x)  # it was that of the activations as they are
    if treatment.shift != "none":
        by_feature = product.shift is not None and product.shift.dim() == 1
        multiplied = (
            w if product.weight_codes is None else product.weight_codes.values * product.weight_codes.scales[:, None]
        )
        product = replace(product, shift_back=multiplied @ product.shift if by_feature else multiplied.sum(dim=1))
    if treatment.low_rank is not None:
        product = replace(product, low_rank=_low_rank(product, x))
    return product


def _selection(product: TreatedProduct):
    """x [n, K] → x̂, without shift."""
    context = Context(_a_phase(product.treatment), 1, 1)
    plain = replace(product, shift=None, treatment=product.treatment.model_copy(update={"shift": "none"}))
    return lambda x: plain._select(x, replace(context, length=len(x)), None)


def _shifted(product: TreatedProduct, x: Tensor) -> Tensor:
    """x − η [n, K]: what is scored."""
    eta = product.shift_of(x)
    return x if eta is None else x - eta


def _with_threshold(product: TreatedProduct, x: Tensor | None) -> TreatedProduct:
    pattern = product.treatment.pattern
    if not (isinstance(pattern, Unstructured) and pattern.by == "threshold"):
        return product
    factors = None if product.factors is None else product.factors.cpu().numpy()
    found = calibrated_threshold(_shifted(product, x).cpu().numpy(), pattern.pruned, factors)
    return replace(product, threshold=found)


def _low_rank(product: TreatedProduct, x: Tensor | None) -> tuple[Tensor, Tensor]:
    wanted, w = product.treatment.low_rank, product.weight.float()
    if wanted.factors == "svd":
        return svd_factors(w, wanted.rank)
    shifted = _shifted(product, x)
    return fitted_factors(w, shifted - _selection(product)(shifted), wanted.rank)


def _a_phase(treatment: Treatment) -> str:
    """One in which the treatment prunes."""
    return "decode" if treatment.phase == "decode" else "prefill"
