"""Sky, noise and seeing measured from images whose sky, noise and seeing are known."""

import numpy as np
import pytest

from deconjugate.astro import PSF, simulate
from deconjugate.astro.background import background_and_rms, noise_map
from deconjugate.astro.stars import measure_seeing

RNG = np.random.default_rng(8)


def star_field(fwhm=3.4, beta=3.0, n=36, shape=(397, 431), peak=400.0):
    """Stars of very different brightness on an empty sky, noise 1."""
    sky = np.zeros(shape)
    places = [(i, j) for i in range(40, shape[0] - 30, 70) for j in range(35, shape[1] - 30, 70)][:n]
    for k, (i, j) in enumerate(places):
        sky[i + k % 7, j + k % 5] = peak * 0.93**k
    return simulate(sky, PSF.moffat(fwhm, beta=beta), upsample=2, peak_snr=peak, seed=2)


def test_map_follows_a_gradient_and_ignores_sources():
    shape = (211, 257)
    y, x = np.indices(shape)
    truth = 100.0 + 0.05 * x - 0.02 * y
    data = truth + 2.0 * RNG.standard_normal(shape)
    data[60:66, 90:97] += 500.0
    data[150, 200] = np.nan
    mask = np.zeros(shape, bool)
    mask[20:30, 20:30] = True
    data[mask] = 1e6
    level, rms = background_and_rms(data, mask)
    assert np.abs(level - truth).mean() < 0.4
    assert np.median(rms) == pytest.approx(2.0, rel=0.05)
    assert np.isfinite(level).all()
    assert np.isfinite(rms).all()


def test_flat_is_not_fooled_by_a_crowd():
    data = 100.0 + 2.0 * RNG.standard_normal((201, 187))
    data[RNG.random(data.shape) < 0.2] += 12.0
    level, rms = background_and_rms(data, sky="flat")
    assert np.ptp(level) == np.ptp(rms) == 0.0
    assert level[0, 0] == pytest.approx(100.0, abs=1.0)
    assert rms[0, 0] == pytest.approx(2.0, rel=0.2)


def test_none_leaves_the_level_and_small_images_get_one_number():
    data = 5.0 + RNG.standard_normal((41, 47))
    level, rms = background_and_rms(data, sky="none")
    assert not level.any()
    assert np.ptp(rms) == 0.0
    assert rms[0, 0] == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.full((40, 40), np.nan), {}, "no pixel of the image is good"),
        (np.full((40, 40), 7.0), {}, "all good pixels of the image are 7"),
        (np.eye(40), {"box": 3}, "box is 3 pixels; statistics need 8 or more"),
        (np.eye(40), {"sky": "blue"}, "sky is 'blue'; choose one of map, flat, none"),
    ],
)
def test_skies_that_cannot_be_measured(data, options, message):
    with pytest.raises(ValueError, match=message):
        background_and_rms(data, **options)


def test_noise_map_adds_variances():
    data = np.array([[100.0, 109.0, 90.0, np.nan]])
    sigma = noise_map(data, 100.0, np.full((1, 4), 4.0), gain=1.0, psf_error=0.5)
    np.testing.assert_allclose(sigma, [[4.0, np.sqrt(16.0 + 9.0 + 4.5**2), 4.0, 4.0]])
    np.testing.assert_allclose(noise_map(data, 100.0, 4.0), 4.0 * np.ones((1, 4)))
    with pytest.raises(ValueError, match="gain is 0; give the electrons per unit"):
        noise_map(data, 0.0, 1.0, gain=0)
    with pytest.raises(ValueError, match="psf_error is -1; give a fraction"):
        noise_map(data, 0.0, 1.0, psf_error=-1)


@pytest.mark.parametrize(("fwhm", "beta"), [(3.4, 3.0), (2.6, 4.0)])
def test_seeing_of_a_star_field(fwhm, beta):
    scene = star_field(fwhm, beta)
    seeing = measure_seeing(scene.data, 0.0, scene.noise_map)
    assert len(seeing.positions) >= 10
    assert seeing.fwhm_pix == pytest.approx(fwhm, rel=0.02)
    # Integrated over pixels, a Moffat is a Moffat of slightly larger beta.
    assert seeing.beta == pytest.approx(beta, rel=0.15)


def test_galaxies_saturated_stars_and_bad_pixels_do_not_count():
    scene = star_field()
    data = scene.data.copy()
    y, x = np.indices(data.shape)
    for row, column in ((10, 150), (175, 20), (180, 190)):
        data += 150.0 * np.exp(-np.hypot(y - row, x - column) / 4.0)
    order = np.argsort(data.ravel())[::-1]
    data = np.minimum(data, data.ravel()[order[12]])  # the brightest stars are cut off
    mask = np.zeros(data.shape, bool)
    mask[:, 40:60] = True
    data[mask] = np.nan
    seeing = measure_seeing(data, np.zeros(data.shape), scene.noise_map, mask)
    assert seeing.fwhm_pix == pytest.approx(3.4, rel=0.03)
    assert not np.any((seeing.positions[:, 0] > 30) & (seeing.positions[:, 0] < 70))


def test_too_few_stars():
    noise = RNG.standard_normal((101, 99))
    with pytest.raises(ValueError, match="only 0 isolated stars found; give the width of the PSF yourself"):
        measure_seeing(noise, 0.0, np.ones(noise.shape))
