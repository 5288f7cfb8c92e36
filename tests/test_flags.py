"""The flags say where data were missing, cut, saturated, or where the guess alone shows something."""

import numpy as np
import pytest

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.flags import EDGE, MASKED, MEANINGS, SATURATED, UNCONFIRMED, flags

FWHM, SHAPE = 3.4, (45, 51)
psf = PSF.moffat(FWHM)


@pytest.fixture(scope="module")
def seen():
    """Two stars on a noisy frame, and what the classical path makes of it."""
    sky = np.zeros((2 * SHAPE[0], 2 * SHAPE[1]))
    sky[40, 44], sky[60, 80] = 1.0, 0.5
    scene = simulate(sky, psf, peak_snr=100.0, seed=4)
    return scene, deconvolve(scene.data, psf, noise=scene.noise_map, network=None)


def test_each_flag_is_where_it_should_be(seen):
    scene, result = seen
    weight = scene.noise_map**-2.0
    weight[7, 9] = 0.0
    saturated = np.zeros(SHAPE, bool)
    saturated[30, 31] = True
    found = flags(result, psf.fine(2), weight, upsample=2, saturated=saturated)
    assert found.dtype == np.int16
    assert np.argwhere(found & MASKED).tolist() == [[14, 18], [14, 19], [15, 18], [15, 19]]
    assert np.argwhere(found & SATURATED).tolist() == [[60, 62], [60, 63], [61, 62], [61, 63]]
    assert np.all(found[[0, -1]] & EDGE)
    assert np.all(found[:, [0, -1]] & EDGE)
    assert not np.any(found[20:-20, 20:-20] & EDGE)


def test_the_edge_is_where_a_tenth_of_the_light_falls_outside(seen):
    scene, result = seen
    p = psf.fine(2)
    found = flags(result, p, scene.noise_map**-2.0, upsample=2)
    for row, column in ((3, 50), (40, 2), (5, 5), (88, 99)):
        alone = np.zeros((found.shape[0] + 2 * 60, found.shape[1] + 2 * 60))
        r, c = (n // 2 for n in p.shape)
        alone[row + 60 - r : row + 61 + r, column + 60 - c : column + 61 + c] = p
        assert bool(found[row, column] & EDGE) == (alone[60:-60, 60:-60].sum() < 0.9)


def test_stars_that_the_data_show_are_confirmed_and_invented_ones_are_not(seen):
    scene, result = seen
    weight, sigma = scene.noise_map**-2.0, float(np.median(scene.noise_map))
    assert not np.any(flags(result, psf.fine(2), weight, upsample=2)[30:70, 30:90] & UNCONFIRMED)
    image = result.stages["debiased"]
    y, x = np.indices(image.shape)
    y, x = y - 22, x - 22
    # A point whose flux is two sigma: its PSF, summed over native pixels, has this noise-equivalent area.
    area = 4.0 * np.pi * (FWHM / 2.355) ** 2
    point = 2.0 * sigma * np.sqrt(area) * np.exp(-4.0 * np.log(2.0) * (y**2 + x**2) / 4.0)
    image += (point / np.exp(-4.0 * np.log(2.0) * (y**2 + x**2) / 4.0).sum()).astype(image.dtype)
    found = flags(result, psf.fine(2), weight, upsample=2)
    assert found[22, 22] & UNCONFIRMED
    assert not found[40, 44] & UNCONFIRMED


def test_strips_make_no_difference(seen, monkeypatch):
    scene, result = seen
    whole = flags(result, psf.fine(2), scene.noise_map**-2.0, upsample=2)
    monkeypatch.setattr("deconjugate.astro.flags.STRIP", (16, 2**21))
    np.testing.assert_array_equal(flags(result, psf.fine(2), scene.noise_map**-2.0, upsample=2), whole)


def test_every_bit_has_a_meaning():
    assert sorted(MEANINGS) == [1, 2, 4, 8]
