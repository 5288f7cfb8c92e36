"""Kernels of the box solver: plain arrays in and out, one pass over memory each."""

import numpy as np
from numba import njit, prange

LANES = 64  # lines solved side by side: the two buffers of a tile stay in a core's second-level cache


@njit(parallel=True, cache=True, fastmath={"contract", "arcp"}, error_model="numpy")
def tridiagonal(x, before, after, scale, low, high):
    """Solve scale (T + before[a] + after[m]) u = x[:, a, :, m] in place, T the second difference along axis 2.

    T has -1 beside its diagonal and 2 on it, less one at an end that is free: ``low``, ``high`` are 1 at a
    Dirichlet end, 0 at a Neumann one. A pivot is carried as 1 + excess, where only positive numbers are
    added, so no digit is lost however small before + after is. A line whose matrix is singular comes out
    finite and meaningless: the caller owns it.

    x (batch, rows before, n, columns after); before (rows before,); after (columns after,).
    """
    batch, rows, n, columns = x.shape
    flat = x.reshape(-1)
    one = x.dtype.type(1)
    factor = x.dtype.type(1 / scale)
    low_end = x.dtype.type(low)
    high_end = x.dtype.type(high)
    # A tile is LANES neighbours of one row, or of the lines of all rows where a row has few.
    wide = columns >= LANES
    across = (columns + LANES - 1) // LANES
    tiles = batch * rows * across if wide else (batch * rows * columns + LANES - 1) // LANES
    for tile in prange(tiles):
        line = (tile // across) * columns + (tile % across) * LANES if wide else tile * LANES
        end = min(line + LANES, (tile // across + 1) * columns if wide else batch * rows * columns)
        width = end - line
        inverse = np.empty((n, LANES), x.dtype)
        u = np.empty((n, LANES), x.dtype)
        mu = np.empty(LANES, x.dtype)
        excess = np.empty(LANES, x.dtype)
        if wide:
            start = (line // columns) * n * columns + line % columns
            for k in range(n):
                for i in range(width):
                    u[k, i] = flat[start + k * columns + i]
        else:
            for i in range(width):
                start = (line + i) // columns * n * columns + (line + i) % columns
                for k in range(n):
                    u[k, i] = flat[start + k * columns]

        for i in range(width):
            mu[i] = before[(line + i) // columns % rows] + after[(line + i) % columns]
            excess[i] = mu[i] + low_end
            pivot = one + excess[i] if n > 1 else excess[i] + high_end
            inverse[0, i] = one / pivot if pivot > 0 else 0
            u[0, i] = factor * u[0, i] * inverse[0, i]
        for k in range(1, n):
            end_of_line = one if k < n - 1 else high_end
            for i in range(width):
                excess[i] = mu[i] + excess[i] * inverse[k - 1, i]
                pivot = end_of_line + excess[i]
                inverse[k, i] = one / pivot if pivot > 0 else 0
                u[k, i] = (factor * u[k, i] + u[k - 1, i]) * inverse[k, i]
        for k in range(n - 2, -1, -1):
            for i in range(width):
                u[k, i] += u[k + 1, i] * inverse[k, i]

        if wide:
            start = (line // columns) * n * columns + line % columns
            for k in range(n):
                for i in range(width):
                    flat[start + k * columns + i] = u[k, i]
        else:
            for i in range(width):
                start = (line + i) // columns * n * columns + (line + i) % columns
                for k in range(n):
                    flat[start + k * columns] = u[k, i]


@njit(parallel=True, cache=True)
def divide(x, before, after):
    """x[:, a, m] /= before[a] + after[m] in place, and zero where that sum is zero (the null space).

    x (batch, rows before, columns after); before (rows before,); after (columns after,).
    """
    batch, rows, columns = x.shape
    for row in prange(batch * rows):
        s, a = row // rows, row % rows
        for m in range(columns):
            eigenvalue = before[a] + after[m]
            x[s, a, m] = x[s, a, m] / eigenvalue if eigenvalue > 0 else 0
