"""Kernels of the multigrid cycle, on flat single-precision arrays of a 3-D grid (a 2-D one is (n0, 1, n1)).

A level is (t0, t1, t2, weights, uniform): transmissibilities of the faces between unknowns, n + 1 along axes 0 and 1
and zero elsewhere; on axis 2 the low face of each cell and one zero after the last. The finest level of a uniform
coefficient needs no faces: one weight per axis. dinv is the inverse diagonal, zero where there is no unknown. Vectors
are zero outside the unknowns.

Rows of a plane are worked on many at a time, as one run of cells: the start and the end of a loop over a row, and
the calls around it, take as long as a hundred cells do.

The half-sweeps of one smoothing chase each other through the planes of axis 0 (stage t works t planes behind stage
0), so that all of them read memory once. Slabs of planes go to the threads; what a stage cannot yet do at the
edge of a slab is done afterwards, one edge at a time.

Offsets are unsigned: numba's test for negative indices would keep LLVM from vectorising.
"""

import numpy as np
from numba import njit, prange

from deconjugate.solver._borrowed_numba import borrowed, borrowed_level

# Cells of a run: what its passes share stays in the innermost cache.
_RUN = 1024
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
def _faces_cell(b, x, at, t0, t1, of, low, high, left, right, k):
    o, lo0, hi0, lo1, hi1 = at
    f0, g0, f1, g1 = of
    s = b[o + k] + t0[f0 + k] * x[lo0 + k] + t0[g0 + k] * x[hi0 + k]
    s += t1[f1 + k] * x[lo1 + k] + t1[g1 + k] * x[hi1 + k]
    return s + low * left + high * right


@njit(inline="always")
def _gather_rows(out, b, x, level, shape, periodic, i, j, rows):
    """out = b + sum of transmissibility times neighbour, on rows of plane i from j on; returns their offset.

    The rows' neighbours are of the same kind, see :func:`_alike`. Neighbours along a row are read in place; where that
    is wrong at the ends, which meet another row there, they are done again.
    """
    t0, t1, t2, w, uniform = level
    n0, n1, n2 = shape
    at, has = _rows(i, j, n0, n1, n2, periodic[0], periodic[1])
    o, one, n, size = at[0], np.uint64(1), np.uint64(n2), np.uint64(rows * n2)
    # Nothing is read before the first cell of all, nor after the last.
    start = np.uint64(1 if i == 0 and j == 0 else 0)
    stop = size - np.uint64(1 if i == n0 - 1 and j + rows == n1 else 0)
    wrap, zero = periodic[2] and n2 > 1, np.float32(0)
    if uniform:
        ax = (w[0] * has[0], w[0] * has[1], w[1] * has[2], w[1] * has[3], w[2])
        for k in range(start, stop):
            out[k] = _uniform_cell(b, x, at, ax, x[o + k - one], x[o + k + one], k)
        for row in range(np.uint64(rows)):
            k, last = row * n, row * n + n - one
            before, second = x[o + last] if wrap else zero, x[o + k + one] if n2 > 1 else zero
            behind, last_but_one = x[o + k] if wrap else zero, x[o + last - one] if n2 > 1 else zero
            out[k] = _uniform_cell(b, x, at, ax, before, second, k)
            if n2 > 1:
                out[last] = _uniform_cell(b, x, at, ax, last_but_one, behind, last)
    else:
        of = (
            np.uint64((i * n1 + j) * n2),
            np.uint64(((i + 1) * n1 + j) * n2),
            np.uint64((i * (n1 + 1) + j) * n2),
            np.uint64((i * (n1 + 1) + j + 1) * n2),
        )
        for k in range(start, stop):
            low, high = t2[o + k], t2[o + k + one]
            out[k] = _faces_cell(b, x, at, t0, t1, of, low, high, x[o + k - one], x[o + k + one], k)
        if wrap or start > 0 or stop < size:
            for row in range(np.uint64(rows)):
                k, last = row * n, row * n + n - one
                before, second = x[o + last] if wrap else zero, x[o + k + one] if n2 > 1 else zero
                behind, last_but_one = x[o + k] if wrap else zero, x[o + last - one] if n2 > 1 else zero
                outer = t2[o + k]
                out[k] = _faces_cell(b, x, at, t0, t1, of, outer, t2[o + k + one], before, second, k)
                if n2 > 1:
                    out[last] = _faces_cell(b, x, at, t0, t1, of, t2[o + last], outer, last_but_one, behind, last)
    return o


@njit(inline="always")
def _alike(j, n1, most):
    """How many rows from j on, or up to it when counted from the far end, have neighbours of the same kind.

    The first and the last of a plane, which may lack a neighbour, are by themselves.
    """
    return 1 if j == 0 or j == n1 - 1 else min(most, n1 - 1 - j)


@njit(inline="always")
def _offset(parity, n2):
    """Where the chequered rows of :func:`_scratch` begin with 1 (parity 0) or 0."""
    return np.uint64((parity & 1) * (n2 if n2 % 2 == 0 else 1))


@njit(**OPTIONS)
def _meet_around(x, dinv, level, o, rows, n2, shift, backwards, omega, mask, row):
    """Where the ends of a row meet in one colour the second to be relaxed sees what the first becomes.

    Relaxed at once, as other cells of a colour are, two that are strongly coupled would gain energy.
    """
    t2, w, uniform = level[2], level[3], level[4]
    for number in range(np.uint64(rows)):
        low = number * np.uint64(n2)
        high = low + np.uint64(n2 - 1)
        if mask[low + shift] > 0:
            t = w[2] if uniform else t2[o + low]
            if backwards:
                row[low] += t * omega * (dinv[o + high] * row[high] - x[o + high])
            else:
                row[high] += t * omega * (dinv[o + low] * row[low] - x[o + low])


@njit(**OPTIONS)
def _relax_plane(x, b, dinv, level, shape, periodic, i, colour, backwards, omega, mask, row):
    """x += omega D^-1 (b - A x) on the cells of one colour of plane i."""
    x, b, dinv, mask, row = borrowed(x), borrowed(b), borrowed(dinv), borrowed(mask), borrowed(row)
    level = borrowed_level(level)
    n1, n2 = shape[1], shape[2]
    most, done = row.size // n2, 0
    while done < n1:
        rows = _alike(done, n1, most)
        j = n1 - done - rows if backwards else done
        o = _gather_rows(row, b, x, level, shape, periodic, i, j, rows)
        shift = _offset(i + j + colour, n2)
        if periodic[2] and n2 % 2 and n2 > 1:
            _meet_around(x, dinv, level, o, rows, n2, shift, backwards, omega, mask, row)
        for k in range(np.uint64(rows * n2)):
            x[o + k] += omega * mask[k + shift] * (dinv[o + k] * row[k] - x[o + k])
        done += rows


@njit(**OPTIONS)
def _start_plane(x, b, dinv, shape, i, colour, omega, mask, row):
    """What :func:`_relax_plane` gives from x = 0."""
    x, b, dinv, mask = borrowed(x), borrowed(b), borrowed(dinv), borrowed(mask)
    _, n1, n2 = shape
    most = row.size // n2
    for j in range(0, n1, most):
        o, shift = np.uint64((i * n1 + j) * n2), _offset(i + j + colour, n2)
        for k in range(np.uint64(min(most, n1 - j) * n2)):
            x[o + k] = omega * mask[k + shift] * dinv[o + k] * b[o + k]


@njit(**OPTIONS)
def _add_plane(x, coarse, dinv, shape, factors, moved, i):
    """x += P e on plane i: every cell takes its block's value, a moved cell that of the block it moved to."""
    x, coarse, dinv = borrowed(x), borrowed(coarse), borrowed(dinv)
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
    x, b, dinv, weights, mask, row = (
        borrowed(x), borrowed(b), borrowed(dinv), borrowed(weights), borrowed(mask), borrowed(row),
    )  # fmt: skip
    level = borrowed_level(level)
    turn = weights.size - 1 - stage if after else stage
    if turn == 0 and not after:
        _start_plane(x, b, dinv, shape, i, 0, weights[0], mask, row)
    else:
        _relax_plane(x, b, dinv, level, shape, periodic, i, turn & 1, after, weights[turn], mask, row)


@njit(inline="always")
def _run_rows(shape):
    """Rows of a run: an even number, so that it holds whole blocks."""
    return max(2, min(shape[1] + shape[1] % 2, _RUN // shape[2] // 2 * 2))


@njit(**OPTIONS)
def _scratch(shape):
    """(1 and 0 in turn along rows and from row to row, a run)."""
    rows, n2 = _run_rows(shape), shape[2]
    mask = np.zeros((rows + 1) * n2, np.float32)
    for row in range(rows + 1):
        mask[row * n2 + row % 2 : (row + 1) * n2 : 2] = 1
    return mask, np.empty(rows * n2, np.float32)


@njit(**OPTIONS)
def _smooth_serial(x, b, dinv, level, shape, periodic, weights, after, coarse, factors, moved):
    """Half-sweep after half-sweep; rows and planes backwards after the coarse correction.

    So post-smoothing is the transpose of pre-smoothing even where an odd periodic axis lets a colour meet itself.
    """
    mask, row = _scratch(shape)
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
    x, b, dinv, weights, coarse = borrowed(x), borrowed(b), borrowed(dinv), borrowed(weights), borrowed(coarse)
    level = borrowed_level(level)
    moved = borrowed(moved[0]), borrowed(moved[1]), borrowed(moved[2]), borrowed(moved[3])
    n0 = shape[0]
    mask, row = _scratch(shape)
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
    x, b, dinv, weights, level = borrowed(x), borrowed(b), borrowed(dinv), borrowed(weights), borrowed_level(level)
    n0 = shape[0]
    mask, row = _scratch(shape)
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


@njit(inline="always")
def _sum_block_row(total, n, n2, two_rows, c2, coarse, q):
    """coarse[q:] = sums over the blocks of the row, or the two rows, that begin at n."""
    at, next_row, two, one = np.uint64(n), np.uint64(n + n2), np.uint64(2), np.uint64(1)
    if two_rows:
        for k in range(np.uint64(n2)):
            total[at + k] += total[next_row + k]
    if c2 == 1:
        for k in range(np.uint64(n2)):
            coarse[q + k] = total[at + k]
    else:
        for k in range(np.uint64(n2 // 2)):
            coarse[q + k] = total[at + two * k] + total[at + two * k + one]
        if n2 % 2:
            coarse[q + np.uint64(n2 // 2)] = total[next_row - one]


@njit(**OPTIONS)
def _restrict_plane(x, b, dinv, level, shape, periodic, factors, coarse, big, row, total):
    x, b, dinv, coarse = borrowed(x), borrowed(b), borrowed(dinv), borrowed(coarse)
    row, total, level = borrowed(row), borrowed(total), borrowed_level(level)
    n0, n1, n2 = shape
    c0, c1, c2 = factors
    m1, m2 = (n1 + c1 - 1) // c1, (n2 + c2 - 1) // c2
    most = row.size // n2
    for start in range(0, n1, most):
        stop = min(start + most, n1)
        for k in range(np.uint64((stop - start) * n2)):
            total[k] = 0
        for i in range(big * c0, min((big + 1) * c0, n0)):
            j = start
            while j < stop:
                rows = _alike(j, n1, stop - j)
                o = _gather_rows(row, b, x, level, shape, periodic, i, j, rows)
                at = np.uint64((j - start) * n2)
                for k in range(np.uint64(rows * n2)):
                    d = dinv[o + k]
                    r = row[k] - x[o + k] / d
                    total[at + k] += r if d > 0 else np.float32(0)
                j += rows
        for j in range(start, stop, c1):
            q = np.uint64((big * m1 + j // c1) * m2)
            _sum_block_row(total, (j - start) * n2, n2, c1 == 2 and j + 1 < n1, c2, coarse, q)


@njit(**OPTIONS)
def _restrict_planes(x, b, dinv, level, shape, periodic, factors, coarse, start, stop):
    row = np.empty(_run_rows(shape) * shape[2], np.float32)
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
        high = cell + 1 if k < n2 - 1 else cell - k
        r += t2[cell] * x[(i * n1 + j) * n2 + (k - 1) % n2] + t2[high] * x[(i * n1 + j) * n2 + (k + 1) % n2]
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
