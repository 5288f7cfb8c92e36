"""The part of a grid that its unknowns need."""

import numpy as np

from deconjugate.operators.poisson import Cell, PoissonOperator
from deconjugate.solver._crop_numba import extent

# An axis is cut where that leaves at most this fraction of it: less is not worth the copies.
_WORTH = 7 / 8


class Crop:
    """A Poisson operator on the smallest box that holds its unknowns, and the way between the box and the grid.

    Walls around the box are left out, and cells with given values but for the layer next to it. Outside, the box is
    closed; where it ends at a side of the grid, that side's boundary stays. A periodic axis is cut only
    where no unknown touches its ends, so that nothing passes around. The system of the unknowns is the same.

    Parameters
    ----------
    operator : deconjugate.operators.PoissonOperator

    Attributes
    ----------
    operator : PoissonOperator
        On the box; the given one itself where nothing is left out.
    grid_shape : tuple
        The whole grid's.
    box : tuple of slices
        Where the box is in the grid.
    whole : bool
        Whether nothing is left out.

    Raises
    ------
    ValueError
        There are no unknowns.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import PoissonOperator
    >>> from deconjugate.solver.crop import Crop
    >>> cells = np.zeros((40, 30), bool)
    >>> cells[3:9, 4:8] = True
    >>> crop = Crop(PoissonOperator(cells))
    >>> crop.operator.grid_shape, crop.embed(np.ones((6, 4))).sum()
    ((6, 4), np.float64(24.0))
    """

    def __init__(self, operator):
        self.grid_shape = shape = operator.grid_shape
        low, high = (_of_grid(end, shape) for end in extent(operator.cells.reshape(operator._shape3)))
        if low[0] >= high[0]:
            raise ValueError("cells has no unknowns: none of them is INTERIOR")
        core = [slice(start, stop) for start, stop in zip(low, high)]
        self.box = tuple(_cut(operator, core, axis) for axis in range(len(shape)))
        self.whole = all(part == slice(0, n) for part, n in zip(self.box, shape))
        self.operator = operator if self.whole else self._inside(operator)

    def _inside(self, operator):
        boundary = []
        for part, n, (low, high) in zip(self.box, self.grid_shape, operator.boundary):
            cut_low, cut_high = part.start > 0, part.stop < n
            if low == "periodic" and (cut_low or cut_high):
                cut_low = cut_high = True
            boundary.append(("neumann" if cut_low else low, "neumann" if cut_high else high))
        beta = operator.coefficient
        if isinstance(beta, tuple):
            beta = tuple(
                face[tuple(slice(part.start, part.stop + (a == axis)) for a, part in enumerate(self.box))]
                for axis, face in enumerate(beta)
            )
        elif np.ndim(beta):
            beta = beta[self.box]
        return PoissonOperator(operator.cells[self.box], spacing=operator.spacing, boundary=boundary, coefficient=beta)

    def inside(self, x):
        """The box of an array whose last axes are the grid's; a view."""
        return x[(..., *self.box)]

    def embed(self, x):
        """The array of the grid, zero outside the box, for one whose last axes are the box's."""
        if self.whole:
            return x
        out = np.zeros((*x.shape[: x.ndim - len(self.grid_shape)], *self.grid_shape), x.dtype)
        self.inside(out)[...] = x
        return out


def _of_grid(ends, shape):
    """Three ends of the kernels' grid as those of the user's, which may have two axes."""
    return [int(n) for n in (ends if len(shape) == 3 else ends[[0, 2]])]


def _cut(operator, core, axis):
    """What is kept of an axis: the unknowns' extent and given values beside it, or all where little would be saved."""
    n, part = operator.grid_shape[axis], core[axis]
    low, high = part.start, part.stop
    if operator.boundary[axis][0] == "periodic" and (low == 0 or high == n):
        return slice(0, n)
    low -= low > 0 and _has_given(operator, core, axis, low - 1)
    high += high < n and _has_given(operator, core, axis, high)
    return slice(low, high) if high - low <= _WORTH * n else slice(0, n)


def _has_given(operator, core, axis, index):
    layer = tuple(index if a == axis else part for a, part in enumerate(core))
    return bool((operator.cells[layer] == Cell.DIRICHLET).any())
