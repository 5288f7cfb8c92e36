"""Kernels of the Poisson stencil, on 3-D arrays (a 2-D grid comes as (n0, 1, n1)).

A uniform coefficient needs one byte a cell: bits 0-5 say which of the faces (axis 0 low, high, axis 1 low,
high, axis 2 low, high) are open, bit 6 that the cell is an unknown, bit 7 that a given value lies behind one of
its faces. A variable coefficient needs one transmissibility a face, n + 1 along the face's axis.
Vectors are zero outside the unknowns, so a given value behind an open face needs no case of its own.
Differences u_i - u_j are formed before they are weighted: in single precision that keeps the error
proportional to the gradient of u and not to u itself.

Inner loops read neighbours along a row in place, past its ends too; cells where that is wrong are done again.
"""

import numpy as np
from numba import get_num_threads, njit, prange

from deconjugate.operators._prefetch_numba import LINE, prefetch_read, prefetch_write

UNKNOWN = 64
GIVEN = 128

# Lines of memory worked on at a time, and how far ahead of them memory is asked for: what a Zen 5 takes best.
LINES, AHEAD = 16, 96

# How an outer side closes: nothing behind it, a given value, the opposite side.
NEUMANN, DIRICHLET, PERIODIC = 0, 1, 2


def chunk_count(shape):
    """Chunks of rows for the threads to share: enough to balance, one where waking them would cost more.

    A kernel takes it as an argument: numba caches no function that asks for the number of threads.
    """
    cells = shape[0] * shape[1] * shape[2]
    return max(1, min(shape[0] * shape[1], 4 * get_num_threads())) if cells > 8192 else 1


@njit(inline="always")
def _outer(side):
    """Kind of cell that stands behind a closed outer side."""
    return np.uint8(2) if side == DIRICHLET else np.uint8(0)


@njit(inline="always")
def _cell_row(cells, i, j, sides):
    """Row (i, j) of the cells, or what stands for it outside the grid."""
    n0, n1, n2 = cells.shape
    if 0 <= i < n0 and 0 <= j < n1:
        return cells[i, j]
    axis = 0 if (i < 0 or i >= n0) else 1
    side = sides[axis, 0 if (i < 0 or j < 0) else 1]
    if side == PERIODIC:
        # A periodic axis of one cell has no faces: the cell would be its own neighbour.
        if (n0 if axis == 0 else n1) > 1:
            return cells[i % n0, j % n1]
        return np.zeros(n2, np.uint8)
    return np.full(n2, _outer(side), np.uint8)


@njit(parallel=True, cache=True)
def face_code(cells, sides, chunks):
    """The byte of every cell from its kind and its neighbours'; sides[axis, 0 low or 1 high]."""
    n0, n1, n2 = cells.shape
    code = np.empty(cells.shape, np.uint8)
    rows = n0 * n1
    for chunk in prange(chunks):
        padded = np.empty(n2 + 2, np.uint8)
        for row in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            i, j = row // n1, row % n1
            padded[1 : n2 + 1] = cells[i, j]
            if sides[2, 0] == PERIODIC:
                padded[0] = cells[i, j, n2 - 1] if n2 > 1 else 0
                padded[n2 + 1] = cells[i, j, 0] if n2 > 1 else 0
            else:
                padded[0] = _outer(sides[2, 0])
                padded[n2 + 1] = _outer(sides[2, 1])
            _code_row(
                code[i, j],
                padded[1 : n2 + 1],
                _cell_row(cells, i - 1, j, sides),
                _cell_row(cells, i + 1, j, sides),
                _cell_row(cells, i, j - 1, sides),
                _cell_row(cells, i, j + 1, sides),
                padded[:n2],
                padded[2:],
            )
    return code


@njit
def _code_row(out, here, lo0, hi0, lo1, hi1, lo2, hi2):
    one, two = np.uint8(1), np.uint8(2)
    for k in range(out.shape[0]):
        c = np.uint8(64)
        c = np.uint8(c | (np.uint8(1) if lo0[k] else np.uint8(0)))
        c = np.uint8(c | (np.uint8(2) if hi0[k] else np.uint8(0)))
        c = np.uint8(c | (np.uint8(4) if lo1[k] else np.uint8(0)))
        c = np.uint8(c | (np.uint8(8) if hi1[k] else np.uint8(0)))
        c = np.uint8(c | (np.uint8(16) if lo2[k] else np.uint8(0)))
        c = np.uint8(c | (np.uint8(32) if hi2[k] else np.uint8(0)))
        given = np.uint8(np.uint8(lo0[k] | hi0[k] | lo1[k] | hi1[k] | lo2[k] | hi2[k]) & two)
        c = np.uint8(c | (np.uint8(128) if given else np.uint8(0)))
        out[k] = c if here[k] == one else np.uint8(0)


@njit(parallel=True, cache=True)
def close_faces(code, sides, t0, t1, t2):
    """Set to zero every face that the code calls closed; a face between an unknown and anything else stays open."""
    n0, n1, n2 = code.shape
    for i in prange(n0 + 1):
        for j in range(n1):
            for k in range(n2):
                below = i > 0 and (code[i - 1, j, k] & 2) != 0
                above = i < n0 and (code[i, j, k] & 1) != 0
                if sides[0, 0] == PERIODIC:
                    below = below or (i == 0 and (code[n0 - 1, j, k] & 2) != 0)
                    above = above or (i == n0 and (code[0, j, k] & 1) != 0)
                if not (below or above):
                    t0[i, j, k] = 0
    for i in prange(n0):
        for j in range(n1 + 1):
            for k in range(n2):
                below = j > 0 and (code[i, j - 1, k] & 8) != 0
                above = j < n1 and (code[i, j, k] & 4) != 0
                if sides[1, 0] == PERIODIC:
                    below = below or (j == 0 and (code[i, n1 - 1, k] & 8) != 0)
                    above = above or (j == n1 and (code[i, 0, k] & 4) != 0)
                if not (below or above):
                    t1[i, j, k] = 0
    for i in prange(n0):
        for j in range(n1):
            for k in range(n2 + 1):
                below = k > 0 and (code[i, j, k - 1] & 32) != 0
                above = k < n2 and (code[i, j, k] & 16) != 0
                if sides[2, 0] == PERIODIC:
                    below = below or (k == 0 and (code[i, j, n2 - 1] & 32) != 0)
                    above = above or (k == n2 and (code[i, j, 0] & 16) != 0)
                if not (below or above):
                    t2[i, j, k] = 0


@njit(parallel=True, cache=True)
def code_of_faces(code, sides, t0, t1, t2):
    """Renew the byte of every unknown where transmissibilities may be zero: such a face is closed."""
    n0, n1, n2 = code.shape
    out = np.zeros_like(code)
    for plane in prange(n0):
        i = np.int64(plane)
        for j in range(n1):
            for k in range(n2):
                if code[i, j, k] == 0:
                    continue
                c = 64
                t = (t0[i, j, k], t0[i + 1, j, k], t1[i, j, k], t1[i, j + 1, k], t2[i, j, k], t2[i, j, k + 1])
                for face in range(6):
                    if t[face] <= 0:
                        continue
                    c |= 1 << face
                    step = 2 * (face % 2) - 1
                    ii = i + step if face < 2 else i
                    jj = j + step if face in (2, 3) else j
                    kk = k + step if face > 3 else k
                    outside = ii < 0 or ii >= n0 or jj < 0 or jj >= n1 or kk < 0 or kk >= n2
                    if (outside and sides[face // 2, 0] != PERIODIC) or code[ii % n0, jj % n1, kk % n2] == 0:
                        c |= 128
                out[i, j, k] = c
    return out


@njit(inline="always")
def _if_open(code, face, difference):
    """The difference across an open face, else zero: one masked instruction, so long as the test stays in 8 bits."""
    return difference if np.uint8(code & np.uint8(face)) != np.uint8(0) else np.float32(0)


@njit(inline="always")
def _uniform_cell(x, code, lo0, hi0, lo1, hi1, lo2, hi2, w):
    """A u in one cell of value x; what lies behind closed faces does not matter."""
    d = _if_open(code, 1, x - lo0) + _if_open(code, 2, x - hi0)
    e = _if_open(code, 4, x - lo1) + _if_open(code, 8, x - hi1)
    f = _if_open(code, 16, x - lo2) + _if_open(code, 32, x - hi2)
    return w[0] * d + w[1] * e + w[2] * f


@njit(fastmath={"contract"}, error_model="numpy")
def _uniform_block(u, code, w, start, stop, steps, has, out):
    """out = A u on cells start to stop of the flat arrays, whose neighbours lie the same steps away.

    Steps and has (0 or 1) are for axis 0 low, high, axis 1 low, high: what is not there is met at step 0, times zero.
    Along axis 2 neighbours are read in place.
    Unsigned offsets: numba's test for negative indices would keep LLVM from vectorising.
    """
    w = w[0], w[1], w[2]
    here, below, above = np.uint64(start), np.uint64(start - 1), np.uint64(start + 1)
    lo0, hi0 = np.uint64(start + steps[0]), np.uint64(start + steps[1])
    lo1, hi1 = np.uint64(start + steps[2]), np.uint64(start + steps[3])
    for k in range(np.uint64(max(stop - start, 0))):
        out[here + k] = _uniform_cell(
            u[here + k],
            code[here + k],
            has[0] * u[lo0 + k],
            has[1] * u[hi0 + k],
            has[2] * u[lo1 + k],
            has[3] * u[hi1 + k],
            u[below + k],
            u[above + k],
            w,
        )


@njit(fastmath={"contract"}, error_model="numpy")
def _uniform_run(u, code, w, start, stop, steps, has, out):
    """The same for many rows end to end, with memory asked for ahead: u a plane on, and what is met but once."""
    line = np.uint64(LINE // u.itemsize)
    cells = np.uint64(LINES) * line
    for at in range(start, stop, np.int64(cells)):
        ahead = np.uint64(at) + np.uint64(AHEAD) * line
        plane_on = ahead + np.uint64(steps[1])
        for k in range(plane_on, plane_on + cells, line):
            prefetch_read(u, k)
        for k in range(ahead, ahead + cells, line):
            prefetch_write(out, k)
        for k in range(ahead, ahead + cells, np.uint64(LINE)):
            prefetch_read(code, k)
        _uniform_block(u, code, w, at, min(at + np.int64(cells), stop), steps, has, out)


@njit(fastmath={"contract"}, error_model="numpy")
def _uniform_ends(u, code, w, start, stop, n2, side, wraps, steps, has, out):
    """out = A u in the first (side 0) or the last cell (side 1) of each row."""
    w0, w1, w2 = w[0], w[1], w[2]
    for row in range(start, stop, n2):
        at, opposite = row + side * (n2 - 1), row + (1 - side) * (n2 - 1)
        here = np.uint64(at)
        lo0, hi0 = has[0] * u[np.uint64(at + steps[0])], has[1] * u[np.uint64(at + steps[1])]
        lo1, hi1 = has[2] * u[np.uint64(at + steps[2])], has[3] * u[np.uint64(at + steps[3])]
        outside = u[np.uint64(opposite)] if wraps else w0 - w0
        lo2 = u[np.uint64(at - 1)] if at > row else outside
        hi2 = u[np.uint64(at + 1)] if at < row + n2 - 1 else outside
        out[here] = _uniform_cell(u[here], code[here], lo0, hi0, lo1, hi1, lo2, hi2, (w0, w1, w2))


@njit(inline="always")
def _steps(first, last, n, stride, wraps, one):
    """Steps to the low and to the high neighbours of places first to last of n along an axis, and whether they are."""
    low = -stride if first > 0 else (stride * (n - 1) if wraps else 0)
    high = stride if last < n else (stride * (1 - n) if wraps else 0)
    return (low, high), (one if first > 0 or wraps else one - one, one if last < n or wraps else one - one)


@njit(cache=True)
def _uniform_rows(u3, code3, w, sides, out3, start, stop):
    """out = A u on some rows; w holds 1 / spacing^2 times the coefficient, by axis.

    A plane is passed through as one run, as if the next row's cell stood behind the end of a row, and the next plane's
    row behind the last one. That matters only where the outer side is open: there, cells are done again.
    """
    n0, n1, n2 = u3.shape
    u, code, out = u3.reshape(u3.size), code3.reshape(u3.size), out3.reshape(u3.size)
    one = w[0] / w[0]
    plane, size = n1 * n2, u3.size
    wraps0, wraps1, wraps2 = sides[0, 0] == PERIODIC, sides[1, 0] == PERIODIC, sides[2, 0] == PERIODIC
    for i in range(start // n1, (stop - 1) // n1 + 1):
        (lo0, hi0), (has_lo0, has_hi0) = _steps(i, i + 1, n0, plane, wraps0, one)
        steps, has = (lo0, hi0, -n2, n2), (has_lo0, has_hi0, one, one)
        run_start, run_stop = max(start * n2, i * plane, n2), min(stop * n2, (i + 1) * plane, size - n2)
        _uniform_run(u, code, w, run_start, run_stop, steps, has, out)
        # The first row, the inner ones, the last: they differ in where their neighbours are.
        for first, last in (0, 1), (1, n1 - 1), (max(1, n1 - 1), n1):
            row_start, row_stop = max(start, i * n1 + first) * n2, min(stop, i * n1 + last) * n2
            if row_start >= row_stop:
                continue
            (lo1, hi1), (has_lo1, has_hi1) = _steps(first, last, n1, n2, wraps1, one)
            steps, has = (lo0, hi0, lo1, hi1), (has_lo0, has_hi0, has_lo1, has_hi1)
            again = (first == 0 and sides[1, 0] != NEUMANN) or (last == n1 and sides[1, 1] != NEUMANN)
            again = again or row_start == 0 or row_stop == size
            if again:
                _uniform_block(u, code, w, max(row_start, 1), min(row_stop, size - 1), steps, has, out)
            for side in range(2):
                if again or sides[2, side] != NEUMANN:
                    _uniform_ends(u, code, w, row_start, row_stop, n2, side, wraps2, steps, has, out)


@njit(parallel=True, cache=True)
def apply_uniform(u, code, w, sides, out, chunks):
    """out = A u; w holds 1 / spacing^2 times the coefficient, by axis; sides as in :func:`face_code`."""
    rows = u.shape[0] * u.shape[1]
    if chunks == 1:
        _uniform_rows(u, code, w, sides, out, 0, rows)
    else:
        for chunk in prange(chunks):
            start, stop = np.int64(chunk) * rows // chunks, (np.int64(chunk) + 1) * rows // chunks
            _uniform_rows(u, code, w, sides, out, start, stop)


@njit(fastmath={"contract"}, error_model="numpy")
def _faces_block(u, code, t0, t1, t2, start, stop, faces, steps, has, out):
    """out = A u on cells start to stop of a row; steps and has as for a uniform coefficient.

    A closed face has transmissibility zero, and is tested all the same: a wall may hold what is no number.

    Faces: steps to a cell's faces in their flat arrays, axis 0 high, axis 1 low, axis 1 high, axis 2 low.
    """
    here, below, above = np.uint64(start), np.uint64(start - 1), np.uint64(start + 1)
    lo0, hi0 = np.uint64(start + steps[0]), np.uint64(start + steps[1])
    lo1, hi1 = np.uint64(start + steps[2]), np.uint64(start + steps[3])
    b0, a1, b1 = np.uint64(start + faces[0]), np.uint64(start + faces[1]), np.uint64(start + faces[2])
    a2, b2 = np.uint64(start + faces[3]), np.uint64(start + faces[3] + 1)
    for k in range(np.uint64(max(stop - start, 0))):
        x, c = u[here + k], code[here + k]
        x0, y0 = _if_open(c, 1, x - has[0] * u[lo0 + k]), _if_open(c, 2, x - has[1] * u[hi0 + k])
        x1, y1 = _if_open(c, 4, x - has[2] * u[lo1 + k]), _if_open(c, 8, x - has[3] * u[hi1 + k])
        x2, y2 = _if_open(c, 16, x - u[below + k]), _if_open(c, 32, x - u[above + k])
        d = t0[here + k] * x0 + t0[b0 + k] * y0
        e = t1[a1 + k] * x1 + t1[b1 + k] * y1
        out[here + k] = d + e + (t2[a2 + k] * x2 + t2[b2 + k] * y2)


@njit(fastmath={"contract"}, error_model="numpy")
def _faces_end(u, code, t0, t1, t2, at, lo2, hi2, faces, steps, has, out):
    """out = A u in one cell, its neighbours along axis 2 given."""
    x, c = u[at], code[at]
    d = t0[at] * _if_open(c, 1, x - has[0] * u[at + steps[0]])
    d += t0[at + faces[0]] * _if_open(c, 2, x - has[1] * u[at + steps[1]])
    e = t1[at + faces[1]] * _if_open(c, 4, x - has[2] * u[at + steps[2]])
    e += t1[at + faces[2]] * _if_open(c, 8, x - has[3] * u[at + steps[3]])
    f = t2[at + faces[3]] * _if_open(c, 16, x - lo2) + t2[at + faces[3] + 1] * _if_open(c, 32, x - hi2)
    out[at] = d + e + f


@njit(cache=True)
def _faces_rows(u3, code3, t03, t13, t23, periodic, out3, start, stop):
    """out = A u on some rows, with memory asked for ahead."""
    n0, n1, n2 = u3.shape
    u, code, out = u3.reshape(u3.size), code3.reshape(u3.size), out3.reshape(u3.size)
    t0, t1, t2 = t03.reshape(t03.size), t13.reshape(t13.size), t23.reshape(t23.size)
    zero = t0[0] - t0[0]
    one = zero + np.float32(1)
    line = LINE // u.itemsize
    for row in range(start, stop):
        i, j, o = row // n1, row % n1, row * n2
        (lo0, hi0), (has_lo0, has_hi0) = _steps(i, i + 1, n0, n1 * n2, periodic[0], one)
        (lo1, hi1), (has_lo1, has_hi1) = _steps(j, j + 1, n1, n2, periodic[1], one)
        steps, has = (lo0, hi0, lo1, hi1), (has_lo0, has_hi0, has_lo1, has_hi1)
        faces = n1 * n2, i * n2, (i + 1) * n2, row
        first, last = max(o, 1), min(o + n2, u.size - 1)
        for at in range(first, last, LINES * line):
            ahead = at + AHEAD * line
            for k in range(ahead, ahead + LINES * line, line):
                prefetch_read(u, np.uint64(k + hi0))
                prefetch_read(t0, np.uint64(k + faces[0]))
                prefetch_read(t1, np.uint64(k + faces[2]))
                prefetch_read(t2, np.uint64(k + faces[3]))
                prefetch_write(out, np.uint64(k))
            _faces_block(u, code, t0, t1, t2, at, min(at + LINES * line, last), faces, steps, has, out)
        last = o + n2 - 1
        low, high = (u[last], u[o]) if periodic[2] else (zero, zero)
        _faces_end(u, code, t0, t1, t2, o, low, u[o + 1] if n2 > 1 else high, faces, steps, has, out)
        if n2 > 1:
            _faces_end(u, code, t0, t1, t2, last, u[last - 1], high, faces, steps, has, out)


@njit(parallel=True, cache=True)
def apply_faces(u, code, t0, t1, t2, periodic, out, chunks):
    """out = A u."""
    rows = u.shape[0] * u.shape[1]
    if chunks == 1:
        _faces_rows(u, code, t0, t1, t2, periodic, out, 0, rows)
    else:
        for chunk in prange(chunks):
            start, stop = np.int64(chunk) * rows // chunks, (np.int64(chunk) + 1) * rows // chunks
            _faces_rows(u, code, t0, t1, t2, periodic, out, start, stop)
