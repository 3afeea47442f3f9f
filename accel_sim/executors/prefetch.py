"""Asking the memory for a line before it is needed.

Rows that are needed lie apart, and at each of them the processor's own prefetcher starts anew, one latency late. The
list of rows is known, so the start of the next row is asked for before one is multiplied; asking for all of it was
slower, since the requests then wait for each other.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LINE_BYTES = 64
_LINES = 8
_READ, _KEEP_CLOSE, _DATA = 0, 3, 1


@intrinsic
def _prefetch(typing_context, array, index):
    """LLVM's prefetch of the line that holds array[index], of a C-contiguous vector; changes nothing."""
    if not (isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"):
        return None

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), cgutils.voidptr_t)
        flag = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag]), "llvm.prefetch.p0i8"
        )
        builder.call(function, [address, flag(_READ), flag(_KEEP_CLOSE), flag(_DATA)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@njit(cache=True, nogil=True)
def fetch_start(row):
    """Ask for the first lines of a contiguous row."""
    step = LINE_BYTES // row.itemsize
    for k in range(0, min(_LINES * step, row.size), step):
        _prefetch(row, k)
