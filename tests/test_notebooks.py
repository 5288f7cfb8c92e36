"""The notebooks run in short mode, assert their own numbers, and come with outputs that anyone may see."""

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
NEEDS = {"sharper_images": "skimage", "swin_unet": "skimage"}  # the deep field lies in that wheel
SHORT = 'os.environ.get("DECONJUGATE_NOTEBOOKS") == "short"'


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def figures(notebook):
    kinds = ("image/png", "image/jpeg", "image/svg+xml")
    return [output for output in outputs(notebook) if any(kind in output.get("data", {}) for kind in kinds)]


def complaints(notebook):
    return [o for o in outputs(notebook) if o.output_type == "error" or o.get("name") == "stderr"]


def last_value(notebook):
    """What the last cell shows."""
    return ast.literal_eval(outputs(notebook)[-1]["data"]["text/plain"])


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """All notebooks that can be run here, two at a time, from a folder elsewhere; and what went wrong."""
    folder = tmp_path_factory.mktemp("notebooks")
    present = [name for name in NAMES if NEEDS.get(name) is None or find_spec(NEEDS[name])]
    command = [sys.executable, FOLDER / "execute.py", "--short", "--jobs", "2", "--output", folder, *present]
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
    return folder, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_its_numbers_hold(name, executed):
    needed = NEEDS.get(name)
    if needed and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed: pip install scikit-image")
    folder, said = executed
    assert (folder / f"{name}.ipynb").exists(), said
    notebook = nbformat.read(folder / f"{name}.ipynb", 4)
    assert not complaints(notebook)
    assert len(figures(notebook)) == len(figures(nbformat.read(FOLDER / f"{name}.ipynb", 4)))


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_with_its_figures_and_nothing_private(name):
    text = (FOLDER / f"{name}.ipynb").read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"/(work|tmp|home|root|Users)/", text)
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    nbformat.validate(notebook)
    assert figures(notebook)
    assert not complaints(notebook)
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert source.count(SHORT) == 1
    assert "assert " in source


def test_smoke_leaves_no_divergence():
    numbers = last_value(nbformat.read(FOLDER / "smoke.ipynb", 4))
    assert numbers["steps"] == 100
    assert 0 < numbers["largest divergence after projection"] < 1e-6


def test_the_list_is_complete():
    listed = re.findall(r"\]\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text())
    assert sorted(listed) == NAMES
    assert len(NAMES) == 7


def test_a_short_run_never_replaces_a_notebook(tmp_path):
    command = [sys.executable, str(FOLDER / "execute.py"), "--short", "poisson"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "needs --output" in done.stderr
