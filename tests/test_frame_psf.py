"""A PSF that varies over the frame: at the middle of every tile, whatever way the frame is turned."""

import numpy as np
import pytest

from deconjugate.astro import PSF, deconvolve
from deconjugate.astro.frame_psf import FramePsf, orient
from deconjugate.astro.psf_samples import Samples
from deconjugate.astro.tiling import tiling


def gaussian(x, y):
    """A PSF that is wider to the right, longer and off-centre symmetry towards the bottom."""
    rows, columns = np.mgrid[-9:10, -9:10]
    p = np.exp(-0.5 * (rows / (2 + y / 100)) ** 2 - 0.5 * (columns / (2 + x / 100)) ** 2) * (1 + 0.1 * np.tanh(columns))
    return p / p.sum()


def test_a_constant_psf_has_one_model():
    tiles = tiling((90, 150), 60, 20)
    psfs = FramePsf(tiles, 2, gaussian(0, 0))
    models = {id(psfs.at(place)[0]) for place in tiles.places()}
    assert len(models) == 1


@pytest.mark.parametrize("turn", range(8))
def test_turned_frames_see_the_psf_of_the_place(turn):
    shape = (90, 151)
    index = np.arange(90 * 151).reshape(shape)
    turned = orient(index, turn)
    np.testing.assert_array_equal(orient(turned, turn, back=True), index)
    tiles = tiling(turned.shape, 60, 20)
    psfs = FramePsf(tiles, 2, gaussian, turn)
    for place in tiles.places():
        rows, columns = np.unravel_index(turned[place], shape)
        _, p = psfs.at(place)
        np.testing.assert_allclose(p, orient(gaussian(columns.mean(), rows.mean()), turn), rtol=1e-12)


def test_psfs_of_unequal_size_get_one_margin():
    def fine(x, y):
        return gaussian(x, y) if x < 50 else np.pad(gaussian(x, y), ((0, 0), (2, 2)))

    tiles = tiling((50, 150), 60, 20)
    psfs = FramePsf(tiles, 2, fine)
    frames = {str(psfs.at(place)[0].frame) for place in tiles.places()}
    assert len(frames) == 1


def varying_psf(side):
    """Width rising from left to right: linear in x between two Gaussians."""
    y, x = np.mgrid[-12:13, -12:13]
    narrow, wide = (np.exp(-0.5 * (x**2 + y**2) / s**2) / (2 * np.pi * s**2) for s in (1.2, 1.9))
    middle = (side - 1) / 2
    coefficients = np.stack([(narrow + wide) / 2, (wide - narrow), np.zeros_like(narrow)])
    return PSF(Samples(coefficients, (1.0, 1.0), True, (middle, middle), (side, side), 1))


def star_field(side, psf, rng):
    """Stars of 2000 counts, each with the PSF of its place, on noise of 1; their places."""
    frame, places = rng.standard_normal((side, side)), []
    for row in range(20, side - 15, 40):
        for column in range(20, side - 15, 40):
            p = psf.fine(1, position=(column, row))
            half = p.shape[0] // 2
            frame[row - half : row + half + 1, column - half : column + half + 1] += 2000 * p
            places.append((row, column))
    return frame, places


def test_a_varying_psf_is_followed_tile_by_tile():
    psf, side = varying_psf(240), 240
    frame, places = star_field(side, psf, np.random.default_rng(3))
    options = {"noise": 1.0, "network": None, "tile": 120}
    varying = deconvolve(frame, psf, stages=False, **options)
    fixed = deconvolve(frame, psf.fine(1), **options)
    assert list(varying.stages) == ["debiased"]
    assert varying.reduced_chi2 < 1.15
    # Where the wrong PSF errs by more than the noise chi^2 leaves it out: the whole residual tells.
    assert np.mean(np.square(fixed.residual)) > 1.5 * np.mean(np.square(varying.residual))
    for row, column in places:
        around = varying.image.data[2 * row - 12 : 2 * row + 14, 2 * column - 12 : 2 * column + 14]
        assert around.sum() == pytest.approx(2000, rel=0.05)


def test_stamps_take_a_varying_psf_at_the_middle_of_its_range():
    psf = varying_psf(240)
    frame = np.random.default_rng(0).standard_normal((2, 40, 44))
    frame[:, 16:25, 16:25] += 20.0
    one, two = (deconvolve(frame, p, noise=1.0, network=None).image.data for p in (psf, psf.fine(1)))
    np.testing.assert_allclose(one, two, atol=0.02 * one.max())
