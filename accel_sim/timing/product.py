"""What of a layer the machine really computes, and where its activations' non-zeros let it go faster."""

from __future__ import annotations

from dataclasses import dataclass

from accel_sim.arch.schema import Arch
from accel_sim.errors import AccelSimError
from accel_sim.occupancy import WindowTimes
from accel_sim.workload import Gemm


@dataclass(frozen=True)
class Nonzeros:
    """What the machine's time depends on beyond the layer's shape; None where it does not depend on it."""

    windows: WindowTimes | None = None
    """`elastic`, `unstructured`: cycles of every panel of `array.rows` tokens by window of features."""
    features: int | None = None
    """`row_gather`: features that at least one token of the batch needs."""
    outputs: int | None = None
    """`output_gather`: outputs that at least one token needs."""


@dataclass(frozen=True)
class Product:
    """[tokens, features] times [features, outputs], without what is gathered away."""

    name: str
    tokens: int
    features: int
    outputs: int
    stored_features: int
    """Features of an activation row in DRAM, needed or not."""
    stored_outputs: int
    """Outputs of the layer, needed or not."""
    windows: WindowTimes | None = None
    gathers_features: bool = False
    """Weights are stored feature-major and fetched row by row, once the selection is known."""
    activations_on_chip: bool = False
    """Activations stay in SRAM from the operation before: no DRAM traffic."""
    outputs_on_chip: bool = False
    weights_on_chip: bool = False
    """Weights come from a memory of their own on chip."""
    thresholds: bool = False
    """Outputs are compared with thresholds, which come with the weights; one bit each is left."""

    @classmethod
    def of(cls, gemm: Gemm, nonzeros: Nonzeros | None = None) -> Product:
        """The layer, less what `nonzeros` leaves out (at least one feature and one output stay)."""
        known = nonzeros or Nonzeros()
        return cls(
            name=gemm.name,
            tokens=gemm.tokens,
            features=gemm.features if known.features is None else max(1, known.features),
            outputs=gemm.outputs if known.outputs is None else max(1, known.outputs),
            stored_features=gemm.features,
            stored_outputs=gemm.outputs,
            windows=known.windows,
            gathers_features=known.features is not None,
            activations_on_chip=gemm.activations_on_chip,
            outputs_on_chip=gemm.outputs_on_chip,
            weights_on_chip=gemm.weights_on_chip,
            thresholds=gemm.thresholds,
        )

    def need_panels(self, arch: Arch) -> None:
        """Raise AccelSimError when the windows do not cover the product's panels of tokens."""
        panels = -(-self.tokens // arch.array.rows)
        if self.windows is not None and len(self.windows.cycles) != panels:
            raise AccelSimError(
                f"layer {self.name}: non-zeros of {len(self.windows.cycles)} panels of {arch.array.rows} tokens,"
                f" expected {panels}"
            )
