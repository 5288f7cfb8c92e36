"""Saturated cores are found where they are, and nowhere else: drawn frames, the truth known."""

import numpy as np
import pytest
import scipy.ndimage

from deconjugate.astro import PSF, simulate
from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.plateaus import rim_curvature
from deconjugate.astro.saturation import Frame, saturated_cores

RNG = np.random.default_rng(23)


def star(shape, row, column, width, *, beta=3.0):
    """A Moffat integrated over pixels, peak 1."""
    y, x = ((np.arange(5 * n) + 0.5) / 5 - 0.5 for n in shape)
    squared = (y[:, None] - row) ** 2 + (x - column) ** 2
    fine = (1.0 + squared * 4.0 * (2.0 ** (1.0 / beta) - 1.0) / width**2) ** -beta
    image = fine.reshape(shape[0], 5, shape[1], 5).mean(axis=(1, 3))
    return image / image.max()


def native_psf(width, *, beta=3.0):
    half = int(5 * width)
    image = star((2 * half + 1, 2 * half + 1), half, half, width, beta=beta)
    return image / image.sum()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("clip", [0.1, 0.3, 0.5, 0.7])
def test_clipped_stars(clip, known):
    found, all_of_it, around = 0, 0, 0
    for width, beta, peak in (
        (2.3, 2.5, 1e4),
        (3.0, 4.0, 300.0 / clip),
        (4.0, 3.0, 3e3),
        (4.0, 3.0, 3e6),
        (7.0, 3.0, 5e3),
    ):
        shape = (int(12 * width) + 15, int(12 * width) + 18)
        row, column = np.array(shape) / 2 + RNG.uniform(-0.5, 0.5, 2)
        sharp = star(shape, row, column, width, beta=beta)
        data = np.minimum(sharp, clip) * peak + RNG.standard_normal(shape)
        psf = native_psf(width, beta=beta) if known else None
        mask, cores = saturated_cores(data, 1.0, fwhm_pix=1.03 * width, psf=psf)
        clipped = sharp >= clip
        if np.count_nonzero(clipped) > 4:
            found += np.count_nonzero(mask & clipped)
            all_of_it += np.count_nonzero(clipped)
        around += np.count_nonzero(mask & ~scipy.ndimage.binary_dilation(clipped, np.ones((3, 3)), 2))
        if np.count_nonzero(clipped) > 4:
            assert len(cores) == 1
            assert cores[0].value == pytest.approx(clip * peak, rel=0.02)
            assert np.hypot(cores[0].row - row, cores[0].column - column) < 0.5 * width
    assert found == all_of_it > 25
    assert around == 0  # a pixel around what passes for the plateau, not more


@pytest.mark.parametrize("known", [True, False])
def test_stars_that_are_not_saturated(known):
    for _ in range(25):
        width, beta = np.exp(RNG.uniform(np.log(1.6), np.log(8.0))), RNG.choice([2.5, 3.0, 4.0, 20.0])
        shape = (int(10 * width) + 15, int(10 * width) + 14)
        sharp = star(shape, *(np.array(shape) / 2 + RNG.uniform(-0.5, 0.5, 2)), width, beta=beta)
        light = sharp * 10 ** RNG.uniform(1.5, 6.5)
        data = light + np.sqrt(1.0 + RNG.choice([0.0, 0.5]) * light) * RNG.standard_normal(shape)
        mask, cores = saturated_cores(data, 1.0, fwhm_pix=width, psf=native_psf(width, beta=beta) if known else None)
        assert not mask.any()
        assert cores == []


def test_galaxies_discs_pairs_and_noise_are_not_saturated():
    y, x = np.mgrid[:120, :128]
    skies = [
        (np.hypot(y - 61, (x - 60) * 0.7) < 14).astype(float),  # uniform
        np.exp(-np.hypot(y - 61.3, (x - 60) * 0.6) / 7.0),  # exponential
        np.exp(-0.5 * ((y - 60) ** 2 + (x - 60.4) ** 2) / 8.0**2),  # flat core
        np.exp(-7.67 * (np.hypot(y - 61.3, x - 60 + 0.1) / 9.0) ** 0.25),
        np.exp(-np.abs(x - 60) / 12.0 - np.abs(y - 61) / 0.8),  # seen from its edge
        np.zeros(y.shape),
    ]
    skies[5][60, 60], skies[5][62, 66] = 1.0, 0.8
    skies += [np.pad(parametric_galaxy(RNG, radius=r), 20) for r in (2.0, 4.0, 6.0)]
    for sky in skies:
        for width in (2.0, 3.6, 6.0):
            for snr in (40.0, 3e3):
                psf = PSF.moffat(width)
                noise = "poisson" if RNG.random() < 0.5 else "white"
                scene = simulate(sky, psf, upsample=2, peak_snr=snr, noise=noise, seed=RNG)
                sigma = scene.noise_map.min()
                data = scene.data if RNG.random() < 0.5 else np.round(scene.data / sigma) * sigma
                mask, _ = saturated_cores(data, scene.noise_map, fwhm_pix=width, psf=psf.fine(1))
                assert not mask.any()
    mask, _ = saturated_cores(RNG.standard_normal((90, 95)), 1.0, fwhm_pix=3.0)
    assert not mask.any()


def test_training_galaxies_are_not_saturated(data_dir):
    images = np.load(data_dir / "galaxies" / "hst_train.npz")
    for k, name in enumerate(sorted(images)[::40]):
        width = (2.2, 3.5, 5.0)[k % 3]
        psf = PSF.moffat(width)
        scene = simulate(np.maximum(images[name], 0.0), psf, upsample=2, peak_snr=10 ** (1.0 + 0.3 * k), seed=k)
        mask, _ = saturated_cores(scene.data, scene.noise_map, fwhm_pix=width, psf=psf.fine(1) if k % 2 else None)
        assert not mask.any()


def test_no_scene_is_bent_more_than_a_gaussian_psf():
    psf = PSF.gaussian(3.5)
    frame = None
    for k in range(20):
        sky = np.zeros((60, 64))
        sky[tuple(RNG.integers(20, 40, (2, 8)))] = RNG.pareto(1.0, 8)
        frame = Frame(simulate(sky, psf, upsample=1, peak_snr=1e9, seed=k).noiseless, 1e-9, None, 3.5, psf.fine(1))
        peak = np.unravel_index(np.argmax(frame.f), frame.f.shape)
        region = np.zeros(frame.f.shape, bool)
        region[peak[0] - 1 : peak[0] + 2, peak[1] - 1 : peak[1] + 2] = True
        assert rim_curvature(frame, region, np.s_[:, :])[0] < 1.05


def test_bleed_trail_holes_and_undershoots():
    shape = (80, 82)
    sharp = 2e5 * star(shape, 40.2, 41.3, 3.5)
    data = np.minimum(sharp, 5e4)
    data[25:58, 41] = 5e4  # charge that ran along a column
    data[24, 41] = -300.0
    data[40, 40:42] = -900.0  # wrapped
    data[10, 60] = 40.0
    saturated = (sharp >= 5e4) | (data >= 5e4) | (data < 0.0)
    mask, cores = saturated_cores(data + RNG.standard_normal(shape), 1.0, fwhm_pix=3.5)
    assert mask[saturated].all()
    assert len(cores) == 1
    assert cores[0].value == pytest.approx(5e4, rel=0.01)
    assert not mask[10, 60]
    assert np.count_nonzero(mask) < 4 * np.count_nonzero(saturated)


def test_two_equal_neighbours_at_the_top_and_a_common_level():
    shape = (90, 120)
    sharp = 1.9e5 * star(shape, 30.0, 30.45, 2.4) + 1.83e5 * star(shape, 60.0, 90.0, 2.4)
    data = np.minimum(sharp + np.sqrt(100.0 + sharp) * RNG.standard_normal(shape), 1.5e5)
    data[30, 30:32] = 1.5e5
    mask, cores = saturated_cores(data, 10.0, fwhm_pix=2.4)
    assert mask[30, 30:32].all()
    assert mask[60, 90]
    assert sorted(round(c.column) for c in cores) == [30, 90]


def test_rough_plateaus_of_a_stack():
    shape, places = (150, 160), ((30, 40), (40, 110), (105, 50), (110, 115))
    sharp = sum((2000.0 + 900.0 * k) * star(shape, *p, 3.0) for k, p in enumerate(places))
    exposures = []
    for _ in range(5):
        shift = RNG.uniform(-0.5, 0.5, 2)
        raw = np.minimum(scipy.ndimage.shift(sharp, shift, order=5), 800.0 * RNG.uniform(0.98, 1.02))
        exposures.append(scipy.ndimage.shift(raw + RNG.standard_normal(shape), -shift, order=4))
    data = np.median(exposures, axis=0)
    mask, cores = saturated_cores(data, 0.5, fwhm_pix=3.0)
    assert len(cores) == 4
    assert mask[sharp > 900.0].mean() > 0.95


def test_masked_cores_and_a_level_that_is_known():
    shape = (60, 64)
    sharp = 5e3 * star(shape, 30.0, 31.0, 4.0)
    data = np.minimum(sharp, 2000.0) + RNG.standard_normal(shape)
    bad = sharp > 4500.0  # the middle of the plateau alone
    data[bad] = np.nan
    mask, cores = saturated_cores(data, 1.0, bad=bad, fwhm_pix=4.0)
    assert not (mask & bad).any()
    assert (mask | bad)[sharp >= 2000.0].all()
    assert len(cores) == 1
    mask, cores = saturated_cores(sharp, 1.0, fwhm_pix=4.0, level=4500.0)
    assert mask[sharp >= 4500.0].all()
    assert cores[0].pixels == np.count_nonzero(sharp >= 4500.0)
    # A core that is masked whole, and single bad pixels, leave a star that is not saturated.
    for peak in (300.0, 1e5):
        unclipped = peak * star(shape, 30.3, 31.1, 4.0) + RNG.standard_normal(shape)
        bad = (unclipped > 0.6 * peak) | (RNG.random(shape) < 0.02)
        mask, cores = saturated_cores(np.where(bad, np.nan, unclipped), 1.0, bad=bad, fwhm_pix=4.0)
        assert cores == []
        assert not mask.any()
    # What lies deeper than the pixels farther out, beside a masked core, is masked too.
    bad = sharp > 2000.0
    data = np.where(bad, np.nan, sharp)
    beside = (30, int(np.flatnonzero(bad[30])[-1]) + 1)
    data[beside] = 100.0
    mask, _ = saturated_cores(data, 1.0, bad=bad, fwhm_pix=4.0)
    assert mask[beside]
    assert np.count_nonzero(mask) < 8


def test_the_saturated_star_of_a_median_stack(data_dir):
    from astropy.io import fits

    data = fits.getdata(data_dir / "frames" / "humvi_cfhtls_CFHTLS-test_r.fits").astype(float)
    mask, cores = saturated_cores(data, 1.37, fwhm_pix=4.8)
    assert len(cores) == 1
    assert cores[0].value == pytest.approx(4700.0, rel=0.02)
    assert mask[data > 3500.0].all()
    assert mask[data < -100.0].all()
    assert np.count_nonzero(mask) < 350


@pytest.mark.parametrize("width", [0.0, np.nan])
def test_width_is_needed(width):
    with pytest.raises(ValueError, match="give the width of the PSF in pixels"):
        saturated_cores(np.zeros((20, 20)), 1.0, fwhm_pix=width)
