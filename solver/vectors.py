"""The forms a vector may come in, and its norm."""

import sys
from math import prod

import numba
import numpy as np

from deconjugate.solver._conjugate_numba import copy_unknowns, count_bad, squared_norm
from deconjugate.solver.memory import empty, zeros


def norm(x):
    """||x||_2 of a float64 array of any shape.

    Not numpy's: that wakes the threads of BLAS, which then spin for many milliseconds on the cores that the next
    kernel needs.
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    return float(np.sqrt(squared_norm(flat, chunk_count(flat.size))))


def chunk_count(size):
    """Chunks of a flat array for the threads to share; one where waking them would cost more."""
    return 4 * numba.get_num_threads() if size > 65536 else 1


def is_tensor(x):
    """Whether x is a torch tensor, found out without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def has_tensor(values):
    """Whether values is a torch tensor, or a tuple or list with one in it."""
    return any(map(is_tensor, values if isinstance(values, tuple | list) else [values]))


class VectorForm:
    """How b came in: grid array, every cell flat, or the unknowns flat; and its batch axes.

    With a Crop the arrays that are read and written are those of its box.
    """

    def __init__(self, tail, batch, place, crop=None):
        self.tail, self.batch = tail, batch
        self._crop = None if crop is None or crop.whole else crop
        self._place = place if self._crop is None else crop.operator
        self._shape = tail if place is None else self._place.grid_shape
        self._compressed = place is not None and prod(tail) != place.cells.size

    @classmethod
    def flat(cls, size):
        return cls((size,), None, None)

    @classmethod
    def of(cls, operator, b, crop=None):
        shape, b = operator.grid_shape, np.asarray(b)
        if b.shape[-len(shape) :] == shape:
            return cls(shape, None, operator, crop)
        count = int(np.count_nonzero(operator.unknowns))
        if b.ndim and b.shape[-1] == operator.cells.size:
            return cls((operator.cells.size,), None, operator, crop)
        if b.ndim and b.shape[-1] == count:
            return cls((count,), None, operator, crop)
        raise ValueError(
            f"b has shape {b.shape}; its last axes must be the grid's {shape}, or one axis of {operator.cells.size} "
            f"cells or {count} unknowns"
        )

    def read(self, b, name):
        """(systems, *grid) in float64, zero outside the unknowns."""
        flat = self._check(b, name)
        full = empty((len(flat), *self._shape), np.float64)
        for one, target in zip(flat, full):
            self._fill(one, target)
        return full

    def read_each(self, b, name):
        """The same, checked at once but read one by one into one array: memory is dear at its first touch."""
        flat = self._check(b, name)
        full = empty(self._shape, np.float64)
        return (self._fill(one, full) for one in flat)

    def zeros(self):
        """An answer, (systems, *grid), to be filled: as many systems as were read first."""
        return zeros((prod(self.batch), *self._shape))

    def _check(self, b, name):
        """(systems, *tail) in b's own precision."""
        b = np.asarray(b)
        if b.dtype.kind not in "fiub":
            raise TypeError(f"{name} has dtype {b.dtype}; give a real numeric array")
        if b.shape[b.ndim - len(self.tail) :] != self.tail:
            raise ValueError(f"{name} has shape {b.shape}; its last axes must be {self.tail}")
        batch = b.shape[: b.ndim - len(self.tail)]
        if self.batch is None:
            self.batch = batch
        flat = b.reshape(-1, *self.tail)
        if self._crop is not None and not self._compressed:
            flat = self._crop.inside(flat.reshape(-1, *self._crop.grid_shape))
        bad = sum(self._count_bad(one) for one in flat)
        if bad:
            raise ValueError(f"{name} has {bad} entries that are NaN or infinite; remove them before solving")
        return flat

    def _count_bad(self, one):
        if self._on_grid(one):
            cells = self._place.cells.reshape(-1)
            return int(count_bad(np.ascontiguousarray(one).reshape(-1), cells, chunk_count(one.size)))
        bad = ~np.isfinite(one)
        if self._place is not None and one.size == self._place.cells.size:
            bad = bad.reshape(self._place.grid_shape) & self._place.unknowns
        return int(np.count_nonzero(bad))

    def _on_grid(self, one):
        """Whether the kernels can read it: every cell, in single or double precision."""
        full = self._place is not None and one.size == self._place.cells.size
        return full and one.dtype in (np.dtype(np.float32), np.dtype(np.float64))

    def _fill(self, one, full):
        if self._place is None:
            full[...] = one
        elif self._on_grid(one):
            cells = self._place.cells.reshape(-1)
            copy_unknowns(np.ascontiguousarray(one).reshape(-1), cells, full.reshape(-1), chunk_count(one.size))
        elif one.size == full.size:
            full[...] = 0.0
            np.multiply(one.reshape(full.shape), 1.0, out=full, where=self._place.unknowns)
        else:
            full[...] = 0.0
            full[self._place.unknowns] = one
        return full

    def write(self, x):
        """Solutions in the form b came in."""
        if self._compressed:
            x = x[:, self._place.unknowns]
        elif self._crop is not None:
            x = self._crop.embed(x)
        return x.reshape(*self.batch, *self.tail)
