"""The network of the deep conjugate directions, its data, its training and its place in solve()."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import spsolve

from deconjugate.operators.learned import training, weights
from deconjugate.solver import PoissonOperator, SolveStatus, dcdm_solver, solve, train
from deconjugate.solver._stencils import Stencils
from deconjugate.solver.dcdm import LARGE, SMALL, DcdmNetwork, line_search, propose
from deconjugate.solver.dcdm_start import two_grid_start
from deconjugate.solver.dcdm_training import HOLD_OUT, PAPER, DcdmData, DcdmTask, random_geometry
from deconjugate.solver.gallery import open_top, random_spheres, right_hand_sides, rooms
from deconjugate.solver.ritz import RitzBasis

TINY = Path(__file__).parent / "weights" / "dcdm-tiny.safetensors"
SHAPES = {2: (13, 10), 3: (9, 8, 7)}


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def start(ndim, seed=0):
    torch.manual_seed(seed)
    return two_grid_start(DcdmNetwork(ndim))


# The network


def test_parameter_counts_are_the_papers():
    assert count(DcdmNetwork(3, **SMALL)) == 97_457
    assert count(DcdmNetwork(3, **LARGE)) == 152_881
    assert count(DcdmNetwork(2)) == 32_657


@pytest.mark.parametrize("ndim", [2, 3])
def test_directions_have_the_shape_of_residuals_odd_sizes_too(ndim):
    network = DcdmNetwork(ndim)
    for shape in (SHAPES[ndim], (5,) * ndim, (12,) * ndim):
        assert network(torch.ones(3, *shape)).shape == (3, *shape)


@pytest.mark.parametrize(("layers", "radius"), [(SMALL, 21), (LARGE, 33)])
def test_the_receptive_radius_is_that_of_the_layers(layers, radius):
    network = DcdmNetwork(2, **layers).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    r = torch.zeros(1, 96, 96, dtype=torch.float64)
    hit = r.clone()
    hit[0, 48, 48] = 1.0
    reach = torch.nonzero((network(hit) - network(r))[0]).sub(48).abs().max()
    # The blocks of two that the coarse part sees add at most one cell.
    assert radius <= reach <= radius + 1


def test_what_a_pair_adds_is_not_negative():
    torch.manual_seed(0)
    network = DcdmNetwork(2)
    z = torch.randn(1, 16, 8, 8)
    assert (network.before(z) >= z).all()


def test_directions_do_not_depend_on_the_residuals_scale():
    network, r = start(2), torch.randn(2, 12, 12)
    torch.testing.assert_close(propose(network, 1e-5 * r), propose(network, r), rtol=1e-4, atol=1e-5)


def test_the_tiny_network_gives_its_stored_output():
    network = DcdmNetwork(2, before=2, coarse=2, after=2)
    card = weights.into(network, TINY, architecture="DcdmNetwork", ndim=2)
    r = torch.tensor(card["metrics"]["input"])
    with torch.no_grad():
        q = propose(network, r)
    torch.testing.assert_close(q, torch.tensor(card["metrics"]["output"]), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"ndim": 4}, "ndim is 4"), ({"before": 3}, "before is 3"), ({"coarse": 0}, "coarse is 0")],
)
def test_arguments_of_the_network_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        DcdmNetwork(**arguments)


def test_residuals_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match="give \\(batch, \\*grid\\) with 3 axes"):
        DcdmNetwork(3)(torch.ones(2, 8, 8))


@pytest.mark.parametrize(("ndim", "layers"), [(2, SMALL), (2, LARGE), (3, SMALL)])
def test_the_start_is_linear_and_nearly_inverts_the_laplacian_far_from_walls(ndim, layers):
    torch.manual_seed(1)
    network = two_grid_start(DcdmNetwork(ndim, **layers))
    n = 40 if ndim == 2 else 20
    r = torch.randn(2, *(n,) * ndim)
    with torch.no_grad():
        q = network(r)
        torch.testing.assert_close(network(r[:1] - 2 * r[1:]), q[:1] - 2 * q[1:], rtol=1e-3, atol=1e-3)
        # A rough residual in the middle of the box: high frequencies are inverted well.
        r = torch.zeros(1, *(n,) * ndim)
        middle = (0, *[slice(n // 2 - 2, n // 2 + 2)] * ndim)
        r[middle] = torch.tensor([1.0, -1.0, 1.0, -1.0]).expand((4,) * ndim)
        A = Stencils([PoissonOperator(np.ones((n,) * ndim, bool), boundary="dirichlet")])
        q = network(r)
        residual = line_search(q, A(q), r)[1]
    assert float(residual) < 0.05


# The loss


def systems(ndim=2):
    shape = SHAPES[ndim]
    return [random_geometry(shape, 5), rooms(shape, 2), open_top(shape, seed=3, count=4)]


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_batch_of_stencils_is_the_operators(ndim):
    operators = systems(ndim)
    A = Stencils(operators, dtype=torch.float64)
    u = np.random.default_rng(0).standard_normal((3, *SHAPES[ndim]))
    for k, operator in enumerate(operators):
        expected = operator.apply(u[k] * operator.unknowns)
        np.testing.assert_allclose(A(torch.as_tensor(u))[k].numpy(), expected, rtol=1e-12, atol=1e-12)
        null = A.project(torch.as_tensor(u))[k].numpy()
        for label in operator.null_space:
            assert abs(null[operator.components == label].mean()) < 1e-12
        assert (null[~operator.unknowns] == 0).all()
    assert torch.autograd.gradcheck(A, torch.as_tensor(u).requires_grad_(), fast_mode=True)


def test_stencils_refuse_what_they_cannot_hold():
    with pytest.raises(ValueError, match="give one shape"):
        Stencils([random_geometry((5, 6), 0), random_geometry((6, 5), 0)])
    with pytest.raises(ValueError, match="operators has a periodic axis"):
        Stencils([PoissonOperator(np.ones((5, 6), bool), boundary="periodic")])


def test_losses_are_what_a_line_search_leaves():
    operator = open_top((9, 7), seed=1, count=3)
    matrix = operator.to_sparse(compress=False).toarray()
    rng = np.random.default_rng(2)
    b, p = (operator.unknowns * rng.standard_normal((4, 9, 7)) for _ in range(2))
    Ap = np.stack([(matrix @ one.ravel()).reshape(9, 7) for one in p])
    after, residual, energy = line_search(*(torch.as_tensor(v) for v in (p, Ap, b)))
    for k in range(4):
        p_k, b_k = p[k].ravel(), b[k].ravel()
        step = (p_k @ b_k) / (p_k @ matrix @ p_k)
        left = b_k - step * (matrix @ p_k)
        np.testing.assert_allclose(after[k].numpy().ravel(), left)
        assert float(residual[k]) == pytest.approx((left @ left) / (b_k @ b_k))
        # The energy e.Ae of the error falls by what the loss is the logarithm of.
        inside = operator.unknowns.ravel()
        A = operator.to_sparse()
        before_, after_ = (v[inside] @ spsolve(A.tocsc(), v[inside]) for v in (b_k, left))
        assert np.exp(-float(energy[k])) * (b_k @ b_k) == pytest.approx(before_ - after_)


# The data


def test_ritz_vectors_are_eigenvectors_where_lanczos_has_converged():
    operator = random_spheres((9, 8), seed=4, count=3, radius=(0.1, 0.2))
    size = int(operator.unknowns.sum())
    basis = RitzBasis(operator.matvec, operator.cells.size, size, seed=1)
    vectors = basis.combine(np.eye(basis.values.size))
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=2e-5)
    images = np.stack([operator.matvec(v.astype(float)) for v in vectors])
    np.testing.assert_allclose(images, basis.values[:, None] * vectors, atol=3e-4)
    # All distinct non-zero eigenvalues are found.
    eigenvalues = np.linalg.eigvalsh(operator.to_sparse().toarray())
    assert basis.values.min() == pytest.approx(eigenvalues[eigenvalues > 1e-8].min(), rel=1e-4)
    assert basis.values.max() == pytest.approx(eigenvalues.max(), rel=1e-4)


def test_mixtures_weigh_the_lowest_more_and_a_file_gives_the_same(tmp_path):
    operator = random_geometry((12, 11), 3)
    arguments = (operator.matvec, operator.cells.size, 20)
    basis, filed = RitzBasis(*arguments), RitzBasis(*arguments, storage=tmp_path / "basis")
    one, two = (each.mixtures(200, np.random.default_rng(0)) for each in (basis, filed))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1.0, rtol=1e-5)
    parts = one @ basis.combine(np.eye(basis.values.size)).T
    spread = parts.std(0)
    low = basis.values.size // 2
    assert spread[:low].mean() / spread[low:].mean() == pytest.approx(9.0, rel=0.15)


def test_lanczos_ends_with_its_space_and_refuses_more():
    A = np.diag(np.repeat([1.0, 2.0, 5.0], 4))
    basis = RitzBasis(lambda u: A @ u, 12, 10)
    np.testing.assert_allclose(basis.values, [1, 2, 5], rtol=1e-5)
    for number in (1, 13):
        with pytest.raises(ValueError, match=f"count is {number}; give at least 2"):
            RitzBasis(lambda u: A @ u, 12, number)


def test_held_out_geometries_are_never_drawn(monkeypatch):
    drawn = []

    def watched(shape, seed, open_share):
        drawn.append(int(seed))
        return random_geometry(shape, seed, open_share)

    monkeypatch.setattr("deconjugate.solver.dcdm_training.random_geometry", watched)
    data = DcdmData(size=8, ndim=2, batch=4, life=2, lanczos=4)
    task, network = DcdmTask(data), start(2)
    for step in range(10):
        with torch.no_grad():
            task.loss(network, step)
    assert len(set(drawn)) > 12
    assert max(drawn) < HOLD_OUT
    drawn.clear()
    task.validate(network, systems=3, iterations=2)
    assert drawn == [HOLD_OUT, HOLD_OUT + 1, HOLD_OUT + 2]


def test_with_life_one_the_loss_is_the_papers_on_fresh_mixtures_of_one_matrix():
    task = DcdmTask(DcdmData(**(PAPER | {"size": 8, "ndim": 2, "batch": 3, "lanczos": 30})))
    network = start(2)
    assert len(set(task.geometry.tolist())) == 1
    for step in range(2):
        b = task.b.clone()
        A = Stencils(task._operators)
        with torch.no_grad():
            q = A.project(propose(network, A.project(b)))
            expected = line_search(q, A(q), A.project(b))[1].mean()
            assert float(task.loss(network, step)) == pytest.approx(float(expected), rel=1e-5)
        assert not torch.equal(task.b, b)


def test_followed_systems_are_the_iteration_of_the_solver():
    operator = random_geometry((12, 12), 0, 0.0)
    task, network = DcdmTask(DcdmData(size=12, ndim=2, batch=1, life=40, geometries=1, ritz=0.0, open=0.0)), start(2)
    task.left[:] = 20
    task._operators[0] = operator
    task._A = Stencils([operator])
    b = right_hand_sides["white_noise"](operator, 1)
    task.b[0] = torch.as_tensor(b / np.linalg.norm(b))
    with torch.no_grad():
        for step in range(5):
            task.loss(network, step)
    solver = dcdm_solver.DcdmSolver(operator, dcdm_solver_null(operator), None, network=network)
    _, norms = solver.solve(b, np.zeros_like(b), 0.0, 5)
    assert float(task.remaining[0]) == pytest.approx(norms[-1] / norms[0], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 3}, "size is 3; give at least 4"),
        ({"batch": 0}, "batch is 0"),
        ({"ritz": 1.5}, "ritz is 1.5; a share"),
        ({"loss": "mean"}, "loss is 'mean'"),
    ],
)
def test_data_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        DcdmData(**changes)


# Training by the command


def command(folder, *more):
    options = ["--ndim", "2", "--size", "12", "--batch", "2", "--lanczos", "6", "--device", "cpu", "--steps", "12"]
    train.main(["dcdm", "--out", str(folder), *options, *more])
    return weights.load(folder / "weights.safetensors", architecture="DcdmNetwork", ndim=2)


def test_the_command_resumes_where_it_was_stopped_and_writes_the_card(tmp_path, capsys):
    whole, _ = command(tmp_path / "whole")
    slices = 0
    while True:
        parts, card = command(tmp_path / "parts", "--time-budget", "0.1s")
        slices += 1
        if card["metrics"]["finished"]:
            break
        assert slices < 200
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value)
    assert card["metrics"]["step"] == 12
    assert card["data"]["lanczos"] == 6
    assert card["recipe"]["start"] == "two-grid"
    assert card["licence"] == "BSD-3-Clause"
    assert "step 12 of 12" in capsys.readouterr().out
    with pytest.raises(ValueError, match="the checkpoint's systems have shape"):
        command(tmp_path / "whole", "--batch", "3", "--steps", "30")
    trained = str(tmp_path / "whole" / "weights.safetensors")
    _, card = command(tmp_path / "again", "--start", trained, "--steps", "1")
    assert card["recipe"]["start"] == "weights.safetensors"
    assert card["recipe"]["before"]["metrics"]["step"] == 12
    with pytest.raises(weights.WeightsError, match="made for ndim = 2"):
        train.main(["dcdm", "--out", str(tmp_path / "3d"), "--start", trained])


@pytest.mark.parametrize("loss", ["residual", "energy"])
def test_training_lowers_either_loss(loss):
    torch.manual_seed(0)
    task = DcdmTask(DcdmData(size=6, ndim=2, batch=4, life=1, lanczos=12, geometries=1, ritz=1.0, window=0, loss=loss))
    network = DcdmNetwork(2, before=2, coarse=2, after=2)
    history = training.train(network, task, training.TrainingConfig(steps=150, learning_rate=3e-3, warmup=10))
    first, last = history["curve"][0][1], history["curve"][-1][1]
    assert last < (0.7 * first if loss == "residual" else first - 0.5)


def test_times_are_read_with_their_unit():
    assert [train.seconds(text) for text in ("90", "90s", "9m", "1.5h")] == [90, 90, 540, 5400]
    import argparse

    for text in ("soon", "-3m", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="is no time; give such as 90s"):
            train.seconds(text)


# In solve()


def dcdm_solver_null(operator):
    from deconjugate.solver.null_space import NullSpace

    return NullSpace(operator)


@pytest.mark.parametrize(
    ("problem", "shape"),
    [(random_spheres, (37, 31)), (open_top, (30, 35)), (rooms, (33, 29)), (open_top, (15, 14, 13))],
)
def test_the_shipped_network_solves_to_a_certified_residual(problem, shape):
    operator = problem(shape, seed=3)
    b = right_hand_sides["divergence"](operator, seed=4)
    result = solve(operator, b, method="dcdm", rtol=1e-6)
    cg = solve(operator, b, method="cg", rtol=1e-6)
    assert result.converged
    assert result.method == "dcdm"
    residual = b - operator.apply(result.x)
    assert np.linalg.norm(residual) <= 1e-6 * np.linalg.norm(b)
    assert result.x.dtype == np.float64
    assert result.iterations < 0.7 * cg.iterations
    for label in operator.null_space:
        assert abs(result.x[operator.components == label].mean()) < 1e-10
    np.testing.assert_allclose(result.x, cg.x, atol=2e-4 * np.abs(cg.x).max())


def test_a_start_is_used_and_the_cap_is_kept():
    operator = open_top((21, 18), seed=1, count=3)
    b = right_hand_sides["smooth"](operator, seed=2)
    first = solve(operator, b, method="dcdm", rtol=1e-3)
    second = solve(operator, b, method="dcdm", rtol=1e-6, x0=first.x)
    assert second.residual_norms[0] == pytest.approx(first.residual_norms[-1], rel=1e-6)
    seen = []
    capped = solve(operator, b, method="dcdm", rtol=1e-12, maxiter=3, callback=lambda x: seen.append(x.copy()))
    assert capped.status is SolveStatus.MAXITER
    assert capped.iterations == len(seen) == 3


class Broken(torch.nn.Module):
    """A network that proposes what it is told."""

    def __init__(self, kind):
        super().__init__()
        self.arguments, self.kind, self.calls = {"ndim": 2}, kind, 0
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, r):
        self.calls += 1
        if self.kind == "nan":
            return r * float("nan")
        if self.kind == "zero":
            return torch.zeros_like(r)
        return torch.randn(r.shape, generator=torch.Generator().manual_seed(self.calls))


@pytest.mark.parametrize("kind", ["nan", "zero", "noise"])
def test_a_network_that_fails_is_replaced_by_multigrid_and_the_result_says_so(kind, monkeypatch):
    network = Broken(kind)
    monkeypatch.setattr(dcdm_solver, "load_network", lambda *_: (network, {}))
    operator = random_spheres((33, 29), seed=2, count=6)
    b = right_hand_sides["white_noise"](operator, seed=4)
    result = solve(operator, b, method="dcdm", rtol=1e-8)
    assert result.converged
    assert result.method == "dcdm + multigrid"
    assert np.linalg.norm(b - operator.apply(result.x)) <= 1e-8 * np.linalg.norm(b)
    assert network.calls <= 21  # of no more use after 20 steps


def test_steepest_descent_is_the_last_resort():
    operator = random_spheres((9, 8), seed=2, count=2)
    b = right_hand_sides["white_noise"](operator, seed=4)
    solver = dcdm_solver.DcdmSolver(
        operator, dcdm_solver_null(operator), lambda r: np.full_like(r, np.inf), network=Broken("nan")
    )
    x = np.zeros_like(b)
    status, norms = solver.solve(b, x, 1e-3 * np.linalg.norm(b), 3000)
    assert status is SolveStatus.CONVERGED
    assert norms[-1] == pytest.approx(np.linalg.norm(b - operator.apply(x)))
    assert solver.fallbacks == ["multigrid", "steepest descent"]


def test_a_network_of_another_dimension_is_refused():
    operator = random_spheres((9, 8, 7), seed=2, count=2)
    with pytest.raises(ValueError, match="network is for 2 axes; the operator has 3"):
        dcdm_solver.DcdmSolver(operator, None, None, network=DcdmNetwork(2))


def test_absent_or_damaged_weights_are_named_and_other_methods_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(dcdm_solver, "WEIGHTS", tmp_path)
    operator = open_top((9, 8), seed=1, count=2)
    b = right_hand_sides["white_noise"](operator, seed=4)
    with pytest.raises(weights.WeightsError, match=r"dcdm-2d\.json does not exist"):
        solve(operator, b, method="dcdm")
    path = dcdm_solver.shipped_weights(2)
    weights.save(path, DcdmNetwork(2).state_dict(), json.loads(TINY.with_suffix(".json").read_text()))
    with pytest.raises(weights.WeightsError, match="does not fit the network"):
        solve(operator, b, method="dcdm")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(weights.WeightsError, match=r"dcdm-2d\.safetensors has sha256"):
        solve(operator, b, method="dcdm")
    assert solve(operator, b).converged


@pytest.mark.parametrize("ndim", [2, 3])
def test_shipped_cards_say_what_the_weights_are(ndim):
    _, card = dcdm_solver.load_network(dcdm_solver.shipped_weights(ndim), ndim)
    assert card["arguments"]["ndim"] == ndim
    assert card["parameters"] == {2: 32_657, 3: 97_457}[ndim]
    assert card["licence"] == "BSD-3-Clause"
    assert card["metrics"]["seconds"] > 0
    assert card["data"]["loss"] in ("energy", "residual")
