"""Real operands for measured units: INT8 codes of a trace and its weights, in the order in which a machine feeds a PE.

An output-stationary PE keeps its accumulator while the features K of one token meet one output's weights, then goes on
to another token and output: K innermost. 64 PEs side by side, each with its own tokens and outputs, are the 64 streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.functional import select
from accel_sim.functional.fixed_point import Multipliers, multipliers
from accel_sim.pattern import Pattern
from accel_sim.quantize.int8 import LARGEST_CODE
from accel_sim.synthesis.power import STREAMS
from accel_sim.trace import Trace

UNIFORM_SHAPE = (96, 576, 256)
"""Tokens, features and outputs of the random operands."""


@dataclass(frozen=True)
class Site:
    """One matrix product: codes int8 [T, K], weights int8 [K, F], and the integers that requantise its outputs."""

    name: str
    codes: np.ndarray
    weights: np.ndarray
    constants: Multipliers


@dataclass(frozen=True)
class Tiles:
    """What enters a PE, one row a cycle: [cycles, 64, …]."""

    activations: np.ndarray
    """[…, lanes]: kept codes in slot order, or all codes of a dense PE; 0 in lanes that a pattern leaves unused."""
    weights: np.ndarray
    """[…, groups · M], or [… lanes] of a dense PE."""
    positions: np.ndarray
    """[…, groups, N]: where in its group each slot came from; of a dense PE [… 0, 0]."""
    values: np.ndarray
    """[…, groups, M]: the group before selection; of a dense PE [… 0, 0]."""
    clear: np.ndarray
    """[…]: 1 in the first cycle of an output."""


class Operands:
    """Sites, and the draw of tokens and outputs: it depends on the seed alone, not on what was drawn before."""

    def __init__(self, sites: Sequence[Site], description: str, seed: int) -> None:
        self.sites, self.description, self.seed = tuple(sites), description, seed

    @classmethod
    def from_trace(cls, path: Path, seed: int = 0) -> Operands:
        """Of the sites whose weights the trace holds. Raises AccelSimError when there are none."""
        trace = Trace.open(path, verify=False)
        sites = [
            _site(trace, site.name, projection.name)
            for site in trace.sites
            for projection in site.projections[:1]
            if projection.has_weight
        ]
        if not sites:
            raise AccelSimError(f"{path}: holds no weights, which operand streams need (capture with --weights)")
        return cls(sites, f"{trace.name}: {', '.join(site.name for site in sites)}", seed)

    @classmethod
    def uniform(cls, seed: int = 0) -> Operands:
        """Codes and weights drawn uniformly from −127 … 127."""
        tokens, features, outputs = UNIFORM_SHAPE
        draw = np.random.default_rng(seed)
        codes = draw.integers(-LARGEST_CODE, LARGEST_CODE + 1, (tokens, features)).astype(np.int8)
        weights = draw.integers(-LARGEST_CODE, LARGEST_CODE + 1, (features, outputs)).astype(np.int8)
        scales = draw.uniform(0.5, 2.0, tokens), draw.uniform(0.5e-3, 2e-3, outputs)
        return cls([Site("uniform", codes, weights, multipliers(*scales, 1.0))], "uniform −127 … 127", seed)

    def tiles(self, cycles: int, lanes: int, pattern: Pattern | None = None) -> Tiles:
        """`cycles` cycles of a PE with `lanes` lanes, lanes // N groups a cycle."""
        draw = np.random.default_rng(self.seed)
        streams = [self._stream(cycles, lanes, pattern, self.sites[s % len(self.sites)], draw) for s in range(STREAMS)]
        return Tiles(*(np.stack(parts, axis=1) for parts in zip(*streams, strict=True)))

    def groups(self, cycles: int, pattern: Pattern) -> Tiles:
        """One group a cycle, for the circuits around a group."""
        return self.tiles(cycles, pattern.n, pattern)

    def accumulators(self, cycles: int) -> dict[str, np.ndarray]:
        """Finished accumulators [cycles, 64] with the constants that requantise them, one output's tokens in a row.

        Also the sum of the output's weights, and the mean of the token's codes as its INT8 shift.
        """
        draw = np.random.default_rng(self.seed)
        rows: dict[str, list[np.ndarray]] = {}
        for stream in range(STREAMS):
            site = self.sites[stream % len(self.sites)]
            tokens = draw.integers(len(site.codes), size=cycles)
            outputs = np.repeat(draw.integers(site.weights.shape[1], size=-(-cycles // 16)), 16)[:cycles]
            codes, columns = site.codes[tokens].astype(np.int64), site.weights[:, outputs].T.astype(np.int64)
            made = {
                "accumulator": (codes * columns).sum(axis=1),
                "column_sum": columns.sum(axis=1),
                "shift": np.rint(codes.mean(axis=1)).astype(np.int64),
                "token_mantissa": site.constants.token_mantissa[tokens],
                "token_exponent": site.constants.token_exponent[tokens],
                "output_mantissa": site.constants.output_mantissa[outputs],
                "output_exponent": site.constants.output_exponent[outputs],
            }
            for name, values in made.items():
                rows.setdefault(name, []).append(values)
        return {name: np.stack(parts, axis=1) for name, parts in rows.items()}

    @staticmethod
    def _stream(
        cycles: int, lanes: int, pattern: Pattern | None, site: Site, draw: np.random.Generator
    ) -> tuple[np.ndarray, ...]:
        parts: list[tuple[np.ndarray, ...]] = []
        made = 0
        while made < cycles:
            codes = site.codes[draw.integers(len(site.codes))]
            weights = site.weights[:, draw.integers(site.weights.shape[1])]
            part = _dense_tile(codes, weights, lanes) if pattern is None else _tile(codes, weights, lanes, pattern)
            parts.append(part)
            made += len(part[0])
        return tuple(np.concatenate(columns)[:cycles] for columns in zip(*parts, strict=True))


def _site(trace: Trace, site: str, projection: str) -> Site:
    weight, codes, scales = trace.weight(projection), np.asarray(trace.codes(site)), trace.scales(site)
    codes_w = np.asarray(weight.codes)
    largest = np.abs(codes.astype(np.float64) @ codes_w * scales[:, None] * weight.scales).max()
    return Site(site, codes, codes_w, multipliers(scales, weight.scales, float(largest) / LARGEST_CODE))


def _dense_tile(codes: np.ndarray, weights: np.ndarray, lanes: int) -> tuple[np.ndarray, ...]:
    rows = -(-len(codes) // lanes)
    x, w = (
        np.pad(each, (0, rows * lanes - len(each))).reshape(rows, lanes).astype(np.int64) for each in (codes, weights)
    )
    none = np.zeros((rows, 0, 0), np.int64)
    return x, w, none, none, _first(rows)


def _tile(codes: np.ndarray, weights: np.ndarray, lanes: int, pattern: Pattern) -> tuple[np.ndarray, ...]:
    a_cycle = lanes // pattern.n
    rows = -(-len(codes) // (a_cycle * pattern.m))
    width = rows * a_cycle * pattern.m
    x, w = (np.pad(each, (0, width - len(each))) for each in (codes, weights))
    kept = select(x[None], pattern)[0].reshape(rows, a_cycle, pattern.m)
    positions = np.argsort(~kept, axis=2, kind="stable")[..., : pattern.n].astype(np.int64)
    values = x.reshape(rows, a_cycle, pattern.m).astype(np.int64)
    activations = np.take_along_axis(values, positions, axis=2).reshape(rows, a_cycle * pattern.n)
    activations = np.pad(activations, ((0, 0), (0, lanes - activations.shape[1])))
    return activations, w.reshape(rows, a_cycle * pattern.m).astype(np.int64), positions, values, _first(rows)


def _first(rows: int) -> np.ndarray:
    return (np.arange(rows) == 0).astype(np.int64)
