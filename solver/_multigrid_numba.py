"""Kernels of the multigrid cycle, on flat single-precision arrays of a 3-D grid (a 2-D one is (n0, 1, n1)).

A level is (t0, t1, t2, dinv): transmissibilities of the faces between unknowns, n + 1 along the face's axis and
zero elsewhere, and the inverse diagonal, zero where there is no unknown. The finest level of a uniform coefficient
needs no faces: one weight per axis. Vectors are zero outside the unknowns.

The half-sweeps of one smoothing chase each other through the planes of axis 0 (stage t works t planes behind stage
0), so that all of them read memory once. Slabs of planes go to the threads; what a stage cannot yet do at the
edge of a slab is done afterwards, one edge at a time.

Offsets are unsigned: numba's test for negative indices would keep LLVM from vectorising.
"""

import numpy as np
from numba import njit, prange

OPTIONS = {"fastmath": {"contract", "nsz"}, "error_model": "numpy", "cache": True}


@njit(inline="always")
def _rows(i, j, n0, n1, n2, per0, per1):
    """Offsets of row (i, j) and of the four rows beside it, and 1.0 or 0.0 for whether each of those exists."""
    o = (i * n1 + j) * n2
    lo0 = o - n1 * n2 if i > 0 else (o + (n0 - 1) * n1 * n2 if per0 else o)
    hi0 = o + n1 * n2 if i < n0 - 1 else (o - (n0 - 1) * n1 * n2 if per0 else o)
    lo1 = o - n2 if j > 0 else (o + (n1 - 1) * n2 if per1 else o)
    hi1 = o + n2 if j < n1 - 1 else (o - (n1 - 1) * n2 if per1 else o)
    one, zero = np.float32(1), np.float32(0)
    has_lo0 = one if (i > 0 or (per0 and n0 > 1)) else zero
    has_hi0 = one if (i < n0 - 1 or (per0 and n0 > 1)) else zero
    has_lo1 = one if (j > 0 or (per1 and n1 > 1)) else zero
    has_hi1 = one if (j < n1 - 1 or (per1 and n1 > 1)) else zero
    return (
        (np.uint64(o), np.uint64(lo0), np.uint64(hi0), np.uint64(lo1), np.uint64(hi1)),
        (has_lo0, has_hi0, has_lo1, has_hi1),
    )


@njit(inline="always")
def _uniform_cell(b, x, at, ax, left, right, k):
    o, lo0, hi0, lo1, hi1 = at
    a0, b0, a1, b1, a2 = ax
    s = b[o + k] + a0 * x[lo0 + k] + b0 * x[hi0 + k]
    s += a1 * x[lo1 + k] + b1 * x[hi1 + k]
    return s + a2 * (left + right)


@njit(inline="always")
def _faces_cell(b, x, at, t0, t1, t2, of, left, right, k):
    o, lo0, hi0, lo1, hi1 = at
    f0, g0, f1, g1, f2 = of
    s = b[o + k] + t0[f0 + k] * x[lo0 + k] + t0[g0 + k] * x[hi0 + k]
    s += t1[f1 + k] * x[lo1 + k] + t1[g1 + k] * x[hi1 + k]
    return s + t2[f2 + k] * left + t2[f2 + k + np.uint64(1)] * right


@njit(inline="always")
def _gather_row(out, b, x, level, shape, periodic, i, j):
    """out = b + sum of transmissibility times neighbour, on one row; returns the row's offset.

    Neighbours along the row are read in place; the end cells, which meet the next row there, are then done again.
    """
    t0, t1, t2, w, uniform = level
    n0, n1, n2 = shape
    at, has = _rows(i, j, n0, n1, n2, periodic[0], periodic[1])
    o, one = at[0], np.uint64(1)
    first = np.uint64(1 if i == 0 and j == 0 else 0)
    last = np.uint64(n2 - 1)
    stop = np.uint64(n2 - 1 if i == n0 - 1 and j == n1 - 1 else n2)
    wrap = periodic[2] and n2 > 1
    before = x[o + last] if wrap else np.float32(0)
    behind = x[o] if wrap else np.float32(0)
    second = x[o + one] if n2 > 1 else np.float32(0)
    last_but_one = x[o + last - one] if n2 > 1 else np.float32(0)
    if uniform:
        ax = (w[0] * has[0], w[0] * has[1], w[1] * has[2], w[1] * has[3], w[2])
        for k in range(first, stop):
            out[k] = _uniform_cell(b, x, at, ax, x[o + k - one], x[o + k + one], k)
        if n2 > 1:
            out[0] = _uniform_cell(b, x, at, ax, before, second, np.uint64(0))
            out[n2 - 1] = _uniform_cell(b, x, at, ax, last_but_one, behind, last)
        else:
            out[0] = _uniform_cell(b, x, at, ax, before, behind, last)
    else:
        of = (
            np.uint64((i * n1 + j) * n2),
            np.uint64(((i + 1) * n1 + j) * n2),
            np.uint64((i * (n1 + 1) + j) * n2),
            np.uint64((i * (n1 + 1) + j + 1) * n2),
            np.uint64((i * n1 + j) * (n2 + 1)),
        )
        for k in range(first, stop):
            out[k] = _faces_cell(b, x, at, t0, t1, t2, of, x[o + k - one], x[o + k + one], k)
        if n2 > 1:
            out[0] = _faces_cell(b, x, at, t0, t1, t2, of, before, second, np.uint64(0))
            out[n2 - 1] = _faces_cell(b, x, at, t0, t1, t2, of, last_but_one, behind, last)
        else:
            out[0] = _faces_cell(b, x, at, t0, t1, t2, of, before, behind, last)
    return o


@njit(**OPTIONS)
def _relax_plane(x, b, dinv, level, shape, periodic, i, colour, backwards, omega, mask, row):
    """x += omega D^-1 (b - A x) on the cells of one colour of plane i; mask alternates 1 and 0."""
    n1, n2 = shape[1], shape[2]
    for step in range(n1):
        j = n1 - 1 - step if backwards else step
        o = _gather_row(row, b, x, level, shape, periodic, i, j)
        parity = np.uint64((i + j + colour) & 1)
        for k in range(np.uint64(n2)):
            x[o + k] += omega * mask[k + parity] * (dinv[o + k] * row[k] - x[o + k])


@njit(**OPTIONS)
def _start_plane(x, b, dinv, shape, i, colour, omega, mask):
    """What :func:`_relax_plane` gives from x = 0."""
    _, n1, n2 = shape
    for j in range(n1):
        o = np.uint64((i * n1 + j) * n2)
        parity = np.uint64((i + j + colour) & 1)
        for k in range(np.uint64(n2)):
            x[o + k] = omega * mask[k + parity] * dinv[o + k] * b[o + k]


@njit(**OPTIONS)
def _add_plane(x, coarse, dinv, shape, factors, moved, i):
    """x += P e on plane i: every cell takes its block's value, a moved cell that of the block it moved to."""
    _, n1, n2 = shape
    c0, c1, c2 = factors
    m1, m2 = (n1 + c1 - 1) // c1, (n2 + c2 - 1) // c2
    for j in range(n1):
        o = np.uint64((i * n1 + j) * n2)
        q = np.uint64((i // c0 * m1 + j // c1) * m2)
        if c2 == 1:
            for k in range(np.uint64(n2)):
                e = coarse[q + k]
                x[o + k] += e if dinv[o + k] > 0 else np.float32(0)
        else:
            half = np.uint64(n2 // 2)
            two, one = np.uint64(2), np.uint64(1)
            for k in range(half):
                e = coarse[q + k]
                x[o + two * k] += e if dinv[o + two * k] > 0 else np.float32(0)
                x[o + two * k + one] += e if dinv[o + two * k + one] > 0 else np.float32(0)
            if n2 % 2:
                k = np.uint64(n2 - 1)
                x[o + k] += coarse[q + half] if dinv[o + k] > 0 else np.float32(0)
    cells, own, target, first = moved
    for m in range(first[i], first[i + 1]):
        x[cells[m]] += coarse[target[m]] - coarse[own[m]]


@njit(**OPTIONS)
def _stage(x, b, dinv, level, shape, periodic, i, stage, weights, after, mask, row):
    """Half-sweep number `stage` on plane i, the last one first after the coarse correction."""
    turn = weights.size - 1 - stage if after else stage
    if turn == 0 and not after:
        _start_plane(x, b, dinv, shape, i, 0, weights[0], mask)
    else:
        _relax_plane(x, b, dinv, level, shape, periodic, i, turn & 1, after, weights[turn], mask, row)


@njit(**OPTIONS)
def _scratch(n2):
    """(1 and 0 in turn, a row)."""
    mask = np.zeros(n2 + 1, np.float32)
    mask[::2] = 1
    return mask, np.empty(n2, np.float32)


@njit(**OPTIONS)
def _smooth_serial(x, b, dinv, level, shape, periodic, weights, after, coarse, factors, moved):
    """Half-sweep after half-sweep; rows and planes backwards after the coarse correction.

    So post-smoothing is the transpose of pre-smoothing even where an odd periodic axis lets a colour meet itself.
    """
    mask, row = _scratch(shape[2])
    for i in range(shape[0]):
        if after:
            _add_plane(x, coarse, dinv, shape, factors, moved, i)
        else:
            for k in range(i * shape[1] * shape[2], (i + 1) * shape[1] * shape[2]):
                x[k] = 0
    for stage in range(weights.size):
        turn = weights.size - 1 - stage if after else stage
        for step in range(shape[0]):
            i = shape[0] - 1 - step if after else step
            _relax_plane(x, b, dinv, level, shape, periodic, i, turn & 1, after, weights[turn], mask, row)


@njit(**OPTIONS)
def _smooth_slab(x, b, dinv, level, shape, periodic, weights, after, coarse, factors, moved, slab, slabs):
    """What can be done on one slab before its neighbours are done."""
    n0 = shape[0]
    mask, row = _scratch(shape[2])
    stages, lead = weights.size, 1 if after else 0
    low, high = slab * n0 // slabs, (slab + 1) * n0 // slabs
    cut_low = low > 0 or periodic[0]
    cut_high = high < n0 or periodic[0]
    for front in range(low, high + stages + lead):
        if after and front < high:
            _add_plane(x, coarse, dinv, shape, factors, moved, front)
        for stage in range(stages):
            i = front - stage - lead
            start = low + (stage + lead if cut_low else 0)
            stop = high - (stage + lead if cut_high else 0)
            if start <= i < stop:
                _stage(x, b, dinv, level, shape, periodic, i, stage, weights, after, mask, row)


@njit(**OPTIONS)
def _smooth_edge(x, b, dinv, level, shape, periodic, weights, after, edge, slabs):
    """What is left around the plane where two slabs meet."""
    n0 = shape[0]
    mask, row = _scratch(shape[2])
    middle = edge * n0 // slabs
    for stage in range(weights.size):
        reach = stage + (1 if after else 0)
        for i in range(middle - reach, middle + reach):
            _stage(x, b, dinv, level, shape, periodic, i % n0, stage, weights, after, mask, row)


@njit(parallel=True, **OPTIONS)
def smooth(x, b, dinv, level, shape, periodic, weights, after, coarse, factors, moved, slabs):
    """Half-sweeps of alternating colour with the given weights: from x = 0, or after x += P coarse in reverse order.

    Slabs that meet others (or, where axis 0 is periodic, themselves) need more than 2 (half-sweeps + 1) planes, and
    periodic axes an even size; slabs = 0 asks for neither.
    """
    if slabs == 0:
        _smooth_serial(x, b, dinv, level, shape, periodic, weights, after, coarse, factors, moved)
    elif slabs == 1:
        _smooth_slab(x, b, dinv, level, shape, periodic, weights, after, coarse, factors, moved, 0, 1)
        if periodic[0]:
            _smooth_edge(x, b, dinv, level, shape, periodic, weights, after, 0, 1)
    else:
        for slab in prange(slabs):
            one = np.int64(slab)
            _smooth_slab(x, b, dinv, level, shape, periodic, weights, after, coarse, factors, moved, one, slabs)
        for edge in prange(slabs):
            if edge > 0 or periodic[0]:
                one = np.int64(edge)
                _smooth_edge(x, b, dinv, level, shape, periodic, weights, after, one, slabs)


@njit(**OPTIONS)
def _restrict_plane(x, b, dinv, level, shape, periodic, factors, coarse, big, row, total):
    n0, n1, n2 = shape
    c0, c1, c2 = factors
    m1, m2 = (n1 + c1 - 1) // c1, (n2 + c2 - 1) // c2
    for bj in range(m1):
        for k in range(n2):
            total[k] = 0
        for i in range(big * c0, min((big + 1) * c0, n0)):
            for j in range(bj * c1, min((bj + 1) * c1, n1)):
                o = _gather_row(row, b, x, level, shape, periodic, i, j)
                for k in range(np.uint64(n2)):
                    d = dinv[o + k]
                    r = row[k] - x[o + k] / d
                    total[k] += r if d > 0 else np.float32(0)
        q = (big * m1 + bj) * m2
        if c2 == 1:
            for k in range(n2):
                coarse[q + k] = total[k]
        else:
            for k in range(n2 // 2):
                coarse[q + k] = total[2 * k] + total[2 * k + 1]
            if n2 % 2:
                coarse[q + m2 - 1] = total[n2 - 1]


@njit(**OPTIONS)
def _restrict_planes(x, b, dinv, level, shape, periodic, factors, coarse, start, stop):
    _, row = _scratch(shape[2])
    total = np.empty_like(row)
    for big in range(start, stop):
        _restrict_plane(x, b, dinv, level, shape, periodic, factors, coarse, big, row, total)


@njit(**OPTIONS)
def _move_residuals(x, b, dinv, level, shape, moved, coarse):
    """Take the residuals of moved cells from their own blocks to the ones they moved to."""
    t0, t1, t2, _, _ = level
    n0, n1, n2 = shape
    cells, own, target, _ = moved
    for m in range(cells.size):
        cell = cells[m]
        i, j, k = cell // (n1 * n2), cell // n2 % n1, cell % n2
        r = b[cell] - x[cell] / dinv[cell]
        r += t0[cell] * x[((i - 1) % n0 * n1 + j) * n2 + k]
        r += t0[cell + n1 * n2] * x[((i + 1) % n0 * n1 + j) * n2 + k]
        f1 = (i * (n1 + 1) + j) * n2 + k
        r += t1[f1] * x[(i * n1 + (j - 1) % n1) * n2 + k] + t1[f1 + n2] * x[(i * n1 + (j + 1) % n1) * n2 + k]
        f2 = (i * n1 + j) * (n2 + 1) + k
        r += t2[f2] * x[(i * n1 + j) * n2 + (k - 1) % n2] + t2[f2 + 1] * x[(i * n1 + j) * n2 + (k + 1) % n2]
        coarse[own[m]] -= r
        coarse[target[m]] += r


@njit(parallel=True, **OPTIONS)
def restrict_residual(x, b, dinv, level, shape, periodic, factors, moved, coarse, chunks):
    """coarse = P^T (b - A x), the sum over each block, moved cells counted where they moved to."""
    planes = (shape[0] + factors[0] - 1) // factors[0]
    if chunks == 1:
        _restrict_planes(x, b, dinv, level, shape, periodic, factors, coarse, 0, planes)
    else:
        for chunk in prange(chunks):
            start, stop = np.int64(chunk) * planes // chunks, (np.int64(chunk) + 1) * planes // chunks
            _restrict_planes(x, b, dinv, level, shape, periodic, factors, coarse, start, stop)
    _move_residuals(x, b, dinv, level, shape, moved, coarse)
