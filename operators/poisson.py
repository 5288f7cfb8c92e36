"""The Poisson operator on a regular grid with walls, given values and a variable coefficient."""

from enum import IntEnum
from functools import cached_property

import numpy as np

from deconjugate.operators import _poisson_numba as kernels
from deconjugate.operators._components_numba import paint, runs_of_components
from deconjugate.operators.base import LinearOperator

_LARGEST = 1e150  # of a number that is squared, or multiplied by another; its inverse is the least
_SIDES = {"neumann": kernels.NEUMANN, "dirichlet": kernels.DIRICHLET, "periodic": kernels.PERIODIC}


class Cell(IntEnum):
    """Kinds of cell: what :class:`PoissonOperator` does there.

    Example
    -------
    >>> import numpy as np
    >>> cells = np.full((4, 5), Cell.INTERIOR, np.uint8)
    >>> cells[0], cells[-1, 2] = Cell.DIRICHLET, Cell.WALL  # air above, a stone on the ground
    >>> int(PoissonOperator(cells).unknowns.sum())
    14
    """

    WALL = 0
    INTERIOR = 1
    DIRICHLET = 2


class PoissonOperator(LinearOperator):
    """-div(beta grad u) on cell centres, by the second-order 5- or 7-point finite-volume stencil.

    .. math:: (A u)_i = \\sum_{faces f = (i, j)} beta_f (u_i - u_j) / h_{axis(f)}^2

    Symmetric positive (semi)definite. Vectors are arrays of the grid's shape; what they hold outside the unknowns is
    ignored, and the result is zero there.

    Parameters
    ----------
    cells : array of :class:`Cell`, 2-D or 3-D
        INTERIOR (1) is an unknown, WALL (0) lets no flux through its faces, DIRICHLET (2) has a given value
        at its centre, one spacing from its neighbour's. A bool array means INTERIOR where True, else WALL.
    spacing : float or one per axis, > 0
        Distance of neighbouring cell centres, in the unit of length.
    coefficient : None, float, array of the grid's shape, or one face array per axis, > 0
        beta. On cells, a face takes the harmonic mean of its two cells; face arrays have n + 1 entries along
        their axis and are taken as they are.
    boundary : str, one per axis, or a pair (low, high) per axis
        "neumann" (the outer face is closed), "dirichlet" (a ghost cell centre one spacing outside has a given
        value) or "periodic" (both sides of an axis).

    Attributes
    ----------
    cells, spacing, boundary, coefficient
        As given, in full: uint8 array, tuple, tuple of pairs, and None, float, array or tuple of arrays.
    grid_shape : tuple
    unknowns : bool array
    components : int array
        Label of the connected component of each unknown, from 1; zero elsewhere.
    null_space : tuple of int
        Labels of the components that touch no given value: A u = 0 for u constant on one of them.

    Raises
    ------
    TypeError, ValueError
        The argument is named, with what was found and the remedy.

    Source: the marker-and-cell discretisation of Harlow and Welch, Physics of Fluids 8, 2182 (1965).

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import PoissonOperator
    >>> A = PoissonOperator(np.ones((4, 5), bool), boundary="dirichlet")
    >>> A.apply(np.ones((4, 5)))[0]
    array([2., 1., 1., 1., 2.])
    """

    def __init__(self, cells, *, spacing=1.0, coefficient=None, boundary="neumann"):
        self.cells = _check_cells(cells)
        self.grid_shape = self.cells.shape
        super().__init__(self.grid_shape, self.grid_shape)
        ndim = self.cells.ndim
        self.spacing = _check_spacing(spacing, ndim)
        self.boundary = _check_boundary(boundary, ndim)
        self._sides = np.array(
            [[_SIDES[low], _SIDES[high]] for low, high in _pad_axis(self.boundary, ("neumann",) * 2)]
        )
        self._periodic = tuple(bool(low == kernels.PERIODIC) for low, _ in self._sides)
        self.coefficient = _check_coefficient(coefficient, self.grid_shape, self.boundary)
        scale = self.coefficient if isinstance(self.coefficient, float) else 1.0
        self._weights = np.array([scale * (1.0 / h**2) for h in _pad_axis(self.spacing, self.spacing[0])])
        if not self._is_uniform:
            self._coded  # noqa: B018  now: the caller may change his arrays later

    @cached_property
    def _shape3(self):
        """The grid as the kernels see it: a 2-D grid gets an axis of one cell in the middle."""
        return tuple(_pad_axis(self.grid_shape, 1))

    @property
    def _is_uniform(self):
        return self.coefficient is None or isinstance(self.coefficient, float)

    @cached_property
    def _coded(self):
        """(the code of every cell, transmissibilities of the faces or None where one weight an axis will do).

        Of a uniform coefficient made when first asked for: a solver may need a part of the grid only.
        """
        chunks = kernels.chunk_count(self._shape3)
        code = kernels.face_code(self.cells.reshape(self._shape3), self._sides, chunks)
        if self._is_uniform:
            return code, None
        faces = self.coefficient
        if not isinstance(faces, tuple):
            faces = [_harmonic(faces, axis, pair[0] == "periodic") for axis, pair in enumerate(self.boundary)]
        faces = [face * (1.0 / h**2) for face, h in zip(faces, self.spacing)]
        # A face given as zero is closed, and so is one whose harmonic mean is too small for a number.
        positive = all(face.min() > 0 for face in faces)
        n0, n1, n2 = self._shape3
        if len(faces) == 2:
            faces = [faces[0], np.zeros((n0, 2, n2)), faces[1]]
        shapes = (n0 + 1, n1, n2), (n0, n1 + 1, n2), (n0, n1, n2 + 1)
        faces = tuple(np.array(f, dtype=np.float64).reshape(shape) for f, shape in zip(faces, shapes))
        kernels.close_faces(code, self._sides, *faces)
        return code if positive else kernels.code_of_faces(code, self._sides, *faces), faces

    @cached_property
    def _code(self):
        return self._coded[0]

    @cached_property
    def _faces(self):
        return self._coded[1]

    @property
    def unknowns(self):
        return self.cells == Cell.INTERIOR

    @cached_property
    def _runs(self):
        return runs_of_components(self._code, self._periodic)

    @cached_property
    def components(self):
        first, start, stop, label, _ = self._runs
        out = np.zeros(self._shape3, np.int32)
        paint(first, start, stop, label, out.reshape(-1, self._shape3[2]))
        return out.reshape(self.grid_shape)

    @property
    def null_space(self):
        held = self._runs[-1]
        return tuple(int(label) for label in np.flatnonzero(~held) + 1)

    @property
    def n_components(self):
        """How many connected components the unknowns form."""
        return self._runs[-1].size

    @cached_property
    def _single_weights(self):
        return self._weights.astype(np.float32)

    @cached_property
    def _single_faces(self):
        return tuple(face.astype(np.float32) for face in self._faces)

    @cached_property
    def _has_given_cells(self):
        return bool((self.cells == Cell.DIRICHLET).any())

    def _forward(self, u):
        if self._has_given_cells:
            u = np.where(self.unknowns, u, u.dtype.type(0))  # open faces lead there; what they hold belongs to rhs()
        out = np.empty_like(u)
        for source, target in zip(u, out):
            self.apply_to(source, target)
        return out

    def apply_to(self, u, out):
        """out = A u, nothing allocated; C-contiguous grid arrays of one dtype, u zero outside the unknowns."""
        chunks = kernels.chunk_count(self._shape3)
        source, target = u.reshape(self._shape3), out.reshape(self._shape3)
        if self._faces is None:
            weights = self._weights if u.dtype == np.float64 else self._single_weights
            kernels.apply_uniform(source, self._code, weights, self._sides, target, chunks)
        else:
            faces = self._faces if u.dtype == np.float64 else self._single_faces
            kernels.apply_faces(source, self._code, *faces, self._periodic, target, chunks)
        return out

    _backward = _forward

    def _face_arrays(self):
        """Transmissibility of every face, (n + 1 along the axis) for each axis of the grid, closed ones zero."""
        if self._faces is None:
            n = self._shape3
            faces = [np.full([m + (a == b) for b, m in enumerate(n)], self._weights[a]) for a in range(3)]
            kernels.close_faces(self._code, self._sides, *faces)
        else:
            faces = list(self._faces)
        if self.cells.ndim == 2:
            faces = [faces[0], faces[2]]
        return [face.reshape([m + (a == b) for b, m in enumerate(self.grid_shape)]) for a, face in enumerate(faces)]

    def to_sparse(self, compress=True):
        """The matrix as scipy CSR, assembled face by face: an oracle for the kernels.

        Parameters
        ----------
        compress : bool
            True: rows and columns of the unknowns only, in C order. False: of every cell, empty for the others.
        """
        import scipy.sparse

        unknowns = self.unknowns
        index = np.arange(self.cells.size).reshape(self.grid_shape)
        rows, columns, values = [], [], []
        diagonal = np.zeros(self.grid_shape)
        for axis, face in enumerate(self._face_arrays()):
            n = self.grid_shape[axis]
            for low in (True, False):  # the face on the low side of each cell, then on the high side
                t = np.take(face, np.arange(n) + (not low), axis)
                t = np.where(unknowns, t, 0.0)
                diagonal += t
                neighbour = np.roll(index, 1 if low else -1, axis)
                linked = unknowns & np.roll(unknowns, 1 if low else -1, axis) & (t != 0)
                if self.boundary[axis][0] != "periodic":
                    edge = [slice(None)] * unknowns.ndim
                    edge[axis] = 0 if low else n - 1
                    linked[tuple(edge)] = False
                rows.append(index[linked])
                columns.append(neighbour[linked])
                values.append(-t[linked])
        rows.append(index[unknowns])
        columns.append(index[unknowns])
        values.append(diagonal[unknowns])
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        matrix = scipy.sparse.coo_array(entries, shape=self.shape).tocsr()
        return matrix[unknowns.ravel()][:, unknowns.ravel()] if compress else matrix

    def rhs(self, source=0.0, *, dirichlet=0.0, flux=None):
        """Right-hand side b of A u = b for -div(beta grad u) = source with the given boundary data.

        Parameters
        ----------
        source : float or array of the grid's shape
        dirichlet : float, array of the grid's shape, or dict {(axis, side): value}
            Values of u behind Dirichlet faces. A float holds everywhere. An array is read at the DIRICHLET cells
            and, for an outer Dirichlet side, at the cells next to it. A dict gives outer sides one by one, side 0
            or "low", 1 or "high", each a float or an array of the side's shape; its key "cells" the DIRICHLET cells.
        flux : same forms
            Outward beta du/dn on outer Neumann sides.

        Returns
        -------
        array of the grid's shape, zero outside the unknowns
        """
        b = np.array(np.broadcast_to(np.asarray(source, np.float64), self.grid_shape))
        dirichlet = _boundary_data(dirichlet, "dirichlet", self.grid_shape)
        flux = _boundary_data(0.0 if flux is None else flux, "flux", self.grid_shape)
        given = np.where(self.cells == Cell.DIRICHLET, dirichlet["cells"], 0.0)
        for axis, face in enumerate(self._face_arrays()):
            n = self.grid_shape[axis]
            periodic = self.boundary[axis][0] == "periodic"
            for side in (0, 1):
                t = np.take(face, np.arange(n) + side, axis)
                behind = np.roll(given, 1 - 2 * side, axis)
                edge = [slice(None)] * b.ndim
                edge[axis] = (0, n - 1)[side]
                edge = tuple(edge)
                if not periodic:
                    behind[edge] = dirichlet[axis, side] if self.boundary[axis][side] == "dirichlet" else 0.0
                b += t * behind
                if self.boundary[axis][side] == "neumann":
                    b[edge] += flux[axis, side] / self.spacing[axis]
        b[~self.unknowns] = 0.0
        return b

    @classmethod
    def from_sparse(cls, A, grid_shape, mask=None):
        """Recognise a stencil matrix; see :func:`deconjugate.operators.stencil.recognise`."""
        from deconjugate.operators.stencil import recognise

        return recognise(A, grid_shape, mask)


def _pad_axis(values, filler):
    """Two values become three, the filler in the middle; three stay."""
    values = list(values)
    return values if len(values) == 3 else [values[0], filler, values[1]]


def _check_cells(cells):
    cells = np.asarray(cells)
    if cells.ndim not in (2, 3):
        raise ValueError(f"cells has {cells.ndim} axes; give a 2-D or 3-D array")
    if cells.size == 0:
        raise ValueError(f"cells is empty, of shape {cells.shape}")
    if cells.dtype == bool:
        return np.ascontiguousarray(cells).astype(np.uint8)
    if cells.dtype.kind not in "iu":
        raise TypeError(f"cells has dtype {cells.dtype}; give bool or integers of Cell")
    if cells.min() < 0 or cells.max() > 2:
        raise ValueError(f"cells holds values from {cells.min()} to {cells.max()}; allowed are 0, 1 and 2 (see Cell)")
    return np.array(cells, dtype=np.uint8, order="C")


def _check_spacing(spacing, ndim):
    values = np.asarray(spacing, dtype=np.float64)
    if values.ndim > 1 or (values.ndim == 1 and values.size != ndim):
        raise ValueError(f"spacing has shape {values.shape}; give one number or {ndim}, one per axis")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"spacing is {spacing}; it must be positive and finite")
    if values.min() < 1 / _LARGEST or values.max() > _LARGEST:
        raise ValueError(f"spacing is {spacing}; its square must fit double precision: choose another unit of length")
    return tuple(float(h) for h in np.broadcast_to(values, ndim))


def _check_boundary(boundary, ndim):
    axes = [boundary] * ndim if isinstance(boundary, str) else list(boundary)
    if len(axes) != ndim:
        raise ValueError(f"boundary has {len(axes)} entries; give a string, or one or a pair for each of {ndim} axes")
    pairs = []
    for axis, pair in enumerate(axes):
        low, high = (pair, pair) if isinstance(pair, str) else tuple(pair)
        for side in (low, high):
            if side not in _SIDES:
                raise ValueError(f"boundary of axis {axis} is {side!r}; choose from {', '.join(_SIDES)}")
        if (low == "periodic") != (high == "periodic"):
            raise ValueError(f"boundary of axis {axis} is {low!r}, {high!r}; both sides are periodic or neither is")
        pairs.append((low, high))
    return tuple(pairs)


def _check_coefficient(coefficient, shape, boundary):
    """The coefficient as it is kept: None, a float, a cell array, or a tuple of face arrays."""
    if coefficient is None:
        return None
    if isinstance(coefficient, (tuple, list)):
        if len(coefficient) != len(shape):
            raise ValueError(f"coefficient has {len(coefficient)} face arrays; the grid has {len(shape)} axes")
        faces = []
        for axis, face in enumerate(coefficient):
            face = np.array(face, np.float64)  # the caller may change his own
            expected = tuple(n + (axis == a) for a, n in enumerate(shape))
            if face.shape != expected:
                raise ValueError(f"coefficient of axis {axis} has shape {face.shape}; its faces have shape {expected}")
            if not (np.isfinite(face).all() and (face >= 0).all()):
                raise ValueError(f"coefficient of axis {axis} has negative or non-finite entries; give beta > 0")
            low, high = np.take(face, 0, axis), np.take(face, -1, axis)
            if boundary[axis][0] == "periodic" and not np.array_equal(low, high):
                raise ValueError(f"coefficient of axis {axis}: a periodic axis has one outer face, not two")
            faces.append(face)
        return tuple(faces)
    beta = np.array(coefficient, np.float64)  # the caller may change his own
    low, high = beta.min(initial=np.inf), beta.max(initial=0.0)
    if not (low > 0 and high < np.inf):
        bad = int(np.count_nonzero(~np.isfinite(beta) | (beta <= 0)))
        raise ValueError(f"coefficient has {bad} entries that are negative, zero or not finite; beta must be positive")
    if high > _LARGEST:
        raise ValueError(
            f"coefficient reaches {high:.3g}; products of two must fit double precision: choose another unit"
        )
    if beta.ndim == 0:
        return float(beta)
    if beta.shape != shape:
        raise ValueError(f"coefficient has shape {beta.shape}; give a number, an array of shape {shape} or face arrays")
    return beta


def _harmonic(beta, axis, periodic):
    """beta on the faces of an axis: the harmonic mean inside, the cell's own on the outer sides."""
    below = np.concatenate([np.take(beta, [-1 if periodic else 0], axis), beta], axis)
    above = np.concatenate([beta, np.take(beta, [0 if periodic else -1], axis)], axis)
    return 2.0 * below * above / (below + above)


def _boundary_data(data, name, shape):
    """The three forms of boundary data as a dict with a value for "cells" and every (axis, side)."""
    sides = {(axis, side): 0.0 for axis in range(len(shape)) for side in (0, 1)}
    if isinstance(data, dict):
        values = {"cells": 0.0, **sides}
        for key, value in data.items():
            if key != "cells":
                axis, side = key
                key = axis, {"low": 0, "high": 1}.get(side, side)
            if key not in values:
                raise ValueError(f'{name} has key {key!r}; give (axis, 0 or 1), (axis, "low" or "high"), or "cells"')
            values[key] = value
    else:
        data = np.asarray(data, np.float64)
        if data.ndim and data.shape != shape:
            raise ValueError(f"{name} has shape {data.shape}; give a number, an array of shape {shape} or a dict")
        values = {"cells": data}
        for axis, side in sides:
            values[axis, side] = np.take(data, -side, axis) if data.ndim else data
    if not all(np.isfinite(value).all() for value in values.values()):
        raise ValueError(f"{name} has entries that are not finite")
    return values
