"""The null space of a Poisson operator, component by component."""

import numpy as np

from deconjugate.solver import _null_space_numba as kernels

# Chunks for the threads to share, as many whatever their number: the same sums, to the last bit.
_CHUNKS, _SERIAL = 16, 65536


class NullSpace:
    """Constants on the components that touch no given value.

    Several components are summed over their runs along the last axis, and these in their order.
    """

    def __init__(self, operator):
        self.labels = operator.null_space
        if not self.labels:
            return
        size, n = operator.cells.size, operator._shape3[2]
        self._chunks = min(_CHUNKS, size // n) if size > _SERIAL else 1
        if operator.n_components == 1:
            self.cells = operator.cells.reshape(-1)
            self.count = int(kernels.count_unknowns(self.cells, self._chunks))
        else:
            first, start, stop, self.label, held = operator._runs
            self.runs, self.rows = (first, start, stop), (size // n, n)
            self.null = np.append(False, ~held)
            self.count = np.maximum(np.bincount(self.label, stop - start, self.null.size), 1)

    def project(self, b):
        """Take from b, in place, its part in the null space; returns the norm of that part.

        b is a float64 array of the grid, zero outside the unknowns.
        """
        if not self.labels:
            return 0.0
        work = np.ascontiguousarray(b)
        norm = self._project_one(work.reshape(-1)) if hasattr(self, "cells") else self._project(work.reshape(self.rows))
        if work is not b:
            b[...] = work
        return norm

    def _project_one(self, b):
        mean = float(kernels.sum_unknowns(b, self.cells, self._chunks)) / self.count
        kernels.subtract_from_unknowns(b, self.cells, mean, self._chunks)
        return abs(mean) * float(np.sqrt(self.count))

    def _project(self, b):
        sums = np.empty(self.label.size)
        kernels.sum_runs(b, *self.runs, sums, self._chunks)
        means = np.where(self.null, np.bincount(self.label, sums, self.null.size) / self.count, 0.0)
        kernels.subtract_from_runs(b, *self.runs, means[self.label], self._chunks)
        return float(np.sqrt((means**2 * self.count).sum()))

    def center(self, x):
        """The same for a solution: each component's mean becomes zero."""
        self.project(x)
