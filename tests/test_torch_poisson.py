"""Poisson operators, their components and null spaces on a torch device, on tensors of the CPU."""

import numpy as np
import pytest
import torch

from deconjugate.operators.components_torch import components
from deconjugate.operators.poisson_torch import TorchPoisson
from deconjugate.solver import PoissonOperator, gallery
from deconjugate.solver.null_space import NullSpace
from deconjugate.solver.null_space_torch import DeviceNullSpace

N, D, P = "neumann", "dirichlet", "periodic"
SHAPES = [(37, 31), (13, 8, 17)]
BOUNDARIES = {"periodic": P, "dirichlet": D, "mixed": [P, (N, D), N], "one periodic cell": [N, N, P]}


def porous(shape, boundary, varies, seed=0):
    rng = np.random.default_rng(seed)
    coefficient = 10.0 ** rng.uniform(-3, 3, shape) if varies else 2.5
    cells = rng.integers(0, 3, shape).astype(np.uint8)
    return PoissonOperator(cells, boundary=boundary, spacing=(0.7, 1.0, 1.3), coefficient=coefficient)


def with_zero_faces(shape, seed=1):
    rng = np.random.default_rng(seed)
    faces = [rng.choice([0.0, 1.0, 2.0], [n + (a == b) for b, n in enumerate(shape)]) for a in range(len(shape))]
    return PoissonOperator(rng.random(shape) > 0.1, coefficient=faces, boundary=D)


OPERATORS = {
    **{f"{n}, {len(s)}-D": lambda n=n, s=s: gallery.problems[n](s, seed=1) for n in gallery.problems for s in SHAPES},
    **{
        f"{name}, {'varying' if varies else 'uniform'}": lambda b=b, v=varies, s=(9, 7, 1 if "one" in name else 6): (
            porous(s, b, v)
        )
        for name, b in BOUNDARIES.items()
        for varies in (False, True)
    },
    "zero faces": lambda: with_zero_faces((7, 11)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_is_the_operator_of_the_numba_kernels(name):
    A = OPERATORS[name]()
    same = TorchPoisson(A)
    np.testing.assert_array_equal(same.code[0].numpy(), A._code.reshape(same.shape))
    u = np.random.default_rng(3).standard_normal(A.grid_shape) * A.unknowns
    expected = A.apply(u).reshape(same.shape)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = same.apply(torch.tensor(u, dtype=dtype).reshape(1, *same.shape))[0]
        assert found.dtype is dtype
        np.testing.assert_allclose(found.numpy(), expected, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("name", OPERATORS)
def test_components_are_numbered_as_on_the_processor(name):
    A = OPERATORS[name]()
    found = TorchPoisson(A).components
    np.testing.assert_array_equal(found.label[0].numpy().reshape(A.grid_shape), A.components)
    assert tuple(found.closed.nonzero()[:, 0].tolist()) == A.null_space


def test_a_long_snake_is_one_component():
    cells = np.ones((41, 30), bool)
    cells[1::4, :-1] = cells[3::4, 1:] = False
    found = TorchPoisson(PoissonOperator(cells)).components
    assert (len(found.closed) - 1, int(found.label.max())) == (1, 1)
    assert components(torch.zeros(1, 3, 1, 4, dtype=torch.uint8), (False,) * 3).closed.tolist() == [False]


@pytest.mark.parametrize("name", OPERATORS)
def test_projects_what_the_processor_projects(name):
    A = OPERATORS[name]()
    b = np.random.default_rng(5).standard_normal((2, *A.grid_shape)) * A.unknowns
    found = torch.tensor(b).reshape(2, *A._shape3)
    removed = DeviceNullSpace(TorchPoisson(A)).project(found)
    for one, other, norm in zip(b, found, removed):
        assert NullSpace(A).project(one) == pytest.approx(float(norm), rel=1e-12, abs=1e-14)
        np.testing.assert_allclose(other.numpy().reshape(A.grid_shape), one, atol=1e-13)


def test_several_domains_serve_one_system_each():
    shape = (9, 8, 11)
    several = [porous(shape, D, varies, seed) for seed, varies in enumerate((False, False, True))]
    closed = [gallery.problems[name](shape, seed=2) for name in ("rooms", "random_spheres", "coefficient_jump")]
    for operators in (several, several[:2], closed):
        A = TorchPoisson(operators)
        assert A.uniform == all(op._faces is None for op in operators)
        u = np.stack([np.random.default_rng(k).standard_normal(shape) * op.unknowns for k, op in enumerate(operators)])
        expected = np.stack([op.apply(one) for op, one in zip(operators, u)])
        np.testing.assert_allclose(A.apply(torch.tensor(u)).numpy(), expected, atol=1e-12 * abs(expected).max())
        assert A.norm == pytest.approx([4 * sum(f.max() for f in op._face_arrays()) for op in operators], rel=0.5)
        chosen = torch.tensor([k != 1 for k in range(len(operators))])
        projected = torch.tensor(u)
        removed = DeviceNullSpace(A).project(projected, chosen)
        for k, op in enumerate(operators):
            one = u[k].copy()
            norm = NullSpace(op).project(one) if chosen[k] else 0.0
            np.testing.assert_allclose(projected[k].numpy(), one, atol=1e-13)
            assert float(removed[k]) == pytest.approx(norm, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(
    ("operators", "error", "message"),
    [
        ([], ValueError, "operators is empty; give one PoissonOperator or more"),
        ([np.eye(3)], TypeError, "operators holds a ndarray; give PoissonOperators"),
        (
            [gallery.box((3, 4)), gallery.box((4, 3))],
            ValueError,
            r"operators differ in grid_shape: \(3, 4\) and \(4, 3\)",
        ),
        ([gallery.box((3, 4)), gallery.box((3, 4), boundary=D)], ValueError, "operators differ in boundary"),
        ([gallery.box((3, 4)), gallery.box((3, 4), spacing=0.5)], ValueError, "operators differ in spacing"),
    ],
)
def test_what_is_no_batch_is_refused(operators, error, message):
    with pytest.raises(error, match=message):
        TorchPoisson(operators)
