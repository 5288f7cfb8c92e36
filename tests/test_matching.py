"""Several bands at one resolution: their colours."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.wcs import WCS

from deconjugate.astro import PSF, deconvolve, deconvolve_bands, simulate
from deconjugate.astro.matching import shared_guesses
from deconjugate.astro.three_steps import _mirrored

COLOUR = 0.6  # light of the second band over that of the first
WIDTHS = 3.0, 4.5
PSFS = [PSF.moffat(width) for width in WIDTHS]


def test_a_guess_goes_on_beyond_the_edges_as_its_mirror_image():
    row = np.arange(11)
    for margin in (0, 3, 10, 27):
        places = slice(margin // 2, 11 + margin + margin // 3)
        assert (_mirrored(places, margin, 11) == np.pad(row, margin, mode="reflect")[places]).all()


def disc(shape=(90, 118)):
    """A disc with two clumps, and where they are."""
    y, x = np.indices(shape)
    sky, clumps = np.exp(-np.hypot(x - 60, 1.6 * (y - 43)) / 9.0), [(38, 70), (50, 49)]
    for row, column in clumps:
        sky += np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2))
    return sky, clumps


def bands(sky, **options):
    seen = [simulate(f * sky, p, peak_snr=100, seed=i, **options) for i, (f, p) in enumerate(zip((1, COLOUR), PSFS))]
    return [s.data for s in seen], [s.noise_map for s in seen]


def colour(results, place, radius=2):
    """Second over first band in a square, over what it should be."""
    window = tuple(slice(c - radius, c + radius + 1) for c in place)
    blue, red = (result.image.data[window].sum() for result in results)
    return red / blue / COLOUR


def test_a_uniform_colour_stays_one_where_bands_alone_differ():
    sky, clumps = disc()
    data, noise = bands(sky)
    matched = deconvolve_bands(data, PSFS, noise=noise, network=None)
    alone = [deconvolve(d, p, noise=n, network=None) for d, p, n in zip(data, PSFS, noise)]
    for place in clumps:
        assert abs(colour(matched, place) - 1.0) < 0.08
        assert abs(colour(matched, place) - 1.0) < 0.6 * abs(colour(alone, place) - 1.0)
    for result in matched:
        assert result.network == "none"
        assert 0.9 < result.reduced_chi2 < 1.1
        assert abs(result.flux_ratio - 1.0) < 0.01


def test_a_clump_of_another_colour_is_not_made_like_its_disc():
    sky, clumps = disc()
    row, column = clumps[0]
    y, x = np.indices(sky.shape)
    missing = 0.8 * np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2))  # of the clump, in the second band
    second = simulate(COLOUR * (sky - missing), PSFS[1], peak_snr=200, seed=5)
    first = simulate(sky, PSFS[0], peak_snr=200, seed=4)
    given = [first.data, second.data], PSFS
    matched = deconvolve_bands(*given, noise=[first.noise_map, second.noise_map], network=None)
    window = slice(row - 2, row + 3), slice(column - 2, column + 3)
    true = second.truth[window].sum() / first.truth[window].sum() / COLOUR
    assert true < 0.65
    assert true - 0.03 < colour(matched, clumps[0]) < true + 0.12  # its disc is at 1


def test_stars_have_their_colour():
    sky = np.zeros((90, 118))
    places = [(20, 30), (61, 87), (66, 31)]
    for place, flux in zip(places, (1.0, 0.5, 0.3)):
        sky[place] = flux
    data, noise = bands(sky)
    for place in places:
        assert abs(colour(deconvolve_bands(data, PSFS, noise=noise, network=None), place) - 1.0) < 0.03


def test_tiles_see_their_part_of_the_guess():
    sky = np.tile(disc()[0], (3, 3))
    data, noise = bands(sky)
    y, x = np.mgrid[-9:10, -9:10]
    psf = (1.0 + (y * y + x * x) / 9.6) ** -3.0  # small, so that tiles can be
    whole = deconvolve(data[0], psf, noise=noise[0], guess=sky)
    tiled = deconvolve(data[0], psf, noise=noise[0], guess=sky, tile=100)
    assert np.abs(whole.image.data - tiled.image.data).max() < 0.05 * whole.image.data.max()
    assert abs(tiled.flux_ratio - 1.0) < 0.01


def test_a_guess_is_corrected_where_the_data_contradict_it():
    sky, _ = disc()
    data, noise = bands(sky)
    truth = simulate(sky, PSFS[0], peak_snr=100, seed=0).truth
    right = deconvolve(data[0], PSFS[0], noise=noise[0], guess=truth)
    assert np.abs(right.image.data - truth).max() < 0.05 * truth.max()
    wrong = deconvolve(data[0], PSFS[0], noise=noise[0], guess=0.5 * truth)
    assert abs(wrong.flux_ratio - 1.0) < 0.01
    assert wrong.reduced_chi2 < 1.2


def test_bad_pixels_of_a_band_take_no_part_in_the_shape():
    rng = np.random.default_rng(7)
    image = rng.random((18, 26))
    weight = np.ones((9, 13))
    spoilt, bad = image.copy(), weight.copy()
    spoilt[4:6, 8:10], bad[2, 4] = 1e6, 0.0
    guesses = shared_guesses([image, spoilt], [weight, bad], [3.0, 3.0], 2)
    assert guesses[1].max() < 3.0
    far = np.hypot(*(np.indices(image.shape) - np.array([4.5, 8.5])[:, None, None])) > 9
    assert np.allclose(guesses[0][far], image[far], rtol=1e-6)


def test_bands_without_light_are_left_as_they_are():
    rng = np.random.default_rng(2)
    empty = [rng.standard_normal((31, 37)) for _ in PSFS]
    for result in deconvolve_bands(empty, PSFS, noise=[1.0, 1.0], network=None):
        assert np.abs(result.image.data).max() < 0.1


def frame(scale=1e-4, shift=0.0, shape=(31, 37)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [30.0, -4.0], [-scale, scale]
    wcs.wcs.crpix = [15.0 + shift, 16.0]
    return CCDData(np.ones(shape), wcs=wcs, unit="adu")


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        ([frame()], {}, "images holds 1; give two bands or more"),
        ([frame()] * 3, {}, "psfs holds 2; there are 3 images"),
        ([frame()] * 2, {"noise": [1.0]}, "noise holds 1; there are 2 images"),
        ([frame()] * 2, {"uncertainty": 3}, "uncertainty is 3; give a whole number, 4 or more"),
        ([frame()] * 2, {"guess": 1.0}, "guess is not for bands"),
        ([frame(), frame(shape=(31, 39))], {}, r"image 1 is \(39, 31\) pixels, image 0 \(37, 31\)"),
        ([frame(), frame(1.1e-4)], {}, "the pixels of image 1 are 0.396 arcsec, those of image 0 0.36"),
        ([frame(), frame(shift=0.5)], {}, "image 1 lies 0.5 pixels from image 0"),
    ],
)
def test_what_cannot_be_matched_is_refused(images, options, said):
    with pytest.raises(ValueError, match=said):
        deconvolve_bands(images, PSFS, **options)


@pytest.mark.parametrize(
    ("guess", "options", "said"),
    [
        (np.ones((31, 37)), {}, r"guess has shape \(31, 37\); give one image of \(62, 74\) fine pixels"),
        (np.full((62, 74), np.nan), {}, "guess has 4588 pixels that are not finite"),
        (np.ones((62, 74)), {"uncertainty": 4}, "uncertainty cannot be had with a guess that is given"),
    ],
)
def test_a_guess_that_does_not_fit_is_refused(guess, options, said):
    with pytest.raises(ValueError, match=said):
        deconvolve(np.ones((31, 37)), PSFS[0], noise=1.0, guess=guess, **options)
