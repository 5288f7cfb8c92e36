"""Symmetric positive definite systems without a grid: algebraic multigrid where PyAMG is installed, else Jacobi."""

from importlib.util import find_spec

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from deconjugate.solver.conjugate import conjugate_gradient


class UnstructuredSolver:
    """Preconditioned conjugate gradients for a matrix or an operator that is not on a grid.

    Parameters
    ----------
    A : scipy sparse matrix, 2-D array, or linear operator of shape (n, n)
        Symmetric positive (semi)definite.
    algebraic : bool
        Use smoothed-aggregation multigrid (PyAMG) on a matrix; else its diagonal. An operator gets neither.

    Raises
    ------
    TypeError, ValueError
        A is no linear operator, not square, not finite, not symmetric, or has a diagonal entry <= 0.
    """

    def __init__(self, A, *, algebraic=True):
        if isinstance(A, np.ndarray) and A.ndim == 2:
            A = scipy.sparse.csr_array(A)
        matrix = scipy.sparse.issparse(A)
        if not matrix and not isinstance(A, LinearOperator):
            raise TypeError(
                f"A is a {type(A).__name__}; give a PoissonOperator, a scipy sparse matrix or a LinearOperator"
            )
        if np.issubdtype(A.dtype, np.complexfloating):
            raise TypeError(f"A has dtype {A.dtype}; give a real matrix or operator")
        if len(A.shape) != 2 or A.shape[0] != A.shape[1]:
            raise ValueError(f"A has shape {A.shape}; it must be square")
        if A.shape[0] == 0:
            raise ValueError("A has no unknowns: its shape is (0, 0)")
        self.size = A.shape[0]
        self.preconditioner, self.method = None, "cg"
        if matrix:
            A = A.tocsr().astype(np.float64)
            diagonal = _check_matrix(A)
            self.norm = float(abs(A).sum(axis=1).max())
            if algebraic and find_spec("pyamg"):
                from pyamg import smoothed_aggregation_solver

                self.preconditioner = smoothed_aggregation_solver(scipy.sparse.csr_matrix(A)).aspreconditioner()
                self.method = "algebraic multigrid"
            else:
                self.preconditioner, self.method = (lambda r: r / diagonal), "jacobi"
            self.apply = A.__matmul__
        else:
            self.apply = aslinearoperator(A).matvec
            self.norm = _norm_of(self.apply, self.size)

    def solve(self, b, x0, rtol, atol, maxiter, callback):
        """(x, status, residual norms) for b of length n."""
        return conjugate_gradient(
            self.apply, b, x0=x0, M=self.preconditioner, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback
        )


def _check_matrix(A):
    bad = A.data.size - np.count_nonzero(np.isfinite(A.data))
    if bad:
        raise ValueError(f"A has {bad} entries that are NaN or infinite")
    difference = abs(A - A.T)
    worst = difference.max() if difference.nnz else 0.0
    if worst > 1e-10 * abs(A).max():
        raise ValueError(
            f"A is not symmetric: |A - A^T| reaches {worst:.3g}; give (A + A^T) / 2 if that is what is meant"
        )
    diagonal = A.diagonal()
    if (diagonal <= 0).any():
        row = int(np.argmax(diagonal <= 0))
        raise ValueError(
            f"A is not positive definite: its diagonal is {diagonal[row]:.3g} in row {row}; leave out empty rows, or "
            "use PoissonOperator.from_sparse for a full-grid stencil matrix"
        )
    return diagonal


def _norm_of(apply, size):
    """||A||_2 of a symmetric operator, by a few power iterations."""
    x = np.random.default_rng(0).standard_normal(size)
    norm = 0.0
    for _ in range(10):
        x = apply(x / np.linalg.norm(x))
        norm = float(np.linalg.norm(x))
        if not norm:
            break
    return norm
