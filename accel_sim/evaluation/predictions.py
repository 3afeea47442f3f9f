"""Means over what was measured of predictors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from statistics import fmean

from accel_sim.sparsify.contextual.metrics import PredictorQuality


def mean_quality(qualities: Iterable[PredictorQuality]) -> PredictorQuality:
    """Of windows, or of layers; what one of them has not takes no part in its mean."""
    qualities = list(qualities)
    known = {
        field.name: [value for one in qualities if (value := getattr(one, field.name)) is not None]
        for field in fields(PredictorQuality)
    }
    return PredictorQuality(**{name: fmean(values) if values else None for name, values in known.items()})
