"""The multigrid cycle inside the solvers of other packages."""

import numpy as np
import pyamg
import pylops
import pytest
import scipy.sparse.linalg

from deconjugate.solver import PoissonSolver, gallery


def system(name, shape=(17, 14, 15)):
    A = gallery.problems[name](shape, seed=1)
    M = PoissonSolver(A, method="multigrid").as_preconditioner()
    return A.to_sparse().tocsr(), M, gallery.white_noise(A, 2)[A.unknowns]


def residual(A, b, x):
    return np.linalg.norm(b - A @ x) / np.linalg.norm(b)


@pytest.mark.parametrize("name", gallery.problems)
def test_scipys_and_pyamgs_conjugate_gradients_reach_tight_tolerances_in_few_steps(name):
    A, M, b = system(name)
    bound = {"coefficient_jump": 60, "thin_gaps": 45}.get(name, 20)
    # Conjugate gradients elsewhere carry their residual by recursion; a jump of 1e4 costs it some digits.
    reached = 1e-8 if name == "coefficient_jump" else 1.01e-9
    steps = []
    x, info = scipy.sparse.linalg.cg(A, b, rtol=1e-9, M=M, callback=steps.append)
    assert info == 0
    assert len(steps) <= bound
    assert residual(A, b, x) <= reached
    residuals = []
    x, info = pyamg.krylov.cg(A, b, tol=1e-9, M=M, residuals=residuals)
    assert info == 0
    assert len(residuals) - 1 <= bound
    assert residual(A, b, x) <= 1e-7  # PyAMG measures the residual in the norm of M


@pytest.mark.parametrize("krylov", [pyamg.krylov.fgmres, pyamg.krylov.bicgstab])
def test_other_krylov_methods_of_pyamg(krylov):
    A, M, b = system("open_top")
    x, info = krylov(A, b, tol=1e-9, M=M, maxiter=30)
    assert info == 0
    assert residual(A, b, x) <= 1e-7


def test_a_hierarchy_of_pyamg_ends_in_it_and_is_accelerated():
    A, M, b = system("random_spheres")
    level = pyamg.MultilevelSolver.Level()
    level.A = A
    hierarchy = pyamg.MultilevelSolver([level], coarse_solver=lambda A, r: M @ r)
    hierarchy.symmetric_smoothing = True  # PyAMG looks for smoothers, of which this has none
    residuals = []
    x = hierarchy.solve(b, tol=1e-9, accel="cg", residuals=residuals)
    assert residual(A, b, x) <= 1e-7
    assert len(residuals) - 1 <= 20


@pytest.mark.parametrize("scale", [1e-200, 1e-43, 1e43, 1e200])
def test_the_unit_does_not_matter(scale):
    _, M, b = system("open_top", (9, 11))
    np.testing.assert_allclose(M @ (scale * b) / scale, M @ b, rtol=1e-5, atol=1e-5 * abs(M @ b).max())
    assert not (M @ (0.0 * b)).any()


def test_forms_that_pyamg_and_scipy_use():
    A, M, b = system("sphere", (9, 11))
    assert M.shape == A.shape
    assert M.dtype == np.float64
    np.testing.assert_array_equal((M @ b[:, None])[:, 0], M @ b)
    np.testing.assert_array_equal(M.T @ b, M @ b)
    np.testing.assert_array_equal(M @ np.stack([b, 2 * b], axis=1), np.stack([M @ b, M @ (2 * b)], axis=1))


def test_pylops_takes_operator_and_preconditioner():
    A = gallery.open_top((12, 11), seed=1)
    b = gallery.divergence(A, 2).ravel()
    M = PoissonSolver(A, method="multigrid").as_preconditioner()
    unknowns = pylops.Restriction(b.size, np.flatnonzero(A.unknowns))
    system = unknowns @ pylops.aslinearoperator(A) @ unknowns.T
    assert pylops.utils.dottest(system, rtol=1e-10)
    assert pylops.utils.dottest(pylops.aslinearoperator(M), rtol=1e-5)
    x, info = scipy.sparse.linalg.cg(system, unknowns @ b, rtol=1e-9, M=M)
    assert info == 0
    assert np.linalg.norm(b - A @ (unknowns.T @ x)) <= 1.01e-9 * np.linalg.norm(b)
