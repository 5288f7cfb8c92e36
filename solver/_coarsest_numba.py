"""Banded Cholesky factorisation: small enough that threads and BLAS would only get in the way."""

import numpy as np
from numba import njit

from deconjugate.operators._components_numba import _join, _root

OPTIONS = {"fastmath": {"contract", "nsz", "reassoc"}, "error_model": "numpy", "cache": True}


@njit(**OPTIONS)
def factor_banded(upper):
    """U with A = U^T U, in place: upper[i, d] is A_ij, then U_ij, for d = j - i from 0 to the band's width.

    Row after row is taken from the rows below it: sums over short rows would be slower.
    """
    n, width = upper.shape
    u, one = upper.reshape(-1), np.uint64(1)
    for k in range(n):
        row, reach = np.uint64(k * width), np.uint64(min(width, n - k))
        scale = 1 / np.sqrt(u[row])
        for d in range(reach):
            u[row + d] *= scale
        for i in range(one, reach):
            factor, below = u[row + i], row + i * np.uint64(width)
            if factor != 0:
                for d in range(reach - i):
                    u[below + d] -= factor * u[row + i + d]


@njit(**OPTIONS)
def solve_banded(upper, b, known, x):
    """x = A^-1 b from the factor, zero where nothing is known."""
    n, width = upper.shape
    u, one = upper.reshape(-1), np.uint64(1)
    y = np.empty(n)
    for k in range(n):
        y[k] = np.float64(b[k]) if known[k] else 0.0
    for k in range(n):
        row, reach, at = np.uint64(k * width), np.uint64(min(width, n - k)), np.uint64(k)
        y[k] /= u[row]
        value = y[k]
        for d in range(one, reach):
            y[at + d] -= u[row + d] * value
    for k in range(n - 1, -1, -1):
        row, reach, at = np.uint64(k * width), np.uint64(min(width, n - k)), np.uint64(k)
        total = 0.0
        for d in range(one, reach):
            total += u[row + d] * y[at + d]
        y[k] = (y[k] - total) / u[row]
        x[k] = y[k] if known[k] else 0.0


@njit(cache=True)
def first_of_component(i, j, size):
    """The first cell of the component of each cell, where cells i[m] and j[m] are joined."""
    parent = np.arange(size)
    for m in range(i.size):
        _join(parent, i[m], j[m])
    for cell in range(size):
        parent[cell] = _root(parent, cell)
    return parent
