"""The coarsest level of a multigrid hierarchy, solved exactly."""

import numpy as np

from deconjugate.solver._coarsest_numba import factor_banded, first_of_component, solve_banded


class Coarsest:
    """x = A^-1 b on one level of a hierarchy, by its banded Cholesky factor.

    A component of the grid without given values gets one, of the strength of its first cell's diagonal: the sum of
    its residual is zero, so that sets its level and nothing else. The result is symmetric and positive definite on
    the unknowns, and exactly zero elsewhere.

    Parameters
    ----------
    level : level of a Multigrid
    periodic : tuple of bool, one per axis
    """

    def __init__(self, level, periodic):
        self._known = level.dinv > 0
        i, j, t = _couplings(level, periodic)
        given = _given(level)
        diagonal = given + np.bincount(i, t, level.size) + np.bincount(j, t, level.size)
        loose = _loose(i, j, given)
        diagonal[loose] += np.where(diagonal[loose] > 0, diagonal[loose], 1.0)
        low, high = np.minimum(i, j), np.maximum(i, j)
        band = int((high - low).max(initial=0))
        rows = np.zeros((level.size, band + 1))
        np.subtract.at(rows, (low, high - low), t)
        rows[:, 0] = diagonal
        factor_banded(rows)
        self._factor = rows

    def solve(self, b, x):
        """x = A^-1 b; flat float32 arrays of the level."""
        solve_banded(self._factor, b, self._known, x)


def loose_cells(level, periodic):
    """True at the first cell of every component of a level that has no given value; bool, flat."""
    i, j, _ = _couplings(level, periodic)
    return _loose(i, j, _given(level))


def _loose(i, j, given):
    first = first_of_component(i, j, given.size)
    held = np.bincount(first, given, given.size) > 0
    return (first == np.arange(given.size)) & ~held


def _given(level):
    return level.given.astype(np.float64) if level.given.size else np.zeros(level.size)


def _couplings(level, periodic):
    """Cells i and j and the transmissibility t > 0 of the face between them, each face once."""
    index = np.arange(level.size).reshape(level.shape)
    unknown = (level.dinv > 0).reshape(level.shape)
    i, j, t = [], [], []
    for axis, n in enumerate(level.shape):
        if n == 1:
            continue
        if level.uniform:
            face = np.where(unknown & np.roll(unknown, 1, axis), np.float64(level.arrays[3][axis]), 0.0)
            if not periodic[axis]:
                np.moveaxis(face, axis, 0)[0] = 0.0
        else:
            face = np.take(level.faces[axis], range(n), axis).astype(np.float64)
        open_ = face > 0
        i.append(index[open_])
        j.append(np.roll(index, 1, axis)[open_])
        t.append(face[open_])
    if not t:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    return np.concatenate(i), np.concatenate(j), np.concatenate(t)
