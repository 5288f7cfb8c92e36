"""What several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir():
    """The folder of shared training and validation data, which is no part of the project."""
    given = os.environ.get("DECONJUGATE_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set DECONJUGATE_DATA to its folder")
    return folder


@pytest.fixture
def one_torch_thread():
    """Torch on one thread: several are slower on small tensors, and round otherwise."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
