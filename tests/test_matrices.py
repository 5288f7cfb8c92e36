"""Matrices and operators without a grid, and grids recognised in matrices."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from poisson_checks import true_residual

from deconjugate.solver import (
    PoissonOperator,
    PoissonSolver,
    SolveStatus,
    gallery,
    solve,
)


def unstructured(n=300, seed=0):
    """The Laplacian of a random graph, plus the identity."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, n, (2, 4 * n))
    adjacency = scipy.sparse.coo_matrix((rng.uniform(0.5, 2.0, 4 * n), (rows, columns)), (n, n)).tocsr()
    adjacency = adjacency + adjacency.T
    adjacency.setdiag(0)
    return scipy.sparse.csr_matrix(scipy.sparse.diags(np.asarray(adjacency.sum(axis=1)).ravel() + 1.0) - adjacency)


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csr_array, scipy.sparse.coo_matrix])
@pytest.mark.parametrize("method", ["auto", "cg"])
def test_unstructured_matrices(form, method):
    A = unstructured()
    b = np.random.default_rng(1).standard_normal(A.shape[0])
    expected = scipy.sparse.linalg.spsolve(A.tocsc(), b)
    result = solve(form(A), b, rtol=1e-10, method=method)
    assert result.converged
    assert result.relative_residual == pytest.approx(np.linalg.norm(b - A @ result.x) / np.linalg.norm(b), rel=1e-3)
    np.testing.assert_allclose(result.x, expected, atol=1e-8)
    batch = solve(form(A), np.stack([b, 2 * b]), rtol=1e-10, method=method)
    np.testing.assert_allclose(batch.x, [expected, 2 * expected], atol=1e-7)


def test_linear_operators_and_dense_matrices():
    A = unstructured(60)
    b = np.random.default_rng(1).standard_normal(60)
    expected = scipy.sparse.linalg.spsolve(A.tocsc(), b)
    for form in (scipy.sparse.linalg.aslinearoperator(A), A.toarray()):
        result = solve(form, b, rtol=1e-9)
        assert result.converged
        np.testing.assert_allclose(result.x, expected, atol=1e-7)


def test_indefinite_operators_are_a_status():
    flip = np.where(np.arange(40) % 3, 1.0, -1.0)
    A = scipy.sparse.linalg.LinearOperator((40, 40), matvec=lambda x: flip * np.ravel(x), dtype=np.float64)
    result = solve(A, np.ones(40))
    assert result.status is SolveStatus.INDEFINITE
    assert not result.converged
    B = unstructured(50) - 3.0 * scipy.sparse.identity(50)
    if (B.diagonal() > 0).all():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = solve(B, np.random.default_rng(0).standard_normal(50), method="cg")
        assert result.converged == (result.status is SolveStatus.CONVERGED)
        assert result.converged or result.status is SolveStatus.INDEFINITE


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", ["box", "sphere", "open_top", "free_surface", "coefficient_jump", "anisotropic"])
def test_from_sparse_recognises_a_stencil(name, compressed):
    for shape in ((13, 11), (8, 9, 7)):
        A = gallery.problems[name](shape, seed=1)
        matrix = A.to_sparse(compress=compressed)
        B = PoissonOperator.from_sparse(matrix, shape, A.unknowns) if compressed else PoissonOperator.from_sparse(
            matrix, shape
        )  # fmt: skip
        difference = abs(B.to_sparse(compress=compressed) - matrix)
        assert difference.max() < 1e-10 * abs(matrix).max()
        b = gallery.white_noise(A, 1)
        result = solve(B, b)
        assert result.converged
        assert true_residual(A, b, result.x) <= 1.0001e-6


def test_from_sparse_refuses_what_is_no_stencil():
    A = gallery.sphere((8, 7))
    matrix = A.to_sparse(compress=False)
    with pytest.raises(ValueError, match=r"grid_shape|shape"):
        PoissonOperator.from_sparse(matrix, (8, 8))
    far = scipy.sparse.lil_matrix(matrix)
    far[3, 40] = far[40, 3] = -1.0
    with pytest.raises(ValueError, match=r"stencil|neighbour"):
        PoissonOperator.from_sparse(far.tocsr(), (8, 7))
    skew = scipy.sparse.lil_matrix(matrix)
    skew[0, 1] = -2.0
    with pytest.raises(ValueError, match=r"symmetric"):
        PoissonOperator.from_sparse(skew.tocsr(), (8, 7))
    positive = scipy.sparse.lil_matrix(matrix)
    positive[0, 1] = positive[1, 0] = 1.0
    with pytest.raises(ValueError, match=r"negative|positive|sign"):
        PoissonOperator.from_sparse(positive.tocsr(), (8, 7))


def test_a_matrix_solver_has_no_update_and_no_grid_preconditioner():
    solver = PoissonSolver(unstructured(20))
    with pytest.raises(TypeError, match="needs a solver of a PoissonOperator"):
        solver.update(coefficient=1.0)
    with pytest.raises(TypeError, match="needs a solver of a PoissonOperator"):
        solver.as_preconditioner()


@pytest.mark.parametrize(
    ("A", "error", "message"),
    [
        (np.array([[2.0, 1j], [-1j, 2.0]]), TypeError, "A has dtype complex128"),
        (scipy.sparse.linalg.aslinearoperator(np.array([[2.0, 1j], [-1j, 2.0]])), TypeError, "complex128"),
        (np.ones(2), TypeError, "A is a ndarray"),
        (scipy.sparse.csr_array(np.ones(2)), ValueError, r"A has shape \(2,\); it must be square"),
    ],
)
def test_matrices_that_are_none_are_named(A, error, message):
    with pytest.raises(error, match=message):
        solve(A, np.ones(2))
