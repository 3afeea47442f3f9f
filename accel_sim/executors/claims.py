"""Work that several threads share: each claims a piece, and waits only for pieces that another is already working on.

Waking a sleeping thread takes as long as a small layer's product, and so does falling asleep at the end of every one.
So the phases of a layer follow each other in one parallel region: a thread that comes late finds less to do, and one
that is alone does it all. No order of pieces or threads can block, because a claimed piece has a thread that runs.
"""

from __future__ import annotations

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_APART = 16
"""int64 counters between two that are used: another line of the cache, and not its pair either."""
_TRIES = 1000
"""Looks at a counter before the processor is left to others, who may be keeping the thread that is waited for."""
_YIELD = "sched_yield"
_CAN_YIELD = binding.address_of_symbol(_YIELD) is not None
_WORD_BYTES = 8


def new_progress(phases: int) -> np.ndarray:
    """Counters int64 of one call: pieces claimed and pieces finished, for each phase."""
    return np.zeros(2 * phases * _APART, np.int64)


@intrinsic
def _add_one(typing_context, counters, place):
    """counters[place] += 1, indivisibly; its value before."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature, arguments)
        return builder.atomic_rmw("add", address, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(counters, place), generate


@intrinsic
def _read(typing_context, counters, place):
    """counters[place]; what its writers wrote before is seen as well."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature, arguments)
        return builder.load_atomic(address, "acquire", _WORD_BYTES)

    return types.int64(counters, place), generate


@intrinsic
def _give_way(typing_context):
    """Let another thread run here, where the system has the POSIX call for it."""

    def generate(context, builder, signature, arguments):
        if _CAN_YIELD:
            form = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, form, _YIELD), [])
        return context.get_dummy_value()

    return types.void(), generate


def _address(context, builder, signature, arguments):
    counters = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(counters.data, [arguments[1]])


@njit(cache=True, nogil=True)
def claim(progress, phase):
    """The next piece of a phase; from its number of pieces on, there is none left."""
    return _add_one(progress, 2 * phase * _APART)


@njit(cache=True, nogil=True)
def finish(progress, phase):
    """Say that a claimed piece is done."""
    _add_one(progress, (2 * phase + 1) * _APART)


@njit(cache=True, nogil=True)
def wait_for_all(progress, phase, pieces):
    """Return when every piece of a phase is done, whoever did it."""
    tries = 0
    while _read(progress, (2 * phase + 1) * _APART) < pieces:
        tries += 1
        if tries % _TRIES == 0:
            _give_way()
