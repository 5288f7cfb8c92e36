"""Kernels of the mean over the unknowns, on flat float64 arrays of a grid."""

import numpy as np
from numba import njit, prange

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
    return partial.sum()


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
