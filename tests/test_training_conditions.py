"""The conditions of real exposures occur in the scenes that are drawn, each in about its share."""

import numpy as np
import pytest
import scipy.ndimage

from deconjugate.astro import training_scenes, training_skies
from deconjugate.astro.forward import DataModel
from deconjugate.astro.network_input import MARGIN
from deconjugate.astro.psf import PSF
from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.training_conditions import PSF_WRONG, SKY, STAR, left_sky, subtracted_star, wrong_psf
from deconjugate.astro.training_scenes import SceneData, Scenes
from deconjugate.operators.convolution import Binning, Convolution

DATA = SceneData(size=64, upsample=(2,), fwhm_pix=(2.0, 3.0), peak_snr=(20, 60), seed=3)
COUNT = 60


@pytest.fixture(scope="module")
def drawn():
    return [Scenes(DATA).expose(number) for number in range(COUNT)]


def often(hits, share):
    """Within four standard deviations of a binomial."""
    assert abs(hits - share * COUNT) < 4 * np.sqrt(COUNT * share * (1 - share))
    assert hits > 0


def test_an_exposure_is_a_function_of_its_number(drawn):
    scenes = Scenes(DATA)
    scenes.draw(50)
    for number in (0, 7, 31):
        again = scenes.expose(number)
        for name in ("data", "weight", "psf", "true_psf", "truth", "left"):
            np.testing.assert_array_equal(getattr(again, name), getattr(drawn[number], name))
        scene = scenes.draw(number)
        np.testing.assert_array_equal(scene.truth[MARGIN:-MARGIN, MARGIN:-MARGIN], again.truth)
    assert all(e.data.shape == e.weight.shape == (32, 32) and e.truth.shape == (64, 64) for e in drawn)
    assert all(np.isfinite(e.data).all() and (e.weight >= 0).all() for e in drawn)


def test_psfs_are_wrong_by_a_few_per_cent(drawn):
    wrong = [e for e in drawn if not np.array_equal(e.psf, e.true_psf)]
    often(len(wrong), STAR + (1 - STAR) * PSF_WRONG)
    ratios = np.array([fwhm_pix(e.psf) / fwhm_pix(e.true_psf) for e in wrong])
    assert ratios.min() < 0.99 < 1.01 < ratios.max()
    assert 0.03 < np.abs(ratios - 1).max() < 0.055
    assert np.median(np.abs(ratios - 1)) < 0.02
    for e in wrong:
        assert e.psf.sum() == pytest.approx(1.0)
        assert abs(e.psf - e.true_psf).sum() < 0.25


def test_data_are_made_with_the_true_psf():
    p = PSF.moffat(3.0).fine(2)
    rng = np.random.default_rng(1)
    given = [wrong_psf(rng, p) for _ in range(40)]
    middle = p.shape[0] // 2
    y, x = np.indices(p.shape) - middle
    core = np.hypot(y, x) < 8
    for g in given:
        centre = [(g * core * c).sum() / (g * core).sum() for c in (y, x)]
        assert np.abs(centre).max() < 1e-3
    wings = [g[~core].sum() / p[~core].sum() for g in given]
    assert min(wings) < 0.9
    assert max(wings) > 1.1


def test_skies_are_left_in_data_and_truth(drawn):
    with_sky = [e for e in drawn if e.left.any()]
    often(len(with_sky), SKY)
    native = [4 * e.left for e in with_sky]  # per native pixel, units of sigma
    assert max(np.abs(s).max() for s in native) < 0.1 + 0.5 * np.sqrt(2) * 0.2
    assert max(np.ptp(s) for s in native) > 0.1
    rng = np.random.default_rng(0)
    plane = left_sky(rng, 66, 3)
    for axis in (0, 1):
        np.testing.assert_allclose(np.diff(plane, 2, axis=axis), 0, atol=1e-12)


def test_a_sky_alone_is_what_the_data_show(monkeypatch):
    monkeypatch.setattr(training_skies, "KINDS", {"empty": 1.0})
    monkeypatch.setattr(training_scenes, "SKY", 1.0)
    monkeypatch.setattr(training_scenes, "STAR", 0.0)
    monkeypatch.setattr(training_scenes, "left_sky", lambda rng, side, u: np.full((side, side), 50.0 / u**2))
    exposure = Scenes(DATA).expose(2)
    np.testing.assert_allclose(exposure.truth, 12.5)
    assert exposure.data[exposure.weight > 0].mean() == pytest.approx(50.0, abs=0.2)


def test_stars_are_subtracted_and_their_weight_lowered(drawn, monkeypatch):
    """What only a star does: a weight far below that of the frame, in a disc that falls off as the PSF."""
    monkeypatch.setattr(training_scenes, "NOISE", {"white": 1.0})
    monkeypatch.setattr(training_scenes, "BAD_PIXELS", 0.0)
    white = [Scenes(DATA).expose(number) for number in range(COUNT)]
    starry = [e for e in white if e.weight.min() < 0.99 * e.weight.max()]
    assert 0 < len(starry) <= 2 * STAR * COUNT
    always = Scenes(DATA)
    monkeypatch.setattr(training_scenes, "STAR", 1.0)
    exposures = [always.expose(number) for number in range(COUNT)]
    cores = [e for e in exposures if not e.weight.all()]
    assert 3 < len(cores) < COUNT / 2
    assert all(scipy.ndimage.label(e.weight == 0)[1] == 1 for e in cores)
    # The star is no part of the truth, and what is left of it is small beside what it was.
    model = DataModel((32, 32), exposures[0].true_psf, 2, workers=1)
    assert model.native_shape == exposures[0].data.shape
    assert all(e.truth.max() < 500 for e in exposures)


def test_what_is_left_of_a_star():
    true = PSF.moffat(2.5).fine(2)
    given = wrong_psf(np.random.default_rng(4), true)
    kept, bled = [], []
    for seed in range(90):
        residual, variance, lost = subtracted_star(np.random.default_rng(seed), true, given, 2, (48, 52), 8)
        assert residual.shape == variance.shape == lost.shape == (32, 36)
        assert variance.min() >= 0.0
        bled.append(np.ptp(np.nonzero(lost)[0]) if lost.any() else 0)
        kept.append(np.abs(residual).max() / max(np.sqrt(variance.max()), 1e-9))
    assert np.median(kept) < 20
    assert 5 < np.count_nonzero(bled) < 45
    assert 0 < np.count_nonzero(np.array(bled) > 9) < 20  # columns, longer than a core is wide
    # The same PSF leaves photons and the errors of place and flux alone.
    residual = subtracted_star(np.random.default_rng(2), true, true, 2, (48, 52), 0)[0]
    point = np.zeros((96, 104))
    point[48, 52] = 1.0
    star = Binning(point.shape, 2).apply(Convolution(point.shape, true).apply(point))
    assert np.abs(residual).max() < 0.1 * 1e4 * star.max() / star.max()
