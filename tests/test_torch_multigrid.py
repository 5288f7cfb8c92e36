"""Multigrid on a torch device: the numba cycle's hierarchy and its z = M r, on tensors of the CPU."""

import numpy as np
import pytest
import torch

from deconjugate.operators.learned import weights as weight_files
from deconjugate.operators.poisson_torch import TorchPoisson
from deconjugate.solver import Multigrid, PoissonOperator, gallery, train_multigrid
from deconjugate.solver.learned_multigrid import WEIGHTS, LearnedMultigrid
from deconjugate.solver.learned_torch import TorchMultigrid
from deconjugate.solver.multigrid_torch import DeviceMultigrid
from deconjugate.solver.null_space import NullSpace

N, D, P = "neumann", "dirichlet", "periodic"
SHAPES = [(37, 45), (13, 16, 15)]


def porous(shape, boundary, varies, seed=0):
    rng = np.random.default_rng(seed)
    coefficient = 10.0 ** rng.uniform(-3, 3, shape) if varies else None
    return PoissonOperator(rng.random(shape) > 0.3, boundary=boundary, coefficient=coefficient)


OPERATORS = {
    **{f"{n}, {len(s)}-D": lambda n=n, s=s: gallery.problems[n](s, seed=1) for n in gallery.problems for s in SHAPES},
    **{
        f"porous {name}, {'varying' if varies else 'uniform'}": lambda b=b, v=varies: porous((16, 8, 16), b, v)
        for name, b in {"periodic": P, "dirichlet": D, "mixed": [N, P, (N, D)]}.items()
        for varies in (False, True)
    },
}


def arrays():
    return weight_files.load(WEIGHTS, architecture="LearnedMultigrid")[0]


def without_constants(A, z):
    """z less its means on closed components, which are a matter of rounding and none of the solver's."""
    z = np.array(z, np.float64).reshape(A.grid_shape)
    NullSpace(A).project(z)
    return z


def relative(found, expected):
    return np.linalg.norm(np.asarray(found, float) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("learned", [False, True])
def test_one_cycle_is_that_of_the_numba_kernels(name, learned):
    A = OPERATORS[name]()
    numba = LearnedMultigrid(A) if learned else Multigrid(A)
    r = gallery.white_noise(A, 1).astype(np.float32)
    expected = numba.apply(r.reshape(-1), np.empty(r.size, np.float32)).reshape(r.shape)
    M = DeviceMultigrid(TorchPoisson(A), weights="learned" if learned else None)
    found = M.apply(torch.tensor(r).reshape(1, *M.operator.shape)).numpy()
    assert relative(without_constants(A, found), without_constants(A, expected)) < 1e-5


EXACT = [name for name in OPERATORS if not any(word in name for word in ("jump", "aniso", "varying", "2-D"))]


@pytest.mark.parametrize("name", EXACT)
def test_in_double_precision_it_is_the_oracle(name):
    # Faces that single precision holds, for the oracle's hierarchy comes from it.
    A = OPERATORS[name]()
    model = train_multigrid.CutCells(0)
    model.begin_with(arrays())
    oracle = TorchMultigrid(LearnedMultigrid(A))
    r = torch.tensor(gallery.white_noise(A, 1)).reshape(A._shape3)
    M = DeviceMultigrid(TorchPoisson(A), weights="learned", dtype=torch.float64)
    with torch.no_grad():
        relaxation = [
            torch.tensor(w, dtype=torch.float32).double() for w in map(list, model.relaxation(oracle.set_up(model)))
        ]
        expected = oracle.apply(r, relaxation)
        light = oracle.apply(r, [relaxation[0][:2], *relaxation[1:]])
    assert relative(M.apply(r[None])[0], expected.numpy()) < 1e-12
    assert relative(M.apply(r[None], light=torch.tensor([True]))[0], light.numpy()) < 1e-12


@pytest.mark.parametrize("boundary", [P, [P, N, (N, D)]])
@pytest.mark.parametrize(("shape", "varies"), [((5, 7, 4), True), ((7, 11), False)])
def test_odd_periodic_axes_leave_it_symmetric_and_positive_definite(shape, boundary, varies):
    A = porous(shape, boundary[: len(shape)] if isinstance(boundary, list) else boundary, varies, seed=3)
    M = DeviceMultigrid(TorchPoisson(A), weights="learned", dtype=torch.float64, coarsest=12)
    assert M.levels[0].odd
    inside = np.flatnonzero(A.unknowns.ravel())
    unit = torch.zeros(inside.size, A.unknowns.size, dtype=torch.float64)
    unit[range(inside.size), inside] = 1
    columns = M.apply(unit.reshape(-1, *M.operator.shape)).reshape(inside.size, -1).numpy()[:, inside]
    values, vectors = np.linalg.eigh(A.to_sparse().toarray())
    keep = values > 1e-9 * values[-1]
    rest, scale = vectors[:, keep], 1 / np.sqrt(values[keep])
    reduced = (rest.T @ columns @ rest) / scale[:, None] / scale
    assert abs(reduced - reduced.T).max() < 1e-9 * abs(reduced).max()
    assert np.linalg.eigvalsh((reduced + reduced.T) / 2)[0] > 1e-3


@pytest.mark.parametrize("learned", [None, "learned"])
def test_a_batch_of_domains_is_each_domain_by_itself(learned):
    shape = (17, 14, 19)
    several = [gallery.problems[name](shape, seed=2) for name in ("rooms", "thin_gaps", "random_spheres")]
    r = torch.tensor(np.stack([gallery.white_noise(A, k) for k, A in enumerate(several)]), dtype=torch.float32)
    found = DeviceMultigrid(TorchPoisson(several), weights=learned).apply(r)
    for k, A in enumerate(several):
        alone = DeviceMultigrid(TorchPoisson(A), weights=learned)
        assert relative(found[k], alone.apply(r[k : k + 1])[0].numpy()) < 1e-6
        # Systems of one domain, light for one of them.
        light = torch.tensor([False, True])
        both = alone.apply(torch.stack([r[k], 2 * r[k]]), light=light)
        assert relative(both[0], found[k].numpy()) < 1e-6
        assert relative(both[1], 2 * alone.apply(r[k : k + 1], light=light[1:])[0].numpy()) < 1e-6


def test_weights_that_are_absent_are_named(tmp_path):
    with pytest.raises(weight_files.WeightsError, match="does not exist"):
        DeviceMultigrid(TorchPoisson(gallery.sphere((9, 8))), weights=tmp_path / "none.safetensors")
