"""What the benchmarks of the network measure with, and on which galaxies."""

import importlib
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """A module of the benchmarks by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:  # of the benchmarks alone: their names are short, and others may want them
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCHMARKS:
            del sys.modules[name]


def gaussian(shape, a, b):
    """A Gaussian of deviations a along columns and b along rows."""
    y, x = np.indices(shape)
    return np.exp(-0.5 * (((x - 30.3) / a) ** 2 + ((y - 27.6) / b) ** 2))


def test_ellipticity_of_a_gaussian_is_the_analytic_one(module):
    a, b = 5.0, 3.0
    image = gaussian((57, 61), a, b)
    weight = (a**2 + b**2) / 2
    xx, yy = (1 / (1 / v**2 + 1 / weight) for v in (a, b))
    e1, e2 = module("network_shapes").ellipticity(image, image)
    assert e1 == pytest.approx((xx - yy) / (xx + yy), rel=1e-3)
    assert e2 == pytest.approx(0.0, abs=1e-6)
    assert module("network_shapes").ellipticity(image.T, image.T)[0] == pytest.approx(-e1)


def test_second_moment_width_of_a_gaussian_is_the_analytic_one(module):
    image = gaussian((57, 61), 4.0, 3.0)
    width = module("network_plots").second_moment_width(image, np.ones(image.shape, bool))
    assert width == pytest.approx(5.0, rel=1e-4)


def test_the_halves_share_no_galaxy_and_keep_bands_together(module, monkeypatch):
    views = module("network_views")
    names = [f"candels-{n:03d}-{band}" for n in (1, 4, 7) for band in ("f606w", "f814w")] + ["slacs-a", "slacs-b"]
    monkeypatch.setattr(views, "galaxies", lambda step: ((name, name) for name in names))
    select, report = (views.chosen(Namespace(half=half, step=1)) for half in ("select", "report"))
    assert sorted(select + report) == sorted(names)
    galaxies = [{name.rsplit("-", 1)[0] if "candels" in name else name for name in half} for half in (select, report)]
    assert galaxies[0].isdisjoint(galaxies[1])
    assert views.chosen(Namespace(half="report", step=2)) == report[::2]


def test_every_section_is_named_in_the_description(module):
    script = module("bench_network")
    assert all(f"bench_network.py {section}" in script.__doc__ for section in script.SECTIONS)


def test_structural_similarity_is_one_of_the_truth_alone(module):
    truth = gaussian((57, 61), 5.0, 3.0)
    noisy = truth + 0.1 * np.random.default_rng(3).standard_normal(truth.shape)
    ssim = module("network_quality").ssim
    assert ssim(truth, truth) == pytest.approx(1.0)
    assert ssim(noisy, truth) < 0.9
