"""Kernels that find where the unknowns are."""

import numpy as np
from numba import njit


@njit(cache=True)
def _holds(cells, axis, index, low, high):
    """Whether a plane of the box low to high has an unknown."""
    start, stop = low.copy(), high.copy()
    start[axis], stop[axis] = index, index + 1
    for i in range(start[0], stop[0]):
        for j in range(start[1], stop[1]):
            for k in range(start[2], stop[2]):
                if cells[i, j, k] == 1:
                    return True
    return False


@njit(cache=True)
def extent(cells):
    """(low, high): the smallest box, cells low to high - 1 of each axis, with all unknowns; empty if there are none.

    Where unknowns reach the sides, as they mostly do, a few cells are looked at.
    """
    low, high = np.zeros(3, np.int64), np.array(cells.shape)
    for axis in range(3):
        while low[axis] < high[axis] and not _holds(cells, axis, low[axis], low, high):
            low[axis] += 1
        while high[axis] > low[axis] and not _holds(cells, axis, high[axis] - 1, low, high):
            high[axis] -= 1
    return low, high
