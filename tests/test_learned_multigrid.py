"""The learned multigrid: symmetric and positive definite whatever its weights, equal to its torch form, optional."""

import json
import shutil

import numpy as np
import pytest
import torch

from deconjugate.operators.learned.weights import WeightsError
from deconjugate.solver import PoissonOperator, PoissonSolver, learned_multigrid, solve, train_multigrid
from deconjugate.solver.cut_cells import CutCells
from deconjugate.solver.gallery import problems, right_hand_sides
from deconjugate.solver.learned_multigrid import WEIGHTS, LearnedMultigrid
from deconjugate.solver.learned_torch import TorchMultigrid
from deconjugate.solver.multigrid import Multigrid


def _model(seed=3, spread=0.3):
    """Weights that nobody trained."""
    model = train_multigrid.CutCells(seed)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype))
    return model


def _arrays(model):
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def _porous(shape, seed, **options):
    rng = np.random.default_rng(seed)
    if options.pop("varies", False):
        options["coefficient"] = 10.0 ** rng.uniform(-3, 3, shape)
    return PoissonOperator(rng.random(shape) > 0.3, **options)


OPERATORS = {
    **{name: lambda name=name: problems[name]((17, 12, 19), seed=2) for name in problems},
    "gaps": lambda: problems["thin_gaps"]((24, 20, 22)),
    "flat": lambda: problems["free_surface"]((31, 35), seed=1),
    "flat, stretched": lambda: problems["anisotropic"]((40, 36), seed=1),
    "periodic": lambda: _porous((16, 18, 14), 0, boundary="periodic"),
    "periodic, varying": lambda: _porous((16, 18, 14), 1, boundary="periodic", varies=True),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_numba_and_torch_set_up_the_same_hierarchy(name):
    operator, model = OPERATORS[name](), _model()
    hierarchy = Multigrid(operator, weights=CutCells(_arrays(model)), coarsest=100)
    with torch.no_grad():
        cycle = TorchMultigrid(hierarchy).set_up(model)
        for depth, level in enumerate(hierarchy.levels[1:], start=1):
            for axis in range(3):
                expected = cycle.faces[depth][axis].numpy()
                found = np.take(level.faces[axis], range(level.shape[axis]), axis)
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * cycle.diagonal[depth].max().item())
        for weights, expected in zip(hierarchy.relaxation, model.relaxation(cycle)):
            np.testing.assert_allclose(weights, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in OPERATORS if n not in ("coefficient_jump", "periodic, varying")])
def test_numba_and_torch_cycles_agree(name):
    operator, model = OPERATORS[name](), _model()
    hierarchy = Multigrid(operator, weights=CutCells(_arrays(model)))
    r = right_hand_sides["white_noise"](operator, 1).astype(np.float32)
    z = hierarchy.apply(r.reshape(-1), np.empty(r.size, np.float32)).reshape(r.shape)
    with torch.no_grad():
        cycle = TorchMultigrid(hierarchy).set_up(model)
        same = cycle.apply(torch.tensor(r.astype(float)).reshape(hierarchy.levels[0].shape), model.relaxation(cycle))
    error, scale = operator.apply(z - same.numpy().reshape(r.shape)), operator.apply(z.astype(float))
    assert np.linalg.norm(error) < 1e-3 * np.linalg.norm(scale)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("seed", [None, 5])
def test_is_symmetric_and_positive_definite_off_the_null_space(name, seed):
    shape = (9, 7, 8) if len(OPERATORS[name]().grid_shape) == 3 else (13, 14)
    operator = problems[name](shape, seed=4) if name in problems else OPERATORS[name]()
    if operator.unknowns.sum() > 600:
        operator = _porous(shape, 7, boundary="periodic", varies="varying" in name)
    weights = None if seed is None else CutCells(_arrays(_model(seed, spread=1.0)))
    hierarchy = Multigrid(operator, weights=weights or learned_multigrid.load(WEIGHTS), coarsest=40)
    unknowns = np.flatnonzero(operator.unknowns.ravel())
    M = np.empty((unknowns.size, unknowns.size))
    for column, cell in enumerate(unknowns):
        r = np.zeros(operator.unknowns.size, np.float32)
        r[cell] = 1
        M[:, column] = hierarchy.apply(r, np.empty_like(r))[unknowns]
    A = operator.to_sparse().toarray()
    # Where the operator has a null space the cycle is followed by the projection that the solver makes.
    values, vectors = np.linalg.eigh(A)
    rest = vectors[:, values > 1e-9 * values[-1]]
    scale = 1 / np.sqrt(values[values > 1e-9 * values[-1]])
    reduced = (rest.T @ M @ rest) / scale[:, None] / scale[None]  # similar to M A off the null space
    assert np.abs(reduced - reduced.T).max() < 2e-3 * np.abs(reduced).max()
    assert np.linalg.eigvalsh((reduced + reduced.T) / 2)[0] > 1e-3


def test_untrained_weights_are_plain_multigrid():
    operator = problems["random_spheres"]((33, 30, 31), seed=1)
    r = right_hand_sides["white_noise"](operator, 1).astype(np.float32).reshape(-1)
    plain = Multigrid(operator, sweeps=2, coarse_sweeps=2).apply(r, np.empty_like(r))
    weights = CutCells(_arrays(train_multigrid.CutCells(0, half_sweeps=4)))
    found = Multigrid(operator, weights=weights).apply(r, np.empty_like(r))
    np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max())


def test_factors_do_not_depend_on_the_scale_of_the_coefficient():
    rng = np.random.default_rng(0)
    coefficient = 10.0 ** rng.uniform(-2, 2, (17, 19, 16))
    weights = CutCells(_arrays(_model()))
    one, other = (
        Multigrid(PoissonOperator(np.ones((17, 19, 16), bool), coefficient=s * coefficient), weights=weights)
        for s in (1.0, 1024.0)
    )
    for a, b in zip(one.levels, other.levels):
        np.testing.assert_allclose(1024 * a.faces[1], b.faces[1], rtol=1e-5)


@pytest.mark.parametrize("name", problems)
@pytest.mark.parametrize("shape", [(37, 31, 29), (61, 85)])
def test_solves_every_problem_to_the_true_residual(name, shape):
    operator = problems[name](shape, seed=6)
    b = right_hand_sides["divergence"](operator, seed=7)
    result = solve(operator, b, method="learned", rtol=1e-8)
    assert (result.converged, result.method) == (True, "learned")
    assert np.linalg.norm(b - operator.apply(result.x)) <= 1.0001e-8 * np.linalg.norm(b)


@pytest.mark.parametrize(("shape", "spacing"), [((40, 45), 1.0), ((20, 21, 22), (1, 1, 2)), ((20, 21, 22), 1.0)])
def test_auto_takes_it_and_update_keeps_it(shape, spacing):
    cells = [problems[name](shape, seed=3).cells for name in ("sphere", "random_spheres")]
    solver = PoissonSolver(PoissonOperator(cells[0], spacing=spacing))
    assert solver.method == "learned"
    assert solver.solve(right_hand_sides["divergence"](solver.operator, seed=1)).converged
    result = solver.update(cells=cells[1]).solve(right_hand_sides["divergence"](solver.operator, seed=1))
    assert (result.converged, result.method) == (True, "learned")


def test_auto_solves_without_weights_and_learned_names_the_file(monkeypatch, tmp_path):
    path = tmp_path / "multigrid.safetensors"
    monkeypatch.setattr(learned_multigrid, "WEIGHTS", path)
    operator = problems["sphere"]((40, 45))
    b = right_hand_sides["divergence"](operator, seed=1)
    result = solve(operator, b)
    assert (result.converged, result.method) == (True, "multigrid")
    with pytest.raises(WeightsError, match=r"multigrid.json does not exist.*install or copy"):
        solve(operator, b, method="learned")
    shutil.copy(WEIGHTS, path)
    shutil.copy(WEIGHTS.with_suffix(".json"), path.with_suffix(".json"))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(WeightsError, match=r"sha256.*cut short or changed"):
        solve(operator, b, method="learned")
    assert solve(operator, b).method == "multigrid"


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    shutil.copy(WEIGHTS, path)
    card = json.loads(WEIGHTS.with_suffix(".json").read_text()) | {"architecture": "DcdmNetwork"}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="holds weights of 'DcdmNetwork', not of 'LearnedMultigrid'"):
        LearnedMultigrid(problems["sphere"]((12, 13, 14)), weights=path)


def test_training_lowers_the_loss_of_what_it_meets():
    task = train_multigrid.MultigridTask(seed=1, problems=1, batch=1, held_out=1)
    network = train_multigrid.CutCells(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.015)
    first = float(task.loss(network, 0).detach())
    for _ in range(8):
        optimizer.zero_grad()
        task.loss(network, 0).backward()
        optimizer.step()
    assert float(task.loss(network, 0).detach()) < first - 0.005
    numbers = task.validate(network)
    assert 0.5 < numbers["iterations"] < 1.5


def test_problems_of_a_seed_repeat():
    one, other = (train_multigrid.random_operator(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.cells, other.cells)
