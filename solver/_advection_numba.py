"""Kernels of the semi-Lagrangian step; positions in cells, a 2-D grid with one cell in the middle axis."""

from math import floor

from numba import njit, prange


@njit(inline="always", cache=True)
def _place(x, offset, n, cells, periodic):
    """The entry below position x of an axis with n entries at index + offset, the next one, and the way between."""
    x -= offset
    if periodic:
        x -= cells * floor(x / cells)
        low = min(int(x), cells - 1)
        return low, (low + 1) % cells, x - low
    x = min(max(x, 0.0), n - 1.0)
    low = min(int(x), max(n - 2, 0))
    return low, min(low + 1, n - 1), x - low


@njit(cache=True)
def _sample(u, offset, cells, periodic, x0, x1, x2):
    """u at a position, linear between its entries."""
    i, ii, a = _place(x0, offset[0], u.shape[0], cells[0], periodic[0])
    j, jj, b = _place(x1, offset[1], u.shape[1], cells[1], periodic[1])
    k, kk, c = _place(x2, offset[2], u.shape[2], cells[2], periodic[2])
    near = (1 - b) * ((1 - c) * u[i, j, k] + c * u[i, j, kk]) + b * ((1 - c) * u[i, jj, k] + c * u[i, jj, kk])
    far = (1 - b) * ((1 - c) * u[ii, j, k] + c * u[ii, j, kk]) + b * ((1 - c) * u[ii, jj, k] + c * u[ii, jj, kk])
    return (1 - a) * near + a * far


@njit(parallel=True, cache=True)
def trace_back(u, offset, v0, v1, v2, faces, steps, cells, periodic, out):
    """out = u where each point was a step before, by the midpoint rule; steps in cells per unit of velocity."""
    for index in prange(u.shape[0]):
        for j in range(u.shape[1]):
            for k in range(u.shape[2]):
                x0, x1, x2 = index + offset[0], j + offset[1], k + offset[2]
                y0, y1, y2 = x0, x1, x2
                for half in range(2):
                    share = 0.5 * (half + 1)
                    w0 = _sample(v0, faces[0], cells, periodic, y0, y1, y2)
                    w1 = _sample(v1, faces[1], cells, periodic, y0, y1, y2)
                    w2 = _sample(v2, faces[2], cells, periodic, y0, y1, y2)
                    y0, y1, y2 = x0 - share * steps[0] * w0, x1 - share * steps[1] * w1, x2 - share * steps[2] * w2
                out[index, j, k] = _sample(u, offset, cells, periodic, y0, y1, y2)
