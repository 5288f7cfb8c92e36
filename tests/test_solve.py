"""Solutions of Poisson problems: right, certified, and honest where they cannot be had."""

import itertools

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from poisson_checks import METHODS, D, N, P, direct, true_residual, with_obstacles

from deconjugate.solver import (
    PoissonOperator,
    SolveStatus,
    gallery,
    solve,
)

PAIRS = [(N, N), (D, D), (P, P), (N, D), (D, N)]


SHAPES = [(37, 31), (19, 16, 21)]


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


def test_the_norm_of_a_thin_grid_between_given_values_is_no_underestimate():
    A = PoissonOperator(np.ones((1, 9, 7), bool), boundary=D, spacing=(0.1, 1.0, 1.0))
    b = np.random.default_rng(0).standard_normal(A.grid_shape)
    largest = scipy.sparse.linalg.eigsh(A.to_sparse(), 1, return_eigenvectors=False)[0]
    x0 = solve(A, b).x
    result = solve(A, b, x0=x0, maxiter=0, rtol=0.0)
    scale = largest * np.linalg.norm(x0) + np.linalg.norm(b)
    assert result.backward_error <= np.linalg.norm(b - A.apply(x0)) / scale * (1 + 1e-9)
