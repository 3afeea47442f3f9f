"""Distil the teacher into the student's FFN weights: one epoch of windows, Adam, KL to the teacher's distributions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import cos, isfinite, pi, sin
from statistics import fmean

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.reluify.checkpoint import Progress, Sample
from accel_sim.reluify.loss import Head, divergence
from accel_sim.reluify.measure import Measurement
from accel_sim.reluify.models import Pair
from accel_sim.reluify.settings import ReluifySettings

BETAS = (0.9, 0.95)
"""Of Adam: a memory of twenty steps, since a training on a CPU has hundreds of them."""
WARM_STEPS = 10
LARGEST_GRADIENT = 1.0
"""Norm over all trained weights; a longer gradient is shortened to it."""
SAMPLES = 16
"""Of the curve, spread over the training."""
CHECKPOINT_SECONDS = 240.0


class Distillation:
    """A training that can be left after every step and gone on with."""

    def __init__(self, pair: Pair, settings: ReluifySettings, windows: Tensor) -> None:
        """`windows` int64 [n, T], each to be learnt from once, in this order."""
        self._pair, self._settings, self._windows = pair, settings, windows
        self._parameters = pair.trained
        fused = next(iter(self._parameters.values())).device.type in ("cpu", "cuda")
        self._adam = torch.optim.Adam(self._parameters.values(), settings.learning_rate, BETAS, fused=fused)
        self._head = Head(pair.teacher)
        self.progress = Progress()

    @property
    def weights(self) -> dict[str, Tensor]:
        return self._parameters

    @property
    def moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Adam's, by parameter; empty before the first step."""
        states = ((name, self._adam.state.get(each)) for name, each in self._parameters.items())
        return {name: (state["exp_avg"], state["exp_avg_sq"]) for name, state in states if state}

    def restore(self, progress: Progress, weights: dict[str, Tensor], moments: dict) -> None:
        """Go on from a checkpoint. Raises AccelSimError for weights that are not the student's."""
        if {name: each.shape for name, each in weights.items()} != {n: e.shape for n, e in self._parameters.items()}:
            raise AccelSimError("the checkpoint holds other weights than the model's; name another folder with --out")
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
        for name, (first, second) in moments.items():
            parameter = self._parameters[name]
            self._adam.state[parameter] = {
                "step": torch.tensor(float(progress.steps), device=parameter.device),
                "exp_avg": first.to(parameter.device),
                "exp_avg_sq": second.to(parameter.device),
            }
        self.progress = progress

    @property
    def fraction(self) -> float:
        """Of what was asked for, by tokens, by time or by the text that there is, whichever is further."""
        steps, available = self.progress.steps, len(self._windows) // self._settings.batch
        of_text = steps / available if available else 1.0
        return max(self._settings.progress(steps, self.progress.seconds), of_text)

    def run(
        self,
        measure: Callable[[], Measurement],
        keep: Callable[[], None],
        on_step: Callable[[int, float, float], None] = lambda *_: None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        """Learn until what was asked for is reached or the text ends.

        `measure` gives a point of the curve, `keep` writes a checkpoint, `on_step` gets tokens, loss and fraction.
        Raises AccelSimError for a loss that is not finite; the last checkpoint stays.
        """
        if not self.progress.curve:
            self._sample(measure)
            keep()
        kept = time.monotonic()
        while self.fraction < 1:
            began = time.monotonic()
            loss = self._step()
            done = self.progress.model_copy(
                update={
                    "steps": self.progress.steps + 1,
                    "seconds": self.progress.seconds + time.monotonic() - began,
                    "losses": (*self.progress.losses, loss),
                }
            )
            self.progress = done
            on_step(done.steps * self._settings.tokens_of_step, loss, self.fraction)
            if self.fraction >= len(done.curve) / SAMPLES:
                self._sample(measure)
            if self.fraction >= 1 or time.monotonic() - kept >= checkpoint_seconds:
                keep()
                kept = time.monotonic()

    def _sample(self, measure: Callable[[], Measurement]) -> None:
        now = self.progress
        sample = Sample(
            tokens=now.steps * self._settings.tokens_of_step,
            seconds=now.seconds,
            loss=fmean(now.losses) if now.losses else None,
            measured=measure(),
        )
        self.progress = now.model_copy(update={"losses": (), "curve": (*now.curve, sample)})

    def _step(self) -> float:
        """One step; its loss. Progress decides the learning rate and the weight of the L1 norm."""
        pair, settings, steps = self._pair, self._settings, self.progress.steps
        device = next(iter(self._parameters.values())).device
        ids = self._windows[steps * settings.batch : (steps + 1) * settings.batch].to(device)
        for group in self._adam.param_groups:
            group["lr"] = settings.learning_rate * rate_factor(steps, self.fraction)
        with torch.no_grad():
            teacher = self._head.output(ids)
        with pair.computing(), _let_through(pair, settings.l1 > 0) as gates:
            student = Head(pair.student).output(ids).last_hidden_state
        loss, gradient = divergence(self._head, ids, teacher, student)
        if not isfinite(loss):
            raise AccelSimError(f"step {steps}: the loss is not finite; try a lower --learning-rate")
        outputs, gradients = [student], [gradient]
        if gates:
            penalty = settings.l1 * risen(self.fraction) * torch.stack(gates).mean()
            outputs.append(penalty)
            gradients.append(torch.ones_like(penalty))
        torch.autograd.backward(outputs, gradients)
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), LARGEST_GRADIENT)
        self._adam.step()
        self._adam.zero_grad()
        return loss


def rate_factor(steps: int, fraction: float) -> float:
    """Of the learning rate: a rise over the first steps, then a cosine that ends at 0 with the training."""
    return min(1.0, (steps + 1) / WARM_STEPS) * (1 + cos(pi * fraction)) / 2


def risen(fraction: float) -> float:
    """Of the L1 norm's weight: from 0 along a sine to 1 at three quarters of the training, then constant.

    ProSparse (arXiv 2402.13516) raises it so, in stages; this is one of them.
    """
    return (1 + sin(pi * (min(1.0, fraction / 0.75) - 0.5))) / 2


@contextmanager
def _let_through(pair: Pair, wanted: bool) -> Iterator[list[Tensor]]:
    """The mean absolute value behind every gate's activation, layer by layer, of what runs inside the block."""
    means: list[Tensor] = []
    handles = []
    if wanted:
        handles = [
            mlp.act_fn.register_forward_hook(lambda _, __, a: means.append(a.float().abs().mean())) for mlp in pair.mlps
        ]
    try:
        yield means
    finally:
        for handle in handles:
            handle.remove()
