"""Kernels that set up the levels of a multigrid hierarchy; what a level is, see _multigrid_numba.py."""

import numpy as np
from numba import njit, prange

from deconjugate.solver._multigrid_numba import OPTIONS


@njit(inline="always")
def _given_faces(code, c, i, j, k, shape, periodic, w):
    """Transmissibility towards given values of a cell whose byte says that there are some."""
    n0, n1, n2 = shape
    total = 0.0
    for face in range(6):
        if c & (1 << face):
            step = 2 * (face % 2) - 1
            ii = i + step if face < 2 else i
            jj = j + step if face == 2 or face == 3 else j
            kk = k + step if face > 3 else k
            outside = ii < 0 or ii >= n0 or jj < 0 or jj >= n1 or kk < 0 or kk >= n2
            if (outside and not periodic[face // 2]) or code[((ii % n0) * n1 + jj % n1) * n2 + kk % n2] == 0:
                total += w[face // 2]
    return total


@njit(parallel=True, **OPTIONS)
def uniform_diagonal(code, w, shape, periodic, dinv, given):
    """dinv, and in given (when not empty) the transmissibility towards given values, from the bytes of the cells."""
    n0, n1, n2 = shape
    table = np.zeros(256, np.float32)
    for c in range(64, 256):
        d = w[0] * (c & 1) + w[0] * ((c >> 1) & 1)
        d += w[1] * ((c >> 2) & 1) + w[1] * ((c >> 3) & 1)
        d += w[2] * ((c >> 4) & 1) + w[2] * ((c >> 5) & 1)
        table[c] = 1 / d if d > 0 else 0
    for row in prange(n0 * n1):
        i, j = np.int64(row) // n1, np.int64(row) % n1
        o = np.int64(row) * n2
        for k in range(n2):
            dinv[o + k] = table[code[o + k]]
        if given.size:
            for k in range(n2):
                c = code[o + k]
                given[o + k] = _given_faces(code, c, i, j, k, shape, periodic, w) if c & 128 else np.float32(0)


@njit(**OPTIONS)
def _split_row(here, low, t, s, given):
    """s = t where the cells here and below are unknowns; given += t where the one below is not."""
    zero = np.float32(0)
    for k in range(np.uint64(here.size)):
        mine = np.float32(t[k]) if here[k] != 0 else zero
        s[k] = mine if low[k] != 0 else zero
        given[k] += zero if low[k] != 0 else mine


@njit(**OPTIONS)
def _add_given(here, high, t, given):
    zero = np.float32(0)
    for k in range(np.uint64(here.size)):
        given[k] += np.float32(t[k]) if here[k] != 0 and high[k] == 0 else zero


@njit(parallel=True, **OPTIONS)
def split_faces(code, t0, t1, t2, periodic, s0, s1, s2, given):
    """Single-precision faces between unknowns, the low ones of every cell, and in given the sum of the others."""
    n0, n1, n2 = code.shape
    nothing = np.zeros(n2, np.uint8)
    for row in prange(n0 * n1):
        i, j = np.int64(row) // n1, np.int64(row) % n1
        here, total = code[i, j], given[i, j]
        padded = np.zeros(n2 + 2, np.uint8)
        padded[1:-1] = here
        if periodic[2]:
            padded[0], padded[-1] = here[-1], here[0]
        total[:] = 0
        _split_row(here, code[i - 1, j] if i > 0 or periodic[0] else nothing, t0[i, j], s0[i, j], total)
        _split_row(here, code[i, j - 1] if j > 0 or periodic[1] else nothing, t1[i, j], s1[i, j], total)
        _split_row(here, padded[:-2], t2[i, j], s2[i, j], total)
        _add_given(here, code[(i + 1) % n0, j] if i < n0 - 1 or periodic[0] else nothing, t0[i + 1, j], total)
        _add_given(here, code[i, (j + 1) % n1] if j < n1 - 1 or periodic[1] else nothing, t1[i, j + 1], total)
        _add_given(here, padded[2:], t2[i, j, 1:], total)


@njit(**OPTIONS)
def _count_row(code, o, low, bit, count):
    """Add 1 where the face towards the row at low is open and the cell behind it an unknown."""
    o, low, bit = np.uint64(o), np.uint64(low), np.uint8(bit)
    for k in range(np.uint64(count.size)):
        count[k] += np.uint8((code[o + k] >> bit) & (code[low + k] >> np.uint8(6)) & np.uint8(1))


@njit(**OPTIONS)
def _count_along(code, o, wrap, count):
    """The same along the row."""
    one, o, last = np.uint64(1), np.uint64(o), np.uint64(count.size - 1)
    if wrap:
        count[0] += np.uint8((code[o] >> np.uint8(4)) & (code[o + last] >> np.uint8(6)) & np.uint8(1))
    for k in range(one, np.uint64(count.size)):
        count[k] += np.uint8((code[o + k] >> np.uint8(4)) & (code[o + k - one] >> np.uint8(6)) & np.uint8(1))


@njit(**OPTIONS)
def _pairs(count, c2, scale, out):
    """out = scale times the sums over each block of a row."""
    two, one, n2 = np.uint64(2), np.uint64(1), np.uint64(count.size)
    if c2 == 1:
        for k in range(n2):
            out[k] = scale * np.float32(count[k])
    else:
        for k in range(n2 // two):
            out[k] = scale * (np.float32(count[two * k]) + np.float32(count[two * k + one]))
        if n2 % two:
            out[n2 // two] = scale * np.float32(count[n2 - one])


@njit(parallel=True, **OPTIONS)
def coarsen_code(code, w, shape, periodic, factors, given, t0, t1, t2, extra, factor_given):
    """Faces and given part of the next level, from the bytes of a uniform one, counted row by row."""
    n0, n1, n2 = shape
    c0, c1, c2 = factors
    m0, m1, _ = extra.shape
    w0, w1, w2 = np.float32(w[0] / c0), np.float32(w[1] / c1), np.float32(w[2] / c2)
    for block in prange(m0 * m1):
        bi, bj = np.int64(block) // m1, np.int64(block) % m1
        i0, j0 = bi * c0, bj * c1
        i1, j1 = min(i0 + c0, n0), min(j0 + c1, n1)
        count = np.zeros((3, n2), np.uint8)
        total = np.zeros(n2, np.float32)
        for i in range(i0, i1):
            for j in range(j0, j1):
                o = np.int64((i * n1 + j) * n2)
                if i == i0 and (i > 0 or periodic[0]):
                    _count_row(code, o, ((i - 1) % n0 * n1 + j) * n2, 0, count[0])
                if j == j0 and (j > 0 or periodic[1]):
                    _count_row(code, o, (i * n1 + (j - 1) % n1) * n2, 2, count[1])
                _count_along(code, o, periodic[2], count[2])
                if given.size:
                    for k in range(np.uint64(n2)):
                        total[k] += given[np.uint64(o) + k]
        if c2 == 2:
            count[2, 1::2] = 0  # inside a block
        _pairs(count[0], c2, w0, t0[bi, bj])
        _pairs(count[1], c2, w1, t1[bi, bj])
        _pairs(count[2], c2, w2, t2[bi, bj])
        _pairs(total, c2, factor_given, extra[bi, bj])


@njit(**OPTIONS)
def _add_row(x, total):
    for k in range(np.uint64(total.size)):
        total[k] += x[k]


@njit(**OPTIONS)
def _plain_row(s0, s1, s2, given, i0, i1, j0, j1, c2, w0, w1, w2, factor_given, sums, out):
    """One row of blocks that nothing left."""
    sums[:] = 0
    for i in range(i0, i1):
        for j in range(j0, j1):
            if i == i0:
                _add_row(s0[i, j], sums[0])
            if j == j0:
                _add_row(s1[i, j], sums[1])
            _add_row(s2[i, j], sums[2])
            _add_row(given[i, j], sums[3])
    if c2 == 2:
        sums[2, 1::2] = 0  # inside a block
    _pairs(sums[0], c2, w0, out[0])
    _pairs(sums[1], c2, w1, out[1])
    _pairs(sums[2], c2, w2, out[2])
    _pairs(sums[3], c2, factor_given, out[3])


@njit(parallel=True, **OPTIONS)
def coarsen_faces(s0, s1, s2, given, target, left, factors, t0, t1, t2, extra, factor, factor_given):
    """Faces, times factor, and given part of the next level, without moved cells' (target >= 0, where not empty).

    left says for every row of cells whether some of them moved.
    """
    n0, n1, n2 = given.shape
    c0, c1, c2 = factors
    m0, m1, m2 = extra.shape
    w0, w1, w2 = np.float32(factor / c0), np.float32(factor / c1), np.float32(factor / c2)
    for block in prange(m0 * m1):
        bi, bj = np.int64(block) // m1, np.int64(block) % m1
        i0, j0 = bi * c0, bj * c1
        i1, j1 = min(i0 + c0, n0), min(j0 + c1, n1)
        plain = True
        for i in range(i0 - 1, i1):
            for j in range(j0 - 1, j1):
                plain = plain and not left[i, j]
        if plain:
            sums, out = np.empty((4, n2), np.float32), (t0[bi, bj], t1[bi, bj], t2[bi, bj], extra[bi, bj])
            _plain_row(s0, s1, s2, given, i0, i1, j0, j1, c2, w0, w1, w2, factor_given, sums, out)
            continue
        for bk in range(m2):
            f0, f1, f2, g = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    for k in range(bk * c2, min((bk + 1) * c2, n2)):
                        if target[i, j, k] >= 0:
                            continue
                        g += given[i, j, k]
                        if i == i0 and target[i - 1, j, k] < 0:
                            f0 += s0[i, j, k]
                        if j == j0 and target[i, j - 1, k] < 0:
                            f1 += s1[i, j, k]
                        if k == bk * c2 and target[i, j, k - 1] < 0:
                            f2 += s2[i, j, k]
            t0[bi, bj, bk] = w0 * f0
            t1[bi, bj, bk] = w1 * f1
            t2[bi, bj, bk] = w2 * f2
            extra[bi, bj, bk] = factor_given * g


@njit(parallel=True, **OPTIONS)
def close_level(t0, t1, t2, periodic, given, dinv):
    """The high outer faces (the low ones again where periodic), and the inverse diagonal."""
    n0, n1, n2 = given.shape
    zero = np.float32(0)
    for row in prange(n0 * n1):
        i, j = np.int64(row) // n1, np.int64(row) % n1
        for k in range(n2):
            if i == n0 - 1:
                t0[n0, j, k] = t0[0, j, k] if periodic[0] else zero
            if j == n1 - 1:
                t1[i, n1, k] = t1[i, 0, k] if periodic[1] else zero
        t2[i, j, n2] = t2[i, j, 0] if periodic[2] else zero
        for k in range(n2):
            high0 = t0[i + 1, j, k] if i < n0 - 1 else (t0[0, j, k] if periodic[0] else zero)
            high1 = t1[i, j + 1, k] if j < n1 - 1 else (t1[i, 0, k] if periodic[1] else zero)
            d = t0[i, j, k] + high0 + t1[i, j, k] + high1 + t2[i, j, k] + t2[i, j, k + 1] + given[i, j, k]
            dinv[i, j, k] = 1 / d if d > 0 else zero
