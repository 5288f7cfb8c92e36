import itertools
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from deconjugate.solver import (
    Cell,
    PoissonOperator,
    PoissonSolver,
    SolveStatus,
    conjugate_gradient,
    deep_conjugate_directions,
    gallery,
    solve,
)

N, D, P = "neumann", "dirichlet", "periodic"
PAIRS = [(N, N), (D, D), (P, P), (N, D), (D, N)]
METHODS = ["auto", "multigrid", "dct", "cg"]
SHAPES = [(37, 31), (19, 16, 21)]


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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("obstacles", [False, True])
@pytest.mark.parametrize("shape", [(9, 11), (5, 7, 6)])
def test_agrees_with_a_direct_solve_for_every_boundary(shape, obstacles, method):
    # Every pair on every axis in 2-D; in 3-D every pair meets every other on some two axes.
    boundaries = list(itertools.product(PAIRS, repeat=2))
    if len(shape) == 3:
        boundaries = [(a, b, PAIRS[k % 5]) for k, (a, b) in enumerate(boundaries)]
    for seed, boundary in enumerate(boundaries):
        spacing = np.random.default_rng(seed).uniform(0.7, 1.4, len(shape))
        make = with_obstacles if obstacles else lambda shape, _, **kw: PoissonOperator(np.ones(shape, bool), **kw)
        A = make(shape, seed, spacing=spacing, boundary=boundary)
        b = gallery.white_noise(A, seed)
        result = solve(A, b, rtol=1e-10, method=method)
        assert result.converged, (boundary, result.status)
        assert result.status is SolveStatus.CONVERGED
        assert true_residual(A, b, result.x) <= 1.0001e-10, boundary
        assert result.relative_residual == pytest.approx(true_residual(A, b, result.x), rel=1e-3, abs=1e-13)
        expected = direct(A, b)
        np.testing.assert_allclose(result.x, expected, atol=1e-7 * abs(expected).max())
        assert np.all(result.x[~A.unknowns] == 0)


@pytest.mark.parametrize("method", ["auto", "multigrid", "dct"])
@pytest.mark.parametrize("rhs", gallery.right_hand_sides)
@pytest.mark.parametrize("name", gallery.problems)
def test_gallery_converges_in_few_iterations(name, rhs, method):
    for shape in SHAPES:
        A = gallery.problems[name](shape, seed=1)
        b = gallery.right_hand_sides[rhs](A, seed=2)
        result = solve(A, b, method=method)
        assert result.converged, (shape, result.status)
        assert true_residual(A, b, result.x) <= 1.0001e-6
        if method != "dct":
            # Inclusions of one or two cells are all that the smaller grid can hold of a jump of 1e4.
            assert result.iterations <= (60 if name == "coefficient_jump" else 25), shape
        assert result.residual_norms[-1] <= 1.0001e-6 * np.linalg.norm(b)
        assert len(result.residual_norms) == result.iterations + 1
        for label in A.null_space:
            assert abs(result.x[A.components == label].mean()) < 1e-10 * max(abs(result.x).max(), 1e-300)


@pytest.mark.parametrize("method", ["multigrid", "cg"])
@pytest.mark.parametrize("coefficient", ["cells", "faces"])
@pytest.mark.parametrize("shape", [(10, 13), (7, 6, 9)])
def test_variable_coefficient(shape, coefficient, method):
    rng = np.random.default_rng(8)
    if coefficient == "cells":
        beta = np.where(rng.random(shape) < 0.3, 1e4, 1.0)
    else:
        beta = [rng.uniform(0.1, 10.0, [n + (a == axis) for a, n in enumerate(shape)]) for axis in range(len(shape))]
    for boundary in (N, D, [(N, D)] + [D] * (len(shape) - 1)):
        A = with_obstacles(shape, 3, coefficient=beta, boundary=boundary, spacing=0.1)
        b = gallery.white_noise(A, 4)
        result = solve(A, b, rtol=1e-10, method=method)
        assert result.converged, result.status
        expected = direct(A, b)
        np.testing.assert_allclose(result.x, expected, atol=1e-6 * abs(expected).max())


@pytest.mark.parametrize("method", ["multigrid", "dct"])
@pytest.mark.parametrize(("low", "high"), [(N, N), (D, D), (P, P), (N, D), (D, N)])
def test_second_order_on_a_manufactured_solution(low, high, method):
    # A Neumann wall lies half a spacing from the last centre, a Dirichlet boundary a whole one.
    errors = []
    for n in (16, 32, 64):
        length = n - 1 + {N: 0.5, D: 1.0, P: 0.5}[low] + {N: 0.5, D: 1.0, P: 0.5}[high]
        h = 1.0 / length
        x = (np.arange(n) + {N: 0.5, D: 1.0, P: 0.5}[low]) * h
        k = {(N, N): np.pi, (D, D): np.pi, (P, P): 2 * np.pi, (N, D): np.pi / 2, (D, N): np.pi / 2}[low, high]
        wave = np.cos(k * x) if low in (N, P) else np.sin(k * x)
        u = wave[:, None] * wave[None, :]
        A = PoissonOperator(np.ones((n, n), bool), spacing=h, boundary=(low, high) if low == P else [(low, high)] * 2)
        result = solve(A, 2 * k**2 * u, rtol=1e-10, method=method)
        assert result.converged
        errors.append(abs(result.x - u).max())
    rates = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(rates, 2.0, atol=0.2)


@pytest.mark.parametrize("shape", [(14, 11), (6, 9, 8)])
def test_boundary_data_reach_the_solution(shape):
    # A linear function is its own discrete solution, whatever mix of values and fluxes describes it.
    slopes = np.arange(1.0, 1.0 + len(shape))
    spacing = np.linspace(0.5, 0.8, len(shape))
    centres = np.meshgrid(*((np.arange(n) + 0.5) * h for n, h in zip(shape, spacing)), indexing="ij")
    u = sum(s * c for s, c in zip(slopes, centres))
    A = PoissonOperator(np.ones(shape, bool), spacing=spacing, boundary=[(D, N)] * len(shape))
    values = {(a, 0): np.take(u, 0, a) - slopes[a] * spacing[a] for a in range(len(shape))}
    b = A.rhs(0.0, dirichlet=values, flux={(a, 1): slopes[a] for a in range(len(shape))})
    result = solve(A, b, rtol=1e-12)
    np.testing.assert_allclose(result.x, u, atol=1e-9)


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


@pytest.mark.parametrize("method", METHODS)
def test_incompatible_sources_are_a_status(method):
    A = gallery.sphere((17, 14, 12))
    b = gallery.white_noise(A, 1)
    shifted = b + 0.3 * A.unknowns
    result = solve(A, shifted, method=method)
    assert result.status is SolveStatus.INCOMPATIBLE
    assert not result.converged
    assert result.removed_norm == pytest.approx(0.3 * np.sqrt(A.unknowns.sum()), rel=1e-10)
    assert true_residual(A, b, result.x) < 2e-6
    assert result.relative_residual == pytest.approx(true_residual(A, shifted, result.x), rel=1e-6)
    assert abs(result.x[A.unknowns].mean()) < 1e-12 * abs(result.x).max()


def test_incompatible_within_the_tolerance_is_solved():
    A = gallery.box((12, 13))
    b = gallery.white_noise(A, 1) + 1e-9
    result = solve(A, b, rtol=1e-6)
    assert result.converged
    assert 0 < result.removed_norm < 1e-6


def test_one_incompatible_component_among_several():
    A = gallery.rooms((17, 19))
    b = gallery.white_noise(A, 1)
    b[A.components == 2] += 1.0
    result = solve(A, b)
    assert result.status is SolveStatus.INCOMPATIBLE
    assert result.removed_norm == pytest.approx(np.sqrt((A.components == 2).sum()), rel=1e-10)


def test_tight_tolerance_is_reached_or_named():
    A = gallery.sphere((33, 31, 29))
    b = gallery.white_noise(A, 1)
    result = solve(A, b, rtol=1e-12, method="multigrid")
    assert result.converged
    assert true_residual(A, b, result.x) < 1.1e-12
    result = solve(A, b, rtol=1e-18, method="multigrid")
    assert result.status is SolveStatus.ATTAINABLE_ACCURACY
    assert not result.converged
    assert result.backward_error < 1e-14
    assert true_residual(A, b, result.x) < 1e-13


def test_strong_jump_ends_at_rounding_not_in_a_lie():
    A = gallery.coefficient_jump((20, 21, 22), contrast=1e9)
    b = gallery.white_noise(A, 1)
    result = solve(A, b, rtol=1e-13, method="multigrid")
    assert result.converged == (true_residual(A, b, result.x) <= 1.01e-13)
    assert result.relative_residual == pytest.approx(true_residual(A, b, result.x), rel=0.2)  # both are rounding by now
    # What double precision can reach is not lost because more was asked for.
    assert result.status is SolveStatus.ATTAINABLE_ACCURACY
    assert result.relative_residual < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_iteration_limit_is_a_status(method):
    A = gallery.random_spheres((21, 18, 19), 2)
    b = gallery.white_noise(A, 1)
    result = solve(A, b, maxiter=2, rtol=1e-9, method=method)
    assert result.status is SolveStatus.MAXITER
    assert not result.converged
    assert result.iterations == 2
    assert result.relative_residual == pytest.approx(true_residual(A, b, result.x), rel=1e-6)
    assert solve(A, b, maxiter=0).status is SolveStatus.MAXITER


@pytest.mark.parametrize("method", METHODS)
def test_absolute_tolerance_zero_b_and_warm_start(method):
    A = gallery.open_top((15, 17, 16), 1)
    b = gallery.divergence(A, 3)
    loose = solve(A, b, rtol=0.0, atol=0.5, method=method)
    assert loose.converged
    assert np.linalg.norm(b - A.apply(loose.x)) <= 0.5001
    zero = solve(A, np.zeros_like(b), method=method)
    assert zero.converged
    assert zero.iterations == 0
    assert not zero.x.any()
    warm = solve(A, b, x0=loose.x, rtol=1e-8, method=method)
    cold = solve(A, b, rtol=1e-8, method=method)
    assert warm.converged
    assert warm.iterations < cold.iterations
    again = solve(A, b, x0=cold.x, rtol=1e-7, method=method)
    assert again.iterations == 0
    np.testing.assert_array_equal(again.x, cold.x)


@pytest.mark.parametrize("method", METHODS)
def test_the_start_is_not_changed_nor_is_b(method):
    A = gallery.sphere((13, 12, 11))
    b, x0 = gallery.white_noise(A, 1), gallery.smooth(A, 2)
    kept = b.copy(), x0.copy()
    solve(A, b, x0=x0, method=method)
    np.testing.assert_array_equal(b, kept[0])
    np.testing.assert_array_equal(x0, kept[1])


@pytest.mark.parametrize("method", METHODS)
def test_vectors_come_back_in_the_form_they_came_in(method):
    A = gallery.sphere((14, 12, 11))
    b = gallery.white_noise(A, 1)
    x = solve(A, b, method=method).x
    inside = A.unknowns
    assert x.shape == b.shape
    flat = solve(A, b.ravel(), method=method).x
    assert flat.shape == (b.size,)
    np.testing.assert_allclose(flat, x.ravel(), atol=1e-12)
    compressed = solve(A, b[inside], method=method, x0=np.zeros(inside.sum())).x
    assert compressed.shape == (inside.sum(),)
    np.testing.assert_allclose(compressed, x[inside], atol=1e-12)
    single = solve(A, b.astype(np.float32), method=method)
    assert single.x.dtype == np.float64  # a rounded x would not have the residual that was certified
    np.testing.assert_allclose(single.x, x, atol=2e-5 * abs(x).max())
    assert solve(A, np.where(inside, 1, 0) - np.where(inside, 1, 0), method=method).x.dtype == np.float64


def test_values_outside_the_unknowns_are_no_part_of_the_system():
    A = gallery.sphere((14, 12, 11))
    b = gallery.white_noise(A, 1)
    result = solve(A, np.where(A.unknowns, b, 7.0))
    assert result.converged
    np.testing.assert_allclose(result.x, solve(A, b).x, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_batches(method):
    A = gallery.random_spheres((13, 16, 12), 3)
    b = np.stack([gallery.white_noise(A, seed) for seed in range(6)]).reshape(2, 3, *A.grid_shape)
    b[1, 1] *= 1e-3
    b[0, 2] = 0
    result = solve(A, b, method=method)
    assert result.x.shape == b.shape
    assert result.converged.shape == result.status.shape == result.iterations.shape == (2, 3)
    assert result.converged.all()
    for k in np.ndindex(2, 3):
        if b[k].any():
            assert true_residual(A, b[k], result.x[k]) <= 1.0001e-6
            np.testing.assert_allclose(result.x[k], solve(A, b[k], method=method).x, atol=1e-12)
    flat = solve(A, b.reshape(2, 3, -1), method=method)
    np.testing.assert_allclose(flat.x.reshape(b.shape), result.x, atol=1e-12)


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
        r = gallery.compatible(A, _scatter(rng.standard_normal(count), inside))[inside]
        assert r @ (M @ r) > 0
    b = gallery.white_noise(A, 2)[inside]
    steps = []
    x, info = scipy.sparse.linalg.cg(A.to_sparse(), b, rtol=1e-6, M=M, callback=steps.append)
    assert info == 0
    assert len(steps) <= 30
    assert np.linalg.norm(b - A.to_sparse() @ x) <= 1.01e-6 * np.linalg.norm(b)


def _scatter(values, inside):
    full = np.zeros(inside.shape)
    full[inside] = values
    return full


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (1, 1, 5), (2, 3, 1), (3, 2, 2), (101, 3)])
@pytest.mark.parametrize("method", METHODS)
def test_tiny_thin_and_single_cell_grids(shape, method):
    for boundary in (N, D, P):
        A = PoissonOperator(np.ones(shape, bool), boundary=boundary)
        b = gallery.white_noise(A, 1)
        result = solve(A, b, rtol=1e-9, method=method)
        assert result.converged, (boundary, result.status)
        expected = direct(A, b)
        np.testing.assert_allclose(result.x, expected, atol=1e-6 * max(abs(expected).max(), 1.0))


@pytest.mark.parametrize(("shape", "boundary"), [((1, 9), D), ((2, 2), N), ((1, 1, 5), P), ((2, 3, 1), N)])
def test_an_exact_preconditioner_does_not_blow_rounding_up(shape, boundary):
    # A grid of one level is inverted by its coarsest solve: the second residual is rounding and no more.
    A = PoissonOperator(np.ones(shape, bool), boundary=boundary)
    result = solve(A, gallery.white_noise(A, 1), rtol=1e-12, method="multigrid")
    assert result.converged
    assert result.iterations <= 6


def test_isolated_cells_are_components_of_their_own():
    cells = np.indices((8, 9)).sum(axis=0) % 2 == 0
    A = PoissonOperator(cells)
    assert len(A.null_space) == cells.sum()
    result = solve(A, np.zeros(cells.shape))
    assert result.converged
    result = solve(A, cells.astype(float))
    assert result.status is SolveStatus.INCOMPATIBLE
    assert not result.x.any()


def test_deep_conjugate_directions_with_any_callable():
    A = gallery.sphere((13, 12, 11))
    b = gallery.divergence(A, 1)
    multigrid = PoissonSolver(A, method="multigrid")
    exact = direct(A, b)
    for direction, limit in (
        (lambda r: r, 400),
        (lambda r: _scatter(multigrid.as_preconditioner() @ r[A.unknowns], A.unknowns), 15),
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


A_SMALL = PoissonOperator(np.ones((6, 7), bool))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b": np.where(np.arange(42).reshape(6, 7) < 3, np.nan, 0.0)}, ValueError, r"b has 3 .*NaN"),
        ({"b": np.where(np.arange(42).reshape(6, 7) < 2, np.inf, 0.0)}, ValueError, r"b has 2 "),
        ({"b": np.zeros((7, 6))}, ValueError, r"b has shape \(7, 6\)"),
        ({"b": np.zeros(41)}, ValueError, r"b has shape \(41,\)"),
        ({"b": np.zeros((6, 7), complex)}, TypeError, "b has dtype complex128"),
        ({"b": np.full((6, 7), "a")}, TypeError, "b has dtype"),
        ({"x0": np.full((6, 7), np.nan)}, ValueError, "x0 has 42"),
        ({"x0": np.zeros((6, 6))}, ValueError, "x0 has shape"),
        ({"rtol": -1e-6}, ValueError, "rtol is -1e-06"),
        ({"rtol": np.nan}, ValueError, "rtol is nan"),
        ({"atol": -1.0}, ValueError, "atol is -1.0"),
        ({"maxiter": -1}, ValueError, "maxiter is -1"),
        ({"method": "magic"}, ValueError, "method is 'magic'; choose from auto, "),
        ({"device": "abacus"}, ValueError, "device is 'abacus'"),
        ({"A": PoissonOperator(np.zeros((6, 7), bool))}, ValueError, "no unknowns"),
        ({"A": "matrix"}, TypeError, "A is a str"),
        ({"A": scipy.sparse.csr_matrix(np.ones((42, 41)))}, ValueError, "square"),
        ({"A": scipy.sparse.csr_matrix(np.triu(np.ones((42, 42))))}, ValueError, "not symmetric"),
        ({"A": scipy.sparse.diags([-1.0] * 42)}, ValueError, "not positive definite"),
        ({"A": scipy.sparse.diags([np.nan] * 42)}, ValueError, "A has 42 entries that are NaN"),
        ({"A": scipy.sparse.identity(42), "method": "dct", "b": np.zeros(42)}, ValueError, "needs a PoissonOperator"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    arguments = {"A": A_SMALL, "b": np.zeros((6, 7)), **arguments}
    if scipy.sparse.issparse(arguments["A"]):
        arguments["b"] = np.zeros(arguments["A"].shape[0])
    with pytest.raises(error, match=message):
        solve(**arguments)


def test_bad_coefficient_is_named():
    with pytest.raises(ValueError, match=r"coefficient has 2 entries that are negative"):
        PoissonOperator(np.ones((3, 4), bool), coefficient=np.where(np.arange(12).reshape(3, 4) < 2, -1.0, 1.0))
    with pytest.raises(ValueError, match=r"coefficient"):
        PoissonSolver(A_SMALL).update(coefficient=-2.0)


def test_a_matrix_solver_has_no_update_and_no_grid_preconditioner():
    solver = PoissonSolver(unstructured(20))
    with pytest.raises(TypeError, match="needs a solver of a PoissonOperator"):
        solver.update(coefficient=1.0)
    with pytest.raises(TypeError, match="needs a solver of a PoissonOperator"):
        solver.as_preconditioner()


def test_result_says_what_happened():
    A = gallery.sphere((13, 12, 11))
    result = solve(A, gallery.white_noise(A, 1), method="multigrid")
    assert result.method == "multigrid"
    assert result.device == "cpu"
    assert result.setup_seconds > 0
    assert result.solve_seconds > 0
    assert "multigrid" in str(result)
    assert result.status.value in str(result)


@pytest.mark.parametrize("boundary", [N, D])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1e12, 1e20, 1e160, 1e300])
def test_a_start_that_is_far_off_costs_time_not_correctness(size, method, boundary):
    A = with_obstacles((21, 26), 2, boundary=boundary)
    b = A.apply(np.random.default_rng(0).standard_normal(A.grid_shape))
    result = solve(A, b, x0=size * np.random.default_rng(1).standard_normal(A.grid_shape), method=method)
    assert result.converged
    assert true_residual(A, b, result.x) <= 1e-6


def test_residuals_that_rise_for_long_before_they_fall_are_no_stagnation():
    rng = np.random.default_rng(3)
    cells = rng.choice([0, 1, 2], (40, 39), p=[0.13, 0.77, 0.1]).astype(np.uint8)
    beta = 10.0 ** rng.uniform(-2.3, 2.3, (40, 39))
    A = PoissonOperator(cells, boundary=D, spacing=(0.03, 19.0), coefficient=beta)
    b = rng.standard_normal(A.grid_shape)
    result = solve(A, b, rtol=0.03, method="multigrid")
    assert result.converged
    assert result.iterations > 200
    assert true_residual(A, b, result.x) <= 0.03


@pytest.mark.parametrize("boundary", [N, D])
def test_conjugate_gradients_keep_what_they_had_when_asked_for_the_impossible(boundary):
    A = with_obstacles((21, 26), 2, boundary=boundary)
    b = A.apply(np.random.default_rng(0).standard_normal(A.grid_shape))
    x, status, norms = conjugate_gradient(A, b, rtol=0.0, atol=1e-300)
    assert status in (SolveStatus.STAGNATED, SolveStatus.MAXITER)
    assert norms[-1] == pytest.approx(np.linalg.norm(b - A.apply(x)))
    assert norms[-1] < 1e-14 * norms[0]
    assert solve(A, b, rtol=0.0, atol=1e-300, method="cg").status is SolveStatus.ATTAINABLE_ACCURACY


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


def test_no_right_hand_side_at_all():
    result = solve(A_SMALL, np.zeros((0, 6, 7)))
    assert result.x.shape == (0, 6, 7)
    assert str(result).startswith(": 0 of 0 systems converged")


def test_the_norm_of_a_thin_grid_between_given_values_is_no_underestimate():
    A = PoissonOperator(np.ones((1, 9, 7), bool), boundary=D, spacing=(0.1, 1.0, 1.0))
    b = np.random.default_rng(0).standard_normal(A.grid_shape)
    largest = scipy.sparse.linalg.eigsh(A.to_sparse(), 1, return_eigenvectors=False)[0]
    x0 = solve(A, b).x
    result = solve(A, b, x0=x0, maxiter=0, rtol=0.0)
    scale = largest * np.linalg.norm(x0) + np.linalg.norm(b)
    assert result.backward_error <= np.linalg.norm(b - A.apply(x0)) / scale * (1 + 1e-9)
