"""The API reference is made of the docstrings without a warning."""

import subprocess
import sys
from importlib import import_module
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


@pytest.mark.parametrize("package", ["operators", "solver", "astro"])
def test_what_a_package_offers_has_an_example(package):
    """The examples themselves are run by the tests of the docstrings."""
    module = import_module(f"deconjugate.{package}")
    offered = {name: getattr(module, name) for name in module.__all__}
    assert [name for name, value in offered.items() if callable(value) and ">>>" not in (value.__doc__ or "")] == []
