"""What several tests of Poisson solvers share: domains, a direct solution, the true residual."""

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from deconjugate.solver import (
    Cell,
    PoissonOperator,
)

N, D, P = "neumann", "dirichlet", "periodic"


METHODS = ["auto", "multigrid", "dct", "cg"]


def direct(A, b):
    """A x = b by sparse LU; on a component without given values, the solution of zero mean for b of zero sum."""
    inside = A.unknowns
    labels, b = A.components[inside], b[inside].copy()
    matrix = scipy.sparse.lil_matrix(A.to_sparse())
    for label in A.null_space:
        member = np.flatnonzero(labels == label)
        b[member] -= b[member].mean()
        b[member[0]] = 0.0
        matrix[member[0]] = 0.0
        matrix[member[0], member[0]] = 1.0
    x = np.atleast_1d(scipy.sparse.linalg.spsolve(matrix.tocsc(), b))
    for label in A.null_space:
        x[labels == label] -= x[labels == label].mean()
    full = np.zeros(A.grid_shape)
    full[inside] = x
    return full


def true_residual(A, b, x):
    inside = A.unknowns
    return np.linalg.norm(b[inside] - A.to_sparse() @ x[inside]) / np.linalg.norm(b[inside])


def with_obstacles(shape, seed, **arguments):
    rng = np.random.default_rng(seed)
    cells = np.ones(shape, np.uint8)
    cells[tuple(slice(n // 3, n // 2 + 1) for n in shape)] = Cell.WALL
    cells[tuple(slice(0, n // 4) for n in shape)] = Cell.DIRICHLET if seed % 2 else Cell.WALL
    cells[rng.random(shape) < 0.03] = Cell.WALL
    return PoissonOperator(cells, **arguments)


def scattered(values, inside):
    full = np.zeros(inside.shape)
    full[inside] = values
    return full
