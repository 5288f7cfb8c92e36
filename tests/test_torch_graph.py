"""What a CUDA graph would do with an iteration, on tensors of the CPU: operations are recorded once and replayed.

A graph knows addresses and no values: what was read and written is read and written again, at the same places, and what
the host does in between is not done. A recording by torch's dispatcher is the same: it keeps the tensors themselves.
"""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deconjugate.solver import PoissonOperator, PoissonSolver, gallery, graph_torch

HERE = {"device": "torch:cpu"}
# A look at a value, a size that depends on values, and a copy from the host's memory.
FORBIDDEN = ("_local_scalar_dense", "item", "nonzero", "masked_select", "equal", "unique", "lift_fresh", "is_nonzero")


pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Recording(TorchDispatchMode):
    """The operations of some work, to be done again."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        assert name not in FORBIDDEN, f"{name} cannot be captured"
        if name.startswith(("index", "_index")):
            masks = [i for i in (arguments[1] if len(arguments) > 1 else []) or [] if torch.is_tensor(i)]
            assert not any(i.dtype in (torch.bool, torch.uint8) for i in masks), (
                f"{name} with a mask looks at its values"
            )
        out = function(*arguments, **(options or {}))
        self.steps.append((function, arguments, options or {}, out))
        return out

    def replay(self):
        for function, arguments, options, out in self.steps:
            again = function(*arguments, **options)
            for new, old in [(again, out)] if torch.is_tensor(out) else zip(again, out):
                if torch.is_tensor(old) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)


def on_record(monkeypatch):
    """Let iterations be captured and replayed; the recordings that are made."""
    made = []

    def captured(work, device):
        recording = Recording()
        state = [t.clone() for t in STATE[-1]()]
        with recording:
            work()
        for t, value in zip(STATE[-1](), state):
            t.copy_(value)  # what is captured is not done
        made.append(recording)
        return recording.replay

    init = graph_torch.Replayed.__init__

    def begin(self, work, state, device):
        STATE.append(state)
        init(self, work, state, device)

    monkeypatch.setattr(graph_torch.Replayed, "__init__", begin)
    monkeypatch.setattr(graph_torch, "can_capture", lambda device: True)
    monkeypatch.setattr(graph_torch, "on_another_stream", lambda work, device: work())
    monkeypatch.setattr(graph_torch, "captured", captured)
    return made


STATE = []
N, D, P = "neumann", "dirichlet", "periodic"


def porous(shape, boundary, coefficient):
    rng = np.random.default_rng(3)
    beta = np.exp(rng.uniform(-2, 2, shape)) if coefficient else None
    return PoissonOperator(rng.random(shape) > 0.2, boundary=boundary, coefficient=beta)


CASES = {
    "uniform": (lambda: gallery.problems["random_spheres"]((10, 9, 11), seed=1), "learned"),
    "faces": (lambda: gallery.problems["coefficient_jump"]((10, 9, 11), seed=1), "learned"),
    "domains": (lambda: [gallery.problems[n]((21, 34), seed=1) for n in ("rooms", "thin_gaps", "sphere")], "learned"),
    "odd and periodic": (lambda: porous((27, 31), [P, (N, D)], True), "multigrid"),
    "transforms": (lambda: porous((9, 8, 10), [P, N, (D, N)], False), "dct"),
    "no preconditioner": (lambda: porous((9, 8), N, True), "cg"),
    "double precision": (lambda: porous((25, 30), N, True), "multigrid in double precision"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_iteration_that_is_replayed_is_that_which_is_done(monkeypatch, name):
    make, method = CASES[name]
    A = make()
    several = A if isinstance(A, list) else [A] * 3
    b = np.stack([(k + 1) * gallery.white_noise(one, k) for k, one in enumerate(several)])
    given = "multigrid" if "double" in method else method
    expected = []
    for captured in (False, True):
        with monkeypatch.context() as patch:
            made = on_record(patch) if captured else []
            solver = PoissonSolver(A, method=given, **HERE)
            solver._on_device.grid.method = method
            found = [solver.solve(k * b, rtol=1e-7) for k in (1, 2)]
            found.append(solver.solve(b, x0=found[0].x, rtol=1e-9))
        for one in found:
            assert one.converged.all()
        if captured:
            assert len(made) == 1
            for one, other in zip(found, expected):
                np.testing.assert_array_equal(one.x, other.x)
                np.testing.assert_array_equal(one.iterations, other.iterations)
        expected = found


def test_a_recording_is_made_anew_for_another_batch_and_keeps_what_it_reads(monkeypatch):
    A = gallery.problems["random_spheres"]((12, 11), seed=1)
    b = np.stack([gallery.white_noise(A, k) for k in range(4)])
    expected = [PoissonSolver(A, **HERE).solve(b[:k]).x for k in (4, 2, 4)]
    made = on_record(monkeypatch)
    solver = PoissonSolver(A, **HERE)
    for k, other in zip((4, 2, 4), expected):
        np.testing.assert_allclose(solver.solve(b[:k]).x, other, atol=1e-12)
    assert len(made) == 3


def test_few_operations_and_no_look_at_values_between_checks(monkeypatch):
    """In one solve the host asks a number of times that does not grow with its iterations but by every second one."""
    A = gallery.problems["thin_gaps"]((12, 11, 13))
    b = gallery.white_noise(A, 1)
    asked = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            asked.append(function.name())
            return function(*arguments, **(options or {}))

    counts = []
    for rtol in (1e-3, 1e-5):
        solver = PoissonSolver(A, method="cg", **HERE)
        asked.clear()
        with Count():
            result = solver.solve(b, rtol=rtol)
        looks = sum("_local_scalar_dense" in name for name in asked)
        counts.append((looks, result.iterations))
    (few, short), (many, long) = counts
    assert long > short + 20
    assert many - few <= (long - short) / 2 + 1
