"""Kernels that look at the fine cells of every block of a coarse grid, for those of _cut_cells_numba.py.

A block is plain when its coefficient is uniform, all of its cells are unknowns and all of their faces open.
"""

import numpy as np
from numba import njit

OPTIONS = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "cache": True}
_OPEN = np.uint8(127)
# What is kept of a row of blocks: faces inside them and unevenness of their low faces, by axis; share of no unknowns.
LOOKS = 7


@njit(**OPTIONS)
def _count_row(code, o, lo0, lo1, has0, has1, wrap, a, b, d, cells):
    """Add a row of cells of uniform coefficient to counts over the rows of its blocks: low faces by axis, unknowns."""
    n2, one = np.uint64(a.size), np.uint64(1)
    for k in range(n2):
        c = code[o + k]
        a[k] += np.uint8(c & (code[lo0 + k] >> 6) & has0)
        b[k] += np.uint8((c >> 2) & (code[lo1 + k] >> 6) & has1)
        cells[k] += np.uint8(1) if np.uint8(c & np.uint8(63)) else np.uint8(0)
    first = d[0]
    for k in range(one if o == 0 else np.uint64(0), n2):
        d[k] += np.uint8((code[o + k] >> 4) & (code[o + k - one] >> 6) & 1)
    d[0] = first + np.uint8(1 if wrap and code[o] & 16 and code[o + n2 - one] else 0)


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
    _, _, s0, s1, s2, dinv, _ = fine
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
def _count_rows(code, shape, periodic, i0, i1, j0, j1, rows):
    """The same for a uniform coefficient of 1, counted in bytes."""
    n0, n1, n2 = shape
    a_in, a_low, _, b_in, b_low, _, d, _, cells = rows
    for i in range(i0, i1):
        for j in range(j0, j1):
            has0 = np.uint8(1) if i > 0 or periodic[0] else np.uint8(0)
            has1 = np.uint8(1) if j > 0 or periodic[1] else np.uint8(0)
            o = np.uint64((i * n1 + j) * n2)
            lo0 = np.uint64(((i - 1) % n0 * n1 + j) * n2)
            lo1 = np.uint64((i * n1 + (j - 1) % n1) * n2)
            a, b = a_low if i == i0 else a_in, b_low if j == j0 else b_in
            _count_row(code, o, lo0, lo1, has0, has1, periodic[2], a, b, d, cells)


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
def _plain_row(code, shape, factors, bi, bj, every, plain, at):
    """plain[at:] = 1 for each block of a row that is whole, its cells unknowns and all their faces open."""
    n0, n1, n2 = shape
    c0, c1, c2 = factors
    m2 = np.uint64((n2 + c2 - 1) // c2)
    whole = (bi + 1) * c0 <= n0 and (bj + 1) * c1 <= n1
    if not whole:
        for k in range(m2):
            plain[at + k] = 0
        return
    every[:] = 255
    for i in range(bi * c0, (bi + 1) * c0):
        for j in range(bj * c1, (bj + 1) * c1):
            o = np.uint64((i * n1 + j) * n2)
            for k in range(np.uint64(n2)):
                every[k] &= code[o + k]
    two, one = np.uint64(c2), np.uint64(c2 - 1)
    for k in range(np.uint64(n2 // c2)):
        c = every[two * k] & every[two * k + one]
        plain[at + k] = np.uint8(1) if np.uint8(c) == _OPEN else np.uint8(0)
    if n2 % c2:
        plain[at + m2 - np.uint64(1)] = 0


@njit(**OPTIONS)
def _summarise(rows, w, factors, sizes, look, at, m2):
    """What is kept of a row of blocks, from the sums over its rows."""
    a_in, a_low, aa, b_in, b_low, bb, d, dd, cells = rows
    c0, c1, c2 = factors
    size0, size1, short = sizes
    m, one = np.uint64(m2), np.float32(1)
    inner2 = at + np.uint64(2) * m
    _sum_pairs(a_in, c2, w[0] / np.float32(c0), look, at)
    _sum_pairs(b_in, c2, w[1] / np.float32(c1), look, at + m)
    look[inner2 : inner2 + m] = 0
    if c2 == 2:
        _every_other(d, c2, 1, w[2] / np.float32(c2), look, inner2)
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


@njit(**OPTIONS)
def look_at_plane(fine, shape, periodic, factors, bi, slot, m1, m2, rows, counts, look, plain, every):
    """What the blocks of plane bi hold, into a slot of look, and whether each is plain."""
    code, w, _, _, _, _, uniform = fine
    c0, c1, c2 = factors
    i0, i1 = bi * c0, min((bi + 1) * c0, shape[0])
    for bj in range(m1):
        j0, j1 = bj * c1, min((bj + 1) * c1, shape[1])
        at = np.uint64((slot * m1 + bj) * LOOKS * m2 + 1)
        sizes = i1 - i0, j1 - j0, shape[2] % c2 > 0
        if uniform:
            for row in counts:
                row[:] = 0
            _count_rows(code, shape, periodic, i0, i1, j0, j1, counts)
            _summarise(counts, w, factors, sizes, look, at, m2)
            _plain_row(code, shape, factors, bi, bj, every, plain, np.uint64((slot * m1 + bj) * m2 + 1))
        else:
            for row in rows:
                row[:] = 0
            _add_rows(fine, shape, i0, i1, j0, j1, rows)
            _summarise(rows, w, factors, sizes, look, at, m2)
