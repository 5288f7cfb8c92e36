"""Kernels of the mean over the unknowns, on flat float64 arrays of a grid or on arrays of its rows, shape (rows, n)."""

import numpy as np
from numba import njit, prange

from deconjugate.solver._sums_numba import total

OPTIONS = {"fastmath": {"contract", "nsz", "reassoc"}, "error_model": "numpy", "cache": True}


@njit(**OPTIONS)
def _sum(x, cells, start, stop):
    total = 0.0
    for k in range(np.uint64(start), np.uint64(stop)):
        total += x[k] if cells[k] == 1 else 0.0
    return total


@njit(parallel=True, **OPTIONS)
def sum_unknowns(x, cells, chunks):
    """Sum of x over the unknowns."""
    if chunks == 1:
        return _sum(x, cells, 0, x.size)
    partial = np.zeros(chunks)
    for chunk in prange(chunks):
        start, stop = np.int64(chunk) * x.size // chunks, (np.int64(chunk) + 1) * x.size // chunks
        partial[chunk] = _sum(x, cells, start, stop)
    return total(partial)


@njit(**OPTIONS)
def _subtract(x, cells, mean, start, stop):
    for k in range(np.uint64(start), np.uint64(stop)):
        x[k] -= mean if cells[k] == 1 else 0.0


@njit(parallel=True, **OPTIONS)
def subtract_from_unknowns(x, cells, mean, chunks):
    """x -= mean on the unknowns."""
    if chunks == 1:
        _subtract(x, cells, mean, 0, x.size)
    else:
        for chunk in prange(chunks):
            start, stop = np.int64(chunk) * x.size // chunks, (np.int64(chunk) + 1) * x.size // chunks
            _subtract(x, cells, mean, start, stop)


@njit(**OPTIONS)
def _count(cells, start, stop):
    total = 0
    for k in range(np.uint64(start), np.uint64(stop)):
        total += 1 if cells[k] == 1 else 0
    return total


@njit(parallel=True, **OPTIONS)
def count_unknowns(cells, chunks):
    """How many cells are unknowns."""
    if chunks == 1:
        return _count(cells, 0, cells.size)
    partial = np.zeros(chunks, np.int64)
    for chunk in prange(chunks):
        start, stop = np.int64(chunk) * cells.size // chunks, (np.int64(chunk) + 1) * cells.size // chunks
        partial[chunk] = _count(cells, start, stop)
    return partial.sum()


@njit(**OPTIONS)
def _sum_rows(x, first, start, stop, sums, low, high):
    for row in range(low, high):
        for run in range(first[row], first[row + 1]):
            total = 0.0
            for k in range(np.uint64(start[run]), np.uint64(stop[run])):
                total += x[row, k]
            sums[run] = total


@njit(parallel=True, **OPTIONS)
def sum_runs(x, first, start, stop, sums, chunks):
    """sums = of x over each run; first: the first run of every row."""
    rows = x.shape[0]
    if chunks == 1:
        _sum_rows(x, first, start, stop, sums, 0, rows)
    else:
        for chunk in prange(chunks):
            low, high = np.int64(chunk) * rows // chunks, (np.int64(chunk) + 1) * rows // chunks
            _sum_rows(x, first, start, stop, sums, low, high)


@njit(**OPTIONS)
def _subtract_rows(x, first, start, stop, value, low, high):
    for row in range(low, high):
        for run in range(first[row], first[row + 1]):
            v = value[run]
            if v != 0.0:
                for k in range(np.uint64(start[run]), np.uint64(stop[run])):
                    x[row, k] -= v


@njit(parallel=True, **OPTIONS)
def subtract_from_runs(x, first, start, stop, value, chunks):
    """x -= the value of each run."""
    rows = x.shape[0]
    if chunks == 1:
        _subtract_rows(x, first, start, stop, value, 0, rows)
    else:
        for chunk in prange(chunks):
            low, high = np.int64(chunk) * rows // chunks, (np.int64(chunk) + 1) * rows // chunks
            _subtract_rows(x, first, start, stop, value, low, high)
