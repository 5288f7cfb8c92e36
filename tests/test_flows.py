"""The flows and shapes of the benchmarks."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    for name in ("flows", "shapes"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("_benchmarks")
def test_a_body_drawn_through_a_box_leaves_no_divergence():
    from flows import moving_sphere

    steps, update, solve, worst = moving_sphere(15, 3)
    assert steps == 3
    assert update > 0
    assert solve > 0
    assert 0 < worst < 1e-6


@pytest.mark.usefixtures("_benchmarks")
def test_phiflow_is_named_where_it_is_absent(monkeypatch):
    from flows import phiflow_plume

    monkeypatch.setitem(sys.modules, "phi", None)
    assert phiflow_plume(8) == "not installed: pip install phiflow"


@pytest.mark.usefixtures("_benchmarks")
def test_shapes_are_solids_inside_the_box(data_dir):
    from shapes import shapes

    found = dict(shapes(128))
    assert len(found) == 3
    for inside in found.values():
        assert inside.shape == (128,) * 3
        assert 0 < np.count_nonzero(inside) < inside.size / 2
        np.testing.assert_array_equal(inside[::2, ::2, ::2], inside[1::2, 1::2, 1::2])


@pytest.mark.usefixtures("_benchmarks")
def test_shapes_say_where_they_are_looked_for(tmp_path, monkeypatch):
    from shapes import shapes

    monkeypatch.setenv("DECONJUGATE_DATA", str(tmp_path))
    ((title, reason),) = shapes(64)
    assert title == "real shapes"
    assert "set DECONJUGATE_DATA" in reason
