"""The gain measured from a frame: how the noise of bright pixels grows with their level."""

from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.optimize

DIFFERENCE = np.outer([1.0, -4.0, 6.0, -4.0, 1.0], [1.0, -4.0, 6.0, -4.0, 1.0]) / 70.0  # sum of squares 1
LEAST_WIDTH = 2.0  # pixels: a sharper PSF leaves too much of itself in the differences
FAINTEST = 1.0  # sigmas: pixels below count as sky
PER_BIN = 60  # pixels
INDEPENDENT = 0.4  # of the differences, which overlap
EFFICIENCY = 0.37  # of the median of absolute deviations
SIGNIFICANCE = 5.0  # errors by which 1 / gain must differ from zero
LEAST_BINS = 5
TOO_MUCH = 4.0  # times the variance measured: what resampling can smooth away, and no more


class MeasuredGain(NamedTuple):
    """Electrons per unit of the data, on the side of too little shot noise by one error, and that relative error."""

    gain: float
    error: float


def measured_gain(data, level, rms, *, bad=None, fwhm_pix=None, psf=None):
    """Electrons per unit of the data from the frame itself, or None where it cannot tell.

    Fourth differences along both axes are blind to a source that is smooth over five pixels, and see its noise. Their
    variance in bins of the source's flux s is fitted by

    .. math:: \\mathrm{var} = \\mathrm{rms}^2 + s / \\mathrm{gain} + (c s)^2, \\quad c \\ge 0

    the last term for what is not smooth: the cores of stars, clumps, errors of flat fields. The scale is that of the
    differences of the sky, so that resampled frames, whose noise is correlated, are measured as well.

    The estimate errs towards too little shot noise: 1 / gain is lowered by one standard error. None is returned where
    1 / gain is not five errors above zero, where the PSF is sharper than two pixels, and where fewer than five bins of
    60 pixels are brighter than the noise.

    Parameters
    ----------
    data : (h, w) array
    level, rms : float or (h, w) array
        Sky and its noise.
    bad : (h, w) bool array, optional
        Masked pixels; saturated ones must be among them.
    fwhm_pix : float, optional
        Width of the PSF; without it and ``psf`` the frame is taken to be well sampled.
    psf : (odd, odd) array, optional
        The effective PSF at native sampling.

    Returns
    -------
    MeasuredGain or None

    Source
    ------
    Janesick, Photon Transfer (SPIE Press, 2007), for the variance as a function of the level.

    Example
    -------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> y, x = np.mgrid[:200, :200]
    >>> light = 3000.0 * np.exp(-((y - 100.0) ** 2 + (x - 100.0) ** 2) / 1500.0)
    >>> data = rng.poisson(2.0 * light) / 2.0 + rng.normal(0.0, 5.0, light.shape)
    >>> found = measured_gain(data, 0.0, 5.0)
    >>> 1.6 < found.gain < 2.6
    True
    """
    if psf is not None and fwhm_pix is None:
        from deconjugate.astro.shape import fwhm_pix as width_of

        fwhm_pix = float(width_of(np.asarray(psf, np.float64)))
    if fwhm_pix is not None and fwhm_pix < LEAST_WIDTH:
        return None
    light = np.asarray(data, np.float64) - level
    rms = np.broadcast_to(np.asarray(rms, np.float64), light.shape)
    good = np.isfinite(light) & (rms > 0.0)
    if bad is not None:
        good &= ~np.asarray(bad, bool)
    light = np.where(good, light, 0.0)
    whole = scipy.ndimage.minimum_filter(good, 5, mode="constant", cval=False)
    difference = scipy.ndimage.correlate(light, DIFFERENCE)
    local = scipy.ndimage.correlate(light, DIFFERENCE**2)
    unit = float(np.median(rms[good])) if good.any() else 1.0
    sky = whole & (np.abs(local) < FAINTEST * rms)
    lit = whole & (local > FAINTEST * rms)
    count = np.count_nonzero(lit) // PER_BIN
    if count < LEAST_BINS or np.count_nonzero(sky) < PER_BIN * LEAST_BINS:
        return None
    scale = _variance(difference[sky] / rms[sky])
    if not scale > 0.0:
        return None
    order = np.argsort(local[lit])[::-1][: count * PER_BIN].reshape(count, PER_BIN)
    flux = local[lit][order].mean(axis=1) / unit
    excess = np.array([_variance(d) for d in difference[lit][order]]) / (scale * unit**2)
    excess = excess - (rms[lit][order] ** 2).mean(axis=1) / unit**2
    inverse, error = _fitted(flux, excess)
    if not inverse > SIGNIFICANCE * error:
        return None
    return MeasuredGain(float(1.0 / (unit * (inverse - error))), float(error / inverse))


def _variance(values):
    """From the median of absolute values, which cores of stars and defects do not move."""
    return (1.4826 * np.median(np.abs(values))) ** 2


def _fitted(flux, excess):
    """Slope of the excess variance, a square beside it, and its error; the weights follow the fit."""
    terms = np.stack([flux, flux**2], axis=1)
    model = np.zeros(len(flux))
    for _ in range(6):
        deviation = (1.0 + model) * np.sqrt(2.0 / (PER_BIN * INDEPENDENT * EFFICIENCY))
        weighted = terms / deviation[:, None]
        size = np.linalg.norm(weighted, axis=0)
        fit, _ = scipy.optimize.nnls(weighted / size, excess / deviation)
        model = terms @ (fit / size)
    free = fit > 0.0
    misfit = np.mean(((excess - model) / deviation) ** 2)
    free[0] = True
    covariance = np.linalg.pinv((weighted / size)[:, free].T @ (weighted / size)[:, free])
    return fit[0] / size[0], np.sqrt(covariance[0, 0] * max(1.0, misfit)) / size[0]


def shot_noise_check(gain, level, rms):
    """Whether a gain is possible: the shot noise of the sky alone must not exceed the noise that is measured.

    False where level / gain is more than four times rms^2, twice the noise: gains of another unit, such as those of
    counts beside data in counts per second. Resampling may smooth away less than that. A sky of zero or less, which
    has been subtracted, says nothing.

    Parameters
    ----------
    gain : float, > 0
        Electrons per unit of the data.
    level, rms : float or array
        Sky and its noise; of maps the medians are compared.

    Example
    -------
    >>> shot_noise_check(1.5, 100.0, 9.0), shot_noise_check(1.5, 1.0, 0.01)
    (True, False)
    """
    if not (np.isfinite(gain) and gain > 0.0):
        raise ValueError(f"gain is {gain}; give the electrons per unit of the data, a positive number")
    level, rms = float(np.median(level)), float(np.median(rms))
    return not level / gain > TOO_MUCH * rms**2
