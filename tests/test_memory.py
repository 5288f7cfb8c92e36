"""Work memory that is used again must never be used twice at a time."""

import gc
import sys
import threading

import numpy as np
import pytest

from deconjugate.solver import PoissonOperator, PoissonSolver, memory, solve


def address(array):
    return array.ctypes.data


def test_memory_left_behind_is_given_again():
    first = memory.empty((211, 1307))
    first[:] = 7
    where = address(first)
    del first
    again = memory.empty(211 * 1307)
    assert address(again) == where
    assert again.shape == (211 * 1307,)
    assert again.dtype == np.float32
    assert again.flags.writeable
    assert again.flags.c_contiguous
    assert again.flags.aligned
    del again
    assert not memory.zeros((211, 1307), np.float32).any()


@pytest.mark.parametrize(
    "cut", [lambda a: a[3:], lambda a: a.reshape(-1)[5:9].reshape(2, 2), lambda a: a.view(np.int32), lambda a: a.T[1]]
)
def test_memory_that_a_view_holds_is_not_given_again(cut):
    first = memory.empty((500, 500))
    where, held = address(first), cut(first)
    first[:] = 3
    del first
    gc.collect()
    other, before = memory.empty((500, 500)), np.array(held)
    assert address(other) != where
    other[:] = np.nan
    assert np.array_equal(held, before)
    del held
    assert address(memory.empty((500, 500))) == where


def test_small_arrays_are_left_to_malloc():
    assert memory.empty((10, 3), np.float64).flags.owndata
    assert memory.empty(0).size == 0


def test_what_is_kept_has_a_limit(monkeypatch):
    monkeypatch.setattr(memory, "_KEPT", 3 << 20)
    monkeypatch.setattr(memory, "_blocks", {})
    arrays = [memory.empty(1 << 18) for _ in range(5)]  # 1 MB each
    addresses = [address(a) for a in arrays]
    while arrays:
        arrays.pop(0)
    assert list(memory._blocks) == addresses[2:]  # the oldest went
    large = memory.empty(1 << 20)
    del large
    assert list(memory._blocks) == addresses[2:]  # too large to be kept


def test_threads_never_share_memory():
    bad, old = [], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(number):
        for turn in range(100):
            mine = [memory.empty(70000) for _ in range(3)]
            for k, one in enumerate(mine):
                one[:] = 10 * number + k
            bad.extend((number, turn) for k, one in enumerate(mine) if not (one == 10 * number + k).all())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(old)
    assert not bad


def test_answers_and_solvers_that_live_at_the_same_time_do_not_disturb_each_other():
    rng = np.random.default_rng(5)
    cells = rng.random((270, 290)) > 0.1
    A, B = PoissonOperator(cells), PoissonOperator(~cells | (rng.random(cells.shape) > 0.5), boundary="dirichlet")
    a, b = (rng.standard_normal(cells.shape) * op.unknowns for op in (A, B))
    alone = solve(A, a).x, solve(B, b).x
    kept = alone[0].copy(), alone[1].copy()
    first, second = PoissonSolver(A), PoissonSolver(B)
    for _ in range(2):
        assert np.array_equal(first.solve(a).x, alone[0])
        assert np.array_equal(second.solve(b).x, alone[1])
    assert np.array_equal(alone[0], kept[0])
    assert np.array_equal(alone[1], kept[1])
