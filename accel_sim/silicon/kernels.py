"""The products of a card's libraries behind one set of functions, X [T, K] and Wᵀ [F, K] as they lie in memory.

INT8 sums are asked for as INT32, which `to_sparse_semi_structured(X) @ W` does not offer: the operators below it are
called with what it would hand them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from accel_sim.silicon.result import Dtype
from accel_sim.silicon.selection import select_2_of_4

TORCH_DTYPES: dict[Dtype, torch.dtype] = {"int8": torch.int8, "fp16": torch.float16}


@dataclass(frozen=True)
class Kernels:
    """One number format's kernels. A library that cannot do a shape raises RuntimeError, which becomes a refusal."""

    dtype: Dtype
    dense: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """X, Wᵀ → Y."""
    select: Callable[[torch.Tensor], torch.Tensor]
    """X → X with 2 of 4 left."""
    pack: Callable[[torch.Tensor], Any]
    """What is left, as the sparse product takes it."""
    tune: Callable[[Any, torch.Tensor], int]
    """The number of the library's fastest algorithm for a product."""
    sparse: Callable[[Any, torch.Tensor, int], torch.Tensor]
    """Packed X, Wᵀ, algorithm → Y."""
    dense_multiple: int
    """Tokens of the dense product are padded to a multiple of this."""
    sparse_multiple: int


def kernels_on_card(dtype: Dtype, select: Callable[[torch.Tensor], torch.Tensor]) -> Kernels:
    """cuSPARSELt where torch was built with it, else CUTLASS."""
    dense = torch._int_mm if dtype == "int8" else torch.mm
    library = _cusparselt if torch.backends.cusparselt.is_available() else _cutlass
    pack, tune, sparse = library(TORCH_DTYPES[dtype])
    # torch._int_mm wants more than 16 tokens; the sparse multiples are those of torch/sparse/semi_structured.py.
    dense_multiple, sparse_multiple = (32, 32) if dtype == "int8" else (1, 32 if library is _cutlass else 16)
    return Kernels(dtype, lambda x, wt: dense(x, wt.t()), select, pack, tune, sparse, dense_multiple, sparse_multiple)


def sparse_library() -> str:
    """Its name and version."""
    if torch.backends.cusparselt.is_available():
        return f"cuSPARSELt {torch.backends.cusparselt.version()}"
    return f"CUTLASS in torch {torch.__version__}"


def compiled_selection() -> tuple[Callable[[torch.Tensor], torch.Tensor], str]:
    """The selection as one compiled kernel, or as torch's own operations where it does not compile; and which."""
    compiled = torch.compile(select_2_of_4, dynamic=True)
    try:
        for dtype in TORCH_DTYPES.values():
            compiled(torch.zeros(32, 64, dtype=dtype, device="cuda"))
    except Exception as error:  # what a compiler may raise is open-ended; the report names what ran instead
        reason = (str(error).splitlines() or [""])[0][:120]
        return select_2_of_4, f"torch operations one by one (torch.compile: {type(error).__name__}: {reason})"
    return compiled, "one kernel made by torch.compile"


def _out_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.int32 if dtype == torch.int8 else dtype


def _cusparselt(dtype: torch.dtype) -> tuple[Callable, Callable, Callable]:
    out = _out_dtype(dtype)

    def tune(packed: torch.Tensor, wt: torch.Tensor) -> int:
        return int(torch._cslt_sparse_mm_search(packed, wt.t(), out_dtype=out))

    def sparse(packed: torch.Tensor, wt: torch.Tensor, algorithm: int) -> torch.Tensor:
        return torch._cslt_sparse_mm(packed, wt.t(), out_dtype=out, alg_id=algorithm)

    return torch._cslt_compress, tune, sparse


def _cutlass(dtype: torch.dtype) -> tuple[Callable, Callable, Callable]:
    out = _out_dtype(dtype)

    def pack(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = torch.sparse.SparseSemiStructuredTensorCUTLASS.from_dense(x)
        return made.packed, made.meta

    def sparse(packed: tuple[torch.Tensor, torch.Tensor], wt: torch.Tensor, algorithm: int) -> torch.Tensor:
        return torch._sparse_semi_structured_mm(*packed, wt.t(), out_dtype=out if dtype == torch.int8 else None)

    return pack, lambda packed, wt: 0, sparse
