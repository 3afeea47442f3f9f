"""Where the non-zeros of real activations are, and what that makes a sparse array do.

Functions of INT8 codes that know nothing of tiles or memories: the timing model asks how long every window of a token
panel takes (`elastic_windows`, `unstructured_windows`) and which features a batch needs at all (`needed_features`).
Each also runs on statistical stand-ins for the real masks (`Masks`), so that the error of a statistic can be measured.
This imports Numba only when a window is first timed.
"""

from accel_sim.occupancy.features import needed_features
from accel_sim.occupancy.masks import DRAWN_MODELS, MASK_MODELS, REAL_MASKS, MaskModel, Masks, drawn_masks
from accel_sim.occupancy.windows import WindowTimes, elastic_windows, unstructured_windows

__all__ = [
    "DRAWN_MODELS",
    "MASK_MODELS",
    "REAL_MASKS",
    "MaskModel",
    "Masks",
    "WindowTimes",
    "drawn_masks",
    "elastic_windows",
    "needed_features",
    "unstructured_windows",
]
