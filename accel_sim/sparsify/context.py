"""What a treatment needs to know of the forward pass that runs: its phase, whose rows are whose, what came before."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.contextual.metrics import PredictorQuality
from accel_sim.sparsify.recipe import Phase

RANDOM_SEED = 0


@dataclass
class Selections:
    """How often the scores of codes and of floats select differently, among elements whose code is not zero."""

    elements: int = 0
    differing: int = 0

    def count(self, codes: Tensor, by_codes: Tensor, by_floats: Tensor) -> None:
        """Of codes, the kept codes, and the kept floats, each [n, K] with zeros where nothing is kept."""
        self.elements += int((codes != 0).sum())
        self.differing += int((((by_codes != 0) != (by_floats != 0)) & (codes != 0)).sum())


Predictions = dict[str, list[PredictorQuality]]
"""By gate projection, a quality for every forward pass."""


@dataclass
class Context:
    """One forward pass of `batch` sequences of `length` new tokens each."""

    phase: Phase
    batch: int
    length: int
    real: Tensor | None = None
    """bool [batch, length], False for padding; None: no padding."""
    layout_known: bool = True
    """False where the model was given a mask that does not tell where the padding is."""
    squares: dict[Hashable, Tensor] = field(default_factory=dict)
    """Σx² [batch, K] of the tokens before this pass, for each running norm."""
    selections: Selections | None = None
    """Where selections are compared."""
    predictions: Predictions | None = None
    """Where the quality of predictors goes."""

    def column_norms(self, x: Tensor, running: bool, owner: Hashable) -> Tensor:
        """‖x_:,j‖ over the tokens of each sequence for x [n, K]: float32 [n, K] (CLACT, arXiv 2509.22166, eq. 4).

        Its row norm is the same for all of a token's elements and cannot change a selection.

        Later tokens too, as published, or, with `running`, those up to each token. Padding counts nowhere. Rows that
        were routed to an expert count as one sequence. Raises AccelSimError where padding cannot be told.
        """
        if not self.layout_known:
            raise AccelSimError("criterion clact: the model's attention mask does not tell which tokens are padding")
        squares = self._as_sequences(x.square())
        if not running:
            return squares.sum(dim=1, keepdim=True).sqrt().expand(squares.shape).reshape(x.shape).contiguous()
        total = squares.cumsum(dim=1)
        if owner in self.squares and len(squares) == self.batch:
            total = total + self.squares[owner][:, None]
        self.squares[owner] = total[:, -1]
        return total.sqrt().reshape(x.shape)

    def random_scores(self, x: Tensor) -> Tensor:
        """Scores [n, K] that know nothing of x; the same at every call of one shape."""
        generator = torch.Generator().manual_seed(RANDOM_SEED)
        return torch.rand(x.shape, generator=generator).to(x.device)

    def _as_sequences(self, squares: Tensor) -> Tensor:
        """[sequences, tokens, K] of [n, K], with zeros for padding."""
        if len(squares) != self.batch * self.length:
            if self.real is not None:
                raise AccelSimError(
                    "criterion clact: rows of experts in a batch with padding; run one sequence at a time"
                )
            return squares[None]
        squares = squares.reshape(self.batch, self.length, -1)
        return squares if self.real is None else squares * self.real[:, :, None]
