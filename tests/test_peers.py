import importlib.util
from pathlib import Path

import numpy as np
import pytest

from deconjugate.solver.gallery import problems, right_hand_sides

PEERS_FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "peers.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("peers", PEERS_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("problem", ["sphere", "rooms", "free_surface"])
@pytest.mark.parametrize("name", ["SciPy CG", "IC(0)-CG", "PyAMG SA-CG", "PyAMG RS-CG", "AMGCL SA-CG", "AMGCL RS-CG"])
def test_every_peer_solves_what_it_is_compared_on(module, name, problem):
    if module.absent(name):
        pytest.skip(module.absent(name))
    A = problems[problem]((18, 15, 16), seed=1)
    b = right_hand_sides["divergence"](A, seed=2)[A.unknowns]
    matrix = module.as_peers_want(A.to_sparse())
    x, iterations, setup, seconds = module.peers[name](matrix, b, 1e-6)
    assert np.linalg.norm(b - matrix @ x) < 1.1e-6 * np.linalg.norm(b)
    assert 0 < iterations < 200
    assert setup >= 0 < seconds


def test_an_absent_peer_says_what_it_needs(module, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert "libboost-dev" in module.absent("AMGCL SA-CG")
    assert "pip install" in module.absent("PyAMG SA-CG")
    assert module.absent("SciPy CG") is None


def test_pinning_leaves_regular_matrices_alone(module):
    matrix = module.as_peers_want(problems["box"]((9, 8), boundary="dirichlet").to_sparse())
    assert module._pinned(matrix) is matrix
    rooms = module.as_peers_want(problems["rooms"]((9, 8)).to_sparse())
    changed = module._pinned(rooms) - rooms
    assert changed.count_nonzero() == 4
    assert np.linalg.matrix_rank(module._pinned(rooms).toarray()) == rooms.shape[0]
