"""The examples of every docstring run and print what they say."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import deconjugate.astro
import deconjugate.operators
import deconjugate.solver

PACKAGES = (deconjugate.operators, deconjugate.solver, deconjugate.astro)
MODULES = [
    name
    for package in PACKAGES
    for name in (package.__name__, *(m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    if name.endswith("_triton"):
        pytest.importorskip("triton", reason="triton is not installed")
    result = doctest.testmod(import_module(name))
    assert result.failed == 0
