"""The box of the unknowns: the system on it is the grid's, and answers come back where they belong."""

import numpy as np
import pytest

from deconjugate.solver import Cell, PoissonOperator, PoissonSolver, solve
from deconjugate.solver.crop import Crop

SIDES = ("periodic", ("neumann", "dirichlet"), ("dirichlet", "neumann"), "neumann")


def random_operator(seed):
    """Unknowns in a part of a grid with walls and given values around, any boundary, any kind of coefficient."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(7, 23, rng.integers(2, 4)))
    cells = np.zeros(shape, np.uint8)
    if rng.random() < 0.5:
        cells[rng.random(shape) < 0.3] = Cell.DIRICHLET
    low = [rng.integers(0, n // 2) for n in shape]
    box = tuple(slice(start, rng.integers(start + 1, n + 1)) for start, n in zip(low, shape))
    cells[box][rng.random(cells[box].shape) < 0.8] = Cell.INTERIOR
    cells[tuple(low)] = Cell.INTERIOR
    boundary = [SIDES[rng.integers(4)] for _ in shape]
    faces = [rng.uniform(0.5, 3.0, [n + (a == b) for b, n in enumerate(shape)]) for a in range(len(shape))]
    for axis, face in enumerate(faces):
        if boundary[axis] == "periodic":
            np.moveaxis(face, axis, 0)[-1] = np.moveaxis(face, axis, 0)[0]
    coefficient = (None, 2.5, rng.uniform(0.5, 3.0, shape), faces)[seed % 4]
    return PoissonOperator(
        cells, spacing=tuple(rng.uniform(0.5, 2.0, len(shape))), boundary=boundary, coefficient=coefficient
    ), rng


def box_in(shape, start, size):
    cells = np.zeros(shape, np.uint8)
    cells[tuple(slice(a, a + n) for a, n in zip(start, size))] = Cell.INTERIOR
    return cells


@pytest.mark.parametrize("seed", range(40))
def test_the_system_is_the_same(seed):
    operator, _ = random_operator(seed)
    crop = Crop(operator)
    assert np.array_equal(crop.inside(operator.cells), crop.operator.cells)
    assert crop.operator.unknowns.sum() == operator.unknowns.sum()
    difference = operator.to_sparse() - crop.operator.to_sparse()
    assert abs(difference).max() == 0


@pytest.mark.parametrize("seed", range(40, 60))
@pytest.mark.parametrize("method", ["auto", "multigrid", "learned", "dct", "cg"])
def test_solves_as_the_whole_grid(seed, method):
    operator, rng = random_operator(seed)
    matrix = operator.to_sparse()
    b = matrix @ rng.standard_normal(matrix.shape[0])
    full = np.full(operator.grid_shape, np.nan)  # what is not an unknown is no part of the system
    full[operator.unknowns] = b
    result = solve(operator, full, method=method, rtol=1e-9)
    assert result.converged
    assert result.x.shape == operator.grid_shape
    assert not result.x[~operator.unknowns].any()
    assert np.linalg.norm(matrix @ result.x[operator.unknowns] - b) <= 1.01e-9 * np.linalg.norm(b)
    # The box has the same answer as the grid: zero mean on every component without given values.
    exact = np.linalg.pinv(matrix.toarray(), hermitian=True) @ b
    np.testing.assert_allclose(result.x[operator.unknowns], exact, atol=1e-6 * abs(exact).max(initial=1e-3))


def test_what_is_cut():
    inner = PoissonOperator(box_in((40, 30), (5, 9), (12, 8)), boundary="dirichlet")
    assert Crop(inner).box == (slice(5, 17), slice(9, 17))
    assert Crop(inner).operator.boundary == (("neumann", "neumann"),) * 2
    # Up to the grid's side, whose boundary stays.
    side = Crop(PoissonOperator(box_in((40, 30), (0, 9), (12, 21)), boundary="dirichlet"))
    assert side.box == (slice(0, 12), slice(9, 30))
    assert side.operator.boundary == (("dirichlet", "neumann"), ("neumann", "dirichlet"))
    # Given values beside the unknowns are kept, others are not.
    cells = box_in((40, 30), (5, 9), (12, 8))
    cells[17, 11] = cells[30, 11] = Cell.DIRICHLET
    assert Crop(PoissonOperator(cells)).box == (slice(5, 18), slice(9, 17))


def test_periodic_axes_are_cut_only_where_nothing_touches_their_ends():
    inner = Crop(PoissonOperator(box_in((40, 30), (5, 9), (12, 8)), boundary="periodic"))
    assert inner.operator.grid_shape == (12, 8)
    assert inner.operator.boundary == (("neumann", "neumann"),) * 2
    touching = Crop(PoissonOperator(box_in((40, 30), (0, 9), (12, 8)), boundary="periodic"))
    assert touching.box == (slice(0, 40), slice(9, 17))
    assert touching.operator.boundary == (("periodic", "periodic"), ("neumann", "neumann"))
    # A given value in the first layer ends the cut there; the wrap is closed all the same.
    cells = box_in((40, 30), (1, 9), (12, 8))
    cells[0, 10] = Cell.DIRICHLET
    assert Crop(PoissonOperator(cells, boundary="periodic")).operator.boundary[0] == ("neumann", "neumann")


def test_nothing_is_copied_where_little_would_be_saved():
    operator = PoissonOperator(box_in((40, 30), (1, 1), (38, 28)))
    crop = Crop(operator)
    assert crop.whole
    assert crop.operator is operator
    x = np.zeros((2, 40, 30))
    assert crop.embed(x) is x


def test_forms_batches_starts_and_callbacks_are_the_grids():
    operator, rng = random_operator(1)
    assert not Crop(operator).whole
    inside = operator.unknowns
    matrix = operator.to_sparse()
    b = np.zeros((2, 3, *operator.grid_shape))
    b[..., inside] = (matrix @ rng.standard_normal((matrix.shape[0], 6))).T.reshape(2, 3, -1)
    solver = PoissonSolver(operator, method="multigrid")
    seen = []
    result = solver.solve(b, callback=seen.append)
    assert result.x.shape == b.shape
    assert result.converged.all()
    assert all(x.shape == operator.grid_shape for x in seen)
    flat = solver.solve(b.reshape(2, 3, -1))
    np.testing.assert_array_equal(flat.x.reshape(b.shape), result.x)
    short = solver.solve(b[..., inside])
    np.testing.assert_array_equal(short.x, result.x[..., inside])
    again = solver.solve(b, x0=result.x)
    assert not again.iterations.any()


def test_update_finds_the_new_box():
    solver = PoissonSolver(PoissonOperator(box_in((40, 30), (5, 9), (12, 8)), boundary="dirichlet"))
    cells = box_in((40, 30), (20, 2), (9, 25))
    solver.update(cells=cells)
    b = np.zeros((40, 30))
    b[22, 4], b[25, 20] = 1.0, -1.0
    result = solver.solve(b)
    expected = solve(PoissonOperator(cells[20:29, 2:27]), b[20:29, 2:27])
    assert solver.operator.grid_shape == (40, 30)
    assert result.converged
    np.testing.assert_allclose(result.x[20:29, 2:27], expected.x, atol=1e-12)


def test_preconditioner_of_a_cut_grid():
    from scipy.sparse.linalg import cg

    operator, rng = random_operator(1)
    matrix = operator.to_sparse()
    b = matrix @ rng.standard_normal(matrix.shape[0])
    x, info = cg(matrix, b, M=PoissonSolver(operator).as_preconditioner(), rtol=1e-8, maxiter=60)
    assert info == 0
    assert np.linalg.norm(matrix @ x - b) <= 1e-7 * np.linalg.norm(b)


def test_gradients_on_a_cut_grid():
    torch = pytest.importorskip("torch")
    operator = PoissonOperator(box_in((17, 19), (4, 5), (6, 7)))
    assert not Crop(operator).whole
    rng = np.random.default_rng(4)
    b = torch.tensor(rng.standard_normal((17, 19)), requires_grad=True)
    weight = torch.tensor(rng.standard_normal((17, 19)))
    inside = operator.unknowns
    mean = torch.zeros(17, 19, dtype=torch.float64)
    mean[torch.as_tensor(inside)] = b.detach()[torch.as_tensor(inside)].mean()
    (solve(operator, b - mean, rtol=1e-11).x * weight).sum().backward()
    inverse = np.linalg.pinv(operator.to_sparse().toarray(), hermitian=True)
    np.testing.assert_allclose(b.grad.numpy()[inside], inverse @ weight.numpy()[inside], atol=1e-8)
    assert not b.grad.numpy()[~inside].any()


def test_raises_without_unknowns():
    with pytest.raises(ValueError, match="no unknowns"):
        Crop(PoissonOperator(np.zeros((5, 4), bool)))
