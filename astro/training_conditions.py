"""What real exposures have and simulated ones lack: a PSF not quite known, subtracted stars, a sky that is left."""

import numpy as np
import scipy.ndimage

from deconjugate.astro.shape import fwhm_pix
from deconjugate.operators.convolution import Binning, Convolution

# How often. A scene may have any of them at once.
PSF_WRONG = 0.5  # the PSF that is told differs from that of the exposure
STAR = 0.15  # a bright star was subtracted; the PSF is then always wrong
SATURATED = 0.5  # of the stars brighter than 500 sigma: the core has no data
BLEEDING = 0.3  # of the saturated ones: a column has none either
SKY = 0.4  # a sky is left

# How much.
WIDTH = 0.05  # most that the width is off, either way; small errors are drawn more often than large ones
STRETCH = 0.03  # most that one axis is longer
WINGS = 0.15  # most that is added to the exponent of the wings
STAR_SNR = (50.0, 1e4)  # of the star's brightest pixel, drawn evenly in the logarithm
STAR_ERROR = (0.005, 0.03)  # e of the variance (e f p)^2 that a star's weight is lowered by
CORE = (1.0, 4.0)  # radius of a saturated core, native pixels
LEVEL, SLOPE = 0.1, 0.2  # of the sky that is left: most at the middle, most across the frame; sigma


def wrong_psf(rng, psf):
    """A PSF as it might have been measured, for that of the exposure: (odd, odd), sum 1, centred alike.

    .. math:: p'(x) \\propto p(M x) \\, (1 + (2 |x| / \\mathrm{FWHM})^2)^{-\\delta}

    M changes the width by up to 5 %, small errors more often than large ones, and one axis against the other by up to
    3 %; delta, up to 0.15 either way, is added to the exponent of a Moffat's wings.

    Parameters
    ----------
    rng : numpy.random.Generator
    psf : (odd, odd) array
        On the fine grid, at least 2.5 of its pixels wide.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF
    >>> from deconjugate.astro.shape import fwhm_pix
    >>> p = PSF.moffat(3.0).fine(2)
    >>> given = wrong_psf(np.random.default_rng(3), p)
    >>> given.shape == p.shape, bool(0.9 < fwhm_pix(given) / fwhm_pix(p) < 1.1)
    (True, True)
    """
    width = 1 + WIDTH * rng.choice([-1, 1]) * rng.random() ** 2
    stretch, angle = STRETCH * rng.random() ** 2, rng.uniform(0, np.pi)
    middle, before = (np.array(psf.shape) - 1) / 2, fwhm_pix(psf)
    rows, columns = np.indices(psf.shape) - middle[:, None, None]
    given = psf * (1 + 4 * (rows**2 + columns**2) / before**2) ** -rng.uniform(-WINGS, WINGS)
    width *= before / fwhm_pix(given)  # other wings alone change the width too
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = turn.T @ np.diag([(1 + stretch) ** -0.5 / width, (1 + stretch) ** 0.5 / width]) @ turn
    given = scipy.ndimage.affine_transform(given, matrix, middle - matrix @ middle, order=3)
    return given / given.sum()


def subtracted_star(rng, truth_psf, psf, upsample, shape, margin):
    """What is left of a bright star in units of sigma: ``(residual, variance, lost)``, (h, w) native pixels each.

    .. math:: r = f (p - (1 + d) p'(x - s)) + \\sqrt{k f p} \\, n, \\qquad v = k f p' + (e f p')^2

    The star was subtracted with the PSF that is told, at a place and with a flux that are right to some 0.02 pixels
    and 0.3 %. Its photons left their noise, k a 300th to a tenth of sigma^2 per sigma; the weight is lowered by v,
    since the PSF is known to e alone. ``lost`` is True in a saturated core and where it bled.

    Parameters
    ----------
    rng : numpy.random.Generator
    truth_psf, psf : (odd, odd) arrays
        p of the exposure, p' that is told, on the fine grid.
    upsample : int
    shape : (int, int)
        Native pixels of frame and margin.
    margin : int
        Native pixels around the frame; the star may lie in their inner half.
    """
    fine = tuple(n * upsample for n in shape)
    point, aside = np.zeros(fine), margin * upsample // 2
    point[tuple(int(rng.integers(aside, n - aside)) for n in fine)] = 1.0
    row, column = (int(c) // upsample for c in np.unravel_index(np.argmax(point), fine))
    binning, inside = Binning(fine, upsample), slice(margin, -margin or None)
    star = binning.apply(Convolution(fine, truth_psf).apply(point))
    snr = float(np.exp(rng.uniform(*np.log(STAR_SNR))))
    flux = snr / star.max()
    shift, wrong = rng.normal(0, 0.02 * upsample, 2), 1 + rng.normal(0, 0.003)
    model = scipy.ndimage.shift(Convolution(fine, psf).apply(point), shift, order=3)
    star, model = flux * star, flux * np.maximum(binning.apply(model), 0.0)
    photons = np.exp(rng.uniform(np.log(1 / 300), np.log(1 / 10)))
    error = np.exp(rng.uniform(*np.log(STAR_ERROR)))
    noise = np.sqrt(photons * np.maximum(star, 0.0)) * rng.standard_normal(shape)
    lost = np.zeros(shape, bool)
    if snr > 500 and rng.random() < SATURATED:
        rows, columns = np.indices(shape)
        lost = np.hypot(rows - row, columns - column) <= rng.uniform(*CORE)
        if rng.random() < BLEEDING:
            wide, long = int(rng.integers(1, 3)), int(rng.integers(5, 25))
            lost |= (columns >= column) & (columns < column + wide) & (np.abs(rows - row) <= long)
            lost = lost if rng.random() < 0.7 else lost | ((rows == row) & (np.abs(columns - column) <= long))
    parts = star - wrong * model + noise, photons * model + (error * model) ** 2, lost
    return tuple(part[inside, inside] for part in parts)


def left_sky(rng, side, upsample):
    """A plane in units of sigma per native pixel, (side, side) fine pixels: up to 0.1 in its middle, 0.2 across."""
    place = (np.arange(side) + 0.5) / side - 0.5
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, SLOPE)
    plane = rng.uniform(-LEVEL, LEVEL) + slope * (place[:, None] * np.sin(angle) + place * np.cos(angle))
    return plane / upsample**2
