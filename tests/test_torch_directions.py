"""Deep conjugate directions on a torch device against the processor's loop, on tensors of the CPU."""

import numpy as np
import pytest
import torch

from deconjugate.operators.poisson_torch import TorchPoisson
from deconjugate.solver import SolveStatus, gallery
from deconjugate.solver import deep_conjugate_directions as on_the_processor
from deconjugate.solver.conjugate_torch import deep_conjugate_directions


def rough(A):
    """A guess that is neither linear nor symmetric."""
    d = np.maximum(A.to_sparse(compress=False).diagonal().reshape(A.grid_shape), 1e-300)
    return lambda r: np.where(A.unknowns, r + 0.2 * abs(r) * A.unknowns, 0) / d


def on_tensors(guess):
    return lambda r, here: torch.stack([torch.from_numpy(guess(one)) for one in r.numpy()])


@pytest.mark.parametrize("window", [0, 1, 2, 3])
def test_takes_the_steps_of_the_processor(window):
    A = gallery.problems["open_top"]((9, 8), seed=1)
    same, guess = TorchPoisson(A), rough(A)
    b = np.stack([gallery.white_noise(A, k) for k in range(3)])
    x = torch.zeros(3, 9, 8, dtype=torch.float64)
    target = [1e-3 * np.linalg.norm(one) for one in b]
    target[1] *= 100
    status, norms, _ = deep_conjugate_directions(
        lambda u, here: same.apply(u[:, :, None])[:, :, 0],
        torch.tensor(b),
        x,
        [on_tensors(guess)],
        target,
        window=window,
        maxiter=30,
    )
    for k in range(3):
        expected, ended, history = on_the_processor(A, b[k], guess, window=window, rtol=0.0, atol=target[k], maxiter=30)
        assert status[k] is ended
        np.testing.assert_allclose(norms[k], history, rtol=1e-6)
        np.testing.assert_allclose(x[k].numpy(), expected, atol=1e-6 * abs(expected).max())


@pytest.mark.parametrize("fault", [torch.nan, 0.0])
def test_a_failing_proposal_is_replaced_for_its_system_alone(fault):
    d = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    b = torch.ones(2, 4, dtype=torch.float64)
    x = torch.zeros_like(b)

    def spoilt(r, here):
        return torch.where(here[:, None] == 0, r / d, fault * r)

    status, norms, _ = deep_conjugate_directions(lambda u, here: d * u, b, x, [spoilt], [1e-9, 1e-9])
    assert status == [SolveStatus.CONVERGED] * 2
    assert (len(norms[0]), len(norms[1]) > 2) == (2, True)
    torch.testing.assert_close(x, b / d)


def test_a_proposal_is_asked_for_the_systems_that_go_on_alone():
    d = torch.linspace(1, 9, 12, dtype=torch.float64)
    b, asked = torch.ones(3, 12, dtype=torch.float64), []

    def guess(r, here):
        asked.append(here.tolist())
        return r

    target, x = [1e-2, 1e-9, 1e9], torch.zeros(3, 12, dtype=torch.float64)
    status, norms, _ = deep_conjugate_directions(lambda u, here: d * u, b, x, [guess], target)
    steps = [len(one) - 1 for one in norms]
    assert status == [SolveStatus.CONVERGED] * 3
    assert 0 == steps[2] < steps[0] < steps[1]
    together = -(-steps[0] // 2) * 2  # the host asks every second step
    assert asked == [[0, 1]] * together + [[1]] * (-(-steps[1] // 2) * 2 - together)
    assert not x[2].any()
    for k in (0, 1):
        assert float((b[k] - d * x[k]).norm()) == pytest.approx(norms[k][-1], rel=1e-6)


def test_a_proposal_that_does_not_help_is_given_up_for_its_system():
    d, asked = torch.linspace(1, 9, 12, dtype=torch.float64), []
    b = torch.ones(2, 12, dtype=torch.float64)
    b[1, 1:] = 0

    def poor(r, here):
        asked.append(here.tolist())
        return torch.where(here[:, None] == 1, r, torch.eye(12, dtype=torch.float64)[len(asked)])

    A, x = lambda u, here: d * u, torch.zeros_like(b)
    status, norms, taken = deep_conjugate_directions(A, b, x, [poor, lambda r, here: r / d], [1e-9, 1e-9], patience=3)
    assert status == [SolveStatus.CONVERGED] * 2
    assert (len(norms[0]) - 1, len(norms[1]) - 1) == (5, 1)  # one more than patience, and the step that solves
    assert taken.tolist() == [[True, True, False], [True, False, False]]
    assert asked == [[0, 1]] * 2 + [[0]] * 2


def test_how_it_ends():
    d = torch.tensor([1.0, -1.0], dtype=torch.float64)
    b, x = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    status, norms, _ = deep_conjugate_directions(lambda u, here: d * u, b, x, [], [1e-9, 1e-9])
    assert status == [SolveStatus.INDEFINITE, SolveStatus.CONVERGED]
    assert (len(norms[0]), len(norms[1])) == (1, 2)
    d = torch.tensor([1.0, 3.0], dtype=torch.float64)
    status, norms, _ = deep_conjugate_directions(lambda u, here: d * u, b, 0 * x, [], [1e-12, 2.0], maxiter=1)
    assert status == [SolveStatus.MAXITER, SolveStatus.CONVERGED]
    assert (len(norms[0]), len(norms[1])) == (2, 1)
    status, *_ = deep_conjugate_directions(lambda u, here: u, torch.nan * b, 0 * x, [], [1.0, 1.0])
    assert status == [SolveStatus.NON_FINITE] * 2
    with pytest.raises(ValueError, match="window is -1; it must be 0 or more"):
        deep_conjugate_directions(lambda u, here: u, b, x, [], [1.0, 1.0], window=-1)
