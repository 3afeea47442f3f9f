"""A live model of transformers whose FFNs run on an executor while it decodes.

Prefill stays dense and unchanged (SVDP §2). A hook on the decoder tells decode steps (one new token behind a cache)
from prefill; in a decode step every block's MLP is answered by its executor. Modules and weights stay as they are, so
`generate` and evaluation harnesses work, and :meth:`Attached.remove` leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from accel_sim.capture.projections import decoder_of
from accel_sim.errors import AccelSimError
from accel_sim.executors.choose import check_executor
from accel_sim.executors.masks import FetchedRows, Outcome, Pipeline, check_pipeline
from accel_sim.executors.numba_executor import NumbaExecutor
from accel_sim.executors.predictor import low_rank_of
from accel_sim.executors.quantized import QuantizedFFN
from accel_sim.executors.relu_mlp import GatedMLP, relu_mlps
from accel_sim.sparsify.live import sparsifier_of

Weights = Literal["stored", "int8"]
_ATTRIBUTE = "_accel_sim_executors"


@dataclass(frozen=True)
class Fetched:
    """Rows that all decode steps so far read, over all layers, beside those that a dense model reads."""

    steps: int
    """Calls of an FFN: decode steps · layers."""
    gate: int
    up: int
    down: int
    dense: int
    """Of each of the three matrices."""


def attach(
    model: nn.Module,
    predictors: Sequence[Any] | None = None,
    executor: str = "numba",
    pipeline: Pipeline = "sequential",
    weights: Weights = "stored",
) -> Attached:
    """Make `model` decode with `executor`; `predictors` has one for each layer, or is None.

    A predictor is an object with `predict(x [T, d]) -> bool [T, D]`, or with arrays `down`, `up` and `bias` (which
    `numba` runs itself). Without predictors gate is computed whole and only what it leaves of up and down: what a ReGLU
    model can do with no predictor at all. `weights="int8"` quantises (`numba` only). Weights are read now: down is
    copied, transposed, and a later change to any of them is not seen.

    Raises AccelSimError for a model whose blocks hold no llama-like MLP with a ReLU (naming the block), for the wrong
    number of predictors, for the parallel pipeline without predictors, for a model on a device that the executor cannot
    use, and for a model that runs a recipe (`accel_sim.sparsify`) or an executor already.
    """
    check_executor(executor)
    check_pipeline(pipeline)
    if getattr(model, _ATTRIBUTE, None) is not None:
        raise AccelSimError("the model decodes with an executor already; remove that one first")
    if sparsifier_of(model) is not None:
        raise AccelSimError("the model runs a recipe, which the executor would not see; remove it first")
    mlps = relu_mlps(model)
    if predictors is None:
        if pipeline == "parallel":
            raise AccelSimError("pipeline 'parallel' needs predictors: without a mask it would skip no gate and no up")
        predictors = [None] * len(mlps)
    if len(predictors) != len(mlps):
        raise AccelSimError(
            f"got {len(predictors)} predictors, the model has {len(mlps)} layers: expected one for each"
        )
    runners = [_runner(mlp, each, executor, pipeline, weights) for mlp, each in zip(mlps, predictors, strict=True)]
    return Attached(model, mlps, runners)


class Attached:
    """Executors in a model; a context manager that removes them at its end."""

    def __init__(self, model: nn.Module, mlps: list[GatedMLP], runners: list[Callable[[Tensor], Outcome]]) -> None:
        self._model, self._mlps = model, mlps
        self._decoding = False
        self._calls, self._rows = 0, [0, 0, 0]
        self._dense = mlps[0].module.gate_proj.weight.shape[0]
        decoder = decoder_of(model)
        self._hooks = [
            decoder.register_forward_pre_hook(self._enter, with_kwargs=True),
            decoder.register_forward_hook(self._leave, always_call=True),
        ]
        # An attribute of the instance hides the method of its class. Others do that as well (accelerate's hooks do).
        self._before = [vars(mlp.module).get("forward") for mlp in mlps]
        for mlp, runner in zip(mlps, runners, strict=True):
            mlp.module.forward = partial(self._forward, mlp.module.forward, runner)
        setattr(model, _ATTRIBUTE, self)

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> nn.Module:
        """The model as it was before."""
        if getattr(self._model, _ATTRIBUTE, None) is self:
            for hook in self._hooks:
                hook.remove()
            for mlp, before in zip(self._mlps, self._before, strict=True):
                if before is None:
                    del mlp.module.forward
                else:
                    mlp.module.forward = before
            delattr(self._model, _ATTRIBUTE)
        return self._model

    @property
    def fetched(self) -> Fetched:
        """What was read so far; zeros where the executor does not count (`triton`)."""
        return Fetched(self._calls, *self._rows, dense=self._calls * self._dense)

    def _enter(self, decoder: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        given = args[0] if args else kwargs.get("input_ids")
        shown = kwargs.get("inputs_embeds") if given is None else given
        past = kwargs.get("past_key_values")
        self._decoding = shown.shape[1] == 1 and past is not None and _holds_tokens(past)

    def _leave(self, *_: Any) -> None:
        self._decoding = False

    def _forward(self, dense: Callable[[Tensor], Tensor], runner: Callable[[Tensor], Outcome], x: Tensor) -> Tensor:
        if not self._decoding:
            return dense(x)
        outcome = runner(x.detach().reshape(-1, x.shape[-1]))
        self._calls += 1
        if outcome.rows is not None:
            self._count(outcome.rows)
        return outcome.y.to(x.dtype).reshape(x.shape)

    def _count(self, rows: FetchedRows) -> None:
        for place, name in enumerate(("gate", "up", "down")):
            self._rows[place] += getattr(rows, name)


def _holds_tokens(past: Any) -> bool:
    """Whether a cache holds tokens.

    A static cache counts them on the device. Nobody may ask a device while it captures a CUDA graph; what is captured
    for one token is a decode step, replayed behind any prompt.
    """
    length = past.get_seq_length()
    if isinstance(length, Tensor) and length.is_cuda and torch.cuda.is_current_stream_capturing():
        return True
    return bool(length > 0)


def _runner(
    mlp: GatedMLP, predictor: Any, executor: str, pipeline: Pipeline, weights: Weights
) -> Callable[[Tensor], Outcome]:
    if weights not in ("stored", "int8"):
        raise AccelSimError(f"weights {weights!r}: expected stored or int8")
    if weights == "int8" and executor not in ("numba", "masked_dense"):
        raise AccelSimError(f"executor {executor!r} has no INT8 form; expected numba or masked_dense")
    if executor in ("numba", "masked_dense"):
        return _runner_on_arrays(mlp, predictor, executor, pipeline, weights)
    return _runner_on_tensors(mlp, predictor, executor, pipeline)


def _runner_on_arrays(
    mlp: GatedMLP, predictor: Any, executor: str, pipeline: Pipeline, weights: Weights
) -> Callable[[Tensor], Outcome]:
    from accel_sim.executors.choose import run

    device = mlp.module.gate_proj.weight.device
    if device.type != "cpu":
        raise AccelSimError(
            f"executor {executor!r} runs on the CPU, the model is on {device}; expected gather or triton"
        )
    ffn = mlp.as_arrays()
    chosen = QuantizedFFN.of(ffn) if weights == "int8" else ffn
    compiled = NumbaExecutor(chosen)
    thin = low_rank_of(predictor)

    def answer(x: Tensor) -> Outcome:
        array = x.float().numpy()
        if executor == "masked_dense":
            told = {"mask": predictor.predict(x)} if predictor is not None and thin is None else {"predictor": thin}
            outcome = run(chosen, array, **told, executor=executor, pipeline=pipeline)
        elif thin is not None:
            outcome = compiled.run_predicted(array, thin, pipeline)
        else:
            mask = None if predictor is None else predictor.predict(x).numpy()
            outcome = compiled.run(array, mask, pipeline)
        return Outcome(torch.from_numpy(outcome.y), outcome.rows)

    return answer


def _runner_on_tensors(mlp: GatedMLP, predictor: Any, executor: str, pipeline: Pipeline) -> Callable[[Tensor], Outcome]:
    from accel_sim.executors.gather import GatherExecutor
    from accel_sim.executors.torch_ffn import TorchLowRank
    from accel_sim.executors.triton_executor import TritonExecutor

    ffn = mlp.as_tensors()
    # looking for a NaN would make the host wait for the device in every layer
    chosen = (GatherExecutor if executor == "gather" else TritonExecutor)(ffn, ffn.gate.device.type == "cpu")
    thin = low_rank_of(predictor)
    if thin is None:
        return lambda x: chosen.run(x, None if predictor is None else predictor.predict(x), pipeline)
    # on a CUDA device in the weights' own dtype, as the paper runs them: half the bytes that every token reads
    dtype = ffn.gate.dtype if ffn.gate.device.type == "cuda" else torch.float32
    told = TorchLowRank.of(thin, ffn.gate.device, dtype)
    return lambda x: chosen.run(x, told.scores(x), pipeline)
