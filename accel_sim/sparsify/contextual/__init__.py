"""Contextual sparsity: small predictors of which neurons of a gated FFN a token needs (SVDP, arXiv 2603.14110).

A predictor is fitted offline, layer by layer (`fit.py`), from the layer's weights and what it reads in calibration:

    whitening.py → svd.py, trained.py: scores → thresholds.py: biases → predictor.py → metrics.py, storage.py

What this package itself exports needs no torch; the modules named above, but for `thresholds.py`, do.
"""

from accel_sim.sparsify.contextual.cost import multiplications
from accel_sim.sparsify.contextual.options import PredictorOptions

__all__ = ["PredictorOptions", "multiplications"]
