"""Kernels that look at the blocks beside every coarse face and multiply the face by what was learned about such ones.

Levels are flat arrays as in _multigrid_numba.py; coarse faces are closed (see close_level). The features are those
of deconjugate/solver/learned_torch.py, which is their oracle.

Plane after plane of coarse cells is looked at (what its blocks hold, a few rows of the cache) and its faces adjusted.
Their features are gathered, so that the network is evaluated for many of them at once, in vectors.
"""

import numpy as np
from numba import njit, prange

from deconjugate.solver._borrowed_numba import borrowed
from deconjugate.solver._cut_blocks_numba import LOOKS, OPTIONS, look_at_plane

# Faces whose features wait, in the innermost cache, to be evaluated together.
_LENGTH = 256
# Rows of features of a face: six of the cell below it, six of the one above, its unevenness, its transmissibility.
_ROWS = 14


@njit(inline="always")
def _soft(x):
    return x / (np.float32(1) + abs(x))


@njit(inline="always")
def _balance(a, b):
    total = a + b
    return (a - b) / total if total > 0 else np.float32(0)


@njit(inline="always")
def _exp(x):
    """e^x to single precision for |x| < 1.5: numba's is not done in vectors."""
    one, y = np.float32(1), np.float32(0.5) * x
    s = one + y * np.float32(1 / 8)
    s = one + y * np.float32(1 / 7) * s
    s = one + y * np.float32(1 / 6) * s
    s = one + y * np.float32(1 / 5) * s
    s = one + y * np.float32(1 / 4) * s
    s = one + y * np.float32(1 / 3) * s
    s = one + y * np.float32(1 / 2) * s
    s = one + y * s
    return s * s


@njit(inline="always")
def _end(raw, at, n, t, first, second, given, dinv, look, cell, k):
    """What is compared with t, of one of the two coarse cells at a face."""
    o, far, f1, g1, f2, g2, inner, within1, within2, empty = cell
    length = np.uint64(_LENGTH)
    raw[at + n] = look[inner + k]
    raw[at + length + n] = look[empty + k]
    raw[at + np.uint64(2) * length + n] = given[o + k] * dinv[o + k]
    raw[at + np.uint64(3) * length + n] = first[f1 + k] + first[g1 + k] + (second[f2 + k] + second[g2 + k])
    raw[at + np.uint64(4) * length + n] = t[far + k]
    raw[at + np.uint64(5) * length + n] = look[within1 + k] + look[within2 + k]


@njit(**OPTIONS)
def _gather(raw, where, at, t, first, second, given, dinv, look, low, high, face, uneven, start, count):
    """Faces start, start + 1.. of a row into columns at, at + 1.. of raw; face: where the row's faces begin in t."""
    for m in range(np.uint64(count)):
        n, k = np.uint64(at) + m, np.uint64(start) + m
        _end(raw, np.uint64(0), n, t, first, second, given, dinv, look, low, k)
        _end(raw, np.uint64(6 * _LENGTH), n, t, first, second, given, dinv, look, high, k)
        raw[np.uint64(12 * _LENGTH) + n] = look[uneven + k]
        raw[np.uint64(13 * _LENGTH) + n] = t[face + k]
        where[n] = face + k


@njit(**OPTIONS)
def _compare(raw, count, times):
    """Make ratios of what was gathered; times: 1 or 0 for whether the axis is halved, other axes, of these halved."""
    halved, around, within = times
    length = np.uint64(_LENGTH)
    for n in range(np.uint64(count)):
        t = raw[np.uint64(13) * length + n]
        for end in range(2):
            at = np.uint64(6 * end) * length + n
            raw[at] = halved * _balance(raw[at], t)
            raw[at + np.uint64(3) * length] = _balance(raw[at + np.uint64(3) * length], around * t)
            raw[at + np.uint64(4) * length] = _balance(raw[at + np.uint64(4) * length], t)
            raw[at + np.uint64(5) * length] = _balance(raw[at + np.uint64(5) * length], within * t)


@njit(**OPTIONS)
def _evaluate(raw, count, net, bound, factor):
    """The factors of faces from their ratios."""
    end_weight, edge_weight, hidden_bias, out_weight, out_bias = net
    length, one = np.uint64(_LENGTH), np.float32(1)
    for n in range(np.uint64(count)):
        factor[n] = out_bias
    for h in range(out_weight.size):
        w0, w1, w2, w3, w4, w5 = (
            end_weight[h, 0], end_weight[h, 1], end_weight[h, 2], end_weight[h, 3], end_weight[h, 4], end_weight[h, 5],
        )  # fmt: skip
        v, c, u = edge_weight[h], hidden_bias[h], out_weight[h]
        for n in range(np.uint64(count)):
            a = v * raw[np.uint64(12) * length + n] + c
            b = a
            a += w0 * raw[n]
            b += w0 * raw[np.uint64(6) * length + n]
            a += w1 * raw[length + n]
            b += w1 * raw[np.uint64(7) * length + n]
            a += w2 * raw[np.uint64(2) * length + n]
            b += w2 * raw[np.uint64(8) * length + n]
            a += w3 * raw[np.uint64(3) * length + n]
            b += w3 * raw[np.uint64(9) * length + n]
            a += w4 * raw[np.uint64(4) * length + n]
            b += w4 * raw[np.uint64(10) * length + n]
            a += w5 * raw[np.uint64(5) * length + n]
            b += w5 * raw[np.uint64(11) * length + n]
            # soft(a) + soft(b) with one division
            p, q = one + abs(a), one + abs(b)
            factor[n] += u * ((a * q + b * p) / (p * q))
    for n in range(np.uint64(count)):
        factor[n] = _exp(bound * _soft(factor[n]))


@njit(**OPTIONS)
def _settle(raw, where, count, times, net, bound, factor, s):
    """Adjust the faces that wait."""
    full = (count + 31) // 32 * 32  # whole vectors: what is left over would be done one by one
    _compare(raw, full, times)
    _evaluate(raw, full, net, bound, factor)
    for n in range(np.uint64(count)):
        s[where[n]] = raw[np.uint64(13 * _LENGTH) + n] * factor[n]


@njit(**OPTIONS)
def _times(axis, axes, factors):
    """See :func:`_compare`."""
    others, held = 0, 0
    for a in range(3):
        if a != axis and axes[a]:
            others += 1
            held += 1 if factors[a] == 2 else 0
    return np.float32(1 if factors[axis] == 2 else 0), np.float32(2 * others), np.float32(held)


@njit(**OPTIONS)
def _given_row(given, dinv, look, o, at, m2, axes, factors, net, bound, out):
    """out = factor * given on one row of coarse cells."""
    weight, bias, out_weight, out_bias = net
    m, one, some = np.uint64(m2), np.float32(1), 0
    for k in range(m):
        some += 1 if given[o + k] > 0 else 0
    if some == 0:
        for k in range(m):
            out[o + k] = 0
        return
    u0, u1, u2 = (
        one if axes[0] and factors[0] == 2 else np.float32(0),
        one if axes[1] and factors[1] == 2 else np.float32(0),
        one if axes[2] and factors[2] == 2 else np.float32(0),
    )
    empty = at + np.uint64(6) * m
    for k in range(m):
        out[o + k] = out_bias
    for h in range(out_weight.size):
        w0, w1, w2, c, u = weight[h, 0], weight[h, 1], weight[h, 2], bias[h], out_weight[h]
        for k in range(m):
            d = dinv[o + k]
            stiff = d * (u0 * look[at + k] + u1 * look[at + m + k] + u2 * look[at + m + m + k])
            x = w0 * look[empty + k] + w1 * (given[o + k] * d) + w2 * (stiff / (stiff + one)) + c
            out[o + k] += u * _soft(x)
    for k in range(m):
        out[o + k] = given[o + k] * _exp(bound * _soft(out[o + k]))


@njit(inline="always")
def _cell(axis, i, j, slot, m0, m1, m2):
    """Where row (i, j) of coarse cells has what :func:`_end` reads, and its low faces along the axis."""
    o = (i * m1 + j) * m2
    f0, g0 = o, o + m1 * m2
    f1, g1 = (i * (m1 + 1) + j) * m2, (i * (m1 + 1) + j + 1) * m2
    f2 = (i * m1 + j) * (m2 + 1)
    g2 = f2 + 1
    at = (slot * m1 + j) * LOOKS * m2 + 1
    if axis == 0:
        return (o, f0, g0, f1, g1, f2, g2, at, at + m2, at + 2 * m2, at + 6 * m2)
    if axis == 1:
        return (o, f1, g1, f0, g0, f2, g2, at + m2, at, at + 2 * m2, at + 6 * m2)
    return (o, f2, g2, f0, g0, f1, g1, at + 2 * m2, at, at + m2, at + 6 * m2)


@njit(**OPTIONS)
def _offsets(cell, low, back):
    """The same, unsigned, with the face of the cell's own far side, `back` cells earlier."""
    o, f, g, f1, g1, f2, g2, inner, within1, within2, empty = cell
    far = f if low else g
    return (
        np.uint64(o - back), np.uint64(far - back), np.uint64(f1 - back), np.uint64(g1 - back), np.uint64(f2 - back),
        np.uint64(g2 - back), np.uint64(inner - back), np.uint64(within1 - back), np.uint64(within2 - back),
        np.uint64(empty - back),
    )  # fmt: skip


@njit(**OPTIONS)
def _adjust_row(
    axis, i, j, shape, periodic, t, first, second, given, dinv, look, raw, where, waiting, times, net, bound, factor, s
):
    """s = factor * t for the low faces of one axis of a row of coarse cells, or soon; returns how many faces wait."""
    t, first, second, given, dinv = borrowed(t), borrowed(first), borrowed(second), borrowed(given), borrowed(dinv)
    look, raw, where, factor, s = borrowed(look), borrowed(raw), borrowed(where), borrowed(factor), borrowed(s)
    m0, m1, m2 = shape
    slot = i & 1
    high = _cell(axis, i, j, slot, m0, m1, m2)
    face = np.uint64(high[1])
    for k in range(np.uint64(m2)):
        s[face + k] = t[face + k]
    if ((axis == 0 and i == 0) or (axis == 1 and j == 0)) and not periodic[axis]:
        return waiting
    if axis == 0:
        low = _cell(axis, (i - 1) % m0, j, 1 - slot, m0, m1, m2)
    elif axis == 1:
        low = _cell(axis, i, (j - 1) % m1, slot, m0, m1, m2)
    else:
        low = high
    back = 1 if axis == 2 else 0
    above, below = _offsets(high, False, 0), _offsets(low, True, back)
    uneven = np.uint64((slot * m1 + j) * LOOKS * m2 + (3 + axis) * m2 + 1)
    # The first face of a row has no cell below it, or another: it is done again. Nothing is read before the first row.
    for start in range(1 if axis == 2 and i == 0 and j == 0 else 0, m2, _LENGTH):
        count = min(_LENGTH, m2 - start)
        if waiting + count > _LENGTH:
            _settle(raw, where, waiting, times, net, bound, factor, s)
            waiting = 0
        _gather(raw, where, waiting, t, first, second, given, dinv, look, below, above, face, uneven, start, count)
        waiting += count
    if axis == 2 and periodic[2]:
        if waiting == _LENGTH:
            _settle(raw, where, waiting, times, net, bound, factor, s)
            waiting = 0
        around = _offsets(low, True, 1 - m2)
        _gather(raw, where, waiting, t, first, second, given, dinv, look, around, above, face, uneven, 0, 1)
        waiting += 1
    return waiting


@njit(**OPTIONS)
def _adjust_planes(fine, coarse, shape, coarse_shape, periodic, axes, factors, net, given_net, bound, out, start, stop):
    fine = borrowed(fine[0]), borrowed(fine[1]), borrowed(fine[2]), borrowed(fine[3])
    t0, t1, t2, given, dinv = coarse
    t0, t1, t2, given, dinv = borrowed(t0), borrowed(t1), borrowed(t2), borrowed(given), borrowed(dinv)
    s0, s1, s2, extra = out
    s0, s1, s2, extra = borrowed(s0), borrowed(s1), borrowed(s2), borrowed(extra)
    m0, m1, m2 = coarse_shape
    r = np.zeros((9, shape[2]), np.float32)
    rows = (r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8])
    # One more at the start: the cell below the first of a row is read there too.
    look = np.zeros(1 + 2 * m1 * LOOKS * m2, np.float32)
    raw, where = np.zeros((3, _ROWS * _LENGTH), np.float32), np.empty((3, _LENGTH), np.uint64)
    factor = np.empty(_LENGTH, np.float32)
    times = _times(0, axes, factors), _times(1, axes, factors), _times(2, axes, factors)
    wait0, wait1, wait2 = 0, 0, 0
    if start > 0 or periodic[0]:
        look_at_plane(fine, shape, factors, (start - 1) % m0, 1 - (start & 1), m1, m2, rows, look)
    for i in range(start, stop):
        look_at_plane(fine, shape, factors, i, i & 1, m1, m2, rows, look)
        for j in range(m1):
            wait0 = _adjust_row(
                0, i, j, coarse_shape, periodic, t0, t1, t2, given, dinv, look, raw[0], where[0], wait0, times[0],
                net, bound, factor, s0,
            )  # fmt: skip
            wait1 = _adjust_row(
                1, i, j, coarse_shape, periodic, t1, t0, t2, given, dinv, look, raw[1], where[1], wait1, times[1],
                net, bound, factor, s1,
            )  # fmt: skip
            wait2 = _adjust_row(
                2, i, j, coarse_shape, periodic, t2, t0, t1, given, dinv, look, raw[2], where[2], wait2, times[2],
                net, bound, factor, s2,
            )  # fmt: skip
            o, at = np.uint64((i * m1 + j) * m2), np.uint64(((i & 1) * m1 + j) * LOOKS * m2 + 1)
            _given_row(given, dinv, look, o, at, m2, axes, factors, given_net, bound, extra)
    _settle(raw[0], where[0], wait0, times[0], net, bound, factor, s0)
    _settle(raw[1], where[1], wait1, times[1], net, bound, factor, s1)
    _settle(raw[2], where[2], wait2, times[2], net, bound, factor, s2)


@njit(parallel=True, **OPTIONS)
def adjust(fine, coarse, shape, coarse_shape, periodic, axes, factors, net, given_net, bound, out, chunks):
    """s = factor * t for the low face of every coarse cell and axis, extra = factor * given.

    fine is (faces, dinv), coarse (faces, given, dinv), out (faces, given); all arrays are flat.
    """
    planes = coarse_shape[0]
    if chunks == 1:
        _adjust_planes(
            fine, coarse, shape, coarse_shape, periodic, axes, factors, net, given_net, bound, out, 0, planes
        )
    else:
        for chunk in prange(chunks):
            start, stop = np.int64(chunk) * planes // chunks, (np.int64(chunk) + 1) * planes // chunks
            _adjust_planes(
                fine, coarse, shape, coarse_shape, periodic, axes, factors, net, given_net, bound, out, start, stop
            )
