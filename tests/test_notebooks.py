"""The notebooks run, and their numbers are what they say."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
# A process of its own: the client's event loop and its warnings are no concern of these tests.
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def last_value(notebook):
    """What the last cell shows."""
    return ast.literal_eval(outputs(notebook)[-1]["data"]["text/plain"])


def execute(name, folder, monkeypatch):
    monkeypatch.setenv("DECONJUGATE_SHORT", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    copy = folder / name
    command = [sys.executable, "-c", EXECUTE, str(FOLDER / name), str(copy)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(copy, 4)


def test_smoke_leaves_no_divergence(tmp_path, monkeypatch):
    short = last_value(execute("smoke.ipynb", tmp_path, monkeypatch))
    whole = last_value(nbformat.read(FOLDER / "smoke.ipynb", 4))
    assert short["steps"] < whole["steps"] == 100
    for numbers in (short, whole):
        assert 0 < numbers["largest divergence after projection"] < 1e-6
        assert numbers["largest divergence before"] > 1e-3
        assert numbers["iterations, fewest and most"][1] <= 15


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_come_with_their_figures_and_nothing_private(name):
    text = (FOLDER / name).read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"/(work|tmp|home|root|Users)/", text)
    notebook = nbformat.read(FOLDER / name, 4)
    nbformat.validate(notebook)
    shown = outputs(notebook)
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert not [output for output in shown if output.output_type in ("error", "stream")]


def test_there_are_notebooks():
    assert NOTEBOOKS
