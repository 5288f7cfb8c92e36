"""What the data model can explain: defects without weight, stars taken off, the PSF's error counted as noise."""

import numpy as np
import pytest
import scipy.ndimage

from deconjugate.astro import PSF, simulate
from deconjugate.astro.explained import LEAST_ERROR, SATURATED, SHARP, take_stars, without_defects
from deconjugate.astro.forward import DataModel
from deconjugate.astro.points import Points, point_image

SHAPE, PROFILE = (83, 94), PSF.moffat(3.5)
PSF_2 = PROFILE.fine(2, max_size=121)
WIDE = PSF.moffat(3.5 * 1.04).fine(2, max_size=121)  # what the stars are drawn with where the PSF is wrong
NONE = np.zeros(SHAPE, bool)
PLACES = np.array([[40.2, 40.6], [60.7, 140.3], [120.4, 50.8], [124.9, 130.2]])  # fine pixels of the frame


@pytest.fixture(scope="module")
def model():
    return DataModel(SHAPE, PSF_2, 2)


def stars_of(psf, peak=3000.0, flux=(1.0, 0.8, 0.6, 0.5)):
    """Four stars without noise, the brightest ``peak`` high, and their fluxes."""
    made = DataModel(SHAPE, psf, 2)
    rows, columns = (x + s.start for x, s in zip(PLACES.T, made.inside))
    image = point_image(made, Points(rows, columns, np.array(flux))).astype(np.float32)
    seen = made.apply(image)[made.frame].astype(np.float64)
    return seen * peak / seen.max(), np.array(flux) * peak / seen.max()


def noisy(image, seed=1):
    return (image + np.random.default_rng(seed).standard_normal(image.shape)).astype(np.float32)


def taken(model, data, weight=None, **options):
    weight = np.ones(SHAPE, np.float32) if weight is None else weight
    return take_stars(model, PSF_2, model.embed(data), model.embed(weight), NONE, **options)


def galaxy(scale, snr):
    """A galaxy without noise, in units of it, and its scene."""
    rows, columns = np.indices([2 * n for n in SHAPE]) - np.array([80.0, 90.0])[:, None, None]
    sky = np.exp(-0.5 * (rows**2 + (columns / 1.3) ** 2) / scale**2)
    scene = simulate(sky, PSF_2, peak_snr=snr, seed=2)
    return scene.noiseless / scene.noise_map[0, 0]


def test_defects_lose_their_weight_and_nothing_else_does(model):
    image, _ = stars_of(PSF_2)
    data = noisy(image)
    weight = np.random.default_rng(3).uniform(0.8, 1.2, SHAPE).astype(np.float32)
    weight[5:8, 70:74] = 0.0
    data[10, 50:53] += 80.0
    clip = 0.4 * image.max()
    core = data >= clip
    data[core] = clip
    found, rejected = without_defects(model, PSF_2, data, weight)
    assert rejected.dtype == np.uint8
    assert set(np.unique(rejected)) == {0, SATURATED, SHARP}
    assert (rejected[core] == SATURATED).all()
    assert np.argwhere(rejected == SHARP).tolist() == [[10, 50], [10, 51], [10, 52]]
    assert not found[rejected > 0].any()
    np.testing.assert_array_equal(found[rejected == 0], weight[rejected == 0])
    assert scipy.ndimage.distance_transform_edt(~core)[rejected == SATURATED].max() < 4.0


def test_saturated_pixels_that_are_known_are_told_as_such(model):
    data, weight = noisy(np.zeros(SHAPE)), np.ones(SHAPE, np.float32)
    known = NONE.copy()
    known[20:24, 30:34], weight[20:24, 30:34] = True, 0.0
    found, rejected = without_defects(model, PSF_2, data, weight, known)
    np.testing.assert_array_equal(rejected, np.where(known, SATURATED, 0))
    np.testing.assert_array_equal(found, weight)


def test_stars_are_taken_off_with_their_flux(model):
    image, flux = stars_of(PSF_2)
    stars = taken(model, noisy(image))
    assert stars.image.sum() == pytest.approx(flux.sum(), rel=0.005)
    assert stars.data[model.frame].std() == pytest.approx(1.0, abs=0.1)
    assert stars.error == LEAST_ERROR
    assert not stars.refuted.any()
    assert (stars.floor <= 0.0).all()
    assert (stars.floor >= -0.05 * stars.image - 1e-6).all()


def test_the_error_of_the_psf_is_measured_and_counts_as_noise_under_the_stars(model):
    image, _ = stars_of(WIDE, peak=1000.0)
    stars = taken(model, noisy(image))
    weight, variance = stars.weight[model.frame], stars.variance[model.frame]
    assert 0.01 < stars.error < 0.06
    np.testing.assert_allclose(weight, 1.0 / (1.0 + variance), rtol=1e-5)
    cores, left = image > 300.0, stars.data[model.frame]
    assert np.sqrt(np.mean(left[cores] ** 2)) > 5.0
    assert np.sqrt(np.mean((left**2 * weight)[cores])) < 2.0
    assert np.sqrt(variance[cores].mean()) == pytest.approx(stars.error * np.sqrt(np.mean(image[cores] ** 2)), rel=0.5)
    empty = image < 1.0
    assert weight[empty].min() > 0.5
    assert np.median(weight[empty]) > 0.99
    # The stars may be lowered by what they are not known by, and by no more than they are.
    assert (stars.floor >= -stars.image).all()
    assert stars.floor.min() < -0.04 * stars.image.max()


def test_smooth_light_feels_no_error_of_the_psf_and_sharp_light_does(model):
    worst = {}
    for scale in (24.0, 3.0):
        image = galaxy(scale, 300.0)
        stars = taken(model, noisy(image), error=0.02)
        assert not stars.image.any()
        worst[scale] = np.sqrt(stars.variance.max()) / (0.02 * image.max())
    assert 0.3 < worst[3.0] < 1.0
    assert worst[24.0] < 0.2 * worst[3.0]


def test_an_error_that_nothing_shows_is_none_for_galaxies(model):
    stars = taken(model, noisy(galaxy(3.0, 300.0)))
    assert not stars.variance.any()
    np.testing.assert_array_equal(stars.weight[model.frame], 1.0)
    assert stars.error == LEAST_ERROR


def test_what_has_no_weight_has_no_data_and_gains_no_weight(model):
    image, _ = stars_of(PSF_2)
    data, weight = noisy(image), np.ones(SHAPE, np.float32)
    weight[40:44, 3:30] = 0.0
    data[40:44, 3:30] = 1e5
    stars = taken(model, data, weight)
    hidden = weight == 0.0
    assert not stars.data[model.frame][hidden].any()
    assert not stars.weight[model.frame][hidden].any()
    margin = model.embed(np.ones(SHAPE)) == 0.0
    assert not stars.weight[margin].any()
    assert (stars.weight[model.frame] <= weight).all()


def test_a_star_with_a_known_core_is_taken_with_those_that_are_whole(model):
    image, flux = stars_of(PSF_2)
    core = image > 0.7 * image.max()  # of two of them
    data, weight = np.where(core, 0.0, noisy(image)).astype(np.float32), np.where(core, 0.0, 1.0).astype(np.float32)
    stars = take_stars(model, PSF_2, model.embed(data), model.embed(weight), core, core)
    assert stars.image.sum() == pytest.approx(flux.sum(), rel=0.01)
    left = stars.data[model.frame][~core]
    assert left.std() == pytest.approx(1.0, abs=0.1)
