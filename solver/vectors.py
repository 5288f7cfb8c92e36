"""The forms a vector may come in, and its norm."""

import sys

import numba
import numpy as np

from deconjugate.solver._conjugate_numba import squared_norm


def norm(x):
    """||x||_2 of a float64 array of any shape.

    Not numpy's: that wakes the threads of BLAS, which then spin for many milliseconds on the cores that the next
    kernel needs.
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    return float(np.sqrt(squared_norm(flat, 4 * numba.get_num_threads() if flat.size > 65536 else 1)))


def is_tensor(x):
    """Whether x is a torch tensor, found out without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def has_tensor(values):
    """Whether values is a torch tensor, or a tuple or list with one in it."""
    return any(map(is_tensor, values if isinstance(values, tuple | list) else [values]))


class VectorForm:
    """How b came in: grid array, every cell flat, or the unknowns flat; and its batch axes."""

    def __init__(self, tail, batch, place):
        self.tail, self.batch, self._place = tail, batch, place

    @classmethod
    def flat(cls, size):
        return cls((size,), None, None)

    @classmethod
    def of(cls, operator, b):
        shape, b = operator.grid_shape, np.asarray(b)
        count = int(np.count_nonzero(operator.unknowns))
        if b.shape[-len(shape) :] == shape:
            return cls(shape, None, operator)
        if b.ndim and b.shape[-1] == operator.cells.size:
            return cls((operator.cells.size,), None, operator)
        if b.ndim and b.shape[-1] == count:
            return cls((count,), None, operator)
        raise ValueError(
            f"b has shape {b.shape}; its last axes must be the grid's {shape}, or one axis of {operator.cells.size} "
            f"cells or {count} unknowns"
        )

    def read(self, b, name):
        """(systems, *grid) in float64, zero outside the unknowns."""
        b = np.asarray(b)
        if b.dtype.kind not in "fiub":
            raise TypeError(f"{name} has dtype {b.dtype}; give a real numeric array")
        if b.shape[b.ndim - len(self.tail) :] != self.tail:
            raise ValueError(f"{name} has shape {b.shape}; its last axes must be {self.tail}")
        batch = b.shape[: b.ndim - len(self.tail)]
        if self.batch is None:
            self.batch = batch
        flat = b.reshape(-1, *self.tail)
        if self._place is None:
            full = flat.astype(np.float64)
        else:
            unknowns, shape = self._place.unknowns, self._place.grid_shape
            full = np.zeros((flat.shape[0], *shape))
            if flat[0].size == unknowns.size:
                np.multiply(flat.reshape(full.shape), 1.0, out=full, where=unknowns)
            else:
                full[:, unknowns] = flat
        bad = full.size - np.count_nonzero(np.isfinite(full))
        if bad:
            raise ValueError(f"{name} has {bad} entries that are NaN or infinite; remove them before solving")
        return full

    def write(self, x):
        """Solutions in the form b came in."""
        if self._place is not None and self.tail == (np.count_nonzero(self._place.unknowns),) != (x[0].size,):
            x = x[:, self._place.unknowns]
        return x.reshape(*self.batch, *self.tail)
