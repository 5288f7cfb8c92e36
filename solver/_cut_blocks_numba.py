"""Kernels that look at the fine cells of every block of a coarse grid, for those of _cut_cells_numba.py."""

import numpy as np
from numba import njit

from deconjugate.solver._borrowed_numba import borrowed

OPTIONS = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "cache": True}
# What is kept of a row of blocks: faces inside them and unevenness of their low faces, by axis; share of no unknowns.
LOOKS = 7


@njit(**OPTIONS)
def _add(x, at, total):
    for k in range(np.uint64(total.size)):
        total[k] += x[at + k]


@njit(**OPTIONS)
def _add_squares(x, at, total, squares):
    for k in range(np.uint64(total.size)):
        y = x[at + k]
        total[k] += y
        squares[k] += y * y


@njit(**OPTIONS)
def _add_known(dinv, o, cells):
    for k in range(np.uint64(cells.size)):
        cells[k] += np.float32(1) if dinv[o + k] > 0 else np.float32(0)


@njit(**OPTIONS)
def _add_rows(fine, shape, i0, i1, j0, j1, rows):
    """Sums over the rows of a row of blocks: faces inside, low faces and their squares, by axis; unknowns."""
    s0, s1, s2, dinv = fine
    _, n1, n2 = shape
    a_in, a_low, aa, b_in, b_low, bb, d, dd, cells = rows
    for i in range(i0, i1):
        for j in range(j0, j1):
            o = np.uint64((i * n1 + j) * n2)
            f1, f2 = np.uint64((i * (n1 + 1) + j) * n2), np.uint64((i * n1 + j) * (n2 + 1))
            if i == i0:
                _add_squares(s0, o, a_low, aa)
            else:
                _add(s0, o, a_in)
            if j == j0:
                _add_squares(s1, f1, b_low, bb)
            else:
                _add(s1, f1, b_in)
            _add_squares(s2, f2, d, dd)
            _add_known(dinv, o, cells)


@njit(**OPTIONS)
def _sum_pairs(x, c2, scale, look, at):
    """look[at:] = scale times the sums of x over each block of a row."""
    n2, two = np.uint64(x.size), np.uint64(2)
    if c2 == 1:
        for k in range(n2):
            look[at + k] = scale * x[k]
    else:
        for k in range(n2 // two):
            look[at + k] = scale * (x[two * k] + x[two * k + np.uint64(1)])
        if n2 % two:
            look[at + n2 // two] = scale * x[n2 - np.uint64(1)]


@njit(**OPTIONS)
def _every_other(x, c2, first, scale, look, at):
    """look[at:] = scale times the first or second x of each block of a row."""
    n2, two, first = np.uint64(x.size), np.uint64(c2), np.uint64(first)
    for k in range((n2 + two - np.uint64(1) - first) // two):
        look[at + k] = scale * x[two * k + first]


@njit(**OPTIONS)
def _spread(cross, at, squares, start, span, m2):
    """cross[at:] = 1 - (sum of the low faces)^2 / (their number times the sum of squares), 0 where all are closed."""
    for k in range(np.uint64(m2)):
        s, q = cross[at + k], span * squares[start + k]
        cross[at + k] = np.float32(1) - (s * s / q if q > 0 else np.float32(1))


@njit(**OPTIONS)
def _summarise(rows, factors, sizes, look, at, m2):
    """What is kept of a row of blocks, from the sums over its rows."""
    a_in, a_low, aa, b_in, b_low, bb, d, dd, cells = rows
    c0, c1, c2 = factors
    size0, size1, short = sizes
    m, one = np.uint64(m2), np.float32(1)
    inner2 = at + np.uint64(2) * m
    _sum_pairs(a_in, c2, one / np.float32(c0), look, at)
    _sum_pairs(b_in, c2, one / np.float32(c1), look, at + m)
    look[inner2 : inner2 + m] = 0
    if c2 == 2:
        _every_other(d, c2, 1, one / np.float32(c2), look, inner2)
    # The sums of squares are put where the share of unknowns comes last.
    low, empty = at + np.uint64(3) * m, at + np.uint64(6) * m
    _sum_pairs(aa, c2, one, look, empty)
    _sum_pairs(a_low, c2, one, look, low)
    _spread(look, low, look, empty, np.float32(size1 * c2), m2)
    _sum_pairs(bb, c2, one, look, empty)
    _sum_pairs(b_low, c2, one, look, low + m)
    _spread(look, low + m, look, empty, np.float32(size0 * c2), m2)
    _every_other(dd, c2, 0, one, look, empty)
    _every_other(d, c2, 0, one, look, low + m + m)
    _spread(look, low + m + m, look, empty, np.float32(size0 * size1), m2)
    _sum_pairs(cells, c2, np.float32(-1 / (size0 * size1 * c2)), look, empty)
    if short:
        # A block cut short by the end of the grid has half the cells and faces of the others of its row.
        last = m - np.uint64(1)
        look[empty + last] *= 2
        for beside, some in ((low + last, aa[-1] > 0), (low + m + last, bb[-1] > 0)):
            look[beside] = np.float32(2) * look[beside] - one if some else np.float32(0)
    for k in range(m):
        look[empty + k] += one


@njit(inline="always")
def _uneven(total, squares, span):
    """1 - total^2 / (span squares), 0 where all faces are closed."""
    q = span * squares
    return np.float32(1) - (total * total / q if q > 0 else np.float32(1))


@njit(inline="always")
def _open(x):
    return np.float32(1) if x > 0 else np.float32(0)


@njit(**OPTIONS)
def _look_at_pairs(fine, shape, factors, i0, j0, sizes, look, at, m2):
    """What a row of blocks holds, all of two cells along it; rows that a block lacks are read twice, and weigh 0."""
    s0, s1, s2, dinv = fine
    s0, s1, s2, dinv, look = borrowed(s0), borrowed(s1), borrowed(s2), borrowed(dinv), borrowed(look)
    c0, c1, _ = factors
    size0, size1 = sizes
    _, n1, n2 = shape
    one, half = np.float32(1), np.float32(0.5)
    u, v = np.float32(size0 - 1), np.float32(size1 - 1)
    i1, j1 = i0 + size0 - 1, j0 + size1 - 1
    # Rows of cells, of faces across axis 1 (low and inner ones) and along the row.
    a, b = np.uint64((i0 * n1 + j0) * n2), np.uint64((i0 * n1 + j1) * n2)
    c, d = np.uint64((i1 * n1 + j0) * n2), np.uint64((i1 * n1 + j1) * n2)
    fa, fc = np.uint64((i0 * (n1 + 1) + j0) * n2), np.uint64((i1 * (n1 + 1) + j0) * n2)
    fb, fd = np.uint64((i0 * (n1 + 1) + j1) * n2), np.uint64((i1 * (n1 + 1) + j1) * n2)
    ga, gb = np.uint64((i0 * n1 + j0) * (n2 + 1)), np.uint64((i0 * n1 + j1) * (n2 + 1))
    gc, gd = np.uint64((i1 * n1 + j0) * (n2 + 1)), np.uint64((i1 * n1 + j1) * (n2 + 1))
    inner0, inner1 = u / np.float32(c0), v / np.float32(c1)
    span0, span1, span2 = np.float32(2 * size1), np.float32(2 * size0), np.float32(size0 * size1)
    share = one / np.float32(2 * size0 * size1)
    m, two = np.uint64(m2), np.uint64(2)
    at = np.uint64(at)
    for k in range(m):
        e, f = two * k, two * k + np.uint64(1)
        ae, af, be, bf = s0[a + e], s0[a + f], s0[b + e], s0[b + f]
        low = ae + af + v * (be + bf)
        squares = ae * ae + af * af + v * (be * be + bf * bf)
        look[at + k] = inner0 * (s0[c + e] + s0[c + f] + v * (s0[d + e] + s0[d + f]))
        look[at + np.uint64(3) * m + k] = _uneven(low, squares, span0)
        ae, af, be, bf = s1[fa + e], s1[fa + f], s1[fc + e], s1[fc + f]
        low = ae + af + u * (be + bf)
        squares = ae * ae + af * af + u * (be * be + bf * bf)
        look[at + m + k] = inner1 * (s1[fb + e] + s1[fb + f] + u * (s1[fd + e] + s1[fd + f]))
        look[at + np.uint64(4) * m + k] = _uneven(low, squares, span1)
        ae, be, af, bf = s2[ga + e], s2[gb + e], s2[gc + e], s2[gd + e]
        low = ae + v * be + u * (af + v * bf)
        squares = ae * ae + v * be * be + u * (af * af + v * bf * bf)
        look[at + two * m + k] = half * (s2[ga + f] + v * s2[gb + f] + u * (s2[gc + f] + v * s2[gd + f]))
        look[at + np.uint64(5) * m + k] = _uneven(low, squares, span2)
        cells = _open(dinv[a + e]) + _open(dinv[a + f]) + v * (_open(dinv[b + e]) + _open(dinv[b + f]))
        cells += u * (_open(dinv[c + e]) + _open(dinv[c + f]) + v * (_open(dinv[d + e]) + _open(dinv[d + f])))
        look[at + np.uint64(6) * m + k] = one - share * cells


@njit(**OPTIONS)
def look_at_plane(fine, shape, factors, bi, slot, m1, m2, rows, look):
    """What the blocks of plane bi hold, into a slot of look."""
    c0, c1, c2 = factors
    i0, i1 = bi * c0, min((bi + 1) * c0, shape[0])
    for bj in range(m1):
        j0, j1 = bj * c1, min((bj + 1) * c1, shape[1])
        at = np.uint64((slot * m1 + bj) * LOOKS * m2 + 1)
        if c2 == 2 and shape[2] % 2 == 0:
            _look_at_pairs(fine, shape, factors, i0, j0, (i1 - i0, j1 - j0), look, at, m2)
            continue
        for row in rows:
            row[:] = 0
        _add_rows(fine, shape, i0, i1, j0, j1, rows)
        _summarise(rows, factors, (i1 - i0, j1 - j0, shape[2] % c2 > 0), look, at, m2)
