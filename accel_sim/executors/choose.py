"""One FFN, one call, an executor by name; and what each name needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.executors import reference
from accel_sim.executors.ffn import GatedFFN
from accel_sim.executors.masks import FetchedRows, Outcome, Pipeline, check_activations, check_mask
from accel_sim.executors.numba_executor import NumbaExecutor
from accel_sim.executors.predictor import low_rank_of
from accel_sim.executors.quantized import QuantizedFFN

EXECUTORS = ("numba", "gather", "triton", "masked_dense")


def check_executor(executor: str) -> None:
    """Raise AccelSimError for no executor."""
    if executor not in EXECUTORS:
        raise AccelSimError(f"executor {executor!r}: expected one of {', '.join(EXECUTORS)}")


def run(
    ffn: GatedFFN | QuantizedFFN,
    x: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    predictor: Any = None,
    executor: str = "numba",
    pipeline: Pipeline = "sequential",
    device: str = "cpu",
) -> Outcome:
    """Outputs float32 [T, d] as a NumPy array, for x float [T, d].

    What may be active is said by `mask` [T, D] (bool, or scores, of which those above 0 count), or by `predictor`
    (`down`, `up` and `bias`, or a method `predict` of torch [T, d] → bool [T, D]), or by neither: then gate is computed
    whole and skips the rest. `device` is that of `gather` and `triton`. For one FFN many times, keep an executor.

    Raises AccelSimError for input that the executors refuse, for a mask beside a predictor, and for an INT8 FFN with
    an executor other than `numba` and `masked_dense`.
    """
    check_executor(executor)
    if mask is not None and predictor is not None:
        raise AccelSimError("both a mask and a predictor: one of them says which neurons may be active")
    x = check_activations(x, ffn.features)
    if executor == "numba" and low_rank_of(predictor) is not None:
        return NumbaExecutor(ffn).run_predicted(x, predictor, pipeline)
    if predictor is not None:
        mask = predicted_mask(predictor, x)
    mask = check_mask(mask, x.shape[0], ffn.neurons, pipeline)
    if executor == "numba":
        return NumbaExecutor(ffn).run(x, mask, pipeline)
    if executor == "masked_dense":
        dense = reference.int8 if isinstance(ffn, QuantizedFFN) else reference.masked_dense
        return Outcome(dense(ffn, x, mask), FetchedRows(*3 * (ffn.neurons,)))
    return _on_torch(ffn, x, mask, executor, pipeline, device)


def predicted_mask(predictor: Any, x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What a predictor says about x [T, d]: bool [T, D]. Raises AccelSimError for an object that is no predictor."""
    thin = low_rank_of(predictor)
    if thin is not None:
        return x @ thin.down.T @ thin.up.T + thin.bias > 0
    if not hasattr(predictor, "predict"):
        raise AccelSimError(
            f"predictor {type(predictor).__name__}: expected arrays down, up and bias, or a method predict"
        )
    import torch

    return predictor.predict(torch.from_numpy(x)).cpu().numpy()


def _on_torch(
    ffn: GatedFFN | QuantizedFFN,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    executor: str,
    pipeline: Pipeline,
    device: str,
) -> Outcome:
    import torch

    from accel_sim.executors.gather import GatherExecutor
    from accel_sim.executors.torch_ffn import TorchFFN
    from accel_sim.executors.triton_executor import TritonExecutor

    if isinstance(ffn, QuantizedFFN):
        raise AccelSimError(f"executor {executor!r} has no INT8 form; expected numba or masked_dense")
    tensors = TorchFFN.of(ffn, device)
    chosen = (GatherExecutor if executor == "gather" else TritonExecutor)(tensors)
    outcome = chosen.run(torch.from_numpy(x).to(device), torch.from_numpy(mask).to(device), pipeline)
    return Outcome(outcome.y.cpu().numpy(), outcome.rows)
