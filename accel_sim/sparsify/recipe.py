"""Recipes: which projection of which layer is sparsified how, from a YAML file.

    description: what it is, and of which paper
    default:
      pattern: "8:16"
      criterion: amber_robust
    rules:
      - projections: [k_proj, v_proj, o_proj, up_proj]
        pattern: dense

A rule states only what differs from the default; the LAST rule that matches a projection decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, WithJsonSchema, model_validator

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.sparsify.contextual.options import PredictorOptions
from accel_sim.sparsify.kept import DENSE, Kept, Unstructured, parse_kept
from accel_sim.workload.rules import Projections, Strict
from accel_sim.yaml_file import find_yaml, read_yaml, shipped_yaml

_SHIPPED = Path(__file__).parent / "data" / "recipes"

Part = TypeVar("Part", bound=Strict)
Phase = Literal["prefill", "decode"]
Criterion = Literal[
    "magnitude",
    "clact",
    "clact_running",
    "amber",
    "amber_robust",
    "wina",
    "r_sparse",
    "gradient",
    "weight_variance",
    "random",
]
KeptOrDense = Annotated[
    Kept | None,
    BeforeValidator(parse_kept),
    PlainSerializer(lambda kept: str(kept) if kept else DENSE),
    WithJsonSchema({"type": "string", "examples": ["8:16", "unstructured 50%", "threshold 50%", DENSE]}),
]


def _weight_pattern(value: Any) -> Pattern:
    kept = parse_kept(value)
    if not isinstance(kept, Pattern) and not (isinstance(kept, Unstructured) and kept.by == "token"):
        raise AccelSimError(f"{value!r}: expected N:M in quotes, or 'unstructured 50%'")
    return kept


class Smoothing(Strict):
    """Scales s_j that move range between activations and weights: X̂ = X·diag(s)⁻¹, Ŵ = W·diag(s), product unchanged.

    s_j = max|X_j|^alpha / max|W_j|^(1 − alpha) (SmoothQuant, arXiv 2211.10438, eq. 4), the weights' maximum over all
    projections that share the input; `inverted` takes 1/s_j (Outstanding-sparse, arXiv 2508.02128). PCS of arXiv
    2509.22166 is alpha 0.5.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)
    inverted: bool = False


class LowRank(Strict):
    """A dense product of rank `rank` for what selection drops: Y = X̂·Wᵀ + (X − X̂)·(A·B)ᵀ (R-Sparse, 2504.19449)."""

    rank: int = Field(ge=1)
    factors: Literal["svd", "fitted"] = "svd"
    """`svd`: truncated SVD of W. `fitted`: the factors of least error on the calibration's own dropped elements."""


class WeightPruning(Strict):
    """Static sparsity of the weights, along the features of each output."""

    pattern: Annotated[
        Pattern | Unstructured,
        BeforeValidator(_weight_pattern),
        PlainSerializer(str),
        WithJsonSchema({"type": "string", "examples": ["2:4", "unstructured 50%"]}),
    ]
    criterion: Literal["magnitude", "wanda", "sparsegpt"] = "magnitude"
    """|W|; |W|·‖X_j‖ (arXiv 2306.11695); SparseGPT, which updates what is left (arXiv 2301.00774)."""


class Treatment(Strict):
    """What is done to one projection, in this order: smoothing, rotation, shift, selection, variance, quantisation."""

    pattern: KeptOrDense = None
    """N:M, `unstructured 50%` (of each token), `threshold 50%` (one threshold a site), or `dense`."""
    criterion: Criterion = "magnitude"
    """Scores are |x_j|·f_j: f = 1; the column norm over the sequence (`clact`: later tokens too, as published;
    `clact_running`: up to this token); ‖W_j‖ (`amber`, `wina`, `r_sparse`); the standardised column's norm
    (`amber_robust`); |Σ dL/dX_j| (`gradient`); Var W_j; or a random number instead of all that."""
    outliers: Literal["keep", "zero", "clip"] = "keep"
    """`amber_robust`: what enters the norm for weights outside the 0.5 and 99.5 percentiles."""
    shift: Literal["none", "median", "mean", "static", "static_vector", "learned"] = "none"
    """η that is subtracted before selection and comes back as η·(W·1): the token's median or mean (D-PTS), one number
    or one per feature from calibration (S-PTS), or learned per feature (L-PTS at the input)."""
    variance: bool = False
    """Scale what is kept by √(Var[X]/Var[X̂]) per token (VAR)."""
    output: Literal["none", "shift", "scale_and_shift"] = "none"
    """Per output, fitted to the dense layer's outputs: L-PTS at the output, or LS with it."""
    smoothing: Smoothing | None = None
    rotation: Literal["none", "activations", "weights"] = "none"
    """Select in a rotated basis: principal axes of the activations (La RoSA, 2507.01299), or the right singular vectors
    of the weights (what WINA, 2505.19427, asks for). Costs a product K×K where it cannot be folded."""
    low_rank: LowRank | None = None
    weights: WeightPruning | None = None
    precision: Literal["float", "w8a8"] = "float"
    """`w8a8`: INT8 codes of activations and weights (per output), INT32 sums."""
    activation_scale: Literal["token", "tensor"] = "token"
    """Of `w8a8`: dynamic per token, or static per tensor from calibration."""
    score: Literal["floats", "codes"] = "floats"
    """Select by floats, as the papers do, or by INT8 codes and 8-bit factors, as the hardware does (`w8a8` alone)."""
    neurons: PredictorOptions | None = None
    """Of a gate projection: its outputs that a predictor calls dead are not computed, and count as zero."""
    phase: Literal["prefill", "decode", "both"] = "both"
    """When activations are pruned and neurons predicted; otherwise the projection runs without pattern, mitigations and
    predictor."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.score == "codes" and self.precision != "w8a8":
            raise AccelSimError("score codes: needs precision w8a8; floats have no codes")
        if isinstance(self.pattern, Unstructured) and self.pattern.by == "threshold":
            if self.score == "codes":
                raise AccelSimError("score codes: a threshold is one of floats; take score floats")
            if self.criterion in ("clact", "clact_running", "random"):
                raise AccelSimError(
                    f"criterion {self.criterion}: its scores change from text to text, and no threshold fits them; "
                    f"take pattern unstructured {100 * self.pattern.pruned:g}%"
                )
        return self

    def predicts(self, phase: Phase) -> bool:
        """Whether neurons are predicted in `phase`."""
        return self.neurons is not None and self.phase in ("both", phase)

    def prunes(self, phase: Phase | None = None) -> bool:
        """Whether activations are pruned, in `phase` or at all."""
        return self.pattern is not None and (phase is None or self.phase in ("both", phase))

    def effective(self) -> Treatment:
        """The same without what has no effect where nothing is pruned."""
        return self if self.prunes() else self.without_pruning()

    def without_pruning(self) -> Treatment:
        """The same where nothing is pruned: smoothing, rotation, weights, precision and predicted neurons stay."""
        kept = ["smoothing", "rotation", "weights", "precision", "activation_scale", "neurons"]
        kept += ["phase"] if self.neurons else []
        return Treatment(**{name: getattr(self, name) for name in kept})


class Rule(Projections):
    """What differs from the default, for the projections that it matches."""

    treatment: Treatment
    """The default with the rule's own keys in place."""


@dataclass(frozen=True)
class Recipe:
    """How each projection is sparsified. Built by :func:`load_recipe` or :func:`recipe_from_mapping`."""

    name: str
    description: str
    default: Treatment
    rules: tuple[Rule, ...] = ()

    def treatment(self, projection: str, layer: int | None) -> Treatment:
        """Of the projection with this module path, in this decoder block."""
        matching = (rule.treatment for rule in reversed(self.rules) if rule.matches(projection, layer))
        return next(matching, self.default)

    @property
    def treatments(self) -> tuple[Treatment, ...]:
        """The default's and every rule's, each once."""
        return tuple(dict.fromkeys((self.default, *(rule.treatment for rule in self.rules))))

    @property
    def does_anything(self) -> bool:
        """Whether any projection may be treated at all."""
        return any(treatment.effective() != Treatment() for treatment in self.treatments)

    def with_pattern(self, pattern: Pattern) -> Recipe:
        """The recipe with `pattern` wherever it prunes activations, and said so in its name and description."""

        def changed(treatment: Treatment) -> Treatment:
            return treatment.model_copy(update={"pattern": pattern}) if treatment.prunes() else treatment

        rules = tuple(rule.model_copy(update={"treatment": changed(rule.treatment)}) for rule in self.rules)
        recipe = replace(self, default=changed(self.default), rules=rules)
        said = f"{self.name} with {pattern}"
        return self if recipe == self else replace(recipe, name=said, description=said)

    def as_mapping(self) -> dict[str, Any]:
        """What a recipe file holds; :func:`recipe_from_mapping` gives the recipe back."""
        default = self.default.model_dump(exclude_defaults=True)
        rules = []
        for rule in self.rules:
            where: dict[str, Any] = {"projections": list(rule.projections)}
            if rule.layers is not None:
                where["layers"] = sorted(rule.layers)
            base, own = self.default.model_dump(), rule.treatment.model_dump()
            # A rule that gives the default back to what an earlier one changed must say something too.
            changed = {key: value for key, value in own.items() if value != base[key]}
            rules.append(where | (changed or {"pattern": own["pattern"]}))
        return {"description": self.description, "default": default, "rules": rules}


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file."""
    treatment, place = Treatment.model_json_schema(), Projections.model_json_schema()
    parts = treatment.pop("$defs")
    rule = {**treatment, "title": "Rule", "properties": {**place["properties"], **treatment["properties"]}}
    return {
        "title": "Recipe",
        "type": "object",
        "additionalProperties": False,
        "$defs": {**parts, "Treatment": treatment, "Rule": rule},
        "properties": {
            "description": {"type": "string", "description": "One sentence for people, with its source."},
            "default": {"$ref": "#/$defs/Treatment"},
            "rules": {
                "type": "array",
                "description": "Each states what differs from the default; the last one that matches decides.",
                "items": {"$ref": "#/$defs/Rule"},
            },
        },
    }


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return shipped_yaml(_SHIPPED)


def find_recipe(source: str | Path) -> Path:
    """The recipe file, or the shipped one of that name. Raises AccelSimError where there is neither."""
    return find_yaml(Path(source), _SHIPPED, "recipe")


def load_recipe(source: str | Path) -> Recipe:
    """Read a recipe file, or the shipped recipe of that name.

    Raises AccelSimError (one line, naming file and key) for a file that is not there or not a recipe.
    """
    path = find_recipe(source)
    return recipe_from_mapping(path.stem, read_yaml(path, "recipe"), f"recipe {path}")


def recipe_from_mapping(name: str, content: Any, where: str | None = None) -> Recipe:
    """A recipe from what its file holds. Raises AccelSimError, which starts with `where`, for wrong keys or values."""
    where = where or f"recipe {name}"
    _check_keys(where, "", content, ("description", "default", "rules"))
    default_keys = content.get("default", {})
    _check_keys(where, "default", default_keys, Treatment.model_fields)
    default = _validated(where, "default", Treatment, default_keys)
    rules = []
    given = content.get("rules") or []
    if not isinstance(given, list):
        raise AccelSimError(f"{where}: rules: expected a list")
    for number, keys in enumerate(given):
        at = f"rules[{number}]"
        _check_keys(where, at, keys, (*Projections.model_fields, *Treatment.model_fields))
        own = {key: value for key, value in keys.items() if key in Treatment.model_fields}
        if not own:
            raise AccelSimError(f"{where}: {at}: changes nothing; expected one of {', '.join(Treatment.model_fields)}")
        place = {key: value for key, value in keys.items() if key in Projections.model_fields}
        treatment = _validated(where, at, Treatment, {**default_keys, **own})
        rules.append(_validated(where, at, Rule, {**place, "treatment": treatment}))
    description = content.get("description") or ""
    if not isinstance(description, str):
        raise AccelSimError(f"{where}: description: expected a sentence")
    return Recipe(name, description, default, tuple(rules))


def _check_keys(where: str, at: str, content: Any, accepted: Any) -> None:
    place = f"{where}: {at}" if at else where
    if not isinstance(content, dict):
        raise AccelSimError(f"{place}: expected keys and values; accepted here: {', '.join(accepted)}")
    for key in content:
        if key not in accepted:
            path = f"{at}.{key}" if at else key
            raise AccelSimError(f"{where}: {path}: unknown key; accepted here: {', '.join(accepted)}")


def _validated(where: str, at: str, kind: type[Part], content: dict[str, Any]) -> Part:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join((at, *(str(part) for part in problem["loc"])))
        message = problem["msg"].removeprefix("Value error, ")
        raise AccelSimError(f"{where}: {path}: {message}") from None
