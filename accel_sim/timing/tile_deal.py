"""Which tiles each core works on, where tiles are dealt one by one, as a graphics card's scheduler deals its blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TileDeal:
    """Arrays over [cores, waves]; a wave is one tile for every core, the last one for some of them."""

    token_panel: Integers
    """Index of the tile's panel of tokens; −1 where the core has no tile."""
    output_panel: Integers
    fetches_activations: Flags
    """The first core of the wave that needs its panel of tokens: it fetches for all of the wave."""
    fetches_weights: Flags
    activations_again: Flags
    """An earlier wave has fetched the panel of tokens."""
    weights_again: Flags


def wave_rows(token_panels: int, cores: int) -> int:
    """Panels of tokens that a wave is spread over: about as many as it has panels of outputs, so that few panels are
    fetched, and such that bands of so many panels are of nearly one height."""
    most = min(token_panels, max(1, isqrt(cores)))
    bands = -(-token_panels // most)
    return -(-token_panels // bands)


def deal(token_panels: int, output_panels: int, cores: int) -> TileDeal:
    """Tile after tile to core after core: bands of `wave_rows` panels of tokens, in each band one panel of outputs
    after the other, in each of those the band's panels of tokens."""
    rows = wave_rows(token_panels, cores)
    order = [
        (token, output)
        for first in range(0, token_panels, rows)
        for output in range(output_panels)
        for token in range(first, min(first + rows, token_panels))
    ]
    waves = -(-len(order) // cores)
    tiles = np.full((waves * cores, 2), -1, dtype=np.int64)
    tiles[: len(order)] = order
    tokens, outputs = tiles.reshape(waves, cores, 2).transpose(2, 1, 0)
    return TileDeal(
        token_panel=tokens,
        output_panel=outputs,
        fetches_activations=_first_in_wave(tokens),
        fetches_weights=_first_in_wave(outputs),
        activations_again=_in_an_earlier_wave(tokens),
        weights_again=_in_an_earlier_wave(outputs),
    )


def _first_in_wave(panels: Integers) -> Flags:
    first = np.zeros(panels.shape, dtype=np.bool_)
    for wave in range(panels.shape[1]):
        first[np.unique(panels[:, wave], return_index=True)[1], wave] = True
    return first & (panels >= 0)


def _in_an_earlier_wave(panels: Integers) -> Flags:
    earliest = np.full(panels.max() + 2, panels.shape[1], dtype=np.int64)
    np.minimum.at(earliest, panels, np.broadcast_to(np.arange(panels.shape[1]), panels.shape))
    return (panels >= 0) & (earliest[panels] < np.arange(panels.shape[1]))
