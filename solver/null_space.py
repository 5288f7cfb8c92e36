"""The null space of a Poisson operator, component by component."""

import numpy as np

from deconjugate.solver import _null_space_numba as kernels

# Chunks for the threads to share, as many whatever their number: the same sums, to the last bit.
_CHUNKS, _SERIAL = 16, 65536


class NullSpace:
    """Constants on the components that touch no given value."""

    def __init__(self, operator):
        self.labels = operator.null_space
        if not self.labels:
            return
        if operator.n_components == 1:
            self.cells = operator.cells.reshape(-1)
            self._chunks = _CHUNKS if self.cells.size > _SERIAL else 1
            self.count = int(kernels.count_unknowns(self.cells, self._chunks))
        else:
            self.components = operator.components.ravel()
            self.null = np.zeros(operator.n_components + 1, bool)
            self.null[list(self.labels)] = True
            self.count = np.maximum(np.bincount(self.components, minlength=self.null.size), 1)

    def _means(self, x):
        return np.where(self.null, np.bincount(self.components, x.ravel(), self.null.size) / self.count, 0.0)

    def project(self, b):
        """Take from b, in place, its part in the null space; returns the norm of that part.

        b is a float64 array of the grid, zero outside the unknowns.
        """
        if not self.labels:
            return 0.0
        if hasattr(self, "cells"):
            work = np.ascontiguousarray(b)
            flat = work.reshape(-1)
            mean = float(kernels.sum_unknowns(flat, self.cells, self._chunks)) / self.count
            kernels.subtract_from_unknowns(flat, self.cells, mean, self._chunks)
            if work is not b:
                b[...] = work
            return abs(mean) * float(np.sqrt(self.count))
        means = self._means(b)
        b -= means[self.components].reshape(b.shape)
        return float(np.sqrt((means**2 * self.count).sum()))

    def center(self, x):
        """The same for a solution: each component's mean becomes zero."""
        self.project(x)
