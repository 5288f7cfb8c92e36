"""The API reference is made of the docstrings without a warning."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_reference_is_built_without_warnings(tmp_path):
    pytest.importorskip("pdoc", reason="the reference is built with pdoc")
    command = [sys.executable, ROOT / "docs" / "api.py", tmp_path / "pages"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    pages = tmp_path / "pages" / "deconjugate"
    for page, name in (("operators", "Starlet"), ("solver", "PoissonSolver"), ("astro", "deconvolve")):
        assert f'id="{name}"' in (pages / f"{page}.html").read_text()
    assert (pages / "solver" / "gallery.html").exists()
    assert not list(pages.rglob("_*.html"))
