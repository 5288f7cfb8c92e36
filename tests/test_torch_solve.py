"""solve() on a torch device: certified as on the processor, in batches, whatever fails inside."""

import numpy as np
import pytest
import torch

from deconjugate.operators.learned.weights import WeightsError
from deconjugate.solver import (
    PoissonOperator,
    PoissonSolver,
    SolveStatus,
    fast_poisson_torch,
    gallery,
    grid_solver_torch,
    solve,
)
from deconjugate.solver import multigrid_torch as hierarchies
from deconjugate.solver.fast_poisson import BoxPoisson
from deconjugate.solver.fast_poisson_torch import TorchBox
from deconjugate.solver.grid_solver_torch import DeviceGridSolver

HERE = {"device": "torch:cpu"}
N, D, P = "neumann", "dirichlet", "periodic"
PAIRS = [(N, N), (D, D), (P, P), (N, D), (D, N)]


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def true_residual(A, b, x):
    inside = A.unknowns
    return np.linalg.norm(b[inside] - A.to_sparse() @ x[inside]) / np.linalg.norm(b[inside])


@pytest.mark.parametrize("method", ["auto", "multigrid", "dct"])
@pytest.mark.parametrize("name", gallery.problems)
def test_solves_the_gallery_as_the_processor_does(name, method):
    A = gallery.problems[name]((13, 9, 14), seed=1)
    b = np.stack([gallery.right_hand_sides[rhs](A, seed=2) for rhs in ("divergence", "white_noise")])
    found, expected = solve(A, b, rtol=1e-8, method=method, **HERE), solve(A, b, rtol=1e-8, method=method)
    assert (found.method, found.device) == (expected.method, "torch:cpu")
    for k in range(2):
        assert found.converged[k]
        assert found.status[k] is SolveStatus.CONVERGED
        assert true_residual(A, b[k], found.x[k]) <= 1.0001e-8
        assert found.relative_residual[k] == pytest.approx(true_residual(A, b[k], found.x[k]), rel=1e-3, abs=1e-13)
        assert abs(found.iterations[k] - expected.iterations[k]) <= 2 + 0.2 * expected.iterations[k]
        assert len(found.residual_norms[k]) == found.iterations[k] + 1
        np.testing.assert_allclose(found.x[k], expected.x[k], atol=1e-4 * abs(expected.x[k]).max())


@pytest.mark.parametrize("shape", [(19, 16), (11, 9, 12)])
def test_the_paper_s_network_takes_as_many_steps_as_on_the_processor(shape):
    A = gallery.problems["random_spheres"](shape, seed=1)
    b, seen = gallery.white_noise(A, 2), []
    found = solve(A, b, method="dcdm", callback=lambda x: seen.append(x.shape), **HERE)
    expected = solve(A, b, method="dcdm")
    assert (found.status, found.method) == (SolveStatus.CONVERGED, "dcdm")
    assert true_residual(A, b, found.x) <= 1.0001e-6
    assert abs(found.iterations - expected.iterations) <= 1
    assert seen == [shape] * found.iterations


@pytest.mark.parametrize("several", [False, True])
def test_the_paper_s_network_is_asked_for_what_is_left(monkeypatch, several):
    names = ("random_spheres", "thin_gaps", "rooms")
    operators = [gallery.problems[name]((19, 16), seed=1) for name in (names if several else names[:1] * 3)]
    b = np.stack([gallery.white_noise(operators[0], 1), gallery.divergence(operators[1], 2), 0 * operators[2].cells])
    if several:
        b[2] = gallery.white_noise(operators[2], 3)
    expected = [solve(A, one, method="dcdm") for A, one in zip(operators, b)]
    asked, inner = [], grid_solver_torch.propose
    monkeypatch.setattr(grid_solver_torch, "propose", lambda network, r: asked.append(len(r)) or inner(network, r))
    found = solve(operators if several else operators[0], b, method="dcdm", **HERE)
    for k, one in enumerate(expected):
        assert found.converged[k]
        assert one.method in found.method.split(", ")
        # Where the network stalls, the processor itself takes 84 to 114 steps for b changed by 1e-15 of itself.
        assert abs(found.iterations[k] - one.iterations) <= (2 if one.method == "dcdm" else 60)
        np.testing.assert_allclose(found.x[k], one.x, atol=1e-4 * abs(one.x).max())
    assert asked == sorted(asked, reverse=True)
    assert asked[0] == np.count_nonzero(found.iterations)
    evens = sum(-(-k // 2) * 2 for k in found.iterations)  # the host asks every second step
    assert sum(asked) <= evens if several else sum(asked) == evens


def test_each_system_of_a_batch_stops_by_itself():
    A = gallery.problems["thin_gaps"]((13, 12, 11))
    hard, easy = gallery.white_noise(A, 1), gallery.divergence(A, 2)
    x = solve(A, hard, rtol=1e-7).x
    b = np.stack([hard, np.zeros_like(hard), easy, hard])
    found = solve(A, b, x0=np.stack([0 * x, 0 * x, 0 * x, x]), rtol=1e-6, **HERE)
    assert found.converged.all()
    assert (found.iterations[1], found.iterations[3]) == (0, 0)
    alone = [solve(A, one, **HERE) for one in (hard, easy)]
    assert [found.iterations[0], found.iterations[2]] == [one.iterations for one in alone]
    np.testing.assert_allclose(found.x[0], alone[0].x, atol=1e-12 * abs(x).max())
    assert not found.x[1].any()


@pytest.mark.parametrize("method", ["auto", "multigrid", "dct"])
def test_domains_of_one_shape_in_one_call(method):
    several = [gallery.problems[name]((9, 10, 11), seed=3) for name in ("rooms", "thin_gaps", "random_spheres")]
    b = np.stack([gallery.white_noise(A, 1) for A in several])
    b[2] += several[2].unknowns  # a sum that no closed domain can have
    found = solve(several, b, method=method, rtol=1e-9, **HERE)
    assert [status.name for status in found.status] == ["CONVERGED", "CONVERGED", "INCOMPATIBLE"]
    for A, one, x in zip(several[:2], b, found.x):
        assert true_residual(A, one, x) <= 1.0001e-9
    expected = solve(several[2], b[2], rtol=1e-9)
    assert found.removed_norm[2] == pytest.approx(expected.removed_norm, rel=1e-12)
    np.testing.assert_allclose(found.x[2], expected.x, atol=1e-6 * abs(expected.x).max())


def test_statuses_are_those_of_the_processor():
    A = gallery.problems["coefficient_jump"]((11, 12, 9), seed=1)
    b = gallery.white_noise(A, 1)
    result = solve(A, b, rtol=1e-16, **HERE)
    assert (result.converged, result.status) == (False, SolveStatus.ATTAINABLE_ACCURACY)
    assert result.backward_error < 32 * np.finfo(float).eps
    result = solve(A, b, maxiter=2, **HERE)
    assert (result.converged, result.status, result.iterations) == (False, SolveStatus.MAXITER, 2)
    closed = gallery.sphere((12, 13))
    result = solve(closed, np.ones((12, 13)), **HERE)
    assert (result.converged, result.status) == (False, SolveStatus.INCOMPATIBLE)
    seen = []
    result = solve(A, b, method="cg", rtol=1e-3, callback=lambda x: seen.append(x.shape), **HERE)
    assert result.converged
    assert seen == [A.grid_shape] * result.iterations


@pytest.mark.parametrize("fault", ["nan", "negative", "nothing"])
def test_a_bad_cycle_costs_time_not_correctness(monkeypatch, fault):
    """One system of the learned cycle goes wrong: others take no harm, and it is solved by what comes next."""
    whole = hierarchies.DeviceMultigrid.apply

    def spoilt(self, r, **options):
        z = whole(self, r, **options)
        if self._weights is not None:
            z[1] = {"nan": torch.nan, "negative": -1.0, "nothing": 0.0}[fault] * z[1]
        return z

    monkeypatch.setattr(hierarchies.DeviceMultigrid, "apply", spoilt)
    A = gallery.problems["random_spheres"]((14, 12, 13), seed=1)
    b = np.stack([gallery.white_noise(A, k) for k in range(3)])
    found = DeviceGridSolver(A, "learned", torch.device("cpu"))
    x, answers = found.solve(torch.tensor(b), None, 1e-8, 0.0, None, None)
    assert [one.method for one in answers] == ["learned", "learned + multigrid", "learned"]
    for k, one in enumerate(answers):
        assert one.converged
        assert true_residual(A, b[k], x[k].numpy()) <= 1.0001e-8


def test_where_no_cycle_works_nothing_is_called_converged(monkeypatch):
    monkeypatch.setattr(hierarchies.DeviceMultigrid, "apply", lambda self, r, **options: torch.full_like(r, torch.nan))
    A = gallery.problems["sphere"]((9, 10, 8))
    result = solve(A, gallery.white_noise(A, 1), **HERE)
    assert (result.converged, result.status) == (False, SolveStatus.NON_FINITE)
    assert result.method == "learned + multigrid + multigrid in double precision"
    assert np.isfinite(result.x).all()
    assert result.relative_residual == pytest.approx(1.0)


def test_without_weights_it_is_plain_multigrid(monkeypatch, tmp_path):
    monkeypatch.setattr(hierarchies, "WEIGHTS", tmp_path / "multigrid.safetensors")
    A = gallery.problems["sphere"]((10, 13))
    b = gallery.white_noise(A, 1)
    assert solve(A, b, **HERE).method == "multigrid"
    with pytest.raises(WeightsError, match="does not exist"):
        solve(A, b, method="learned", **HERE)


@pytest.mark.parametrize("largest", [512, 3])
@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 7)])
def test_the_box_is_that_of_the_processor(monkeypatch, largest, shape):
    monkeypatch.setattr(fast_poisson_torch, "_MATRIX", largest)
    rng = np.random.default_rng(0)
    for k, pair in enumerate(PAIRS):
        for other in PAIRS:
            pairs = [pair, other, PAIRS[(k + 2) % 5]][: len(shape)]
            A = PoissonOperator(np.ones(shape, bool), boundary=pairs, spacing=np.linspace(0.7, 1.3, len(shape)))
            b = rng.standard_normal(shape)
            expected = BoxPoisson.of(A).solve(b).reshape(A._shape3)
            for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
                found = TorchBox(A).solve(torch.tensor(b, dtype=dtype).reshape(1, *A._shape3))[0].numpy()
                assert abs(found - expected).max() < tolerance * abs(expected).max(), (pairs, dtype)


def test_forms_of_vectors_and_updates():
    A = gallery.problems["random_spheres"]((9, 11), seed=1)
    solver = PoissonSolver(A, **HERE)
    b = gallery.white_noise(A, 1)
    expected = solver.solve(b).x
    assert isinstance(expected, np.ndarray)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(solver.solve(b.reshape(1, 1, -1)).x, expected.reshape(1, 1, -1))
    np.testing.assert_array_equal(solver.solve(b[A.unknowns]).x, expected[A.unknowns])
    found = solver.solve(torch.tensor(b, dtype=torch.float32))
    assert isinstance(found.x, torch.Tensor)
    assert found.x.dtype is torch.float64
    assert found.setup_seconds > 0
    cells = A.cells.copy()
    cells[4:6, 3:5] = 0
    changed = solver.update(cells=cells).solve(gallery.compatible(solver.operator, b))
    assert changed.converged
    assert changed.device == "torch:cpu"
    assert not changed.x[4:6, 3:5].any()
    from scipy.sparse.linalg import cg

    matrix = solver.operator.to_sparse()
    right = gallery.compatible(solver.operator, b)[solver.operator.unknowns]
    x, info = cg(matrix, right, M=solver.as_preconditioner(), rtol=1e-8, maxiter=30)
    assert info == 0
    assert np.linalg.norm(right - matrix @ x) < 1e-7 * np.linalg.norm(right)


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 3)])
def test_gradients_are_those_of_the_processor(shape):
    A = PoissonOperator(np.ones(shape, bool), boundary=[(N, D)] + [N] * (len(shape) - 1))
    closed = PoissonOperator(np.ones(shape, bool))
    for operator in (A, closed):
        gradients = []
        for how in ({}, HERE):
            b = torch.tensor(gallery.white_noise(operator, 1), requires_grad=True)
            beta = torch.linspace(1, 2, int(np.prod(shape)), dtype=torch.float64).reshape(shape).requires_grad_()
            x = solve(operator, b, coefficient=beta, rtol=1e-12, **how).x
            (x**3).sum().backward()
            gradients.append((b.grad.numpy(), beta.grad.numpy()))
        for one, other in zip(*gradients):
            np.testing.assert_allclose(one, other, atol=1e-7 * abs(one).max())
    flat = torch.tensor(gallery.white_noise(A, 1)[A.unknowns], requires_grad=True)
    (solve(A, flat, rtol=1e-12, **HERE).x ** 2).sum().backward()
    assert flat.grad.shape == flat.shape
    assert torch.isfinite(flat.grad).all()


A = PoissonOperator(np.ones((4, 5), bool), boundary=D)
ONES = np.ones((4, 5))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "abacus"}, ValueError, "device is 'abacus'; choose from auto, cpu, cuda, cuda:0 ... and torch:cpu"),
        ({"A": np.eye(3)}, TypeError, "A is a ndarray; a device takes a PoissonOperator, or a list of them"),
        ({"A": [A], "device": "cpu"}, TypeError, "A is a list; a device takes"),
        ({"A": PoissonOperator(np.zeros((4, 5), bool))}, ValueError, "cells has no unknowns"),
        (
            {"b": np.ones((5, 4))},
            ValueError,
            r"b has shape \(5, 4\); its last axes must be the grid's \(4, 5\), or one",
        ),
        ({"b": ONES * np.nan}, ValueError, "b has 20 entries that are NaN or infinite"),
        ({"b": np.full((4, 5), "a")}, TypeError, "b has dtype <U1; give a real numeric array"),
        ({"b": torch.ones(4, 5).to(torch.complex64)}, TypeError, "b has dtype torch.complex64; give a real tensor"),
        ({"b": torch.ones(4, 5).to_sparse()}, TypeError, r"b has layout torch.sparse_coo; give a dense tensor"),
        ({"b": torch.ones(4, 5, device="meta")}, ValueError, "b is on device meta, which holds no values"),
        ({"x0": np.ones((5, 4))}, ValueError, r"x0 has shape \(5, 4\); it must be that of b, \(4, 5\)"),
        ({"rtol": -1.0}, ValueError, "rtol is -1.0; it must be finite and not negative"),
        ({"maxiter": -1}, ValueError, "maxiter is -1; it must not be negative"),
        ({"A": [A, A], "b": np.ones((3, 4, 5))}, ValueError, "b has 3 systems; 2 operators take one each"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    call = {"A": A, "b": ONES, **HERE, **arguments}
    with pytest.raises(error, match=message):
        solve(call.pop("A"), call.pop("b"), **call)


def test_what_a_device_cannot_do_is_named():
    solver = PoissonSolver([A, A], **HERE)
    with pytest.raises(TypeError, match=r"update.. changes one operator; make a new solver of the list"):
        solver.update(cells=np.ones((4, 5), bool))
    with pytest.raises(TypeError, match=r"as_preconditioner.. needs a solver of a PoissonOperator"):
        solver.as_preconditioner()
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device is 'cuda', but torch .* finds no CUDA device"):
            solve(A, ONES, device="cuda")


@pytest.mark.parametrize("method", ["learned", "dct"])
def test_what_a_caller_has_set_for_networks_changes_nothing(method):
    A = gallery.problems["random_spheres"]((21, 30), seed=1)
    b = gallery.white_noise(A, 1)
    expected = solve(A, b, method=method, **HERE).x
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")  # where nothing can be computed
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            solver = PoissonSolver(A, method=method, **HERE)
            np.testing.assert_array_equal(solver.solve(b).x, expected)
        # Tensors of inference mode could not be changed here.
        np.testing.assert_array_equal(solver.solve(b).x, expected)
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.set_default_device("cpu")
        torch.set_default_dtype(torch.float32)
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_vectors_of_any_layout_serve(monkeypatch):
    """Kernels read memory in C order: what reaches them is made so."""
    monkeypatch.setattr(fast_poisson_torch, "_MATRIX", 3)
    A = PoissonOperator(np.ones((6, 7, 8), bool), boundary=[P, N, (D, N)])
    b = np.stack([gallery.white_noise(A, k) for k in range(2)])
    expected = solve(A, b, method="dct", rtol=1e-9, **HERE).x
    turned = np.asfortranarray(b)
    moved = torch.from_numpy(b.transpose(3, 0, 2, 1).copy()).permute(1, 3, 2, 0)
    for other in (turned, moved, torch.from_numpy(b).to(memory_format=torch.channels_last)):
        np.testing.assert_allclose(np.asarray(solve(A, other, method="dct", rtol=1e-9, **HERE).x), expected, atol=1e-12)
    box = TorchBox(A)
    for dtype in (torch.float32, torch.float64):
        assert box.solve(torch.from_numpy(b).to(dtype)).is_contiguous()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_card():
    problem = gallery.problems["random_spheres"]((40, 37, 45), seed=1)
    b = gallery.white_noise(problem, 1)
    result = solve(problem, torch.tensor(b, device="cuda"))
    assert result.converged
    assert result.x.is_cuda
    assert true_residual(problem, b, result.x.cpu().numpy()) <= 1.0001e-6
