"""How well neurons are predicted, as files: a picture, the data of every layer (JSON, CSV), and a table (Markdown)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from accel_sim.files import replacing
from accel_sim.study.figures import light_bytes
from accel_sim.study.predictor_plot import draw_predictors
from accel_sim.study.predictor_study import PredictedModel
from accel_sim.study.text import csv_text, json_text, markdown_table

SCHEMA_VERSION = 1
HEADER = [
    "recipe",
    "perplexity",
    "over the model",
    "95%",
    "KL, nats",
    "top-1",
    "gate zeros",
    "predicted",
    "realised",
    "recall",
    "precision",
    "ROC-AUC (least)",
    "FFN error",
]
LEGEND = (
    "over the model: perplexity over that of the same model with all neurons; gate zeros: share of (token, neuron)"
    " pairs whose gate is zero; predicted: share predicted inactive, for which neither gate nor anything behind it is"
    " computed; realised: share that reaches neither up nor down, predicted inactive or found so at the gate; recall:"
    " of the active pairs, those predicted; precision: of the predicted pairs, those active; ROC-AUC of the scores,"
    " mean over the layers and the least of them; FFN error: ‖ŷ − y‖ / ‖y‖ of a layer's FFN alone. Shares are means"
    " over layers."
)


def write_predictors(found: Sequence[PredictedModel], source: str, folder: Path) -> list[Path]:
    """Write everything to `folder` and return the paths. OSError passes through with no file half written."""
    rows = [
        {"recipe": one.recipe, "layer": layer} | asdict(quality) for one in found for layer, quality in one.layers()
    ]
    summaries = [
        {
            "recipe": one.recipe,
            "tokens": one.evaluation.tokens,
            "perplexity": one.evaluation.perplexity,
            "over_model": one.evaluation.over_dense,
            "over_model_ci": list(one.evaluation.over_dense_ci),
            "kl": one.evaluation.kl,
            "top1_agreement": one.evaluation.top1_agreement,
        }
        | asdict(one.mean)
        for one in found
    ]
    content = {"schema_version": SCHEMA_VERSION, "source": source, "recipes": summaries, "layers": rows}
    contents = {
        "predictors.json": json_text(content).encode(),
        "predictors.csv": csv_text(rows).encode(),
        "predictors.md": markdown(found, source).encode(),
    }
    figure = draw_predictors(found, source)
    contents |= {f"predictors.{kind}": light_bytes(figure, kind) for kind in ("png", "svg")}
    for name, each in contents.items():
        with replacing(folder / name, "wb") as stream:
            stream.write(each)
    return [folder / name for name in contents]


def markdown(found: Sequence[PredictedModel], source: str) -> str:
    return (
        "\n".join([f"Predicted neurons: {source}.\n", markdown_table(HEADER, list(map(cells, found))), LEGEND]) + "\n"
    )


def cells(one: PredictedModel) -> list[str]:
    """A row under `HEADER`."""
    quality, mean = one.evaluation, one.mean
    least = min((each.roc_auc for each in one.gates.values() if each.roc_auc is not None), default=None)
    auc = "–" if least is None else f"{mean.roc_auc:.3f} ({least:.3f})"
    return [
        one.recipe,
        f"{quality.perplexity:,.2f}",
        f"{quality.over_dense:+.2%}",
        f"{quality.over_dense_ci[0]:+.2%} to {quality.over_dense_ci[1]:+.2%}",
        f"{quality.kl:.4f}",
        f"{quality.top1_agreement:.1%}",
        *map(_share, (mean.gate_sparsity, mean.predicted_sparsity, mean.realised_sparsity)),
        *map(_share, (mean.recall, mean.precision)),
        auc,
        f"{mean.output_error:.3f}",
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
