"""The installed package: nothing missing from it, nothing heavy behind a light import."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_code_is_a_listed_package():
    setuptools = PROJECT["tool"]["setuptools"]
    folders = {
        str(init.parent.relative_to(ROOT))
        for top in ("operators", "solver", "astro")
        for init in (ROOT / top).rglob("__init__.py")
    }
    assert set(setuptools["package-dir"].values()) == folders
    assert set(setuptools["packages"]) == set(setuptools["package-dir"])
    assert all(name == "deconjugate." + path.replace("/", ".") for name, path in setuptools["package-dir"].items())


@pytest.mark.parametrize("package", ["deconjugate.operators", "deconjugate.solver", "deconjugate.astro"])
def test_types_are_shipped(package):
    assert files(package).joinpath("py.typed").is_file()


def test_no_file_makes_a_second_copy_of_a_module():
    assert not (ROOT / "tests" / "__init__.py").exists()
    assert not (ROOT / "conftest.py").exists()
    assert not (ROOT / "__init__.py").exists()


def test_the_console_command_is_installed():
    (entry,) = entry_points(group="console_scripts", name="deconjugate")
    assert entry.value == "deconjugate.astro.cli:main"
    assert callable(entry.load())


@pytest.mark.parametrize("module", ["deconjugate.operators", "deconjugate.solver", "deconjugate.astro"])
def test_import_is_light(module):
    code = f"import sys, {module}; print(*(m for m in ('torch', 'matplotlib', 'pywt', 'pyamg') if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
