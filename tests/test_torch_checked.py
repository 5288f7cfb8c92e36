"""Kernels that fail or are wrong, graphs that cannot be captured, memory that is full: a warning, and the answer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deconjugate.solver import (
    PoissonOperator,
    PoissonSolver,
    gallery,
    graph_torch,
    grid_solver_torch,
    kernels_torch,
    solve,
)
from deconjugate.solver.checked_torch import _LEVELS, _VECTORS, CheckedKernels, _shape
from deconjugate.solver.grid_solver_torch import DeviceGridSolver
from deconjugate.solver.kernels_torch import plain_kernels

HERE, CPU = {"device": "torch:cpu"}, torch.device("cpu")


def with_fault(name, fault):
    """Kernels under the name of Triton of which one has a fault; how often each was called."""
    plain, calls = plain_kernels(), dict.fromkeys((*_LEVELS, *_VECTORS), 0)

    def counted(one, work):
        def run(*arguments):
            calls[one] += 1
            return fault(work, *arguments) if one == name else work(*arguments)

        return run

    parts = {}
    for part, names in (("multigrid", _LEVELS), ("conjugate", _VECTORS)):
        parts[part] = SimpleNamespace(**{one: counted(one, getattr(getattr(plain, part), one)) for one in names})
    return SimpleNamespace(**parts, name="triton"), calls


def does_not_compile(work, *arguments):
    raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")


def forgets_a_cell(work, *arguments):
    """Leaves one entry of new memory as it came; of p in its place, breaks it."""
    out = work(*arguments)
    if out is None:
        arguments[0].view(-1)[0] = torch.nan
        return None
    fresh = [torch.empty_like(one) for one in ([out] if torch.is_tensor(out) else out)]
    for one, other in zip(fresh, [out] if torch.is_tensor(out) else out):
        one.view(-1)[1:] = other.reshape(-1)[1:]
    return fresh[0] if torch.is_tensor(out) else fresh


def is_off(work, *arguments):
    out = work(*arguments)
    for tensor in [out] if torch.is_tensor(out) else list(out or arguments[:1]):
        tensor *= 1.001
    return out


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def problem():
    """Two domains with a varying coefficient, of more than one level, and what plain torch makes of them."""
    A = [gallery.problems["coefficient_jump"]((9, 70), seed=s) for s in (1, 2)]
    b = np.stack([gallery.white_noise(one, 1) for one in A])
    return A, b, solve(A, b, **HERE)


@pytest.mark.parametrize("fault", [does_not_compile, forgets_a_cell, is_off])
@pytest.mark.parametrize("name", [*_LEVELS, *_VECTORS])
def test_a_broken_kernel_gives_way_to_plain_torch(monkeypatch, problem, name, fault):
    A, b, expected = problem
    fast, _ = with_fault(name, fault)
    checked = CheckedKernels(fast, plain_kernels(), CPU)
    monkeypatch.setattr(grid_solver_torch, "kernels_for", lambda device: checked)
    reason = {
        does_not_compile: "fails with RuntimeError: Failed to find C compiler.;",
        forgets_a_cell: "is nan off the answer",
        is_off: r"is \d\.\de[-+]\d\d off the answer of plain torch on random input",
    }[fault]
    solver = PoissonSolver(A, **HERE)
    with pytest.warns(RuntimeWarning, match=f"triton's kernel {name} {reason}") as told:
        found = solver.solve(b)
    assert len(told) == 1
    assert "on cpu plain torch does the work of all kernels" in str(told[0].message)
    np.testing.assert_array_equal(found.x, expected.x)
    assert found.converged.all()
    np.testing.assert_array_equal(solver.solve(b).x, expected.x)  # without a further warning
    assert checked.name == "torch"


def test_a_kernel_is_checked_once_for_a_kind_of_grid(monkeypatch):
    A = gallery.problems["random_spheres"]((12, 12, 12), seed=1)
    b = gallery.white_noise(A, 1)
    fast, calls = with_fault(None, None)
    checked = CheckedKernels(fast, plain_kernels(), CPU)
    monkeypatch.setattr(grid_solver_torch, "kernels_for", lambda device: checked)
    first = solve(A, b, **HERE)
    once, seen = dict(calls), len(checked._sound)
    again = solve(A, b, **HERE)
    np.testing.assert_array_equal(first.x, again.x)
    assert checked.name == "triton"
    assert len(checked._sound) == seen
    levels = len(DeviceGridSolver(A, "auto", CPU).cycle().levels) - 1
    for name in calls:
        assert once[name] - (calls[name] - once[name]) == (levels if name in _LEVELS else 1), name
    # Larger grids of the same kind, to the compiler, are not checked anew.
    kinds = {_shape(shape) for shape in ((256, 256, 256), (512, 256, 512), (480, 512, 1024))}
    assert len(kinds) == 1
    for shape in ((256, 100, 300), (1, 4096, 65), (7, 64, 64), (35, 34, 129)):
        small = _shape(shape)
        assert np.prod(small) < 2**18
        for n, m in zip(shape, small):
            assert (n % 2, n % 16 == 0, n == 1) == (m % 2, m % 16 == 0, m == 1)
        assert min(shape[2], 65) == min(small[2], 65)


def test_a_grid_beyond_offsets_of_32_bits_is_left_to_plain_torch():
    fast, calls = with_fault(None, None)
    plain, ours = with_fault(None, None)
    plain.name = "torch"
    checked = CheckedKernels(fast, plain, CPU)
    p, z = (torch.empty(1, 2048, 1024, 1024, device="meta") for _ in range(2))  # of no memory
    on, beta = torch.empty(1, dtype=torch.bool, device="meta"), torch.empty(1, dtype=torch.float64, device="meta")
    checked.conjugate.turn(p, z, beta, on)
    level = SimpleNamespace(size=2**31, shape=p.shape[1:])
    with pytest.raises(AttributeError, match="colours"):  # by plain torch, which asks for more than there is
        checked.multigrid.smooth(level, p, beta[None])
    with pytest.raises(AttributeError, match="apply"):
        checked.conjugate.multiply(level, p, z, on)
    assert not any(calls.values())
    assert {name: count for name, count in ours.items() if count} == {"turn": 1, "smooth": 1, "multiply": 1}


def test_where_triton_cannot_be_imported_it_is_said(monkeypatch):
    monkeypatch.setattr(kernels_torch, "_has_triton", lambda: True)
    monkeypatch.setattr(kernels_torch, "triton_kernels", lambda: (_ for _ in ()).throw(ImportError("libcuda.so.1")))
    kernels_torch._checked.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"Triton cannot be imported \(ImportError: libcuda.so.1\); on cuda plain"):
        assert kernels_torch.kernels_for("cuda").name == "torch"
    assert kernels_torch.kernels_for("cuda").name == "torch"
    kernels_torch._checked.cache_clear()


def test_a_graph_that_cannot_be_captured_costs_a_warning(monkeypatch):
    A = gallery.problems["random_spheres"]((12, 11, 13), seed=1)
    b = gallery.white_noise(A, 1)
    expected = solve(A, b, **HERE)
    tried = []

    def fails(work, device):
        tried.append(device)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graph_torch, "can_capture", lambda device: True)
    monkeypatch.setattr(graph_torch, "on_another_stream", lambda work, device: work())
    monkeypatch.setattr(graph_torch, "captured", fails)
    monkeypatch.setattr(graph_torch, "_told", set())
    solver = PoissonSolver(A, **HERE)
    with pytest.warns(
        RuntimeWarning, match=r"captured on cpu \(operation not permitted when stream is capturing\)"
    ) as w:
        found = solver.solve(b)
    assert len(w) == 1
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(solver.solve(b).x, expected.x)
    np.testing.assert_array_equal(PoissonSolver(A, **HERE).solve(b).x, expected.x)  # without another warning
    assert len(tried) == 2

    def full(work, device):
        raise torch.cuda.OutOfMemoryError("full")

    monkeypatch.setattr(graph_torch, "captured", full)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="the memory of cpu has no room for 1 systems of"):
        PoissonSolver(A, **HERE).solve(b)


@pytest.mark.parametrize("form", ["array", "tensor", "flat"])
def test_where_memory_is_full_right_hand_sides_are_solved_in_parts(monkeypatch, form):
    A = gallery.problems["random_spheres"]((9, 11, 10), seed=1)
    b = np.stack([gallery.white_noise(A, k) for k in range(7)]).reshape(7, 1, 9, 11, 10)
    if form == "tensor":
        b = torch.from_numpy(b)
    if form == "flat":
        b = b[..., A.unknowns]
    expected, inner = solve(A, b, **HERE), DeviceGridSolver.solve
    sizes = []

    def small(self, systems, *rest):
        sizes.append(len(systems))
        if len(systems) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried")
        return inner(self, systems, *rest)

    monkeypatch.setattr(DeviceGridSolver, "solve", small)
    solver = PoissonSolver(A, **HERE)
    with pytest.warns(
        RuntimeWarning, match="the memory of cpu is full: right-hand sides are solved . at a time"
    ) as told:
        found = solver.solve(b)
    assert sizes == [7, 4, 2, 2, 2, 1]
    assert len(told) == 2
    assert found.x.shape == expected.x.shape
    np.testing.assert_allclose(np.asarray(found.x), np.asarray(expected.x), atol=1e-9)
    np.testing.assert_array_equal(found.iterations, expected.iterations)
    assert solver.solve(b, x0=found.x).iterations.max() == 0  # and no further warning
    several = PoissonSolver([A, A, A], **HERE)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"has no room for 3 systems of \(9, 11, 10\): give fewer"):
        several.solve(np.asarray(b).reshape(7, *b.shape[2:])[:3] if form != "flat" else np.ones((3, 9, 11, 10)))


def test_where_memory_is_full_for_the_set_up_it_is_said(monkeypatch):
    def full(*arguments, **options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried")

    monkeypatch.setattr(grid_solver_torch, "TorchPoisson", full)
    A = PoissonOperator(np.ones((5, 6), bool))
    for operators in (A, [A, A]):
        with pytest.raises(
            torch.cuda.OutOfMemoryError, match=r"no room for the set-up of grids of \(5, 6\): give fewer"
        ):
            PoissonSolver(operators, **HERE)
