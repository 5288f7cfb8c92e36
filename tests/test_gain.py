"""The gain measured from frames whose gain is known, and gains that cannot be."""

import functools

import numpy as np
import pytest

from deconjugate.astro import PSF, simulate
from deconjugate.astro.background import background_and_rms
from deconjugate.astro.gain import measured_gain, shot_noise_check
from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.training_skies import add


@functools.cache
def light_of(seed, side=240, width=3.5):
    """Galaxies and stars, blurred, without noise."""
    rng = np.random.default_rng(seed)
    sky = np.zeros((2 * side, 2 * side))
    for _ in range(12):
        image = parametric_galaxy(rng, radius=rng.uniform(6.0, 20.0))
        add(sky, image / image.sum() * 10 ** rng.uniform(4.5, 6.0), rng.integers(50, 2 * side - 50, size=2))
    sky[tuple(rng.integers(2 * side, size=(2, 25)))] += 10 ** rng.uniform(2.0, 5.0, 25)
    return np.maximum(simulate(sky, PSF.moffat(width), upsample=2, sigma=1.0, seed=0).noiseless, 0.0).astype(float)


@pytest.mark.parametrize("gain", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("subtracted", [True, False])
def test_recovered_over_two_decades(gain, subtracted):
    ratios = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        light = light_of(seed)
        data = rng.poisson((light + 100.0) * gain) / gain + 2.0 * rng.standard_normal(light.shape)
        data = data - 100.0 if subtracted else data
        level, rms = background_and_rms(data)
        found = measured_gain(data, level, rms, fwhm_pix=3.5)
        if found is not None:
            ratios.append(found.gain / gain)
            assert 0.0 < found.error < 0.2
    assert len(ratios) >= 2
    assert 0.8 < np.median(ratios) < 1.4
    assert min(ratios) > 0.6


def test_none_where_there_is_no_shot_noise_or_nothing_to_see():
    rng = np.random.default_rng(3)
    for seed in range(3):
        light = light_of(seed)
        assert measured_gain(light + 10.0 * rng.standard_normal(light.shape), 0.0, 10.0, fwhm_pix=3.5) is None
    noise = rng.standard_normal((200, 210))
    assert measured_gain(noise, 0.0, 1.0) is None
    assert measured_gain(np.full((50, 50), np.nan), 0.0, 1.0) is None
    assert measured_gain(np.full((90, 90), 5.0), 5.0, 1.0) is None
    light = light_of(1)
    data = rng.poisson(light) + 2.0 * rng.standard_normal(light.shape)
    assert measured_gain(data, 0.0, 2.0, bad=light > 4.0, fwhm_pix=3.5) is None
    assert measured_gain(data, 0.0, 2.0, fwhm_pix=1.6) is None  # too sharp
    narrow = PSF.gaussian(1.7).fine(1)
    assert measured_gain(data, 0.0, 2.0, psf=narrow) is None


def test_real_frames(data_dir):
    from astropy.io import fits

    for name, card, bright, width in (
        ("humvi_cfhtls_CFHTLS-test_r", 42.2, 3000.0, 4.8),
        ("deepdisc_decam_img_r", 1.0, 1e5, 2.3),
    ):
        data = fits.getdata(data_dir / "frames" / f"{name}.fits").astype(float)
        level, rms = background_and_rms(data)
        found = measured_gain(data, level, rms, bad=data > bright, fwhm_pix=width)
        assert 0.9 * card < found.gain < 1.7 * card


def test_gains_that_cannot_be():
    assert shot_noise_check(1.5, 100.0, 9.0)
    assert shot_noise_check(1.5, np.full((3, 3), 100.0), np.full((3, 3), 9.0))
    assert not shot_noise_check(1.5, 1.0, 0.01)  # counts per second, the gain of counts
    assert shot_noise_check(1.5, -0.1, 0.01)  # the sky was subtracted
    with pytest.raises(ValueError, match="gain is 0; give the electrons per unit"):
        shot_noise_check(0, 1.0, 1.0)
