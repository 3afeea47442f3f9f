"""What a predictor saves, counted in multiplications."""

from __future__ import annotations

from accel_sim.errors import AccelSimError


def multiplications(
    hidden: int, intermediate: int, rank: int, predicted: float, realised: float
) -> tuple[float, float]:
    """(dense, sparse) multiplications of one token in a gated FFN, with a predictor of `rank` (SVDP, eq. 5).

    Dense: 3·d·D, d = `hidden`, D = `intermediate`. Sparse, in the sequential pipeline: the predictor r·(d + D), the
    gate d·(1 − s)·D of the neurons that are predicted active, up and down 2·d·(1 − s′)·D of those whose gate then is.
    `predicted` is s, `realised` s′: shares of all neurons, s′ ≥ s. Rank 0 stands for a predictor that multiplies
    nothing (sign bits, an oracle). d = 4096, D = 11008, r = 256, s = 0.5, s′ = 0.9: a ratio of 3.82.

    Raises AccelSimError for sizes below 1, a rank that the gate has not, and shares outside 0 ≤ s ≤ s′ ≤ 1.
    """
    for name, value in (("hidden", hidden), ("intermediate", intermediate)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise AccelSimError(f"multiplications: {name} {value!r}: expected a whole number from 1 on")
    most = min(hidden, intermediate)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= most:
        raise AccelSimError(f"multiplications: rank {rank!r}: expected a whole number from 0 to {most}")
    if not 0 <= predicted <= 1:
        raise AccelSimError(f"multiplications: predicted sparsity {predicted!r}: expected a share from 0 to 1")
    if not predicted <= realised <= 1:
        raise AccelSimError(
            f"multiplications: realised sparsity {realised!r}: expected a share from the predicted {predicted!r} to 1, "
            "since a gate that is not computed is not active"
        )
    neurons = hidden * intermediate
    sparse = rank * (hidden + intermediate) + neurons * (1 - predicted) + 2 * neurons * (1 - realised)
    return float(3 * neurons), float(sparse)
