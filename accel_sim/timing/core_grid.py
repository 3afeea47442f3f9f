"""Which part of a product each core has: some of its tokens, some of its outputs, or a place in a grid of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from accel_sim.arch.schema import Arch
from accel_sim.timing.tile_deal import wave_rows

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CoreGrid:
    """Cores as `token_parts` × `output_parts`, row by row; those beyond have nothing to do."""

    token_parts: int
    output_parts: int
    cores: int

    @classmethod
    def of(cls, tokens: int, outputs: int, panel_tokens: int, arch: Arch) -> CoreGrid:
        """The grid of a product under `cores.split`.

        `grid` takes the one whose busiest core has fewest array tiles (a panel of tokens by a panel of outputs); of
        several the one with fewest parts in sum, which fetches least, and then the one with fewer parts of tokens.
        With `tiles` it is how the first wave of tiles lies.
        """
        count = arch.cores.count
        if arch.cores.split == "tiles":
            rows = wave_rows(-(-tokens // panel_tokens), count)
            return cls(rows, min(-(-outputs // arch.array.cols), max(1, count // rows)), count)
        if arch.cores.split != "grid":
            return cls(count, 1, count) if arch.cores.split == "tokens" else cls(1, count, count)
        token_panels, output_panels = -(-tokens // panel_tokens), -(-outputs // arch.array.cols)
        grids = []
        for rows in range(1, min(count, token_panels) + 1):
            deep = -(-token_panels // rows)
            wide = -(-output_panels // min(output_panels, count // rows))
            token_parts, output_parts = -(-token_panels // deep), -(-output_panels // wide)
            grids.append((deep * wide, token_parts + output_parts, token_parts, output_parts))
        _, _, token_parts, output_parts = min(grids)
        return cls(token_parts, output_parts, count)

    @cached_property
    def token_part(self) -> Integers:
        """Of every core, [cores]; −1 where it has none."""
        return self._at_work(np.arange(self.cores) // self.output_parts)

    @cached_property
    def output_part(self) -> Integers:
        return self._at_work(np.arange(self.cores) % self.output_parts)

    @property
    def shares_activations(self) -> bool:
        """Whether several cores need the same activations; the first of them in the memory's order fetches them."""
        return self.output_parts > 1

    @property
    def shares_weights(self) -> bool:
        return self.token_parts > 1

    def _at_work(self, parts: Integers) -> Integers:
        return np.where(np.arange(self.cores) < self.token_parts * self.output_parts, parts, -1)
