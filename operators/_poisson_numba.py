"""Kernels of the Poisson stencil, on 3-D arrays (a 2-D grid comes as (n0, 1, n1)).

A uniform coefficient needs one byte a cell: bits 0-5 say which of the faces (axis 0 low, high, axis 1 low,
high, axis 2 low, high) are open, bit 6 that the cell is an unknown, bit 7 that a given value lies behind one of
its faces. A variable coefficient needs one transmissibility a face, n + 1 along the face's axis.
Vectors are zero outside the unknowns, so a given value behind an open face needs no case of its own.
Differences u_i - u_j are formed before they are weighted: in single precision that keeps the error
proportional to the gradient of u and not to u itself.

Rows are copied to a buffer with a cell more at either end, which keeps the inner loops free of special cases.
"""

import numpy as np
from numba import get_num_threads, njit, prange

UNKNOWN = 64
GIVEN = 128

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
def fill_padded(padded, row, periodic):
    """padded[1:-1] = row, and at either end the opposite end's value or zero."""
    n = row.shape[0]
    for k in range(n):
        padded[k + 1] = row[k]
    if periodic:
        padded[0] = row[n - 1]
        padded[n + 1] = row[0]
    else:
        padded[0] = 0
        padded[n + 1] = 0


@njit(inline="always")
def neighbour_row(u, zeros, i, j, per0, per1):
    """Row (i, j) of u, wrapped on periodic axes; zeros outside the grid."""
    n0, n1, _ = u.shape
    if 0 <= i < n0 and 0 <= j < n1:
        return u[i, j]
    if per0 and 0 <= j < n1:
        return u[i % n0, j]
    if per1 and 0 <= i < n0:
        return u[i, j % n1]
    return zeros


@njit(fastmath={"contract"}, error_model="numpy")
def faces_row(out, padded, lo0, hi0, lo1, hi1, a0, b0, a1, b1, t2, code):
    """One row of A u from the transmissibilities of the faces around it."""
    for k in range(out.shape[0]):
        u = padded[k + 1]
        d = a0[k] * (u - lo0[k]) + b0[k] * (u - hi0[k])
        e = a1[k] * (u - lo1[k]) + b1[k] * (u - hi1[k])
        f = t2[k] * (u - padded[k]) + t2[k + 1] * (u - padded[k + 2])
        out[k] = d + e + f if code[k] else a0[k] - a0[k]


@njit(inline="always")
def _uniform_cell(x, code, lo0, hi0, lo1, hi1, lo2, hi2, w0, w1, w2):
    """A u in one cell of value x: the bits of its code multiply the differences to its neighbours."""
    c = np.int32(code)
    d = np.float32(np.int32(c & 1)) * (x - lo0)
    d += np.float32(np.int32((c >> 1) & 1)) * (x - hi0)
    e = np.float32(np.int32((c >> 2) & 1)) * (x - lo1)
    e += np.float32(np.int32((c >> 3) & 1)) * (x - hi1)
    f = np.float32(np.int32((c >> 4) & 1)) * (x - lo2)
    f += np.float32(np.int32((c >> 5) & 1)) * (x - hi2)
    return w0 * d + w1 * e + w2 * f


@njit(cache=True, fastmath={"contract"}, error_model="numpy")
def _uniform_rows(u3, code3, w, periodic, out3, start, stop):
    """out = A u on some rows; w holds 1 / spacing^2 times the coefficient, by axis.

    Flat arrays and unsigned offsets: numba's test for negative indices would keep LLVM from vectorising.
    Outside the grid the row itself stands in for its neighbour, times zero: a given value, or behind a closed face.
    Along a row, neighbours are read in place; both end cells, which meet the next row there, are then done again.
    """
    n0, n1, n2 = u3.shape
    per0, per1, per2 = periodic
    u, code, out = u3.reshape(u3.size), code3.reshape(u3.size), out3.reshape(u3.size)
    w0, w1, w2 = w[0], w[1], w[2]
    one = w0 / w0
    zero = one - one
    rows = n0 * n1
    for row in range(start, stop):
        i, j = row // n1, row % n1
        o = row * n2
        here = np.uint64(o)
        lo0 = np.uint64(o - n1 * n2 if i > 0 else (o + (n0 - 1) * n1 * n2 if per0 else o))
        hi0 = np.uint64(o + n1 * n2 if i < n0 - 1 else (o - (n0 - 1) * n1 * n2 if per0 else o))
        lo1 = np.uint64(o - n2 if j > 0 else (o + (n1 - 1) * n2 if per1 else o))
        hi1 = np.uint64(o + n2 if j < n1 - 1 else (o - (n1 - 1) * n2 if per1 else o))
        has_lo0 = one if (i > 0 or per0) else zero
        has_hi0 = one if (i < n0 - 1 or per0) else zero
        has_lo1 = one if (j > 0 or per1) else zero
        has_hi1 = one if (j < n1 - 1 or per1) else zero
        first = np.uint64(1 if row == 0 else 0)
        end_k = np.uint64(n2 - 1 if row == rows - 1 else n2)
        for k in range(first, end_k):
            out[here + k] = _uniform_cell(
                u[here + k],
                code[here + k],
                has_lo0 * u[lo0 + k],
                has_hi0 * u[hi0 + k],
                has_lo1 * u[lo1 + k],
                has_hi1 * u[hi1 + k],
                u[here + k - np.uint64(1)],
                u[here + k + np.uint64(1)],
                w0,
                w1,
                w2,
            )
        for end in (0, n2 - 1):
            k = np.uint64(end)
            low = o + end - 1 if end > 0 else (o + n2 - 1 if per2 else o)
            high = o + end + 1 if end < n2 - 1 else (o if per2 else o + end)
            out[here + k] = _uniform_cell(
                u[here + k],
                code[here + k],
                has_lo0 * u[lo0 + k],
                has_hi0 * u[hi0 + k],
                has_lo1 * u[lo1 + k],
                has_hi1 * u[hi1 + k],
                u[np.uint64(low)] if (end > 0 or per2) else zero,
                u[np.uint64(high)] if (end < n2 - 1 or per2) else zero,
                w0,
                w1,
                w2,
            )


@njit(parallel=True, cache=True)
def apply_uniform(u, code, w, periodic, out, chunks):
    """out = A u; w holds 1 / spacing^2 times the coefficient, by axis."""
    rows = u.shape[0] * u.shape[1]
    if chunks == 1:
        _uniform_rows(u, code, w, periodic, out, 0, rows)
    else:
        for chunk in prange(chunks):
            start, stop = np.int64(chunk) * rows // chunks, (np.int64(chunk) + 1) * rows // chunks
            _uniform_rows(u, code, w, periodic, out, start, stop)


@njit(cache=True)
def _faces_rows(u, code, t0, t1, t2, periodic, out, start, stop):
    """out = A u on some rows."""
    _, n1, n2 = u.shape
    per0, per1, per2 = periodic
    zeros = np.zeros(n2, u.dtype)
    padded = np.empty(n2 + 2, u.dtype)
    for row in range(start, stop):
        i, j = row // n1, row % n1
        fill_padded(padded, u[i, j], per2)
        lo0 = neighbour_row(u, zeros, i - 1, j, per0, per1)
        hi0 = neighbour_row(u, zeros, i + 1, j, per0, per1)
        lo1 = neighbour_row(u, zeros, i, j - 1, per0, per1)
        hi1 = neighbour_row(u, zeros, i, j + 1, per0, per1)
        faces_row(
            out[i, j],
            padded,
            lo0,
            hi0,
            lo1,
            hi1,
            t0[i, j],
            t0[i + 1, j],
            t1[i, j],
            t1[i, j + 1],
            t2[i, j],
            code[i, j],
        )


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
