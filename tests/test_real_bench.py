"""What the benchmark of real frames measures with, on data of known answer."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from deconjugate.astro import PSF, simulate

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


def test_holes_are_the_share_that_was_punched(module):
    measures = module("real_measures")
    image = np.full((60, 70), 100.0)
    inside = measures.inside_sources(np.full((30, 35), 400.0), 1.0, 2)
    assert inside.shape == image.shape
    assert inside.all()
    assert measures.holes(image, inside, 2) == 0.0
    image[10:50:4, 10:60:5] = 0.0
    assert measures.holes(image, inside, 2) == pytest.approx(100 / image.size)
    assert np.isnan(measures.holes(image, np.zeros_like(inside), 2))


def test_a_star_left_in_the_residual_has_its_significance(module):
    measures, psf = module("real_measures"), PSF.moffat(3.0).fine(1)
    residual = np.zeros((61, 73))
    half = psf.shape[0] // 2
    whole = np.pad(residual, half)
    whole[20 : 20 + psf.shape[0], 40 : 40 + psf.shape[1]] -= 12.0 * psf / np.sqrt(np.sum(psf**2))
    residual = whole[half:-half, half:-half]
    found = measures.patterns(residual, psf, [(40.2, 19.9), (10.0, 50.0)], 3.0)
    assert found[0] == pytest.approx(-12.0, rel=0.01)
    assert abs(found[1]) < 1.0


def test_flux_ratio_of_an_image_that_lost_a_tenth(module):
    measures = module("real_measures")
    sky = np.zeros((160, 200))
    for row, column in ((50, 60), (100, 140), (20, 8)):  # the last one touches the edge
        sky[row, column] = 1.0
    scene = simulate(sky, PSF.moffat(3.0), peak_snr=100, seed=2)
    ratios, snr = measures.flux_ratios(
        scene.data, 0.9 * scene.truth, float(scene.noise_map[0, 0]), np.zeros(scene.data.shape, bool), 2
    )
    assert len(ratios) == 2
    assert (snr > 100).all()
    assert ratios == pytest.approx(0.9, abs=0.04)
    assert measures.by_snr(np.array([1.0, 3.0, 2.0, 9.0]), np.array([6.0, 7.0, 8.0, 15.0])) == {
        "5-10": (2.0, 3), "10-20": (9.0, 1), "20-50": (None, 0)
    }  # fmt: skip


def test_stars_of_the_locality_test_are_clipped_as_they_say(module):
    scenes = module("real_scenes")
    place = scenes.STAR["35 FWHM"]
    cases = (1, ""), (0.3, ""), (0.3, "core NaN"), (0.3, "bleeding")
    whole, clipped, empty, bleeding = (scenes.star(1000.0, clip, what, place) for clip, what in cases)
    assert whole.max() == pytest.approx(1000.0, rel=0.05)
    assert np.unravel_index(whole.argmax(), whole.shape) == (40, 40)
    assert clipped.max() == 300.0
    assert (clipped == np.minimum(whole, 300.0)).all()
    assert (np.isnan(empty) == (whole >= 300.0)).all()
    assert np.flatnonzero(bleeding[:, 40] == 300.0).size > np.flatnonzero(clipped[:, 40] == 300.0).size
    narrow = scenes.star(1000.0, 1.0, "PSF 3 % narrow", place)
    assert narrow.sum() == pytest.approx(0.97**2 * whole.sum(), rel=0.01)


def test_put_cuts_what_falls_outside(module):
    sky = np.zeros((10, 12))
    module("real_scenes").put(sky, np.arange(1.0, 10.0).reshape(3, 3), 0, 11)
    assert sky[:2, 10:].tolist() == [[4.0, 5.0], [7.0, 8.0]]
    assert sky.sum() == 24.0


def test_predicted_is_the_forward_model_of_simulate(module):
    sky = np.zeros((96, 120))
    sky[40:50, 60:66] = 3.0
    psf = PSF.moffat(3.5)
    scene = simulate(sky, psf, peak_snr=50, seed=1)
    seen = module("real_frames").predicted(scene.truth, psf.fine(2), 2)
    assert np.abs(seen - scene.noiseless).max() < 0.01 * scene.noiseless.max()


def test_richardson_lucy_of_cut_up_pixels_stays_in_place(module):
    pytest.importorskip("skimage")
    sky = np.zeros((96, 120))
    sky[40, 60] = sky[41, 61] = 500.0
    psf = PSF.moffat(3.5)
    scene = simulate(sky, psf, peak_snr=500, seed=1)
    image = module("real_frames").lucy_of_skimage(scene.data, psf.fine(2), 2)
    image = image[20:62, 40:82]  # the noise that is left far away has a long arm
    middle = [(a * image).sum() / image.sum() for a in np.indices(image.shape)]
    assert middle == pytest.approx([20.5, 20.5], abs=0.15)
    assert image.sum() == pytest.approx(1000.0, rel=0.05)


def test_the_plane_and_the_aperture_of_the_injection(module):
    injection = module("real_injection")
    rows, columns = np.indices((31, 35))
    data = 3.0 + 0.2 * rows - 0.1 * columns
    bright = data + 500.0 * (np.hypot(rows - 12, columns - 20) < 3)
    assert np.abs(injection.plane(bright, np.ones(data.shape)) - data).max() < 0.01
    truth = np.zeros((40, 40))
    truth[20, 20], truth[20, 25], truth[20, 35] = 80.0, 18.0, 2.0
    near = injection.aperture(truth)
    assert near[20, 25]
    assert not near[20, 35]


def test_flux_and_shift_of_the_pair_are_found(module):
    pair = module("real_pair")
    rows, columns = np.indices((60, 64))
    image = np.exp(-((rows - 30.0) ** 2 + (columns - 31.0) ** 2) / 30.0)
    data = 4.0 * pair.moved(image, 0.7, -0.4) + 0.5
    error, (flux, level, *shift) = pair.fitted(lambda dy, dx: pair.moved(image, dy, dx), data)
    assert error < 1e-6
    assert (flux, level, *shift) == pytest.approx((4.0, 0.5, 0.7, -0.4), abs=0.02)


def test_peers_are_kept_and_left_out_at_the_edges(module, tmp_path, monkeypatch):
    peers = module("real_peers")
    monkeypatch.setattr(peers, "KEPT", tmp_path / "kept" / "peers.json")
    sky = np.zeros((48, 56))
    sky[22:26, 26:32] = 1.0
    scene = simulate(sky, PSF.moffat(3.0), peak_snr=50, seed=3)
    given = scene.data, scene.noise_map, scene.psf, 2, scene.truth
    steps = {"lucy": 15, "fista": 4}
    found = peers.peers(*given, inner=4, steps=steps)
    assert set(found) == {"tikhonov", "lucy", "fista"}
    assert all(0 < error < 0.5 for error in found.values())
    assert list(json.loads(peers.KEPT.read_text()).values()) == [found]
    monkeypatch.setattr(peers, "_measured", None)  # what is kept is not measured again
    assert peers.peers(*given, inner=4, steps=steps) == found


def test_every_part_is_named_in_the_description(module):
    script = module("bench_real")
    assert all(f"bench_real.py {part}" in script.__doc__ for part in script.PARTS)
