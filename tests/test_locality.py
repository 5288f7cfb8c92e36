"""What one star does stays near it: a galaxy ten FWHM away is deconvolved as if the star were not there."""

import numpy as np
import pytest

from deconjugate.astro import PSF, deconvolve, simulate

SIDE, PROFILE = 96, PSF.moffat(4.0, beta=3.0)
GALAXY = np.s_[98:164, 98:164]  # fine pixels
PEAK = 10000.0  # of the star, in sigmas
STAR, AT_EDGE = (73.6, 74.4), (70.3, 1.2)  # fine pixels; the galaxy is at 130, 130


def star(place):
    """A star of height 1 without noise, on the native grid."""
    sky = np.zeros((2 * SIDE, 2 * SIDE))
    pixel = tuple(int(x) for x in place)
    sky[pixel] = 1.0
    seen = simulate(sky, PROFILE, peak_snr=1, shift=tuple(x - i for x, i in zip(place, pixel))).noiseless
    return seen / seen.max()


def unclipped(frame):
    return frame + PEAK * star(STAR)


def clipped(frame):
    return np.minimum(unclipped(frame), 0.5 * PEAK)


def trail(frame):
    frame = clipped(frame)
    frame[12:80, 37] = 0.5 * PEAK
    return frame


def core_nan(frame):
    return np.where(PEAK * star(STAR) > 0.5 * PEAK, np.nan, unclipped(frame))


def cut_by_the_edge(frame):
    return np.minimum(frame + PEAK * star(AT_EDGE), 0.5 * PEAK)


@pytest.fixture(scope="module")
def scene():
    rows, columns = np.indices((2 * SIDE, 2 * SIDE)) - 130
    made = simulate(np.exp(-np.hypot(columns, 1.6 * rows) / 10), PROFILE, peak_snr=40, seed=3)
    sigma = made.noise_map[0, 0]
    return made.data / sigma, (made.truth / sigma)[GALAXY]


def deconvolved(frame, truth, network):
    result = deconvolve(frame, PROFILE, noise=1.0, network=network, device="cpu")
    galaxy = result.image.data[GALAXY]
    return np.sum((galaxy - truth) ** 2) / np.sum(truth**2), galaxy.sum() / truth.sum(), result


@pytest.fixture(scope="module")
def alone(scene):
    """By network: what the galaxy is without a star."""
    return {network: deconvolved(*scene, network) for network in ("default", None)}


@pytest.mark.parametrize("network", ["default", None])
@pytest.mark.parametrize("add", [unclipped, clipped, trail, core_nan, cut_by_the_edge])
def test_a_star_ten_widths_away_does_not_touch_a_galaxy(scene, alone, add, network):
    frame, truth = scene
    error, flux, result = deconvolved(add(frame), truth, network)
    before, flux_before, without = alone[network]
    assert before < 0.01
    assert error < 1.25 * before
    assert flux == pytest.approx(flux_before, abs=0.01)
    assert result.regularization == pytest.approx(without.regularization, rel=0.1)
    assert result.replaced == without.replaced == 0.0
    assert 0.9 < result.reduced_chi2 < 1.1
