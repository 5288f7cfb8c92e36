import itertools

import numpy as np
import pytest
import scipy.sparse.linalg

from deconjugate.operators import PoissonOperator, dot_test
from deconjugate.solver import _box_transforms
from deconjugate.solver.fast_poisson import BoxPoisson

N, D, P = "neumann", "dirichlet", "periodic"
PAIRS = [(N, N), (D, D), (P, P), (N, D), (D, N)]


def project(b, singular, ndim):
    return b - b.mean(axis=tuple(range(-ndim, 0)), keepdims=True) if singular else b


@pytest.fixture(params=["matrices allowed", "transforms only"])
def method(request, monkeypatch):
    if request.param == "transforms only":
        monkeypatch.setattr(_box_transforms, "MATRIX_SIZE", 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 14), (7, 6, 10), (37, 5, 3), (1, 4, 2)])
def test_exact_for_every_boundary_pair(shape, dtype, method):
    rng = np.random.default_rng(11)
    for boundary in itertools.product(PAIRS, repeat=len(shape)):
        A = PoissonOperator(np.ones(shape, bool), spacing=rng.uniform(0.5, 2, len(shape)), boundary=boundary)
        box = BoxPoisson.of(A)
        b = project(rng.standard_normal((2, *shape)), box.singular, len(shape))
        u = box.solve(b.astype(dtype))
        assert u.dtype == dtype
        residual = np.linalg.norm(b - A.apply(u.astype(np.float64))) / np.linalg.norm(b)
        assert residual < 1000 * np.finfo(dtype).eps, boundary
        if box.singular:
            np.testing.assert_allclose(u.mean(axis=tuple(range(1, u.ndim))), 0, atol=1e-5 * abs(u).max())


@pytest.mark.parametrize("boundary", [(N, N), (D, D), (P, P), (N, D), (D, N)])
@pytest.mark.parametrize("n", [127, 128, 211, 513])
def test_long_axes_of_awkward_length(n, boundary):
    # 127, 211 are prime; 513 + 1 and 2 * 128 + 1 have large prime factors; both ways of transforming are met.
    rng = np.random.default_rng(5)
    A = PoissonOperator(np.ones((n, n), bool), boundary=boundary)
    box = BoxPoisson.of(A)
    b = project(rng.standard_normal((n, n)), box.singular, 2)
    u = box.solve(b)
    assert np.linalg.norm(b - A.apply(u)) < 1e-10 * np.linalg.norm(b)


def test_agrees_with_a_direct_solve():
    A = PoissonOperator(np.ones((8, 7, 5), bool), spacing=(1.0, 0.5, 2.0), coefficient=3.0, boundary=[(N, D), P, D])
    b = np.random.default_rng(2).standard_normal(A.grid_shape)
    expected = scipy.sparse.linalg.spsolve(A.to_sparse().tocsc(), b.ravel()).reshape(b.shape)
    np.testing.assert_allclose(BoxPoisson.of(A).solve(b), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("boundary", [N, D, P, [(N, D), P, (D, N)]])
def test_is_symmetric(boundary):
    assert dot_test(BoxPoisson((6, 9, 7), boundary=boundary))


def test_singular_box_ignores_the_mean_of_b_and_returns_zero_mean():
    box = BoxPoisson((6, 7), boundary=[N, P])
    b = np.random.default_rng(3).standard_normal((6, 7))
    np.testing.assert_allclose(box.solve(b + 5.0), box.solve(b), atol=1e-13)
    assert abs(box.solve(b + 5.0).mean()) < 1e-14


def test_small_eigenvalues_keep_their_digits():
    # Along the long axis the transverse eigenvalues are far below 2: pivots formed by subtraction would drown them.
    A = PoissonOperator(np.ones((400, 3), bool), spacing=(1.0, 1e5))
    b = np.zeros((400, 3))
    b[:, 0], b[:, 2] = 1.0, -1.0
    u = BoxPoisson.of(A).solve(b)
    np.testing.assert_allclose(u[:, 0], 1e10, rtol=1e-12)


def test_coefficient_per_axis():
    A = PoissonOperator(np.ones((5, 6), bool), coefficient=[np.full((6, 6), 2.0), np.full((5, 7), 0.25)], boundary=D)
    b = np.random.default_rng(4).standard_normal((5, 6))
    np.testing.assert_allclose(A.apply(BoxPoisson.of(A).solve(b)), b, atol=1e-13)


def test_positive_definite_on_the_unknowns_of_a_domain_with_obstacles():
    cells = np.ones((9, 8), bool)
    cells[3:5, 2:6] = False
    box = BoxPoisson.of(PoissonOperator(cells))
    columns = box.solve(np.eye(cells.size)[cells.ravel()].reshape(-1, *cells.shape))
    M = columns.reshape(-1, cells.size)[:, cells.ravel()]
    np.testing.assert_allclose(M, M.T, atol=1e-12)
    assert np.linalg.eigvalsh(M)[0] > 1e-3


def test_preconditions_conjugate_gradients_around_a_sphere():
    n = 24
    x, y, z = np.ogrid[:n, :n, :n]
    cells = (x - 12) ** 2 + (y - 11) ** 2 + (z - 12) ** 2 > 5**2
    A = PoissonOperator(cells)
    b = np.where(cells, np.random.default_rng(6).standard_normal(cells.shape), 0)
    b -= np.where(cells, b.sum() / cells.sum(), 0)
    box, count = BoxPoisson.of(A), []
    M = scipy.sparse.linalg.LinearOperator(
        A.shape, matvec=lambda r: np.where(cells, box.solve(r.reshape(cells.shape)), 0).ravel()
    )
    u, info = scipy.sparse.linalg.cg(A, b.ravel(), rtol=1e-6, M=M, callback=count.append)
    assert info == 0
    assert len(count) <= 12
    assert np.linalg.norm(b - A.apply(u.reshape(b.shape))) < 1.1e-6 * np.linalg.norm(b)


def test_overwrite_uses_the_memory_given_and_solve_does_not_otherwise():
    box = BoxPoisson((16, 8, 8))
    b = np.random.default_rng(7).standard_normal((16, 8, 8)).astype(np.float32)
    kept = b.copy()
    u = box.solve(b)
    np.testing.assert_array_equal(b, kept)
    np.testing.assert_array_equal(box.solve(b, overwrite=True), u)
    assert not np.array_equal(b, kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": ()}, "at least one axis"),
        ({"shape": (4, 0)}, "at least one cell"),
        ({"shape": (4, 5), "spacing": -1.0}, "spacing is -1.0"),
        ({"shape": (4, 5), "coefficient": (1.0, 0.0)}, "coefficient is"),
        ({"shape": (4, 5), "coefficient": (1.0, 1.0, 1.0)}, "one per axis"),
        ({"shape": (4, 5), "boundary": "open"}, "'open'"),
        ({"shape": (4, 5), "boundary": [N, (P, D)]}, "both sides are periodic or neither"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BoxPoisson(**arguments)


def test_wrong_shape_of_b():
    with pytest.raises(ValueError, match="trailing axes must be"):
        BoxPoisson((4, 5)).solve(np.zeros((5, 4)))
