"""The loops of conjugate gradients and deep conjugate directions by themselves."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from poisson_checks import D, N, direct, scattered, true_residual, with_obstacles

from deconjugate.solver import (
    PoissonSolver,
    SolveStatus,
    conjugate_gradient,
    deep_conjugate_directions,
    gallery,
    solve,
)


def test_residual_history_of_plain_cg_is_scipys():
    A = gallery.sphere((18, 15, 13))
    b = gallery.divergence(A, 5)
    matrix, inside = A.to_sparse(), A.unknowns
    theirs = [np.linalg.norm(b)]
    scipy.sparse.linalg.cg(
        matrix, b[inside], rtol=1e-8, callback=lambda x: theirs.append(np.linalg.norm(b[inside] - matrix @ x))
    )
    result = solve(A, b, rtol=1e-8, method="cg")
    assert abs(len(theirs) - len(result.residual_norms)) <= 1
    count = min(len(theirs), len(result.residual_norms))
    np.testing.assert_allclose(result.residual_norms[:count], theirs[:count], rtol=1e-6)
    x, status, norms = conjugate_gradient(matrix, b[inside], rtol=1e-8)
    assert status is SolveStatus.CONVERGED
    np.testing.assert_allclose(norms[:count], theirs[:count], rtol=1e-6)
    np.testing.assert_allclose(x - x.mean(), result.x[inside], atol=1e-7)


def test_deep_conjugate_directions_with_any_callable():
    A = gallery.sphere((13, 12, 11))
    b = gallery.divergence(A, 1)
    multigrid = PoissonSolver(A, method="multigrid")
    exact = direct(A, b)
    for direction, limit in (
        (lambda r: r, 400),
        (lambda r: scattered(multigrid.as_preconditioner() @ r[A.unknowns], A.unknowns), 15),
        (lambda r: 1e6 * direct(A, r), 1),
        (lambda r: np.tanh(3 * r), 600),
    ):
        x, status, norms = deep_conjugate_directions(A, b, direction, rtol=1e-8, maxiter=700)
        assert status is SolveStatus.CONVERGED
        assert len(norms) - 1 <= limit
        assert true_residual(A, b, x) <= 1.0001e-8
        np.testing.assert_allclose(x - x[A.unknowns].mean() * A.unknowns, exact, atol=1e-6 * abs(exact).max())


@pytest.mark.parametrize(
    "bad",
    [lambda r: np.full_like(r, np.nan), lambda r: np.zeros_like(r), lambda r: np.random.default_rng(0).random(r.shape)],
    ids=["not finite", "zero", "the same at every step"],
)
def test_a_bad_direction_costs_time_not_correctness(bad):
    A = gallery.open_top((9, 8, 10), 1)
    b = gallery.white_noise(A, 1)
    x, status, norms = deep_conjugate_directions(
        A, b, lambda r: bad(r) * A.unknowns, rtol=1e-6, maxiter=2000, fallback=lambda r: r
    )
    assert (status is SolveStatus.CONVERGED) == (true_residual(A, b, x) <= 1.0001e-6)
    assert norms[-1] < norms[0]


def test_deep_conjugate_directions_is_conjugate_gradients_for_a_fixed_preconditioner():
    A = gallery.box((9, 8), boundary="dirichlet")
    b = gallery.white_noise(A, 1)
    cg = conjugate_gradient(A, b, rtol=1e-9)[2]
    dcd = deep_conjugate_directions(A, b, lambda r: 3.0 * r, rtol=1e-9)[2]
    np.testing.assert_allclose(dcd[:15], cg[:15], rtol=1e-8)


@pytest.mark.parametrize(
    "A", [np.diag([1.0, 2.0, -3.0]), np.array([[0.0, 1.0], [1.0, 0.0]])], ids=["negative", "saddle"]
)
def test_loops_report_indefiniteness(A):
    b = np.ones(len(A))
    b[-1] = -1.0 if len(A) == 2 else 5.0
    assert conjugate_gradient(A, b)[1] is SolveStatus.INDEFINITE
    x, status, _ = deep_conjugate_directions(A, b, lambda r: r, maxiter=50)
    assert status is not SolveStatus.CONVERGED or np.allclose(A @ x, b, atol=1e-5)


@pytest.mark.parametrize("boundary", [N, D])
def test_conjugate_gradients_keep_what_they_had_when_asked_for_the_impossible(boundary):
    A = with_obstacles((21, 26), 2, boundary=boundary)
    b = A.apply(np.random.default_rng(0).standard_normal(A.grid_shape))
    x, status, norms = conjugate_gradient(A, b, rtol=0.0, atol=1e-300)
    assert status in (SolveStatus.STAGNATED, SolveStatus.MAXITER)
    assert norms[-1] == pytest.approx(np.linalg.norm(b - A.apply(x)))
    assert norms[-1] < 1e-14 * norms[0]
    assert solve(A, b, rtol=0.0, atol=1e-300, method="cg").status is SolveStatus.ATTAINABLE_ACCURACY
