"""The Poisson operator against a matrix assembled cell by cell, and against manufactured solutions."""

from itertools import product

import numpy as np
import pytest
import scipy.sparse.csgraph
import scipy.sparse.linalg

from deconjugate.operators import Cell, PoissonOperator, dot_test
from deconjugate.operators import _poisson_numba as kernels

PAIRS = [("periodic", "periodic"), *product(("neumann", "dirichlet"), repeat=2)]


def assemble(cells, spacing, boundary, beta, given, outer, flux):
    """(A, b) with a row for every cell: the definition, one face of one cell at a time.

    beta(cell, axis, side, neighbour) is the coefficient of a face, the neighbour None outside the grid.
    """
    index = np.arange(cells.size).reshape(cells.shape)
    A, b = np.zeros((cells.size, cells.size)), np.zeros(cells.size)
    for cell in zip(*np.nonzero(cells == Cell.INTERIOR)):
        row = index[cell]
        for axis, side in product(range(cells.ndim), (0, 1)):
            neighbour = list(cell)
            neighbour[axis] += 2 * side - 1
            kind = boundary[axis][side]
            if not 0 <= neighbour[axis] < cells.shape[axis]:
                if kind == "periodic":
                    neighbour[axis] %= cells.shape[axis]
                    if cells.shape[axis] == 1:
                        continue
                else:
                    along = tuple(c for a, c in enumerate(cell) if a != axis)
                    if kind == "dirichlet":
                        t = beta(cell, axis, side, None) / spacing[axis] ** 2
                        A[row, row] += t
                        b[row] += t * outer[axis, side][along]
                    else:
                        b[row] += flux[axis, side][along] / spacing[axis]
                    continue
            neighbour = tuple(neighbour)
            t = beta(cell, axis, side, neighbour) / spacing[axis] ** 2
            if cells[neighbour] == Cell.INTERIOR:
                A[row, row] += t
                A[row, index[neighbour]] -= t
            elif cells[neighbour] == Cell.DIRICHLET:
                A[row, row] += t
                b[row] += t * given[neighbour]
    return A, b


def harmonic(coefficient):
    def beta(cell, axis, side, neighbour):
        here = coefficient[cell]
        there = here if neighbour is None else coefficient[neighbour]
        return 2.0 / (1.0 / here + 1.0 / there)

    return beta


def on_faces(faces):
    def beta(cell, axis, side, neighbour):
        face = list(cell)
        face[axis] += side
        return faces[axis][tuple(face)]

    return beta


def random_problem(seed):
    """Any shape, cells, boundary, spacing, coefficient and boundary data; (arguments, A, b, arguments of rhs)."""
    rng = np.random.default_rng(seed)
    ndim = 2 + seed % 2
    shape = tuple(rng.integers(1, 8 if ndim == 2 else 6, ndim))
    cells = rng.choice(np.array([0, 1, 1, 1, 1, 2], np.uint8), shape)
    boundary = [PAIRS[k] for k in rng.integers(len(PAIRS), size=ndim)]
    spacing = tuple(rng.uniform(0.3, 2.0, ndim))
    kind = ("none", "number", "cells", "faces")[seed // 2 % 4]
    if kind == "none":
        coefficient, beta = None, lambda *_: 1.0
    elif kind == "number":
        coefficient, beta = 2.7, lambda *_: 2.7
    elif kind == "cells":
        coefficient = np.exp(rng.standard_normal(shape))
        beta = harmonic(coefficient)
    else:
        coefficient = []
        for axis in range(ndim):
            faces = rng.uniform(0.1, 3.0, [n + (a == axis) for a, n in enumerate(shape)])
            faces[rng.random(faces.shape) < 0.1] = 0.0
            if boundary[axis][0] == "periodic":
                faces = np.moveaxis(faces, axis, 0)
                faces[-1] = faces[0]
                faces = np.moveaxis(faces, 0, axis)
            coefficient.append(faces)
        beta = on_faces(coefficient)
    sides = {(a, s): shape[:a] + shape[a + 1 :] for a in range(ndim) for s in (0, 1)}
    given = rng.standard_normal(shape)
    outer = {key: rng.standard_normal(side) for key, side in sides.items()}
    flux = {key: rng.standard_normal(side) for key, side in sides.items()}
    if kind == "faces":  # nothing flows through a closed outer face
        for axis, side in sides:
            flux[axis, side] = np.where(np.take(coefficient[axis], -side, axis) == 0, 0.0, flux[axis, side])
    A, b = assemble(cells, spacing, boundary, beta, given, outer, flux)
    source = rng.standard_normal(shape)
    b += np.where(cells == Cell.INTERIOR, source, 0.0).ravel()
    arguments = {"cells": cells, "spacing": spacing, "boundary": boundary, "coefficient": coefficient}
    return arguments, A, b, (source, {"cells": given, **outer}, flux)


SEEDS = range(80)


@pytest.mark.parametrize("seed", SEEDS)
def test_apply_and_matrix_equal_the_assembled_one(seed):
    arguments, expected, _, _ = random_problem(seed)
    operator = PoissonOperator(**arguments)
    unknowns = operator.unknowns.ravel()
    atol = 1e-12 * max(1.0, np.abs(expected).max())
    full = operator.to_sparse(compress=False)
    np.testing.assert_allclose(full.toarray(), expected, rtol=0, atol=atol)
    np.testing.assert_allclose(operator.to_sparse().toarray(), expected[unknowns][:, unknowns], rtol=0, atol=atol)
    basis = np.eye(unknowns.size)[unknowns].reshape(-1, *operator.grid_shape)
    columns = operator.apply(basis).reshape(-1, unknowns.size)
    np.testing.assert_allclose(columns, expected[unknowns], rtol=0, atol=atol)
    single = operator.apply(basis.astype(np.float32)).reshape(-1, unknowns.size)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected[unknowns], rtol=0, atol=1e6 * atol)


@pytest.mark.parametrize("seed", SEEDS)
def test_rhs_equals_the_assembled_one(seed):
    arguments, _, expected, (source, dirichlet, flux) = random_problem(seed)
    b = PoissonOperator(**arguments).rhs(source, dirichlet=dirichlet, flux=flux)
    np.testing.assert_allclose(b.ravel(), expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("seed", SEEDS)
def test_components_and_null_space_are_those_of_the_matrix(seed):
    arguments, expected, _, _ = random_problem(seed)
    operator = PoissonOperator(**arguments)
    unknowns = operator.unknowns
    A = expected[unknowns.ravel()][:, unknowns.ravel()]
    count, label = scipy.sparse.csgraph.connected_components(A != 0, directed=False)
    labels = operator.components
    assert (labels[~unknowns] == 0).all()
    assert operator.n_components == count
    pairs = set(zip(label.tolist(), labels[unknowns].tolist()))
    assert len(pairs) == count
    assert sorted(ours for _, ours in pairs) == list(range(1, count + 1))
    scale = np.abs(A).max(initial=1.0)
    singular = {ours for theirs, ours in pairs if np.abs(A[label == theirs].sum(axis=1)).max() < 1e-12 * scale}
    assert set(operator.null_space) == singular
    for k in operator.null_space:
        np.testing.assert_allclose(operator.apply((labels == k).astype(float)), 0.0, atol=1e-12 * scale)


def test_a_closed_face_parts_components():
    faces = [np.ones((5, 6)), np.ones((4, 7))]
    faces[1][:, 3] = 0.0
    operator = PoissonOperator(np.ones((4, 6), bool), coefficient=faces)
    assert operator.n_components == 2
    assert operator.null_space == (1, 2)
    np.testing.assert_array_equal(operator.components, np.repeat([[1, 1, 1, 2, 2, 2]], 4, axis=0))


@pytest.mark.parametrize("seed", range(0, 80, 5))
def test_symmetric_positive(seed):
    arguments, _, _, _ = random_problem(seed)
    A = PoissonOperator(**arguments).to_sparse().toarray()
    np.testing.assert_array_equal(A, A.T)
    if A.size:
        assert np.linalg.eigvalsh(A).min() > -1e-12 * max(1.0, np.abs(A).max())


@pytest.mark.parametrize("pairs", list(product(PAIRS, repeat=2)), ids=str)
def test_every_pair_of_outer_boundaries(pairs):
    shape, spacing = (6, 5), (0.7, 1.3)
    cells = np.ones(shape, np.uint8)
    zero = {(a, s): np.zeros(shape[1 - a]) for a in (0, 1) for s in (0, 1)}
    expected, _ = assemble(cells, spacing, pairs, lambda *_: 1.0, np.zeros(shape), zero, zero)
    operator = PoissonOperator(cells, spacing=spacing, boundary=pairs)
    np.testing.assert_allclose(operator.to_sparse().toarray(), expected, atol=1e-13)
    u = np.random.default_rng(1).standard_normal(shape)
    np.testing.assert_allclose(operator.apply(u).ravel(), expected @ u.ravel(), atol=1e-12)
    assert dot_test(operator)
    assert len(operator.null_space) == (not any("dirichlet" in pair for pair in pairs))


def test_long_rows_and_many_chunks():
    rng = np.random.default_rng(2)
    cells = rng.choice(np.array([0, 1, 1, 1, 2], np.uint8), (23, 19, 67))
    for coefficient in (None, np.exp(rng.standard_normal(cells.shape))):
        operator = PoissonOperator(cells, coefficient=coefficient, boundary=["periodic", "dirichlet", "neumann"])
        u = np.where(operator.unknowns, rng.standard_normal((2, *cells.shape)), 0.0)
        expected = np.stack([(operator.to_sparse(compress=False) @ v.ravel()).reshape(cells.shape) for v in u])
        np.testing.assert_allclose(operator.apply(u), expected, rtol=0, atol=1e-11)
        np.testing.assert_allclose(operator.matvec(u[0].ravel()), expected[0].ravel(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(1, 1, 700), (3, 1, 301), (1, 4, 130), (5, 3, 1), (4, 5, 130)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_walls_hold_is_ignored_on_rows_of_any_length(shape, dtype):
    rng = np.random.default_rng(4)
    cells = rng.choice(np.array([0, 1, 1, 1, 1], np.uint8), shape)
    cells.flat[[0, -1]] = 1
    u = np.where(cells == Cell.INTERIOR, rng.standard_normal(shape), 0.0).astype(dtype)
    spoilt = np.where(cells == Cell.INTERIOR, u, rng.choice([np.nan, np.inf, 1e30], shape)).astype(dtype)
    for boundary in list(product(PAIRS, repeat=3))[::7]:
        operator = PoissonOperator(cells, spacing=(0.7, 1.3, 0.9), boundary=boundary)
        expected = (operator.to_sparse(compress=False) @ u.ravel().astype(np.float64)).reshape(shape)
        rtol = 16 * np.finfo(dtype).eps
        np.testing.assert_allclose(operator.apply(spoilt), expected, rtol=0, atol=rtol * np.abs(expected).max())


def test_a_mask_means_interior_and_wall():
    mask = np.random.default_rng(3).random((9, 7)) < 0.7
    by_kind = PoissonOperator(np.where(mask, Cell.INTERIOR, Cell.WALL))
    by_mask = PoissonOperator(mask)
    np.testing.assert_array_equal(by_mask.cells, by_kind.cells)
    assert (by_mask.to_sparse() != by_kind.to_sparse()).nnz == 0
    np.testing.assert_array_equal(by_mask.unknowns, mask)


def test_single_precision_error_is_that_of_the_gradient():
    # On a large constant with a small slope, differences formed before weighting lose nothing but the data's rounding.
    u = 1000.0 + np.linspace(0.0, 1.0, 65)[:, None] * np.ones(40)
    u = u.astype(np.float32)
    operator = PoissonOperator(np.ones(u.shape, bool), spacing=1 / 64)
    exact = operator.apply(u.astype(np.float64))
    np.testing.assert_allclose(operator.apply(u), exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_boundary_data_forms_agree():
    cells = np.ones((4, 5), np.uint8)
    cells[2, 2] = Cell.DIRICHLET
    operator = PoissonOperator(cells, boundary=[("dirichlet", "neumann"), ("neumann", "dirichlet")])
    everywhere = {"cells": 3.0, (0, "low"): 3.0, (1, 1): 3.0}
    np.testing.assert_array_equal(operator.rhs(dirichlet=3.0), operator.rhs(dirichlet=everywhere))
    np.testing.assert_array_equal(operator.rhs(dirichlet=3.0), operator.rhs(dirichlet=np.full((4, 5), 3.0)))
    np.testing.assert_array_equal(operator.rhs(flux=2.0), operator.rhs(flux={(0, "high"): 2.0, (1, 0): 2.0}))
    values = np.random.default_rng(4).standard_normal((4, 5))
    by_side = {"cells": values, (0, 0): values[0], (1, 1): values[:, -1]}
    np.testing.assert_array_equal(operator.rhs(dirichlet=values), operator.rhs(dirichlet=by_side))
    assert operator.rhs(dirichlet=3.0)[2, 2] == 0.0
    assert operator.rhs(5.0)[0, 0] == 5.0


def test_constant_given_values_are_solved_by_the_constant():
    rng = np.random.default_rng(5)
    cells = rng.choice(np.array([0, 1, 1, 1, 1, 2], np.uint8), (11, 13))
    operator = PoissonOperator(cells, coefficient=np.exp(rng.standard_normal(cells.shape)), boundary="dirichlet")
    u = np.where(operator.unknowns, 4.0, 0.0)
    np.testing.assert_allclose(operator.apply(u), operator.rhs(dirichlet=4.0), atol=1e-11)


def field(points, order):
    """u or its derivatives along one axis for u = product over axes of sin(a x + c) + 1.5."""
    values = np.ones(points[0].shape)
    for axis, (x, a, c) in enumerate(zip(points, (2.1, 1.7, 2.6), (0.3, 1.1, 0.7))):
        derivative = order[axis]
        trig = (np.sin(a * x + c) + 1.5, a * np.cos(a * x + c), -(a**2) * np.sin(a * x + c))
        values = values * trig[derivative]
    return values


def coefficient_field(points, order):
    values = np.ones(points[0].shape)
    for axis, x in enumerate(points):
        values = values * (np.exp(0.6 * x), 0.6 * np.exp(0.6 * x))[order[axis]]
    return values


def manufactured_error(n, boundary, variable):
    """Largest error of the discrete solution on the unit box; n, 5 n / 4 and 6 n / 4 cells along the axes."""
    ndim = len(boundary)
    unit = np.eye(ndim, dtype=int)
    none = np.zeros(ndim, int)
    sizes = [n * (4 + axis) // 4 for axis in range(ndim)]
    # A Dirichlet side lies one spacing from the last centre, a Neumann side half a spacing.
    offsets = [[1.0 if side == "dirichlet" else 0.5 for side in pair] for pair in boundary]
    spacing = [1.0 / (m - 1 + low + high) for m, (low, high) in zip(sizes, offsets)]
    axes = [(np.arange(m) + low) * h for m, (low, _), h in zip(sizes, offsets, spacing)]
    points = np.meshgrid(*axes, indexing="ij")
    beta = (
        (lambda p, o: coefficient_field(p, o)) if variable else (lambda p, o: float(not any(o)) * np.ones(p[0].shape))
    )
    source = -sum(beta(points, none) * field(points, 2 * e) + beta(points, e) * field(points, e) for e in unit)
    dirichlet, flux = {}, {}
    for axis, side in product(range(ndim), (0, 1)):
        here = [np.take(p, 0, axis) for p in points]
        here[axis] = np.full_like(here[axis], float(side))
        if boundary[axis][side] == "dirichlet":
            dirichlet[axis, side] = field(here, none)
        else:
            flux[axis, side] = (2 * side - 1) * beta(here, none) * field(here, unit[axis])
    coefficient = beta(points, none) if variable else None
    operator = PoissonOperator(np.ones(sizes, bool), spacing=spacing, boundary=boundary, coefficient=coefficient)
    b = operator.rhs(source, dirichlet=dirichlet, flux=flux)
    exact = field(points, none)
    A = operator.to_sparse().tocsc()
    if operator.null_space:
        # Fix one value; the sources balance to second order only, so what is left over is spread first.
        b = b - b.mean()
        u = np.zeros(A.shape[0])
        u[1:] = scipy.sparse.linalg.spsolve(A[1:, 1:], b.ravel()[1:])
        u += exact.mean() - u.mean()
    else:
        u = scipy.sparse.linalg.spsolve(A, b.ravel())
    return np.abs(u.reshape(exact.shape) - exact).max()


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("pairs", list(product(PAIRS[1:], repeat=2)), ids=str)
def test_second_order_in_two_dimensions(pairs, variable):
    coarse, fine = (manufactured_error(n, pairs, variable) for n in (20, 40))
    assert fine < coarse / 3.3
    assert fine < 2e-3


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("kind", PAIRS[1:], ids=str)
def test_second_order_in_three_dimensions(kind, variable):
    pairs = [kind, ("dirichlet", "neumann"), kind[::-1]]
    coarse, fine = (manufactured_error(n, pairs, variable) for n in (8, 16))
    assert fine < coarse / 2.8  # the ratio of the spacings squared is 3.6, the next pair of grids gives 3.3


def test_second_order_on_a_periodic_axis():
    errors = []
    for n in (16, 32):
        h = (1.0 / n, 1.0 / (n + 1))
        x, y = np.arange(n)[:, None] * h[0], (np.arange(n) + 1) * h[1]
        exact = np.sin(2 * np.pi * x) * np.sin(np.pi * y)
        operator = PoissonOperator(np.ones((n, n), bool), spacing=h, boundary=["periodic", "dirichlet"])
        b = operator.rhs(5 * np.pi**2 * exact)
        u = scipy.sparse.linalg.spsolve(operator.to_sparse().tocsc(), b.ravel())
        errors.append(np.abs(u - exact.ravel()).max())
    assert errors[1] < errors[0] / 3.5


CELLS = np.ones((4, 5), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cells": np.ones(5, bool)}, ValueError, "cells has 1 axes"),
        ({"cells": np.ones((0, 5), bool)}, ValueError, "cells is empty"),
        ({"cells": np.ones((4, 5))}, TypeError, "cells has dtype float64"),
        ({"cells": np.full((4, 5), 3)}, ValueError, "cells holds values from 3 to 3"),
        ({"cells": np.full((4, 5), -1)}, ValueError, "cells holds values from -1"),
        ({"spacing": (1.0, 2.0, 3.0)}, ValueError, "spacing has shape"),
        ({"spacing": 0.0}, ValueError, "spacing is 0.0; it must be positive"),
        ({"spacing": (1.0, np.nan)}, ValueError, "it must be positive and finite"),
        ({"boundary": "open"}, ValueError, "boundary of axis 0 is 'open'; choose from"),
        ({"boundary": ["neumann"] * 3}, ValueError, "boundary has 3 entries"),
        ({"boundary": ["neumann", ("periodic", "neumann")]}, ValueError, "both sides are periodic or neither"),
        ({"coefficient": -1.0}, ValueError, "coefficient has 1 entries that are negative"),
        ({"coefficient": 0.0}, ValueError, "beta must be positive"),
        ({"coefficient": np.full((4, 5), np.inf)}, ValueError, "coefficient has 20 entries"),
        ({"coefficient": np.ones((5, 4))}, ValueError, "coefficient has shape"),
        ({"coefficient": [np.ones((5, 5))]}, ValueError, "coefficient has 1 face arrays"),
        ({"coefficient": [np.ones((5, 5)), np.ones((4, 5))]}, ValueError, "its faces have shape"),
        ({"coefficient": [np.ones((5, 5)), -np.ones((4, 6))]}, ValueError, "coefficient of axis 1 has negative"),
        (
            {"coefficient": [np.arange(25.0).reshape(5, 5), np.ones((4, 6))], "boundary": "periodic"},
            ValueError,
            "a periodic axis has one outer face",
        ),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        PoissonOperator(**({"cells": CELLS} | arguments))


def test_rhs_refuses():
    operator = PoissonOperator(CELLS, boundary="dirichlet")
    with pytest.raises(ValueError, match="dirichlet has key"):
        operator.rhs(dirichlet={(2, 0): 1.0})
    with pytest.raises(ValueError, match="dirichlet has shape"):
        operator.rhs(dirichlet=np.ones(4))
    with pytest.raises(ValueError, match="flux has entries that are not finite"):
        operator.rhs(flux=np.nan)


@pytest.mark.parametrize("boundary", ["neumann", "dirichlet", "periodic"])
@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 4), (1, 6, 3), (4, 1)])
def test_positive_coefficients_leave_the_code_of_the_cells(shape, boundary):
    rng = np.random.default_rng(8)
    cells = rng.choice([0, 1, 2], shape, p=[0.2, 0.7, 0.1]).astype(np.uint8)
    A = PoissonOperator(cells, coefficient=rng.uniform(0.1, 9, shape), boundary=boundary)
    assert np.array_equal(A._code, kernels.code_of_faces(A._code, A._sides, *A._faces))


def test_harmonic_means_too_small_for_a_number_close_their_faces():
    A = PoissonOperator(np.ones((3, 4), bool), coefficient=np.full((3, 4), 1e-300))
    assert A.n_components == 12


@pytest.mark.parametrize("coefficient", [None, "cells"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_stands_outside_the_unknowns_is_ignored_though_it_be_no_number(coefficient, dtype, value):
    rng = np.random.default_rng(4)
    cells = rng.random((9, 14)) < 0.7
    beta = None if coefficient is None else np.exp(rng.standard_normal(cells.shape))
    A = PoissonOperator(cells, coefficient=beta, boundary=["periodic", "dirichlet"])
    u = rng.standard_normal((2, 9, 14)).astype(dtype)
    np.testing.assert_array_equal(A.apply(np.where(cells, u, dtype(value))), A.apply(np.where(cells, u, 0)))
    u[0][cells] = np.nan
    assert np.isnan(A.apply(u)[0]).any()
