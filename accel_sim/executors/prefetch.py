"""Asking the memory for rows before they are needed.

Rows that are needed lie apart, and at each of them the processor's own prefetcher starts anew, one latency late; a row
of a small model ends before it has caught up. The list of rows is known, so that rows a few KB further on in it are
asked for while one is multiplied. Of a long row only the first lines: the processor sees to the rest by itself, and
requests that it would have made as well only wait for each other.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LINE_BYTES = 64
_AHEAD_BYTES = 8192
_MOST_ROWS = 4
_SHORT_BYTES = 4096
_LINES_OF_A_LONG_ROW = 8
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
def fetch_row(row):
    """Ask for a contiguous row: the whole of a short one, the first lines of a long one."""
    step = LINE_BYTES // row.itemsize
    end = row.size
    if end * row.itemsize > _SHORT_BYTES:
        end = _LINES_OF_A_LONG_ROW * step
    for k in range(0, end, step):
        _prefetch(row, k)


@njit(cache=True, nogil=True)
def fetch_first(weight, rows, first, last):
    """Ask for the rows of weight [n, d] that rows[first:last] begins with; `fetch_later` comes too late for them."""
    for i in range(first, min(first + _rows_ahead(weight), last)):
        fetch_row(weight[rows[i]])


@njit(cache=True, nogil=True)
def fetch_later(weight, rows, i, last):
    """While row rows[i] is used, ask for one that rows[:last] has a little later."""
    later = i + _rows_ahead(weight)
    if later < last:
        fetch_row(weight[rows[later]])


@njit(cache=True, nogil=True)
def _rows_ahead(weight):
    return max(1, min(_MOST_ROWS, _AHEAD_BYTES // (weight.shape[1] * weight.itemsize)))
