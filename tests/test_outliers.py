"""Pixels sharper than the PSF: hot pixels and cosmic rays are; stars, galaxies and noise are not."""

import numpy as np
import pytest

from deconjugate.astro import PSF, simulate
from deconjugate.astro.forward import DataModel
from deconjugate.astro.outliers import contrasts, sharper_than_psf
from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.points import Points, point_image

HITS = {
    "hot pixel": ["1"],
    "pair": ["11"],
    "row": ["11111"],
    "diagonal": ["100", "010", "001"],
    "knee": ["1110", "0011"],
    "slope": ["1110000", "0011100", "0000111"],
    "plus": ["010", "111", "010"],
    "block": ["11", "11"],
}
GAUSSIAN, MOFFAT = PSF.gaussian, PSF.moffat


def hit_frame(name, shape=(58, 67)):
    hit = np.array([[int(c) for c in row] for row in HITS[name]], bool)
    struck = np.zeros(shape, bool)
    for row in (1, 27, 50):
        for column in (2, 31, 55):
            struck[row : row + hit.shape[0], column : column + hit.shape[1]] = hit
    return struck


def star_field(psf, upsample, peak, seed):
    """Stars over three decades of flux, the brightest ``peak`` high, anywhere between the pixels, without noise."""
    rng = np.random.default_rng(seed)
    step = max(14, psf.shape[0] // (5 * upsample))
    rows, columns = (np.indices((6, 7)).reshape(2, -1) + 0.5) * step * upsample
    model = DataModel((6 * step, 7 * step), psf, upsample)
    corner = model.inside[0].start
    rows, columns = (x + corner + rng.uniform(-upsample, upsample, x.size) for x in (rows, columns))
    image = point_image(model, Points(rows, columns, 10.0 ** rng.uniform(-3, 0, rows.size))).astype(np.float32)
    stars = model.apply(image)[model.frame].astype(np.float64)
    return stars * (peak / stars.max())


@pytest.mark.parametrize("name", HITS)
@pytest.mark.parametrize(("fwhm", "height"), [(1.6, 300), (2.0, 200), (3.0, 50), (8.0, 50)])
def test_hits_of_any_shape_are_found_whole_and_nothing_beside_them(name, fwhm, height):
    rng = np.random.default_rng(1)
    struck = hit_frame(name)
    data = rng.standard_normal(struck.shape) + struck * height * rng.uniform(0.6, 1.0, struck.shape)
    found = sharper_than_psf(data, np.ones(data.shape), MOFFAT(fwhm).fine(2), 2)
    np.testing.assert_array_equal(found, struck)


def test_hits_on_a_galaxy_are_found_and_the_galaxy_is_not():
    galaxy = parametric_galaxy(np.random.default_rng(4), radius=6.0)
    scene = simulate(np.pad(galaxy, 20), MOFFAT(3.0), peak_snr=100, seed=2)
    data = scene.data / scene.noise_map
    middle = np.unravel_index(np.argmax(data), data.shape)
    struck = np.zeros(data.shape, bool)
    struck[middle[0] + 3, middle[1] + 2 : middle[1] + 5] = struck[middle[0] - 4, middle[1]] = True
    found = sharper_than_psf(data + 100.0 * struck, np.ones(data.shape), scene.psf, 2)
    np.testing.assert_array_equal(found, struck)


@pytest.mark.parametrize("peak", [30, 1e3, 1e4, 1e6])
@pytest.mark.parametrize("upsample", [2, 3])
@pytest.mark.parametrize("fwhm", [1.6, 2.3, 4.0, 8.0])
def test_stars_are_no_hits(fwhm, upsample, peak):
    for seed, psf in enumerate((GAUSSIAN(fwhm), MOFFAT(fwhm), MOFFAT(fwhm, beta=2.5, ellipticity=0.2, pa=30.0))):
        psf = psf.fine(upsample)
        data = star_field(psf, upsample, peak, seed)
        variance = 1.0 + np.maximum(data, 0.0) / 1000.0  # of the sky and of photons
        data += np.sqrt(variance) * np.random.default_rng(seed).standard_normal(data.shape)
        assert not sharper_than_psf(data, 1.0 / variance, psf, upsample).any()


@pytest.mark.parametrize("wrong", [0.95, 1.05])
@pytest.mark.parametrize(("kind", "fwhm"), [(MOFFAT, 1.6), (GAUSSIAN, 2.0), (MOFFAT, 3.0), (GAUSSIAN, 8.0)])
def test_stars_five_per_cent_narrower_or_wider_than_the_psf_are_no_hits(kind, fwhm, wrong):
    given = kind(fwhm).fine(2)
    for peak in (100, 1e4, 1e6):
        data = star_field(kind(wrong * fwhm).fine(2), 2, peak, seed=7)
        data += np.random.default_rng(3).standard_normal(data.shape)
        assert not sharper_than_psf(data, np.ones(data.shape), given, 2).any()


@pytest.mark.parametrize("seed", range(6))
def test_galaxies_are_no_hits(seed):
    galaxy = parametric_galaxy(np.random.default_rng(seed), radius=2.0 + 2 * seed)
    scene = simulate(np.pad(galaxy, 16), MOFFAT(2.0 + 0.5 * seed), peak_snr=3000, seed=seed)
    assert not sharper_than_psf(scene.data, scene.noise_map**-2.0, scene.psf, 2).any()


@pytest.mark.parametrize("fwhm", [1.6, 3.0, 8.0])
def test_noise_is_no_hit(fwhm):
    rng = np.random.default_rng(5)
    sigma = rng.uniform(0.3, 3.0, (400, 500))
    assert not sharper_than_psf(sigma * rng.standard_normal(sigma.shape), sigma**-2, MOFFAT(fwhm).fine(2), 2).any()


def test_what_lies_under_a_mask_is_not_asked():
    struck = hit_frame("hot pixel")
    data, weight = np.random.default_rng(6).standard_normal(struck.shape), np.ones(struck.shape)
    data[struck], weight[struck] = 1e6, 0.0
    psf = MOFFAT(3.0).fine(2)
    assert not sharper_than_psf(data, weight, psf, 2).any()
    # A pixel that has a bad one on every side cannot be judged; one direction that is left suffices.
    data[10:13, 20:23] = weight[10:13, 20:23] = 0.0
    data[11, 21], weight[11, 21] = 100.0, 1.0
    assert not sharper_than_psf(data, weight, psf, 2).any()
    weight[10, 22] = weight[12, 20] = 1.0
    assert np.argwhere(sharper_than_psf(data, weight, psf, 2)).tolist() == [[11, 21]]


def test_the_limits_are_those_of_a_point_anywhere():
    """c_q of a Gaussian is known: the pixel at the middle over its neighbours, but for the pixel's own width."""
    limits = contrasts(GAUSSIAN(8.0).fine(3), 3)
    beside = np.exp(4 * np.log(2) / 8.0**2)
    np.testing.assert_allclose(limits, [beside, beside, beside**2, beside**2], rtol=0.02)
    narrow = contrasts(GAUSSIAN(2.0).fine(3), 3)
    assert (narrow > 1.5 * limits).all()
