"""Recognise the matrix of a Poisson operator, as fluid codes write it."""

import numpy as np
import scipy.sparse

from deconjugate.operators.poisson import Cell, PoissonOperator

# What rounding may leave of a row sum or of the difference between A and its transpose, relative to the diagonal.
_ROUNDING = 1e-9


def recognise(A, grid_shape, mask=None):
    """The PoissonOperator whose matrix is A.

    A couples each cell with its neighbours on the grid only, symmetrically, with entries <= 0. What a row's
    diagonal exceeds the sum of its couplings by is taken for faces towards given values, which a cell has only where
    a wall, the edge of the grid or nothing lies beside it.

    Parameters
    ----------
    A : scipy sparse matrix
        Full grid, one row a cell in C order, with empty rows for the cells that are no unknowns; or the unknowns
        only, with a mask.
    grid_shape : tuple of 2 or 3 int
    mask : bool array of grid_shape, optional
        The unknowns, where A has their rows only.

    Returns
    -------
    PoissonOperator
        Of unit spacing and boundary "neumann" (or "periodic" where A couples opposite sides); open towards given
        values are its DIRICHLET cells and, where the outer side of the grid is, its "dirichlet" sides.

    Raises
    ------
    TypeError, ValueError
        Why A is not such a matrix.
    """
    grid_shape = tuple(int(n) for n in grid_shape)
    if len(grid_shape) not in (2, 3):
        raise ValueError(f"grid_shape is {grid_shape}; give 2 or 3 sizes")
    if not scipy.sparse.issparse(A):
        raise TypeError(f"A is a {type(A).__name__}; give a scipy sparse matrix")
    A = A.tocsr().astype(np.float64)
    A.sum_duplicates()
    A.eliminate_zeros()
    size = int(np.prod(grid_shape))
    if mask is not None:
        mask = np.asarray(mask, bool)
        if mask.shape != grid_shape:
            raise ValueError(f"mask has shape {mask.shape}; grid_shape is {grid_shape}")
    cells = np.arange(size) if mask is None else np.flatnonzero(mask)
    if A.shape != (cells.size, cells.size):
        what = f"grid_shape {grid_shape} has {size} cells" if mask is None else f"mask has {cells.size} unknowns"
        raise ValueError(f"A has shape {A.shape}, but {what}")
    matrix = A.tocoo()
    row, column, value = cells[matrix.row], cells[matrix.col], matrix.data
    _check_entries(A, value, row != column)

    diagonal = np.zeros(size)
    diagonal[row[row == column]] = value[row == column]
    unknowns = (diagonal > 0).reshape(grid_shape)
    if mask is not None:
        unknowns |= mask
    faces, periodic = _faces(row, column, value, grid_shape)
    excess = diagonal.reshape(grid_shape) - sum(_both_sides(face, axis) for axis, face in enumerate(faces))
    scale = diagonal.max()
    if excess.min() < -_ROUNDING * scale:
        at = tuple(int(i) for i in np.unravel_index(np.argmin(excess), grid_shape))
        raise ValueError(
            f"A is no Poisson stencil: in the row of cell {at} the couplings exceed the diagonal by {-excess.min():.3g}"
        )
    given = np.where(excess > _ROUNDING * scale, excess, 0.0)
    kinds, boundary = _open_towards_given(given, unknowns, faces, periodic)
    return PoissonOperator(kinds, coefficient=tuple(faces), boundary=boundary)


def _check_entries(A, value, off_diagonal):
    if not np.isfinite(value).all():
        raise ValueError(f"A has {np.count_nonzero(~np.isfinite(value))} entries that are NaN or infinite")
    difference = abs(A - A.T)
    if difference.nnz and difference.max() > _ROUNDING * abs(A).max():
        raise ValueError(f"A is not symmetric: |A - A^T| reaches {difference.max():.3g}")
    if (value[off_diagonal] > 0).any():
        raise ValueError("A has positive off-diagonal entries; those of a Poisson stencil are negative")


def _faces(row, column, value, shape):
    """Transmissibilities from the entries right of the diagonal, and which axes are periodic."""
    faces = [np.zeros([n + (a == axis) for a, n in enumerate(shape)]) for axis in range(len(shape))]
    periodic = [False] * len(shape)
    here = np.array(np.unravel_index(row, shape))
    step = np.array(np.unravel_index(column, shape)) - here
    moved = np.count_nonzero(step, axis=0)
    known = moved == 0
    for axis, n in enumerate(shape):
        along = (moved == 1) & (step[axis] != 0)
        forward = along & (step[axis] == 1)
        index = tuple(here[a][forward] + (a == axis) for a in range(len(shape)))
        faces[axis][index] = -value[forward]
        known |= along & (abs(step[axis]) == 1)
        around = along & (step[axis] == n - 1) & (n > 2)
        if around.any():
            periodic[axis] = True
            faces[axis][tuple(here[a][around] for a in range(len(shape)))] = -value[around]
            np.moveaxis(faces[axis], axis, 0)[n] = np.moveaxis(faces[axis], axis, 0)[0]
            known |= along & (abs(step[axis]) == n - 1)
    if not known.all():
        a, b = (tuple(int(i) for i in np.unravel_index(x[~known][0], shape)) for x in (row, column))
        raise ValueError(f"A is no stencil matrix: it couples cell {a} with cell {b}, which is not its neighbour")
    return faces, periodic


def _both_sides(face, axis):
    n = face.shape[axis] - 1
    return np.take(face, range(n), axis) + np.take(face, range(1, n + 1), axis)


def _open_towards_given(given, unknowns, faces, periodic):
    """Cells and boundary such that faces towards given values carry what the diagonal has in excess.

    A face takes its cell's largest coupling, or what is left: on a uniform grid that gives back the faces that were.
    """
    kinds = unknowns.astype(np.uint8)
    boundary = [["periodic"] * 2 if p else ["neumann"] * 2 for p in periodic]
    shape = unknowns.shape
    open_ = []
    for axis, n in enumerate(shape):
        for side in (0, 1):
            outside = np.moveaxis(np.zeros(shape, bool), axis, 0)
            outside[(0, n - 1)[side]] = not periodic[axis]
            outside = np.moveaxis(outside, 0, axis)
            free = unknowns & (outside | ~np.roll(unknowns, 1 - 2 * side, axis))
            open_.append((axis, side, outside, free))
    # Along each axis the usual transmissibility is the median of the open faces.
    usual = [float(np.median(face[face > 0])) if (face > 0).any() else 0.0 for face in faces]
    left = given.copy()
    count = sum(free.astype(int) for *_, free in open_)
    stuck = (left > 0) & (count == 0)
    if stuck.any():
        at = tuple(int(i) for i in np.argwhere(stuck)[0])
        raise ValueError(
            f"A is no Poisson stencil: the diagonal of cell {at} exceeds its couplings by {left[at]:.3g}, and all its "
            "neighbours are unknowns (a reaction or time-step term is not part of this operator)"
        )
    for axis, side, outside, free in open_:
        count = count - free
        share = np.minimum(left, usual[axis] or np.inf)
        t = np.where(free & (left > 0), np.where(count == 0, left, share), 0.0)
        t[t < _ROUNDING * max(given.max(), 1e-300)] = 0.0
        left = np.where(free, left - t, left)
        index = np.arange(shape[axis]) + side
        face = np.moveaxis(faces[axis], axis, 0)
        face[index] = np.where(np.moveaxis(t, axis, 0) > 0, np.moveaxis(t, axis, 0), face[index])
        used = t > 0
        if (used & outside).any():
            boundary[axis][side] = "dirichlet"
        behind = np.roll(used & ~outside, 2 * side - 1, axis)
        kinds[behind & ~unknowns] = Cell.DIRICHLET
    return kinds, [tuple(pair) for pair in boundary]
