"""What an import brings along is held, rather than its seconds; ``benchmarks/bench_imports.py`` prints those."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "matplotlib", "pywt", "pyamg", "astropy", "photutils", "sep", "skimage", "safetensors", "tqdm"}
# Parts of SciPy that take as long as the whole of NumPy, and that only some functions need.
SLOW_SCIPY = {"scipy.ndimage", "scipy.optimize", "scipy.signal", "scipy.stats", "scipy.interpolate", "scipy.spatial"}


def modules_of(code, folder):
    """The modules that are loaded once the code has run in a new process."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint('modules:', *sys.modules)"]
    out = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    return set(out.rpartition("modules:")[2].split())


def tops(modules):
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("package", ["operators", "solver"])
def test_operators_and_solver_bring_numpy_scipy_and_numba_alone(package, tmp_path):
    modules = modules_of(f"import deconjugate.{package}", tmp_path)
    assert {"numpy", "scipy", "numba"} <= tops(modules)
    assert tops(modules) & HEAVY == set()
    assert modules & SLOW_SCIPY == set()
    assert package == "solver" or "scipy.fft" not in modules


def test_the_image_package_brings_nothing_until_it_is_used(tmp_path):
    modules = tops(modules_of("import deconjugate.astro", tmp_path))
    assert modules & (HEAVY | {"numpy", "scipy", "numba"}) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["deconvolve", "--help"], ["psf", "--help"], ["clumps", "--help"]])
def test_help_answers_before_anything_heavy_is_loaded(arguments, tmp_path):
    code = (
        "from deconjugate.astro.cli import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit as done:\n    assert not done.code, done.code"
    )
    assert tops(modules_of(code, tmp_path)) & (HEAVY | {"numpy", "scipy", "numba"}) == set()


def test_a_solve_of_arrays_needs_no_torch(tmp_path):
    code = (
        "import numpy as np\nfrom deconjugate.solver import PoissonOperator, solve\n"
        "A = PoissonOperator(np.ones((7, 5), bool), boundary='dirichlet')\n"
        "assert solve(A, np.ones((7, 5)), method='multigrid').converged"
    )
    assert tops(modules_of(code, tmp_path)) & HEAVY == set()
