"""A stored row times a token; floats in the order of `reference.float_in_order`: 64 lanes, then folded by halves.

LLVM cannot see that the lanes, kept in an array, are no part of the row, and stores them behind every block of 64: a
row of bfloat16 then waits for that and not for memory. As one vector of 64 they stay in registers. Each product and
each sum is rounded by itself; nothing here may be fused or reordered.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from accel_sim.executors.reference import LANES

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(ir.IntType(32), LANES)
_HALVES = ir.VectorType(ir.IntType(16), LANES)
_UPPER_HALF = ir.Constant(_WORDS, [16] * LANES)


def widen(stored):
    """A stored weight as float32."""


@overload(widen, inline="always")
def _widen_of(stored):
    if stored == types.uint16:  # bfloat16: the upper half of a float32
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


@intrinsic
def _sum_blocks(typing_context, weight, j, x, t, lanes):
    """lanes [64] = Σ weight[j, 64 b + lane] · x[t, 64 b + lane] over all whole blocks b, ascending."""
    matrices = all(isinstance(each, types.Array) and each.layout == "C" for each in (weight, x, lanes))
    if not matrices or weight.dtype not in (types.float32, types.uint16) or x.dtype != types.float32:
        return None
    narrow = weight.dtype == types.uint16

    def generate(context, builder, signature, arguments):
        arrays = {
            place: context.make_array(signature.args[place])(context, builder, arguments[place]) for place in (0, 2, 4)
        }
        features = builder.extract_value(arrays[2].shape, 1)
        row = builder.gep(arrays[0].data, [builder.mul(arguments[1], features)])
        token = builder.gep(arrays[2].data, [builder.mul(arguments[3], features)])
        size = ir.Constant(features.type, LANES)
        end = builder.sub(features, builder.srem(features, size))
        zeros = ir.Constant(_FLOATS, [0.0] * LANES)

        before = builder.block
        test, body, done = (builder.append_basic_block(f"lanes.{name}") for name in ("test", "body", "done"))
        builder.branch(test)
        builder.position_at_end(test)
        k, sums = builder.phi(features.type), builder.phi(_FLOATS)
        builder.cbranch(builder.icmp_signed("<", k, end), body, done)

        builder.position_at_end(body)
        weights = _loaded(builder, row, k, _HALVES if narrow else _FLOATS)
        if narrow:
            weights = builder.bitcast(builder.shl(builder.zext(weights, _WORDS), _UPPER_HALF), _FLOATS)
        added = builder.fadd(sums, builder.fmul(weights, _loaded(builder, token, k, _FLOATS)))
        following = builder.add(k, size)
        builder.branch(test)
        for phi, first, later in ((k, ir.Constant(features.type, 0), following), (sums, zeros, added)):
            phi.add_incoming(first, before)
            phi.add_incoming(later, body)

        builder.position_at_end(done)
        builder.store(sums, builder.bitcast(arrays[4].data, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(weight, types.intp, x, types.intp, lanes), generate


def _loaded(builder, start, k, vector):
    element_bytes = 2 if vector is _HALVES else 4
    return builder.load(builder.bitcast(builder.gep(start, [k]), vector.as_pointer()), align=element_bytes)


@njit(cache=True, nogil=True)
def dot(weight, j, x, t, lanes):
    """Row j of weight [n, d], float32 or bfloat16, times row t of x float32 [T, d]; `lanes` float32 [64] is used."""
    features = x.shape[1]
    _sum_blocks(weight, j, x, t, lanes)
    whole = features - features % LANES
    for lane in range(features - whole):
        lanes[lane] += widen(weight[j, whole + lane]) * x[t, whole + lane]
    # each width written out, so that every fold is a vector and not a loop
    for lane in range(32):
        lanes[lane] += lanes[lane + 32]
    for lane in range(16):
        lanes[lane] += lanes[lane + 16]
    for lane in range(8):
        lanes[lane] += lanes[lane + 8]
    for lane in range(4):
        lanes[lane] += lanes[lane + 4]
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])


def neuron(weight, scale, bias, j, x, x_scale, t, lanes):
    """What neuron j makes of token t, with its bias: of floats, or of codes int8 with their scales."""


@overload(neuron, inline="always")
def _neuron_of(weight, scale, bias, j, x, x_scale, t, lanes):
    if weight.dtype == types.int8:
        return _neuron_of_codes
    return _neuron_of_floats


def _neuron_of_codes(weight, scale, bias, j, x, x_scale, t, lanes):
    return np.float32(_integer_dot(weight, j, x, t)) * (x_scale[t] * scale[j]) + bias[j]


def _neuron_of_floats(weight, scale, bias, j, x, x_scale, t, lanes):
    return dot(weight, j, x, t, lanes) + bias[j]


@njit(cache=True, nogil=True)
def _integer_dot(weight, j, x, t):
    """Row j of weight int8 [n, d] times row t of x int8 [T, d], exact in INT32."""
    total = np.int32(0)
    row, token = weight[j], x[t]
    for k in range(row.size):
        total = np.int32(total + np.int32(np.int32(row[k]) * np.int32(token[k])))
    return total
