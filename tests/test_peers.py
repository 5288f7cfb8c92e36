"""The benchmarks' peers: each solves what it is compared on, in a process that may hang or crash."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from deconjugate.solver.gallery import problems, right_hand_sides

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = ("SciPy CG", "IC(0)-CG", "PyAMG SA-CG", "PyAMG RS-CG", "AMGCL SA-CG", "AMGCL RS-CG", "PETSc hypre-CG")
STRANGE = """
import os, time
from pathlib import Path

def hangs(A, b, rtol):
    time.sleep(1e6)

def dies(A, b, rtol):
    os.abort()

def fails(A, b, rtol):
    raise MemoryError("std::bad_alloc")

def fails_at_every_second_run(A, b, rtol):
    global ran
    if "ran" in globals():
        raise MemoryError("std::bad_alloc")
    ran = True
    print("not an answer", flush=True)
    return b, os.getpid(), 1e3, 1e4
"""


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    for name in ("peers", "peer_process"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import peer_process
    import peers

    return peers, peer_process


@pytest.fixture
def strange(benchmarks, tmp_path, monkeypatch):
    """A function that runs one of the strange peers, twice where it can."""
    (tmp_path / "strange.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import strange

    def run(name, limit):
        with benchmarks[1].PeerProcess(getattr(strange, name), np.eye(3), np.arange(3.0), 1e-6, limit=limit) as process:
            return process.run(), process.run()

    return run


@pytest.mark.parametrize("name", NAMES)
def test_every_peer_solves_what_it_is_compared_on(benchmarks, name):
    peers, peer_process = benchmarks
    if peers.absent(name):
        pytest.skip(peers.absent(name))
    for problem in ("sphere", "rooms", "free_surface"):
        A = problems[problem]((18, 15, 16), seed=1)
        b = right_hand_sides["divergence"](A, seed=2)[A.unknowns]
        matrix = peers.as_peers_want(A.to_sparse())
        with peer_process.PeerProcess(peers.peers[name], matrix, b, 1e-6, limit=60) as process:
            x, iterations, setup, seconds = process.run()
        assert np.linalg.norm(b - matrix @ x) < 1.1e-6 * np.linalg.norm(b)
        assert 0 < iterations < 200
        assert setup >= 0 < seconds


def test_a_peer_that_hangs_is_ended_at_the_limit(strange):
    with pytest.raises(TimeoutError, match="> 1 s"):
        strange("hangs", 1)


def test_a_peer_that_crashes_takes_nothing_with_it(strange):
    with pytest.raises(RuntimeError, match="ended by SIGABRT"):
        strange("dies", 60)


def test_a_peer_that_fails_says_why(strange):
    with pytest.raises(RuntimeError, match="MemoryError: std::bad_alloc"):
        strange("fails", 60)


def test_a_peer_that_failed_is_run_again_in_a_new_process_and_its_own_seconds_count(strange):
    (x, first, setup, seconds), (_, second, _, _) = strange("fails_at_every_second_run", 60)
    np.testing.assert_array_equal(x, np.arange(3.0))
    assert (setup, seconds) == (1e3, 1e4)
    assert len({first, second, os.getpid()}) == 3


def test_the_limit_grows_with_our_own_time(benchmarks):
    limit_for = benchmarks[1].limit_for
    assert limit_for(0.01) == 30
    assert limit_for(0.01, 5.0) == 5
    assert limit_for(0.4012) == 81


def test_a_peer_over_the_limit_counts_with_it(benchmarks):
    from suite import best_peer

    solved, ended = {"seconds": [3.0, 2.5, 2.6]}, {"why": "> 30 s", "ended after": 30.0}
    failed = {"why": "ended by SIGSEGV"}
    assert best_peer({"one": ended, "other": solved, "third": failed}) == (2.5, "other", False)
    assert best_peer({"one": ended, "third": failed}) == (30.0, "one", True)
    assert best_peer({"third": failed}) is None


def test_a_table_says_where_a_peer_was_ended(benchmarks, capsys):
    from suite import METHODS, suite_row, summary

    entry = {
        "unknowns": 1234,
        "iterations": dict.fromkeys(METHODS, 4),
        "seconds": {method: [0.3, 0.1, 0.2] for method in METHODS},
    }
    ended = entry | {"peers": {"one": {"why": "> 40 s", "ended after": 40.0}, "other": {"why": "ended by SIGSEGV"}}}
    suite_row("box, 9^3", ended)
    assert capsys.readouterr().out.endswith("| 1.00 | 1.00 | > 200.0 | one > 40 s |\n")
    summary({"box, 9^3": ended, "box, 9^2": entry | {"peers": {"other": {"seconds": [0.8, 0.9]}}}})
    printed = capsys.readouterr().out
    # 200 at the limit and 4 that was measured
    assert "| best peer : learned, geometric mean (1 at the limit of time) | >= 15 | 28.28 | yes |" in printed
    assert "| box, 9^3 | other | ended by SIGSEGV |" in printed


def test_an_absent_peer_says_what_it_needs(benchmarks, monkeypatch):
    peers, _ = benchmarks
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert "libboost-dev" in peers.absent("AMGCL SA-CG")
    assert "pip install" in peers.absent("PyAMG SA-CG")
    assert peers.absent("SciPy CG") is None
    assert peers.module_of(peers.amgcl_rs_cg) == "pyamgcl"
    assert peers.module_of(np.dot) is None


def test_pinning_leaves_regular_matrices_alone(benchmarks):
    peers, _ = benchmarks
    matrix = peers.as_peers_want(problems["box"]((9, 8), boundary="dirichlet").to_sparse())
    assert peers._pinned(matrix) is matrix
    rooms = peers.as_peers_want(problems["rooms"]((9, 8)).to_sparse())
    changed = peers._pinned(rooms) - rooms
    assert changed.count_nonzero() == 4
    assert np.linalg.matrix_rank(peers._pinned(rooms).toarray()) == rooms.shape[0]
