"""How far the student's next-token distributions are from the teacher's, and the gradient of that."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from accel_sim.capture.projections import decoder_of
from accel_sim.errors import AccelSimError

_ROWS = {"cpu": 256}
_OTHER_ROWS = 2048
"""Tokens whose logits are there at once: a vocabulary takes a hundred times the memory of the hidden states."""
_TOLERANCE = 1e-2
"""Of the largest logit, between the head on its own and the whole model, in the type of the arithmetic."""


class Head:
    """What a model makes of its decoder's output: its own code behind the decoder, run on hidden states."""

    def __init__(self, model: nn.Module) -> None:
        """Raises AccelSimError for a model whose decoder cannot be told from its head."""
        self._model, self._decoder = model, decoder_of(model)
        if self._decoder is model:
            raise AccelSimError(f"{type(model).__name__}: names no decoder below its LM head (get_decoder)")

    def output(self, token_ids: Tensor) -> Any:
        """The decoder's output for token ids int64 [B, T]."""
        return self._decoder(input_ids=token_ids, use_cache=False)

    def logits(self, token_ids: Tensor, states: Tensor, kind: type) -> Tensor:
        """[1, n, V] of hidden states [1, n, d], in an output of the decoder's `kind`; the token ids [1, n] say nothing
        but how many."""
        own = self._decoder.__dict__.get("forward")
        self._decoder.forward = lambda *_, **__: kind(last_hidden_state=states)
        try:
            return self._model(input_ids=token_ids, use_cache=False).logits
        finally:
            del self._decoder.forward
            if own is not None:  # somebody else's, such as accelerate's
                self._decoder.forward = own

    def check(self, token_ids: Tensor) -> None:
        """Raise AccelSimError where the head on its own gives other logits than the model, for token ids [1, T]."""
        with torch.no_grad():
            output = self.output(token_ids)
            apart = self.logits(token_ids, output.last_hidden_state, type(output)).float()
            whole = self._model(input_ids=token_ids, use_cache=False).logits.float()
        if not bool((apart - whole).abs().max() <= _TOLERANCE * whole.abs().max()):
            raise AccelSimError(f"{type(self._model).__name__}: its LM head cannot be run on stored hidden states")


def divergence(head: Head, token_ids: Tensor, teacher: Any, student: Tensor) -> tuple[float, Tensor]:
    """Mean over the tokens of KL(teacher ‖ student) in nats, and its gradient with respect to `student`.

    Token ids int64 [B, T], the teacher's decoder output with hidden states [B, T, d], the student's hidden states
    [B, T, d]. Both go through the teacher's head, which the student shares, a stretch of tokens at a time.

    With logits z of the student, ∂KL/∂z = softmax(z) − softmax(teacher's).
    """
    ids, states, kind = token_ids.flatten(), student.detach().flatten(0, 1), type(teacher)
    wanted = teacher.last_hidden_state.flatten(0, 1)
    rows = _ROWS.get(ids.device.type, _OTHER_ROWS)
    total, gradient = 0.0, torch.empty_like(states)
    for start in range(0, len(ids), rows):
        part = slice(start, start + rows)
        with torch.no_grad():
            p = head.logits(ids[None, part], wanted[None, part], kind).float().log_softmax(-1)
        stretch = states[None, part].to(wanted.dtype).requires_grad_()
        logits = head.logits(ids[None, part], stretch, kind)
        with torch.no_grad():
            q = logits.detach().float().log_softmax(-1)
            at = p.exp()
            total += float((at * (p - q)).sum())
            slope = q.exp_().sub_(at).div_(len(ids))
        logits.backward(slope.to(logits.dtype))
        gradient[part] = stretch.grad[0].to(gradient.dtype)
    return total / len(ids), gradient.view_as(student)
