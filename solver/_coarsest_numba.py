"""Banded Cholesky factorisation: small enough that threads and BLAS would only get in the way."""

import numpy as np
from numba import njit

OPTIONS = {"fastmath": {"contract", "nsz", "reassoc"}, "error_model": "numpy", "cache": True}


@njit(**OPTIONS)
def factor_banded(rows):
    """Cholesky factor, in place, of a matrix given by rows: rows[i, band - (i - j)] is A_ij for 0 <= i - j <= band."""
    n, band = rows.shape[0], rows.shape[1] - 1
    for i in range(n):
        for j in range(max(0, i - band), i + 1):
            first = max(0, i - band, j - band)
            total = rows[i, band - i + j]
            for k in range(first, j):
                total -= rows[i, band - i + k] * rows[j, band - j + k]
            rows[i, band - i + j] = np.sqrt(total) if i == j else total / rows[j, band]


@njit(**OPTIONS)
def solve_banded(factor, b, known, x):
    """x = A^-1 b from the factor, zero where nothing is known."""
    n, band = factor.shape[0], factor.shape[1] - 1
    y = np.empty(n)
    for i in range(n):
        total = np.float64(b[i]) if known[i] else 0.0
        for k in range(max(0, i - band), i):
            total -= factor[i, band - i + k] * y[k]
        y[i] = total / factor[i, band]
    for i in range(n - 1, -1, -1):
        y[i] /= factor[i, band]
        for k in range(max(0, i - band), i):
            y[k] -= factor[i, band - i + k] * y[i]
        x[i] = y[i] if known[i] else 0.0
