"""Kernels of the single-precision conjugate-gradient loop, on flat arrays of a 3-D grid.

The residual's recursion must follow the true residual: products with A are sums of differences, see
deconjugate/operators/_poisson_numba.py; sums over cells are single within a row and double between rows. x is summed in
double precision: in single it would leave a true residual of 1e-5 after a jump of 1e4.
"""

import numpy as np
from numba import njit, prange

from deconjugate.solver._multigrid_numba import _rows
from deconjugate.solver._sums_numba import total

OPTIONS = {"fastmath": {"contract", "nsz", "reassoc"}, "error_model": "numpy", "cache": True}


@njit(**OPTIONS)
def _direction_plane(z, p, beta, shape, i):
    size = shape[1] * shape[2]
    start = np.uint64(i * size)
    for k in range(np.uint64(size)):
        p[start + k] = z[start + k] + beta * p[start + k]


@njit(inline="always")
def _load(padded, x, o, n2, per2):
    """padded[1:-1] = a row of x, with the opposite end's value or zero at either end."""
    for k in range(np.uint64(n2)):
        padded[k + np.uint64(1)] = x[o + k]
    wrap = per2 and n2 > 1
    padded[0] = x[o + np.uint64(n2 - 1)] if wrap else np.float32(0)
    padded[n2 + 1] = x[o] if wrap else np.float32(0)


@njit(**OPTIONS)
def _uniform_plane(p, q, code, w, shape, periodic, i, padded):
    """q = A p on plane i; returns the plane's part of <p, q>."""
    n0, n1, n2 = shape
    w0, w1, w2 = w[0], w[1], w[2]
    total = 0.0
    one, two = np.uint64(1), np.uint64(2)
    for j in range(n1):
        (o, lo0, hi0, lo1, hi1), (has_lo0, has_hi0, has_lo1, has_hi1) = _rows(
            i, j, n0, n1, n2, periodic[0], periodic[1]
        )
        _load(padded, p, o, n2, periodic[2])
        part = np.float32(0)
        for k in range(np.uint64(n2)):
            x, c = padded[k + one], np.int32(code[o + k])
            d = np.float32(np.int32(c & 1)) * (x - has_lo0 * p[lo0 + k])
            d += np.float32(np.int32((c >> 1) & 1)) * (x - has_hi0 * p[hi0 + k])
            e = np.float32(np.int32((c >> 2) & 1)) * (x - has_lo1 * p[lo1 + k])
            e += np.float32(np.int32((c >> 3) & 1)) * (x - has_hi1 * p[hi1 + k])
            f = np.float32(np.int32((c >> 4) & 1)) * (x - padded[k])
            f += np.float32(np.int32((c >> 5) & 1)) * (x - padded[k + two])
            y = w0 * d + w1 * e + w2 * f
            q[o + k] = y
            part += x * y
        total += part
    return total


@njit(**OPTIONS)
def _faces_plane(p, q, given, t0, t1, t2, shape, periodic, i, padded):
    """The same with a transmissibility for each face."""
    n0, n1, n2 = shape
    total = 0.0
    one, two = np.uint64(1), np.uint64(2)
    for j in range(n1):
        (o, lo0, hi0, lo1, hi1), _ = _rows(i, j, n0, n1, n2, periodic[0], periodic[1])
        _load(padded, p, o, n2, periodic[2])
        f0, g0 = np.uint64((i * n1 + j) * n2), np.uint64(((i + 1) * n1 + j) * n2)
        f1, g1 = np.uint64((i * (n1 + 1) + j) * n2), np.uint64((i * (n1 + 1) + j + 1) * n2)
        f2 = np.uint64((i * n1 + j) * (n2 + 1))
        part = np.float32(0)
        for k in range(np.uint64(n2)):
            x = padded[k + one]
            y = t0[f0 + k] * (x - p[lo0 + k]) + t0[g0 + k] * (x - p[hi0 + k])
            y += t1[f1 + k] * (x - p[lo1 + k]) + t1[g1 + k] * (x - p[hi1 + k])
            y += t2[f2 + k] * (x - padded[k]) + t2[f2 + k + one] * (x - padded[k + two])
            y += given[o + k] * x
            q[o + k] = y
            part += x * y
        total += part
    return total


@njit(**OPTIONS)
def _product_plane(p, q, code, given, level, shape, periodic, i, padded):
    t0, t1, t2, w, uniform = level
    if uniform:
        return _uniform_plane(p, q, code, w, shape, periodic, i, padded)
    return _faces_plane(p, q, given, t0, t1, t2, shape, periodic, i, padded)


@njit(**OPTIONS)
def _advance_slab(z, p, q, beta, code, given, level, shape, periodic, low, high, start, stop, partial):
    """p = z + beta p on planes low to high, q = A p on planes start to stop, one plane behind."""
    padded = np.zeros(shape[2] + 2, np.float32)
    for front in range(low, high + 1):
        if front < high:
            _direction_plane(z, p, beta, shape, front)
        i = front - 1
        if start <= i < stop:
            partial[i] = _product_plane(p, q, code, given, level, shape, periodic, i, padded)


@njit(**OPTIONS)
def _advance_edge(p, q, code, given, level, shape, periodic, middle, partial):
    """q = A p on the two planes where slabs meet."""
    padded = np.zeros(shape[2] + 2, np.float32)
    partial[middle] = _product_plane(p, q, code, given, level, shape, periodic, middle, padded)
    if shape[0] > 1:
        below = (middle - 1) % shape[0]
        partial[below] = _product_plane(p, q, code, given, level, shape, periodic, below, padded)


@njit(parallel=True, **OPTIONS)
def advance(z, p, q, beta, code, given, level, shape, periodic, slabs):
    """p = z + beta p and q = A p in one pass over memory; returns <p, q>, summed by planes whatever the slabs."""
    n0 = shape[0]
    wrapped = periodic[0]
    partial = np.zeros(n0)
    if slabs == 1:
        start, stop = (1, n0 - 1) if wrapped else (0, n0)
        _advance_slab(z, p, q, beta, code, given, level, shape, periodic, 0, n0, start, stop, partial)
        if wrapped:
            _advance_edge(p, q, code, given, level, shape, periodic, 0, partial)
        return total(partial)
    for slab in prange(slabs):
        low, high = np.int64(slab) * n0 // slabs, (np.int64(slab) + 1) * n0 // slabs
        start = low + (1 if low > 0 or wrapped else 0)
        stop = high - (1 if high < n0 or wrapped else 0)
        _advance_slab(z, p, q, beta, code, given, level, shape, periodic, low, high, start, stop, partial)
    for edge in prange(slabs):
        if edge > 0 or wrapped:
            middle = np.int64(edge) * n0 // slabs
            _advance_edge(p, q, code, given, level, shape, periodic, middle, partial)
    return total(partial)


@njit(**OPTIONS)
def _step_rows(x, p, r, q, whole, alpha, start, stop, n):
    total = 0.0
    for row in range(start, stop):
        o = np.uint64(row * n)
        part = np.float32(0)
        for k in range(np.uint64(n)):
            x[o + k] += whole * p[o + k]
            s = r[o + k] - alpha * q[o + k]
            r[o + k] = s
            part += s * s
        total += part
    return total


@njit(parallel=True, **OPTIONS)
def step(x, p, r, q, whole, alpha, n, chunks):
    """x += whole p in double precision, r -= alpha q; returns <r, r>; n is the length of a row."""
    rows = x.size // n
    if chunks == 1:
        return _step_rows(x, p, r, q, whole, alpha, 0, rows, n)
    partial = np.zeros(chunks)
    for chunk in prange(chunks):
        start, stop = np.int64(chunk) * rows // chunks, (np.int64(chunk) + 1) * rows // chunks
        partial[chunk] = _step_rows(x, p, r, q, whole, alpha, start, stop, n)
    return total(partial)


@njit(**OPTIONS)
def _products_rows(z, r, p, q, start, stop, n):
    zr, zq, rp = 0.0, 0.0, 0.0
    for row in range(start, stop):
        o = np.uint64(row * n)
        a, c, d = np.float32(0), np.float32(0), np.float32(0)
        for k in range(np.uint64(n)):
            a += z[o + k] * r[o + k]
            c += z[o + k] * q[o + k]
            d += r[o + k] * p[o + k]
        zr += a
        zq += c
        rp += d
    return zr, zq, rp


@njit(parallel=True, **OPTIONS)
def products(z, r, p, q, n, chunks):
    """<z, r>, <z, q> and <r, p>; n is the length of a row."""
    rows = z.size // n
    if chunks == 1:
        return _products_rows(z, r, p, q, 0, rows, n)
    partial = np.zeros((chunks, 3))
    for chunk in prange(chunks):
        start, stop = np.int64(chunk) * rows // chunks, (np.int64(chunk) + 1) * rows // chunks
        partial[chunk, 0], partial[chunk, 1], partial[chunk, 2] = _products_rows(z, r, p, q, start, stop, n)
    return total(partial[:, 0]), total(partial[:, 1]), total(partial[:, 2])


@njit(**OPTIONS)
def _squared_difference(b, y, start, stop):
    total = 0.0
    for k in range(np.uint64(start), np.uint64(stop)):
        s = b[k] - y[k]
        y[k] = s
        total += s * s
    return total


@njit(parallel=True, **OPTIONS)
def squared_difference(b, y, chunks):
    """y = b - y in double precision; returns <y, y>."""
    if chunks == 1:
        return _squared_difference(b, y, 0, b.size)
    partial = np.zeros(chunks)
    for chunk in prange(chunks):
        start, stop = np.int64(chunk) * b.size // chunks, (np.int64(chunk) + 1) * b.size // chunks
        partial[chunk] = _squared_difference(b, y, start, stop)
    return total(partial)


@njit(**OPTIONS)
def _narrow(r, scale, out, start, stop):
    for k in range(np.uint64(start), np.uint64(stop)):
        out[k] = scale * r[k]


@njit(parallel=True, **OPTIONS)
def narrow(r, scale, out, chunks):
    """out = scale r in single precision."""
    if chunks == 1:
        _narrow(r, scale, out, 0, r.size)
    else:
        for chunk in prange(chunks):
            _narrow(r, scale, out, np.int64(chunk) * r.size // chunks, (np.int64(chunk) + 1) * r.size // chunks)


@njit(**OPTIONS)
def _squares(x, start, stop):
    total = 0.0
    for k in range(np.uint64(start), np.uint64(stop)):
        total += x[k] * x[k]
    return total


@njit(parallel=True, **OPTIONS)
def squared_norm(x, chunks):
    """<x, x> of a flat array in double precision."""
    if chunks == 1:
        return _squares(x, 0, x.size)
    partial = np.zeros(chunks)
    for chunk in prange(chunks):
        partial[chunk] = _squares(x, np.int64(chunk) * x.size // chunks, (np.int64(chunk) + 1) * x.size // chunks)
    return total(partial)


@njit(**OPTIONS)
def _copy_unknowns(b, cells, out, start, stop):
    for k in range(np.uint64(start), np.uint64(stop)):
        out[k] = b[k] if cells[k] == 1 else 0.0


@njit(parallel=True, **OPTIONS)
def copy_unknowns(b, cells, out, chunks):
    """out = b in double precision where a cell is an unknown (Cell.INTERIOR), zero elsewhere; flat arrays."""
    if chunks == 1:
        _copy_unknowns(b, cells, out, 0, b.size)
    else:
        for chunk in prange(chunks):
            _copy_unknowns(b, cells, out, np.int64(chunk) * b.size // chunks, (np.int64(chunk) + 1) * b.size // chunks)


@njit(**OPTIONS)
def _count_bad(b, cells, start, stop):
    total = 0
    for k in range(np.uint64(start), np.uint64(stop)):
        total += 0 if abs(b[k]) < np.inf or cells[k] != 1 else 1
    return total


@njit(parallel=True, **OPTIONS)
def count_bad(b, cells, chunks):
    """How many unknowns are NaN or infinite; flat arrays."""
    if chunks == 1:
        return _count_bad(b, cells, 0, b.size)
    partial = np.zeros(chunks, np.int64)
    for chunk in prange(chunks):
        start, stop = np.int64(chunk) * b.size // chunks, (np.int64(chunk) + 1) * b.size // chunks
        partial[chunk] = _count_bad(b, cells, start, stop)
    return partial.sum()
