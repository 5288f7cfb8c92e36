"""Kernels that look at the blocks beside every coarse face and multiply the face by what was learned about such ones.

Coarse faces are held with n + 1 along their axis, closed (see close_level); features are those of
deconjugate/solver/learned_torch.py, which is their oracle.
"""

import numpy as np
from numba import njit, prange

OPTIONS = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "cache": True}
_OPEN = 127


@njit(**OPTIONS)
def _summarise(i0, i1, j0, j1, k0, k1, code, w, s0, s1, s2, dinv, uniform, periodic, sums):
    """Over one block: sums[0:3] faces inside it along each axis, [3:6] on its low side, [6:9] their squares, [9] cells."""
    n0, n1, n2 = dinv.shape
    sums[:] = 0
    for i in range(i0, i1):
        for j in range(j0, j1):
            for k in range(k0, k1):
                if dinv[i, j, k] <= 0:
                    continue
                sums[9] += 1
                if uniform:
                    c = code[i, j, k]
                    a = w[0] if c & 1 and code[i - 1, j, k] != 0 and (i > 0 or periodic[0]) else np.float32(0)
                    b = w[1] if c & 4 and code[i, j - 1, k] != 0 and (j > 0 or periodic[1]) else np.float32(0)
                    d = w[2] if c & 16 and code[i, j, k - 1] != 0 and (k > 0 or periodic[2]) else np.float32(0)
                else:
                    a, b, d = s0[i, j, k], s1[i, j, k], s2[i, j, k]
                at = 0 if i > i0 else 3
                sums[at] += a
                at = 1 if j > j0 else 4
                sums[at] += b
                at = 2 if k > k0 else 5
                sums[at] += d
                sums[6] += a * a if i == i0 else np.float32(0)
                sums[7] += b * b if j == j0 else np.float32(0)
                sums[8] += d * d if k == k0 else np.float32(0)


@njit(parallel=True, **OPTIONS)
def look_at_blocks(code, w, s0, s1, s2, dinv, uniform, periodic, factors, inner, uneven, empty, plain):
    """Per coarse cell: faces inside its block (per axis), unevenness of its low faces (per axis), share of its cells
    that are no unknowns, and whether all of its cells are unknowns with all faces open (uniform coefficient only)."""
    n0, n1, n2 = dinv.shape
    c0, c1, c2 = factors
    m0, m1, m2 = empty.shape
    for row in prange(m0 * m1):
        bi, bj = np.int64(row) // m1, np.int64(row) % m1
        i0, i1 = bi * c0, min((bi + 1) * c0, n0)
        j0, j1 = bj * c1, min((bj + 1) * c1, n1)
        sums = np.zeros(10, np.float32)
        for bk in range(m2):
            k0, k1 = bk * c2, min((bk + 1) * c2, n2)
            whole = uniform and (i1 - i0 == c0) and (j1 - j0 == c1) and (k1 - k0 == c2)
            if whole:
                for i in range(i0, i1):
                    for j in range(j0, j1):
                        for k in range(k0, k1):
                            whole = whole and code[i, j, k] == _OPEN
            plain[bi, bj, bk] = whole
            if whole:
                inner[0, bi, bj, bk] = w[0] * (c1 * c2) / c0
                inner[1, bi, bj, bk] = w[1] * (c0 * c2) / c1
                inner[2, bi, bj, bk] = w[2] * (c0 * c1) / c2
                for a in range(3):
                    uneven[a, bi, bj, bk] = 0
                empty[bi, bj, bk] = 0
                continue
            _summarise(i0, i1, j0, j1, k0, k1, code, w, s0, s1, s2, dinv, uniform, periodic, sums)
            size = (i1 - i0) * (j1 - j0) * (k1 - k0)
            inner[0, bi, bj, bk] = sums[0] / c0
            inner[1, bi, bj, bk] = sums[1] / c1
            inner[2, bi, bj, bk] = sums[2] / c2
            for a in range(3):
                span = size // ((i1 - i0) if a == 0 else ((j1 - j0) if a == 1 else (k1 - k0)))
                square = sums[6 + a]
                even = sums[3 + a] * sums[3 + a] / (span * square) if square > 0 else np.float32(1)
                uneven[a, bi, bj, bk] = 1 - even
            empty[bi, bj, bk] = 1 - sums[9] / size


@njit(inline="always")
def _soft(x):
    return x / (np.float32(1) + abs(x))


@njit(inline="always")
def _balance(a, b):
    total = a + b
    return (a - b) / total if total > 0 else np.float32(0)


@njit(inline="always")
def _both(t0, t1, t2, axis, i, j, k):
    if axis == 0:
        return t0[i, j, k] + t0[i + 1, j, k]
    if axis == 1:
        return t1[i, j, k] + t1[i, j + 1, k]
    return t2[i, j, k] + t2[i, j, k + 1]


@njit(**OPTIONS)
def _end(t0, t1, t2, given, dinv, inner, empty, axis, far, t, i, j, k, axes, factors, out):
    """The six features of one of the two coarse cells at a face of transmissibility t."""
    around, within = np.float32(0), np.float32(0)
    others, held = 0, 0
    for a in range(3):
        if a != axis and axes[a]:
            around += _both(t0, t1, t2, a, i, j, k)
            others += 1
            if factors[a] == 2:
                within += inner[a, i, j, k]
                held += 1
    out[0] = _balance(inner[axis, i, j, k], t) if factors[axis] == 2 else np.float32(0)
    out[1] = empty[i, j, k]
    out[2] = given[i, j, k] * dinv[i, j, k]
    out[3] = _balance(around, np.float32(2 * others) * t) if others else np.float32(0)
    out[4] = _balance(far, t)
    out[5] = _balance(within, np.float32(held) * t) if held else np.float32(0)


@njit(**OPTIONS)
def _factor(low, high, uneven, end_weight, edge_weight, hidden_bias, out_weight, out_bias, bound):
    total = out_bias
    for h in range(out_weight.size):
        shift = edge_weight[h] * uneven + hidden_bias[h]
        a, b = shift, shift
        for f in range(6):
            a += end_weight[h, f] * low[f]
            b += end_weight[h, f] * high[f]
        total += out_weight[h] * (_soft(a) + _soft(b))
    return np.exp(bound * _soft(total))


@njit(**OPTIONS)
def _given_factor(empty, share, stiffness, weight, bias, out_weight, out_bias, bound):
    total = out_bias
    for h in range(out_weight.size):
        x = weight[h, 0] * empty + weight[h, 1] * share + weight[h, 2] * stiffness + bias[h]
        total += out_weight[h] * _soft(x)
    return np.exp(bound * _soft(total))


@njit(**OPTIONS)
def _usual_factors(w, axes, factors, face_net, bound):
    """The factor of each axis' faces inside a region of uniform coefficient."""
    end_weight, edge_weight, hidden_bias, out_weight, out_bias = face_net
    coarse = w * np.float32(factors[0] * factors[1] * factors[2])
    usual, end = np.empty(3, np.float32), np.zeros(6, np.float32)
    for a in range(3):
        coarse[a] /= factors[a] * factors[a]
    for axis in range(3):
        around, within, others, held = np.float32(0), np.float32(0), 0, 0
        for a in range(3):
            if a != axis and axes[a]:
                around += 2 * coarse[a]
                others += 1
                within += coarse[a] if factors[a] == 2 else np.float32(0)
                held += factors[a] == 2
        end[3] = _balance(around, np.float32(2 * others) * coarse[axis]) if others else np.float32(0)
        end[5] = _balance(within, np.float32(held) * coarse[axis]) if held else np.float32(0)
        usual[axis] = _factor(
            end, end, np.float32(0), end_weight, edge_weight, hidden_bias, out_weight, out_bias, bound
        )
    return usual


@njit(parallel=True, **OPTIONS)
def adjust(
    w, t0, t1, t2, given, dinv, periodic, axes, factors, inner, uneven, empty, plain, face_net, given_net, bound,
    s0, s1, s2, extra,
):  # fmt: skip
    """s = factor * t for the low face of every coarse cell and axis, extra = factor * given."""
    m0, m1, m2 = given.shape
    end_weight, edge_weight, hidden_bias, out_weight, out_bias = face_net
    usual = _usual_factors(w, axes, factors, face_net, bound)
    for row in prange(m0 * m1):
        i, j = np.int64(row) // m1, np.int64(row) % m1
        low, high = np.zeros(6, np.float32), np.zeros(6, np.float32)
        for k in range(m2):
            for axis in range(3):
                at = i if axis == 0 else (j if axis == 1 else k)
                last = (m0 if axis == 0 else (m1 if axis == 1 else m2)) - 1
                if axis == 0:
                    t = t0[i, j, k]
                elif axis == 1:
                    t = t1[i, j, k]
                else:
                    t = t2[i, j, k]
                if t > 0 and (at > 0 or periodic[axis]):
                    ii, jj, kk = i, j, k
                    if axis == 0:
                        ii = i - 1 if i > 0 else last
                        far_low, far_high = t0[ii, j, k], t0[i + 1, j, k]
                    elif axis == 1:
                        jj = j - 1 if j > 0 else last
                        far_low, far_high = t1[i, jj, k], t1[i, j + 1, k]
                    else:
                        kk = k - 1 if k > 0 else last
                        far_low, far_high = t2[i, j, kk], t2[i, j, k + 1]
                    if plain[i, j, k] and plain[ii, jj, kk]:
                        t *= usual[axis]
                    else:
                        _end(t0, t1, t2, given, dinv, inner, empty, axis, far_low, t, ii, jj, kk, axes, factors, low)
                        _end(t0, t1, t2, given, dinv, inner, empty, axis, far_high, t, i, j, k, axes, factors, high)
                        bumps = uneven[axis, i, j, k]
                        t *= _factor(
                            low, high, bumps, end_weight, edge_weight, hidden_bias, out_weight, out_bias, bound
                        )
                if axis == 0:
                    s0[i, j, k] = t
                elif axis == 1:
                    s1[i, j, k] = t
                else:
                    s2[i, j, k] = t
            g = given[i, j, k]
            if g > 0:
                stiff = np.float32(0)
                for a in range(3):
                    if axes[a] and factors[a] == 2:
                        stiff += inner[a, i, j, k]
                d = np.float32(1) / dinv[i, j, k]
                g *= _given_factor(empty[i, j, k], g / d, stiff / (stiff + d), *given_net, bound)
            extra[i, j, k] = g
