"""What README.md tells people to type works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from deconjugate.astro.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CONSOLE = re.findall(r"^\$ (.*)$", README, re.MULTILINE)


def run(block, folder):
    """The numbers and words that a block prints, in a Python of its own where warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", block]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()


def test_the_solver_does_what_its_example_says(tmp_path):
    converged, residual, iterations = run(PYTHON[0], tmp_path)
    assert converged == "True"
    assert float(residual) < 1e-6
    assert int(iterations) < 9


def test_the_solver_of_a_moving_domain_says_how_it_ended(tmp_path):
    assert "iterations," in run(PYTHON[1], tmp_path)


def test_the_deconvolution_comes_as_near_as_its_example_says(tmp_path):
    chi2, flux, error = map(float, run(PYTHON[2], tmp_path))
    assert 0.9 < chi2 < 1.1
    assert 0.98 < flux < 1.02
    assert error < 0.0065


def test_no_example_is_left_out():
    assert len(PYTHON) == 3
    assert len(CONSOLE) == 7


@pytest.mark.parametrize("line", CONSOLE)
def test_the_command_line_is_understood(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(line)
    assert name == "deconjugate"
    # Usage is checked first and would exit; then the file is missing.
    assert main(arguments) == 1
    assert "no such file: " in capsys.readouterr().err


def test_the_make_commands_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_files_and_scripts_named_exist():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    scripts = re.findall(r"python (benchmarks/\w+\.py)", README)
    assert links
    assert scripts
    paths = [link.partition("#")[0] or "README.md" for link in links]
    assert [path for path in paths + scripts if not (ROOT / path).exists()] == []
    for path, link in zip(paths, links):
        if "#" in link:
            headings = re.findall(r"^#+ (.*)", (ROOT / path).read_text(), re.MULTILINE)
            assert link.partition("#")[2] in [heading.lower().replace(" ", "-") for heading in headings]


def test_pictures_stay_small():
    assert all(picture.stat().st_size < 300_000 for picture in (ROOT / "docs" / "images").iterdir())
