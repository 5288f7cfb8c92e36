"""Gradients of a solve, against finite differences and against a direct solve in torch."""

import subprocess
import sys

import numba
import numpy as np
import pytest
import scipy.sparse
import torch

from deconjugate.solver import Cell, PoissonOperator, PoissonSolver, SolveStatus, gallery, solve
from deconjugate.solver.differentiable import rhs

N, D, P = "neumann", "dirichlet", "periodic"
BOUNDARIES = {
    (5, 4): [N, D, P, [(N, D), P], [(D, N), (N, N)]],
    (3, 4, 3): [N, [(N, D), P, N], [P, (D, D), (D, N)]],
}
CASES = [(shape, boundary) for shape, boundaries in BOUNDARIES.items() for boundary in boundaries]


@pytest.fixture(autouse=True)
def _one_thread():
    """Hundreds of solves of a few cells each: waking a second thread costs more than they do."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


def domain(shape, boundary, **arguments):
    """A wall and a given value inside; where the boundary is closed on all sides, walls alone: a null space."""
    cells = np.ones(shape, np.uint8)
    cells[(1,) * len(shape)] = Cell.WALL
    if boundary != N:
        cells[(2,) * len(shape)] = Cell.DIRICHLET
    return PoissonOperator(cells, boundary=boundary, spacing=np.linspace(0.7, 1.2, len(shape)), **arguments)


def tensor(*shape, seed=0, low=-1.0, high=1.0):
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return torch.tensor(values, requires_grad=True)


def face_tensors(A, seed=3):
    """Face coefficients; the two ends of a periodic axis are one number, as the operator asks."""
    faces = []
    for axis in range(len(A.grid_shape)):
        n = [m + (a == axis and A.boundary[axis][0] != P) for a, m in enumerate(A.grid_shape)]
        faces.append(tensor(*n, seed=seed + axis, low=0.5, high=2.0))

    def close(*faces):
        return [
            torch.cat([face, face.narrow(axis, 0, 1)], axis) if A.boundary[axis][0] == P else face
            for axis, face in enumerate(faces)
        ]

    return faces, close


def gradcheck(function, inputs):
    # Steps of 1e-4 keep the solver's own 1e-13 below the tolerance asked of the quotients.
    return torch.autograd.gradcheck(function, inputs, eps=1e-4, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("shape", "boundary"), CASES)
@pytest.mark.parametrize("kind", ["cells", "faces"])
def test_gradients_in_b_and_coefficient_are_those_of_finite_differences(shape, boundary, kind):
    A = domain(shape, boundary)
    b = tensor(*shape, seed=1)
    if kind == "cells":
        parts, close = [tensor(*shape, seed=2, low=0.5, high=2.0)], lambda beta: beta
    else:
        parts, close = face_tensors(A)
    assert gradcheck(lambda b, *beta: solve(A, b, coefficient=close(*beta), rtol=1e-13).x, (b, *parts))


@pytest.mark.parametrize("method", ["auto", "multigrid", "dct", "cg"])
@pytest.mark.parametrize("boundary", [N, D])
def test_gradient_in_b_by_every_method_with_batches(boundary, method):
    A = domain((5, 4), boundary)
    b = tensor(2, 1, 5, 4)
    assert gradcheck(lambda b: solve(A, b, rtol=1e-13, method=method).x, (b,))


def test_one_number_for_a_coefficient_and_a_batch():
    A = domain((5, 4), D)
    b, beta = tensor(3, 5, 4), torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda b, beta: solve(A, b, coefficient=beta, rtol=1e-13).x, (b, beta))


def given_values(A, seed=4):
    rng = np.random.default_rng(seed)
    values = {"cells": rng.standard_normal(A.grid_shape)}
    for axis, pair in enumerate(A.boundary):
        shape = [n for a, n in enumerate(A.grid_shape) if a != axis]
        values.update({(axis, side): rng.standard_normal(shape) for side in (0, 1) if pair[side] == D})
    return values


@pytest.mark.parametrize(("shape", "boundary"), CASES)
@pytest.mark.parametrize("kind", ["cells", "faces"])
def test_given_values_are_a_part_of_the_gradient(shape, boundary, kind):
    A = domain(shape, boundary)
    source, given = tensor(*shape, seed=1), given_values(A)
    flux = {(axis, 1): 0.3 for axis, pair in enumerate(A.boundary) if pair[1] == N}
    if kind == "cells":
        parts, close = [tensor(*shape, seed=2, low=0.5, high=2.0)], lambda beta: beta
    else:
        parts, close = face_tensors(A)
    beta = close(*parts)
    array = [face.detach().numpy() for face in beta] if kind == "faces" else beta.detach().numpy()
    expected = PoissonOperator(A.cells, boundary=A.boundary, spacing=A.spacing, coefficient=array)
    expected = expected.rhs(source.detach().numpy(), dirichlet=given, flux=flux)
    b = rhs(A, source, coefficient=beta, dirichlet=given, flux=flux)
    np.testing.assert_allclose(b.detach(), expected, atol=1e-13)

    def temperature(source, *parts):
        beta = close(*parts)
        b = rhs(A, source, coefficient=beta, dirichlet=given, flux=flux)
        return solve(A, b, coefficient=beta, rtol=1e-13).x

    assert torch.autograd.gradcheck(temperature, (source, *parts), eps=1e-4, rtol=1e-6, atol=1e-6, fast_mode=True)


def test_a_right_hand_side_from_one_number_and_a_number():
    A = domain((5, 4), D)
    b = rhs(A, torch.tensor(2.0), coefficient=3.0, dirichlet=1.5)
    expected = PoissonOperator(A.cells, boundary=D, spacing=A.spacing, coefficient=3.0).rhs(2.0, dirichlet=1.5)
    np.testing.assert_allclose(b, expected, atol=1e-13)
    with pytest.raises(TypeError, match="source is a ndarray; give a tensor"):
        rhs(A, np.ones((5, 4)), coefficient=1.0)
    with pytest.raises(ValueError, match="coefficient is on device meta and source on cpu; move one of them"):
        rhs(A, torch.ones(5, 4), coefficient=torch.ones(5, 4, device="meta"))


def test_second_derivatives():
    A = domain((4, 3), [(N, D), N])
    b, beta = tensor(4, 3), tensor(4, 3, seed=2, low=0.5, high=2.0)
    function = lambda b, beta: solve(A, b, coefficient=beta, rtol=1e-13).x  # noqa: E731
    assert torch.autograd.gradgradcheck(function, (b, beta), eps=1e-4, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", gallery.problems)
def test_gradient_is_the_pseudo_inverse_of_the_gradient_at_x(name):
    A = gallery.problems[name]((17, 13), seed=1)
    b = torch.tensor(gallery.divergence(A, 2), requires_grad=True)
    g = np.random.default_rng(3).standard_normal(A.grid_shape)
    x = solve(A, b, rtol=1e-11).x
    x.backward(torch.tensor(g))
    expected = np.zeros(A.grid_shape)
    inverse = np.linalg.pinv(A.to_sparse().toarray(), hermitian=True)
    expected[A.unknowns] = inverse @ g[A.unknowns]
    np.testing.assert_allclose(b.grad, expected, atol=1e-7 * abs(expected).max())
    assert not b.grad[torch.tensor(~A.unknowns)].any()
    for label in A.null_space:
        assert abs(float(b.grad[torch.tensor(A.components == label)].sum())) < 1e-8 * float(b.grad.abs().sum())


def test_coefficient_gradient_against_a_dense_solve_in_torch():
    A = gallery.open_top((9, 8, 7), seed=2, count=3, radius=(0.1, 0.3))
    matrices = []
    for axis in range(3):  # the matrix is linear in the faces: one derivative for each
        faces = [np.ones([n + (a == d) for d, n in enumerate(A.grid_shape)]) for a in range(3)]
        faces[axis] = np.full_like(faces[axis], 2.0)
        with_two = PoissonOperator(A.cells, boundary=A.boundary, coefficient=faces).to_sparse()
        matrices.append(torch.tensor((with_two - A.to_sparse()).toarray()))
    scale = torch.tensor([0.7, 1.1, 1.9], dtype=torch.float64, requires_grad=True)
    inside = torch.tensor(A.unknowns)
    b = torch.tensor(gallery.smooth(A, 4))
    weights = torch.tensor(gallery.white_noise(A, 5))
    dense = torch.linalg.solve(sum(s * M for s, M in zip(scale, matrices)), b[inside])
    (expected,) = torch.autograd.grad((weights[inside] * dense).sum(), scale)
    faces = [s.expand([n + (a == d) for d, n in enumerate(A.grid_shape)]) for a, s in enumerate(scale)]
    x = solve(A, b, coefficient=faces, rtol=1e-12).x
    (found,) = torch.autograd.grad((weights * x).sum(), scale)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("form", ["grid", "cells", "unknowns"])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_values_forms_and_fields_are_those_of_arrays(form, batch):
    A = domain((7, 9), [(N, D), P])
    tail = {"grid": (7, 9), "cells": (63,), "unknowns": (int(A.unknowns.sum()),)}[form]
    b = tensor(*batch, *tail)
    theirs = solve(A, b.detach().numpy())
    ours = solve(A, b)
    np.testing.assert_array_equal(ours.x.detach().numpy(), theirs.x)
    assert ours.x.dtype == torch.float64
    assert ours.x.device == b.device
    assert np.array_equal(ours.status, theirs.status)
    assert np.array_equal(ours.iterations, theirs.iterations)
    assert np.shape(ours.relative_residual) == batch
    weights = torch.tensor(np.random.default_rng(5).standard_normal(ours.x.shape))
    (gradient,) = torch.autograd.grad((ours.x * weights).sum(), b)
    np.testing.assert_allclose(gradient, solve(A, weights.numpy()).x, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_gets_a_certified_x_and_gradients_of_its_own_precision(dtype):
    A = gallery.sphere((12, 13), boundary=D)
    b = tensor(12, 13).detach().to(dtype).requires_grad_()
    beta = torch.ones(12, 13, dtype=dtype, requires_grad=True)
    result = solve(A, b, coefficient=beta)
    assert result.converged
    assert result.x.dtype == torch.float64
    result.x.sum().backward()
    assert b.grad.dtype == beta.grad.dtype == dtype
    assert torch.isfinite(b.grad).all()


def test_integers_and_plain_tensors_need_no_gradient():
    A = gallery.box((6, 5), boundary=D)
    x = solve(A, torch.ones(6, 5, dtype=torch.int64)).x
    assert not x.requires_grad
    np.testing.assert_array_equal(x, solve(A, np.ones((6, 5))).x)
    with torch.no_grad():
        assert not solve(A, torch.ones(6, 5, requires_grad=True)).x.requires_grad


def test_a_kept_solver_remembers_the_domain_of_each_call():
    A = gallery.box((8, 7), boundary=D)
    cells = np.ones((8, 7), bool)
    cells[2:4, 3:5] = False
    solver = PoissonSolver(A)
    b = tensor(8, 7)
    first = solver.solve(b, rtol=1e-10).x
    second = solver.update(cells=cells).solve(b, x0=first, rtol=1e-10).x
    weights = torch.tensor(np.random.default_rng(5).standard_normal((8, 7)))
    for x, operator in ((first, A), (second, PoissonOperator(cells, boundary=D))):
        (gradient,) = torch.autograd.grad((x * weights).sum(), b, retain_graph=True)
        np.testing.assert_allclose(gradient, solve(operator, weights.numpy(), rtol=1e-10).x, atol=1e-9)


@pytest.mark.parametrize("as_operator", [False, True])
def test_matrices_without_a_grid(as_operator):
    A = gallery.sphere((7, 6), boundary=D).to_sparse()
    b = tensor(2, A.shape[0])
    system = scipy.sparse.linalg.aslinearoperator(A) if as_operator else A
    assert gradcheck(lambda b: solve(system, b, rtol=1e-13).x, (b,))


def test_a_null_space_is_projected_and_the_status_kept():
    A = gallery.rooms((9, 11))
    b = tensor(9, 11)
    result = solve(A, b, rtol=1e-11)
    assert result.status is SolveStatus.INCOMPATIBLE
    (gradient,) = torch.autograd.grad(result.x[torch.tensor(A.components == 1)].sum(), b)
    assert float(gradient.abs().max()) < 1e-12  # each room's mean is zero whatever b is


def test_an_absolute_tolerance_says_nothing_about_gradients():
    A = gallery.box((12, 13), boundary=D)
    b = tensor(12, 13)
    x = solve(A, b, rtol=0.0, atol=1e-3).x
    (gradient,) = torch.autograd.grad(x.sum() * 1e-9, b)
    np.testing.assert_allclose(gradient, 1e-9 * solve(A, np.ones((12, 13))).x, atol=1e-13)


def test_an_array_for_a_coefficient_is_a_constant():
    A, rng = gallery.box((6, 7), boundary=D), np.random.default_rng(0)
    beta, values = rng.uniform(1, 2, (6, 7)), rng.standard_normal((6, 7))
    expected = solve(PoissonOperator(A.cells, boundary=D, coefficient=beta), values).x
    np.testing.assert_array_equal(solve(A, values, coefficient=beta).x, expected)
    np.testing.assert_array_equal(solve(A, torch.tensor(values), coefficient=beta).x, expected)
    faces = [np.ones((7, 7)), torch.full((6, 8), 2.0, requires_grad=True)]
    solve(A, torch.tensor(values), coefficient=faces).x.sum().backward()
    assert faces[1].grad.shape == (6, 8)


def test_a_closed_face_has_no_gradient():
    A = gallery.box((5, 6), boundary=D)
    faces = [torch.ones(6, 6), torch.ones(5, 7)]
    faces[0][2, 3] = 0.0
    faces = [face.requires_grad_() for face in faces]
    solve(A, torch.rand(5, 6, generator=torch.Generator().manual_seed(1)), coefficient=faces).x.sum().backward()
    assert faces[0].grad[2, 3] == 0
    assert np.count_nonzero(faces[0].grad) == 35


def test_a_backward_solve_that_falls_short_is_a_warning():
    A = gallery.sphere((16, 15))
    b = torch.tensor(gallery.divergence(A), requires_grad=True)
    x = solve(A, b, rtol=1e-10, maxiter=1).x
    with pytest.warns(RuntimeWarning, match="gradient is inexact: in the backward solve the iteration limit"):
        (x**2).sum().backward()


A = gallery.box((6, 5), boundary=D)
ONES = torch.ones(6, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b": ONES.to(torch.complex64)}, TypeError, "b has dtype torch.complex64; give a real tensor"),
        ({"b": ONES.to_sparse()}, TypeError, "b has layout torch.sparse_coo; give a dense tensor"),
        ({"b": ONES.to("meta")}, ValueError, "b is on device meta, which holds no values"),
        ({"b": torch.ones(4, 4)}, ValueError, r"b has shape \(4, 4\); its last axes must be the grid's"),
        ({"b": ONES * torch.nan}, ValueError, "b has 30 entries that are NaN or infinite"),
        ({"b": ONES, "x0": torch.ones(2, 6, 5)}, ValueError, "x0 has shape"),
        ({"b": ONES, "x0": ONES.to(torch.complex64)}, TypeError, "x0 has dtype torch.complex64"),
        ({"b": ONES, "coefficient": ONES.to("meta")}, ValueError, "coefficient is on device meta and b on cpu; move"),
        ({"b": ONES, "coefficient": ONES * 1j}, TypeError, "coefficient has dtype torch.complex64; give a real tensor"),
        ({"b": ONES, "coefficient": -ONES}, ValueError, "coefficient has 30 entries that are negative"),
        ({"b": ONES, "coefficient": [ONES, ONES]}, ValueError, "coefficient of axis 0 has shape"),
        ({"b": np.ones((6, 5)), "coefficient": ONES}, TypeError, "coefficient is a torch tensor and b is not"),
        ({"b": ONES, "A": A.to_sparse(), "coefficient": ONES}, TypeError, "coefficient belongs to a PoissonOperator"),
        ({"b": np.ones(30), "A": A.to_sparse(), "coefficient": 2.0}, TypeError, "coefficient belongs to a Poisson"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    arguments = {"A": A, **arguments}
    with pytest.raises(error, match=message):
        solve(arguments.pop("A"), arguments.pop("b"), **arguments)


@pytest.mark.parametrize("coefficient", [ONES, [np.ones((7, 5)), torch.ones(6, 6)]])
def test_a_solver_is_not_updated_by_a_tensor(coefficient):
    with pytest.raises(TypeError, match=r"coefficient is a torch tensor; give it to solve\(A, b, coefficient=\)"):
        PoissonSolver(A).update(coefficient=coefficient)


def test_arrays_do_not_wake_torch():
    code = (
        "import sys, numpy as np; from deconjugate.solver import PoissonOperator, solve;"
        "A = PoissonOperator(np.ones((4, 5), bool), boundary='dirichlet');"
        "solve(A, np.ones((4, 5)), coefficient=np.ones((4, 5))); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tensors_stay_on_their_device():
    A = domain((5, 4), D)
    b, beta = (tensor(5, 4, seed=s, low=0.5).detach().cuda().requires_grad_() for s in (1, 2))
    result = solve(A, rhs(A, b, coefficient=beta, dirichlet=1.0), coefficient=beta, rtol=1e-10)
    result.x.sum().backward()
    assert result.x.device == b.grad.device == beta.grad.device == b.device
    near = [t.detach().cpu().requires_grad_() for t in (b, beta)]
    solve(A, rhs(A, near[0], coefficient=near[1], dirichlet=1.0), coefficient=near[1], rtol=1e-10).x.sum().backward()
    np.testing.assert_allclose(beta.grad.cpu(), near[1].grad, atol=1e-9)
    np.testing.assert_allclose(b.grad.cpu(), near[0].grad, atol=1e-9)
    with pytest.raises(ValueError, match="coefficient is on device cpu and b on cuda:0; move one of them"):
        solve(A, b, coefficient=near[1])
