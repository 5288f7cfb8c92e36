"""Sky, noise and seeing measured from images whose sky, noise and seeing are known."""

import numpy as np
import pytest

from deconjugate.astro import PSF, simulate
from deconjugate.astro.background import background_and_rms, noise_map
from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.stars import measure_seeing
from deconjugate.astro.training_skies import deep_field

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


def galaxy_stamps(count, side, **noise):
    """Galaxies of many sizes in the middle of a stamp, over a sky of 100."""
    rng = np.random.default_rng(31)
    for k in range(count):
        image = parametric_galaxy(rng, radius=np.exp(rng.uniform(np.log(2.0), np.log(side / 7))))
        sky = np.zeros((2 * side, 2 * side))
        corner = side - image.shape[0] // 2
        sky[corner : corner + image.shape[0], corner : corner + image.shape[1]] = image
        psf = PSF.moffat(rng.uniform(2.5, 5.0), beta=rng.uniform(2.5, 4.0))
        yield simulate(sky, psf, upsample=2, peak_snr=10 ** rng.uniform(1.0, 2.3), background=100.0, seed=k, **noise)


@pytest.mark.parametrize("side", [48, 64, 100])
def test_the_sky_of_a_stamp_holds_nothing_of_its_galaxy(side):
    excess, width = [], []
    for scene in galaxy_stamps(30, side):
        level, rms = background_and_rms(scene.data)
        sigma = scene.noise_map[0, 0]
        excess.append((level.mean() - 100.0) / sigma)
        width.append(rms.mean() / sigma)
    assert abs(np.median(excess)) < 0.015
    assert np.percentile(np.abs(excess), 84) < 0.06
    assert np.median(width) == pytest.approx(1.0, abs=0.02)


def test_correlated_noise_is_not_taken_for_sources():
    excess = []
    for scene in galaxy_stamps(30, 64, noise="correlated", correlation_fwhm=2.0):
        level, _ = background_and_rms(scene.data)
        excess.append((level.mean() - 100.0) / scene.noise_map[0, 0])
    assert abs(np.median(excess)) < 0.03


def test_faint_sources_of_a_deep_field_are_no_sky():
    rng = np.random.default_rng(12)
    sky = np.concatenate([np.concatenate([deep_field(rng, [], 200) for _ in range(4)], axis=1) for _ in range(4)])
    scene = simulate(sky, PSF.moffat(3.5), upsample=2, peak_snr=300, background=100.0, seed=1)
    level, rms = background_and_rms(scene.data)
    sigma = scene.noise_map[0, 0]
    assert level.shape == scene.data.shape
    assert abs(level.mean() - 100.0) < 0.03 * sigma
    assert rms.mean() == pytest.approx(sigma, rel=0.03)


def test_an_image_full_of_sources_keeps_its_mode():
    y, x = np.indices((60, 64))
    full = 10.0 + 5.0 * np.sin(0.2 * y) * np.sin(0.3 * x)
    level, rms = background_and_rms(full + 0.1 * RNG.standard_normal(full.shape))
    assert np.ptp(level) == 0.0
    assert 4.0 < level[0, 0] < 12.0
    data = np.full((99, 99), 50.0) + RNG.standard_normal((99, 99))  # three boxes a side, a source in each
    data += 1e3 * np.exp(-np.hypot(*(np.indices((99, 99)) - 49.0)) / 60.0)
    level, rms = background_and_rms(data)
    assert np.isfinite(level).all()
    assert (rms > 0.0).all()


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
