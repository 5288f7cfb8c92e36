"""Solvers that are kept: updated, shared, pickled, called back, used as preconditioners."""

import copy
import itertools
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from poisson_checks import METHODS, D, N, P, scattered, true_residual, with_obstacles

from deconjugate.solver import (
    PoissonOperator,
    PoissonSolver,
    gallery,
    solve,
)


def test_callback_sees_every_iterate():
    A = gallery.sphere((13, 12, 11))
    b = gallery.white_noise(A, 1)
    for method in METHODS:
        seen = []
        result = solve(A, b, method=method, callback=lambda x, seen=seen: seen.append(x.copy()))
        assert len(seen) == result.iterations
        assert seen[-1].shape == b.shape


@pytest.mark.parametrize("method", METHODS)
def test_solver_kept_and_updated(method):
    cells = np.ones((17, 15, 14), bool)
    solver = PoissonSolver(PoissonOperator(cells, boundary=[D, N, N]), method=method)
    b = np.random.default_rng(1).standard_normal(cells.shape)
    first, second = solver.solve(b), solver.solve(b)
    np.testing.assert_array_equal(first.x, second.x)
    cells = cells.copy()
    cells[5:9, 4:11, 3:9] = False
    beta = np.where(np.arange(17)[:, None, None] > 8, 3.0, 1.0) * np.ones(cells.shape)
    for change in ({"cells": cells}, {"coefficient": beta}, {"cells": np.ones_like(cells), "coefficient": 2.0}):
        solver.update(**change)
        A = solver.operator
        source = np.where(A.unknowns, b, 0)
        result = solver.solve(b, x0=first.x)
        assert result.converged, change
        assert true_residual(A, source, result.x) <= 1.0001e-6


@pytest.mark.parametrize("name", gallery.problems)
def test_preconditioner_is_symmetric_positive_and_works_in_scipy(name):
    A = gallery.problems[name]((13, 11, 12), seed=1)
    M = PoissonSolver(A, method="multigrid").as_preconditioner()
    inside = A.unknowns
    count = int(inside.sum())
    assert M.shape == (count, count)
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, count))
    Mu, Mv = M @ u, M @ v
    assert v @ Mu == pytest.approx(u @ Mv, abs=1e-4 * np.linalg.norm(Mu) * np.linalg.norm(v))
    for _ in range(5):
        r = gallery.compatible(A, scattered(rng.standard_normal(count), inside))[inside]
        assert r @ (M @ r) > 0
    b = gallery.white_noise(A, 2)[inside]
    steps = []
    x, info = scipy.sparse.linalg.cg(A.to_sparse(), b, rtol=1e-6, M=M, callback=steps.append)
    assert info == 0
    assert len(steps) <= 30
    assert np.linalg.norm(b - A.to_sparse() @ x) <= 1.01e-6 * np.linalg.norm(b)


@pytest.mark.parametrize(("method", "obstacles"), [*itertools.product(METHODS, (False, True)), ("dcdm", True)])
def test_a_callback_may_do_to_its_copy_what_it_likes(method, obstacles):
    A = with_obstacles((24, 32), 2, boundary=D) if obstacles else PoissonOperator(np.ones((24, 32), bool), boundary=D)
    b = A.apply(np.random.default_rng(0).standard_normal(A.grid_shape))
    result = solve(A, b, method=method, callback=lambda x: x.fill(np.nan))
    assert result.converged
    assert np.array_equal(result.x, solve(A, b, method=method).x)


@pytest.mark.parametrize("method", METHODS)
def test_solves_within_a_callback_and_after_its_exception(method):
    A = with_obstacles((31, 43), 2, boundary=D)
    solver = PoissonSolver(A, method=method)
    b, other = (A.apply(np.random.default_rng(seed).standard_normal(A.grid_shape)) for seed in (0, 1))
    alone, alone_other = solver.solve(b).x, solver.solve(other).x
    within = []
    assert np.array_equal(solver.solve(b, callback=lambda _: within.append(solver.solve(other).x)).x, alone)
    assert all(np.array_equal(x, alone_other) for x in within)

    def stop(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        solver.solve(b, callback=stop)
    assert np.array_equal(solver.solve(b).x, alone)


@pytest.mark.parametrize("method", ["auto", "multigrid", "dct"])
def test_threads_may_share_a_solver(method):
    A = with_obstacles((31, 43), 2)
    solver = PoissonSolver(A, method=method)
    each = [A.apply(np.random.default_rng(seed).standard_normal(A.grid_shape)) for seed in range(4)]
    alone = [solver.solve(b).x for b in each]
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda k: solver.solve(each[k % 4]).x, range(24)))
    finally:
        sys.setswitchinterval(old)
    assert all(np.array_equal(x, alone[k % 4]) for k, x in enumerate(together))


def test_an_update_that_is_refused_leaves_the_solver_as_it_was():
    A = with_obstacles((19, 14), 2, boundary=D)
    solver = PoissonSolver(A)
    with pytest.raises(ValueError, match="no unknowns"):
        solver.update(cells=np.zeros((19, 14), bool))
    assert solver.operator is A
    assert solver.solve(np.ones((19, 14))).converged


def test_the_coefficient_is_the_operators_own():
    faces = [np.full((20, 14), 2.0), np.full((19, 15), 2.0)]
    for beta in (np.full((19, 14), 2.0), faces):
        cells = np.zeros((19, 14), bool)
        cells[3:9, 4:8] = True
        A = PoissonOperator(cells, coefficient=beta, boundary=D)
        b = A.apply(np.random.default_rng(0).standard_normal(A.grid_shape))
        for array in [beta] if isinstance(beta, np.ndarray) else beta:
            array *= 1 + np.arange(array.shape[1])
        result = solve(A, b, rtol=1e-10)
        assert true_residual(A, b, result.x) <= 1e-10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("boundary", [N, D, P, [(N, D), (D, N)]])
@pytest.mark.parametrize("shape", [(16, 18), (37, 41)])  # fast transforms, and products with matrices
def test_solvers_can_be_pickled_and_copied(shape, boundary, method):
    A = PoissonOperator(np.ones(shape, bool), boundary=boundary)
    b = A.apply(np.random.default_rng(0).standard_normal(shape))
    solver = PoissonSolver(A, method=method)
    x = solver.solve(b).x
    for other in (pickle.loads(pickle.dumps(solver)), copy.deepcopy(solver)):
        assert np.array_equal(other.solve(b).x, x)
