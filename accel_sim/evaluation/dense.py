"""The dense model's logits of every window, kept as the hidden states that its output head reads.

Logits take a hundred times the memory of the hidden states, and a forward pass costs several times what the head does.
The head, with whatever the model does behind it (soft-capping, scaling), is run by the model's own `forward` on the
stored states, and compared once with the logits that the model gave.
"""

from __future__ import annotations

from typing import Any

import torch

from accel_sim.capture.projections import decoder_of

_TOLERANCE = 1e-5
"""Of the largest logit."""


class DenseReference:
    """Dense logits by window, which can be read while the model is sparsified."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._decoder = _decoder(model)
        self._windows: list[torch.Tensor] = []
        self._states: list[Any] = []
        self._logits: list[torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, token_ids: torch.Tensor) -> None:
        """Run the model, which must be dense now, over the token ids int64 [T] of one more window."""
        output, logits = self._run(token_ids)
        if not self._windows and not self._replays(token_ids, output, logits):
            self._logits = []
        self._windows.append(token_ids)
        if self._logits is None:
            self._states.append(type(output)(last_hidden_state=output.last_hidden_state))
        else:
            self._logits.append(logits.cpu())

    @property
    def keeps_logits(self) -> bool:
        """True where the logits themselves are kept, because the model's head cannot be run on its own."""
        return self._logits is not None

    def logits(self, window: int) -> torch.Tensor:
        """[T, V] of one window, on the model's device."""
        if self._logits is not None:
            return self._logits[window].to(self._model.device)
        return self._replay(self._windows[window], self._states[window])

    def _run(self, ids: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """The decoder's own output, and the logits [T, V]."""
        seen: list[Any] = []
        if self._decoder is None:
            return None, window_logits(self._model, ids)
        handle = self._decoder.register_forward_hook(lambda _, __, output: seen.append(output))
        try:
            logits = window_logits(self._model, ids)
        finally:
            handle.remove()
        return seen[-1] if seen else None, logits

    def _replays(self, ids: torch.Tensor, output: Any, logits: torch.Tensor) -> bool:
        if getattr(output, "last_hidden_state", None) is None:
            return False
        try:
            again = self._replay(ids, type(output)(last_hidden_state=output.last_hidden_state))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            return False  # its forward asks for more than the hidden states; the caller is told by keeps_logits
        same_shape = again.shape == logits.shape
        return same_shape and bool((again - logits).abs().max() <= _TOLERANCE * logits.abs().max())

    def _replay(self, ids: torch.Tensor, states: Any) -> torch.Tensor:
        """The model's logits with `states` as what its decoder gives."""
        before = self._decoder.__dict__.get("forward")
        self._decoder.forward = lambda *_, **__: states
        try:
            return window_logits(self._model, ids)
        finally:
            del self._decoder.forward
            if before is not None:  # somebody else's, such as accelerate's
                self._decoder.forward = before


def window_logits(model: Any, token_ids: torch.Tensor) -> torch.Tensor:
    """Logits [T, V] of one forward pass over token ids int64 [T], as the model is now."""
    with torch.no_grad():
        return model(input_ids=token_ids[None].to(model.device), use_cache=False).logits[0]


def _decoder(model: Any) -> Any | None:
    """The part of the model below its output head, None where it does not name one."""
    decoder = decoder_of(model)
    return None if decoder is model else decoder
