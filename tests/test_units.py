"""Systems whose numbers cannot be squared in double precision, or rounded to single, are solved as all others are."""

import numpy as np
import pytest
import scipy.sparse

from deconjugate.solver import PoissonOperator, PoissonSolver, SolveStatus, solve

METHODS = ["auto", "multigrid", "dct", "cg"]
CELLS = np.ones((23, 17), bool)
CELLS[4:9, 3:7] = False


def problem(boundary="dirichlet", spacing=1.0, coefficient=None, unit=1.0, seed=1):
    A = PoissonOperator(CELLS, boundary=boundary, spacing=spacing, coefficient=coefficient)
    plain = PoissonOperator(CELLS, boundary=boundary)
    return A, plain.apply(np.random.default_rng(seed).standard_normal(CELLS.shape)) * unit


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann"])
@pytest.mark.parametrize("power", [-900, -560, -520, 520, 560, 900])
@pytest.mark.parametrize("method", METHODS)
def test_right_hand_sides_of_any_size(method, power, boundary):
    A, b = problem(boundary)
    usual, scaled = solve(A, b, method=method), solve(A, b * 2.0**power, method=method)
    assert scaled.converged
    assert np.array_equal(np.ldexp(scaled.x, -power), usual.x)
    assert scaled.relative_residual == usual.relative_residual
    assert scaled.backward_error == usual.backward_error
    assert np.array_equal(np.ldexp(scaled.residual_norms, -power), usual.residual_norms)


@pytest.mark.parametrize("ending", ["uniform", "cells"])
@pytest.mark.parametrize("spacing", [2.0**-300, 2.0**-66, 2.0**66, 2.0**300])
@pytest.mark.parametrize("method", METHODS)
def test_operators_in_any_unit_of_length(method, spacing, ending):
    beta = None if ending == "uniform" else np.exp(np.random.default_rng(3).standard_normal(CELLS.shape))
    usual = solve(problem(coefficient=beta)[0], problem()[1], method=method)
    A, b = problem(spacing=spacing, coefficient=beta)
    found = solve(A, b, method=method)
    assert found.converged
    assert np.array_equal(found.x / spacing**2, usual.x)
    assert found.backward_error == pytest.approx(usual.backward_error)
    cycles = [PoissonSolver(one, method=method).as_preconditioner() for one in (A, problem(coefficient=beta)[0])]
    first, second = (M @ b[CELLS] for M in cycles)
    assert np.allclose(first / spacing**2, second, rtol=1e-5, atol=0)


def test_start_tolerance_callback_and_what_was_removed_are_in_the_units_of_the_caller():
    A, b = problem("neumann", spacing=2.0**70)
    b[CELLS] += 0.25 * np.abs(b).max()
    unit = 2.0**-700
    seen, plain_seen = [], []
    usual = solve(A, b, callback=plain_seen.append)
    found = solve(A, b * unit, callback=seen.append)
    assert found.status is usual.status is SolveStatus.INCOMPATIBLE
    assert found.removed_norm / unit == pytest.approx(usual.removed_norm)
    assert np.array_equal(seen, np.array(plain_seen) * unit)
    A, b = problem(spacing=2.0**70)
    solution = solve(A, b * unit, rtol=1e-12).x
    assert solve(A, b * unit, x0=solution).iterations == 0
    loose = solve(A, b * unit, rtol=0, atol=0.1 * unit * np.linalg.norm(b))
    assert loose.converged
    assert 0 < loose.iterations < solve(A, b * unit, rtol=1e-8).iterations


@pytest.mark.parametrize("atol", [1e-300, 1e-170, 1e170, 1e300])
def test_tolerances_of_any_size(atol):
    A, b = problem("neumann")
    found = solve(A, b, rtol=0, atol=atol)
    assert found.converged == (atol > 1)
    assert found.status is (SolveStatus.CONVERGED if atol > 1 else SolveStatus.ATTAINABLE_ACCURACY)


def test_solutions_beyond_double_precision_are_no_solutions():
    A, b = problem(spacing=1e140)
    found = solve(A, b * 1e100)
    assert found.status is SolveStatus.NON_FINITE
    assert found.relative_residual == np.inf
    A, b = problem()
    found = solve(A, np.where(b > 0, 5e-324, 0.0))
    assert found.status is SolveStatus.ATTAINABLE_ACCURACY
    assert found.relative_residual > 0.1


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e170, 1e300])
@pytest.mark.parametrize("method", ["auto", "cg"])
def test_matrices(method, unit):
    matrix = scipy.sparse.diags([-1.0, 2.5, -1.0], [-1, 0, 1], shape=(31, 31)).tocsr()
    b = np.linspace(1.0, 2.0, 31)
    found = solve(matrix, b * unit, method=method)
    assert found.converged
    assert np.linalg.norm(b - matrix @ (found.x / unit)) <= 1e-6 * np.linalg.norm(b)


def test_couplings_beyond_double_precision_are_named():
    A = PoissonOperator(CELLS, spacing=1e-140, coefficient=1e100)
    with pytest.raises(ValueError, match=r"coefficient / spacing\^2 is too large"):
        solve(A, np.ones(CELLS.shape))
    with pytest.raises(ValueError, match=r"spacing is 1e-170; its square must fit"):
        PoissonOperator(CELLS, spacing=1e-170)
    with pytest.raises(ValueError, match=r"spacing is 1e\+170; its square must fit"):
        PoissonOperator(CELLS, spacing=1e170)
    with pytest.raises(ValueError, match=r"coefficient reaches 1e\+200; products of two"):
        PoissonOperator(CELLS, coefficient=np.full(CELLS.shape, 1e200))


@pytest.mark.parametrize("power", [-900, -520, 520, 900])
@pytest.mark.parametrize("method", METHODS)
def test_a_device_takes_each_right_hand_side_in_its_unit(method, power):
    pytest.importorskip("torch")
    A, b = problem()
    batch = np.stack([b, b * 2.0**power, 0 * b])
    found = solve(A, batch, method=method, device="torch:cpu")
    assert found.converged.all()
    assert np.array_equal(np.ldexp(found.x[1], -power), found.x[0])
    assert not found.x[2].any()


@pytest.mark.parametrize("spacing", [2.0**-300, 2.0**66])
def test_a_device_takes_operators_in_any_unit_of_length(spacing):
    pytest.importorskip("torch")
    usual = solve(*problem(), device="torch:cpu")
    A, b = problem(spacing=spacing)
    seen = []
    found = solve(A, b, device="torch:cpu", callback=lambda x: seen.append(x.copy()))
    assert found.converged
    assert np.array_equal(found.x / spacing**2, usual.x)
    assert np.array_equal(seen[-1], found.x)
    again = solve(A, b, device="torch:cpu", x0=found.x)
    assert again.iterations == 0
    far = solve(problem(spacing=1e140)[0], 1e100 * b, device="torch:cpu")
    assert far.status is SolveStatus.NON_FINITE
    several = [problem(spacing=spacing, coefficient=np.full(CELLS.shape, k))[0] for k in (1.0, 3.0)]
    first, second = (
        PoissonSolver(one[0], device="torch:cpu").as_preconditioner() @ b[CELLS] for one in ((A,), problem())
    )
    np.testing.assert_allclose(first / spacing**2, second, rtol=1e-5)
    both = solve(several, np.stack([b, b]), device="torch:cpu")
    assert both.converged.all()
    np.testing.assert_allclose(both.x[0], found.x, rtol=1e-4, atol=1e-5 * np.abs(found.x).max())
    with pytest.raises(ValueError, match="one by one"):
        solve([problem(spacing=1.0, coefficient=np.full(CELLS.shape, k))[0] for k in (1.0, 1e60)], np.stack([b, b]),
              device="torch:cpu")  # fmt: skip
