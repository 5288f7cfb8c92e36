"""The standard deviation of a deconvolved image."""

import numpy as np
import pytest
from astropy.nddata import StdDevUncertainty

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.frame_psf import orient
from deconjugate.astro.scratch import Scratch
from deconjugate.astro.uncertainty import add_square, calibrated, native_psf

PROFILE = PSF.moffat(3.0)


def scene_of(seed):
    rows, columns = np.indices((64, 76))
    sky = np.exp(-np.hypot(rows - 30, (columns - 40) / 1.4) / 3.5)
    return simulate(sky, PROFILE, upsample=2, peak_snr=30, seed=seed)


def test_orientations_are_eight_and_are_undone():
    image = np.arange(15.0).reshape(3, 5)
    turned = [orient(image, k) for k in range(8)]
    assert len({(a.shape, a.tobytes()) for a in turned}) == 8
    for k, a in enumerate(turned):
        np.testing.assert_array_equal(orient(a, k, back=True), image)


@pytest.mark.parametrize("upsample", [1, 2, 3])
def test_the_native_psf_keeps_sum_and_centre(upsample):
    native = native_psf(PROFILE.fine(upsample), upsample)
    assert native.sum() == pytest.approx(1.0)
    if upsample % 2:
        own = PROFILE.fine(1)
        half = own.shape[0] // 2
        middle = np.unravel_index(np.argmax(native), native.shape)
        near = tuple(slice(m - 5, m + 6) for m in middle)
        np.testing.assert_allclose(native[near], own[half - 5 : half + 6, half - 5 : half + 6], atol=2e-3)


def test_deviations_follow_their_equation():
    rng, upsample, count = np.random.default_rng(4), 3, 5
    image = np.where(rng.random((21, 33)) < 0.5, 0.0, rng.uniform(10.0, 90.0, (21, 33)))
    weight = np.full((7, 11), 0.25)
    weight[2, 3:5] = 0.0
    realisations = image + 3.0 + rng.standard_normal((count, *image.shape))
    squares = np.zeros(image.shape)
    for found in realisations:
        add_square(found, image, squares)
    told = calibrated(image, squares, count, weight, PROFILE.fine(upsample), upsample, Scratch())
    s = np.sqrt(np.mean((realisations - image) ** 2, axis=0))
    bright = np.sqrt((0.95 * upsample**0.4 * s) ** 2 + (0.07 * image) ** 2)
    native = native_psf(PROFILE.fine(upsample), upsample)
    point = 2.0 / np.sqrt((native**2).sum()) * np.log(2) / np.pi  # peak of a Gaussian of FWHM 2 and one-sigma flux
    np.testing.assert_allclose(told, np.where(image > 0, bright, np.maximum(bright, point)), rtol=1e-5)


@pytest.mark.parametrize("count", [4, 64])
def test_deviations_do_not_depend_on_the_number_of_realisations(count):
    rng = np.random.default_rng(5)
    image = np.full((60, 64), 100.0)
    squares = np.zeros(image.shape)
    for _ in range(count):
        add_square(image + 7.0 * rng.standard_normal(image.shape), image, squares)
    told = calibrated(image, squares, count, np.ones((30, 32)), PROFILE.fine(2), 2, Scratch())
    mean_square = (0.95 * 2**0.4 * 7.0) ** 2 + (0.07 * 100.0) ** 2
    assert np.mean(told**2) == pytest.approx(mean_square, rel=0.05)


def test_the_spread_is_that_of_new_noise():
    scene = scene_of(0)
    result = deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=None, uncertainty=16, seed=2)
    assert isinstance(result.image.uncertainty, StdDevUncertainty)
    told = result.image.uncertainty.array
    assert told.shape == result.image.shape
    assert (told > 0).all()
    again = [
        deconvolve(scene_of(k).data, PROFILE, noise=scene.noise_map, network=None).image.data for k in range(1, 13)
    ]
    bright = scene.truth > 0.2 * scene.truth.max()
    assert 0.7 < np.median(told[bright] / np.std(again, axis=0)[bright]) < 2.5
    repeated = deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=None, uncertainty=16, seed=2)
    np.testing.assert_array_equal(repeated.image.uncertainty.array, told)


def test_stamps_masks_and_units():
    data = np.stack([scene_of(k).data for k in range(2)])
    sigma = np.stack([scene_of(k).noise_map for k in range(2)])
    mask = np.zeros(data.shape, bool)
    mask[:, 3:5, 4:9] = True
    options = {"network": None, "uncertainty": 4}
    result = deconvolve(data, PROFILE, noise=sigma, mask=mask, **options)
    assert result.image.uncertainty.array.shape == result.image.shape
    small = deconvolve(1e-15 * data, PROFILE, noise=1e-15 * sigma, mask=mask, **options)
    told = result.image.uncertainty.array
    np.testing.assert_allclose(1e15 * small.image.uncertainty.array, told, rtol=0.05, atol=1e-2 * told.max())


def test_too_few_are_refused():
    scene = scene_of(0)
    with pytest.raises(ValueError, match="uncertainty is 1; give a whole number, 4 or more"):
        deconvolve(scene.data, PROFILE, noise=scene.noise_map, network=None, uncertainty=1)
