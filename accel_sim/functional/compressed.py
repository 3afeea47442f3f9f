"""A compressed activation matrix: exactly N values a group, and the metadata that says where they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel_sim.encoding import row_bytes
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, Pattern


@dataclass(frozen=True, eq=False)
class Compressed:
    """What the selector hands to the array and, with write-back, to memory.

    Raises AccelSimError when the parts do not fit together.
    """

    values: NDArray[np.int8]
    """int8 [T, G, N]: the slots; kept values in ascending feature order, padding slots 0."""
    metadata: NDArray[np.uint8]
    """uint8 [T, B]: the packed positions, each token row starting on a byte."""
    shape: tuple[int, int]
    """(T, K) of the dense matrix."""
    pattern: Pattern
    encoding: Encoding

    def __post_init__(self) -> None:
        tokens, features = self.shape
        groups = self.pattern.groups(features)
        expected = {
            "values": (np.int8, (tokens, groups, self.pattern.n)),
            "metadata": (np.uint8, (tokens, row_bytes(groups, self.pattern, self.encoding))),
        }
        for name, (dtype, shape) in expected.items():
            part = getattr(self, name)
            if part.dtype != dtype or part.shape != shape:
                raise AccelSimError(
                    f"compressed {name}: got {part.dtype} {list(part.shape)}, expected {np.dtype(dtype)} {list(shape)} "
                    f"for a {tokens}x{features} matrix at {self.pattern} with {self.encoding} metadata"
                )

    @property
    def nbytes(self) -> int:
        """Bytes that values and metadata take together."""
        return self.values.nbytes + self.metadata.nbytes
