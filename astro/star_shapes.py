"""Width, ellipticity and flatness of bright peaks: what tells stars from galaxies and from saturated ones."""

from typing import NamedTuple

import numpy as np

BETA = 3.0  # one for all peaks, so that their widths compare
BETAS = (2.0, 3.5, 12.0)  # by which a core is extrapolated from its flanks
FLANK = 0.65  # of the highest pixel: what lies below is the flank
REACH = 1.5  # first guesses of the FWHM around a peak that are fitted
PASSES = 12
SOFTENING = 0.03  # of the peak, added to the noise: bright and faint peaks weigh their pixels alike


class Shapes(NamedTuple):
    """Moffats of one beta fitted to peaks, each to its own."""

    fwhm_pix: np.ndarray  # (n,) geometric mean of both axes
    fwhm_error: np.ndarray  # its standard deviation by noise alone
    ellipticity: np.ndarray  # (n,) 1 - minor / major axis
    misfit: np.ndarray  # (n,) rms of the residual over the peak, noise taken out


def peak_shapes(light, rms, bad, peaks, fwhm):
    """Fit an elliptical Moffat, on a level, to the surroundings of every peak.

    Parameters
    ----------
    light : (h, w) array
        Background subtracted.
    rms : (h, w) array
    bad : (h, w) bool array
    peaks : (n, 2) int array
        Rows and columns.
    fwhm : (n,) array
        First guesses, pixels.

    Returns
    -------
    Shapes

    Example
    -------
    >>> y, x = np.mgrid[:41, :43]
    >>> star = 50.0 * (1.0 + ((y - 20.3) ** 2 + (x - 21.1) ** 2) / 7.0) ** -3.0
    >>> shapes = peak_shapes(star, np.ones(star.shape), np.zeros(star.shape, bool), np.array([[20, 21]]), [3.0])
    >>> round(float(shapes[0][0]), 2)
    2.7
    """
    parts = [_fit(*part) for part in _stamps(light, rms, bad, peaks, fwhm)]
    return Shapes(*(np.concatenate(values) for values in zip(*parts))) if parts else Shapes(*[np.empty(0)] * 4)


def flattened(light, rms, bad, peaks, fwhm):
    """How much higher each peak would be, were its core as its flanks say: 0 for a star, more for a saturated one.

    The flanks are the pixels below 0.65 of the highest; the exponent that fits them best, of three, extrapolates them.
    Five standard deviations of the noise are taken off.
    """
    excess = []
    for stamps, sigma, good, width in _stamps(light, rms, bad, peaks, fwhm):
        top = np.max(np.where(good, stamps, -np.inf), axis=(1, 2))
        flank = good & (stamps < FLANK * top[:, None, None])
        fits = [_moffats(stamps, sigma, flank, width, beta) for beta in BETAS]
        best = np.argmin([fit.chi2 for fit in fits], axis=0)
        model = np.stack([fit.model for fit in fits])[best, np.arange(len(best))]
        noise = np.stack([fit.peak_error for fit in fits])[best, np.arange(len(best))]
        core = good & ~flank
        seen, told = (np.sum(np.where(core, image, 0.0), axis=(1, 2)) for image in (stamps, model))
        count = np.maximum(np.count_nonzero(core, axis=(1, 2)), 1)
        slack = 5.0 * np.hypot(noise, sigma.mean(axis=(1, 2)) / np.sqrt(count))
        excess.append((told - seen - slack * count) / np.maximum(seen, 1e-300))
    return np.concatenate(excess) if excess else np.empty(0)


def _stamps(light, rms, bad, peaks, fwhm, together=64):
    """Some peaks at a time: stamps, noise, good pixels within the reach of a fit, first widths."""
    if not len(peaks):
        return
    fwhm = np.clip(fwhm, 1.5, 15.0)
    half = int(np.ceil(REACH * fwhm.max())) + 1
    padded = [np.pad(x, half, constant_values=c) for x, c in ((light, 0.0), (rms, 1.0), (bad, True))]
    y, x = np.indices((2 * half + 1,) * 2) - half
    for first in range(0, len(peaks), together):
        some, width = peaks[first : first + together], fwhm[first : first + together]
        reach = int(np.ceil(REACH * width.max())) + 1
        inner = slice(half - reach, half + reach + 1)
        rows, columns = (p[:, None] + np.arange(half - reach, half + reach + 1) for p in some.T)
        stamps, sigma, masked = (a[rows[:, :, None], columns[:, None, :]] for a in padded)
        near = (y * y + x * x)[inner, inner] <= np.maximum(REACH * width, 2.5)[:, None, None] ** 2
        yield stamps, sigma, ~masked & near, width


def _fit(stamps, sigma, good, width):
    fit = _moffats(stamps, sigma, good, width, BETA)
    e = np.clip(np.hypot(*fit.parameters[:, 5:].T), 0.0, 0.999)
    residual = np.where(good, stamps - fit.model, 0.0)
    count = np.maximum(np.count_nonzero(good, axis=(1, 2)) - 7, 1)
    excess = (np.sum(residual**2, axis=(1, 2)) - np.sum(sigma**2 * good, axis=(1, 2))) / count
    misfit = np.sqrt(np.maximum(excess, 0.0)) / np.maximum(fit.parameters[:, 0], 1e-300)
    widths = np.exp(fit.parameters[:, 4])
    return widths, fit.width_error * widths, 1.0 - np.sqrt((1.0 - e) / (1.0 + e)), misfit


class _Fits(NamedTuple):
    parameters: np.ndarray  # (n, 7) peak, row, column, level, log FWHM, e+, ex
    model: np.ndarray
    chi2: np.ndarray
    width_error: np.ndarray  # of log FWHM
    peak_error: np.ndarray


def _moffats(stamps, sigma, good, width, beta):
    """Levenberg-Marquardt steps of all stamps together."""
    n, half = len(stamps), stamps.shape[1] // 2
    top = stamps[:, half, half]
    soft = sigma**2 + (SOFTENING * top[:, None, None]) ** 2
    weight = np.where(good, 1.0 / soft, 0.0)
    p = np.zeros((n, 7))
    p[:, 0], p[:, 4] = top, np.log(width)
    middle = p[:, 4].copy()
    damping = np.full(n, 1e-2)
    model, terms = _model(p, half, beta)
    chi2 = np.sum(weight * (stamps - model) ** 2, axis=(1, 2))
    for _ in range(PASSES):
        normal = np.einsum("nkij,nij,nlij->nkl", terms, weight, terms, optimize=True)
        gradient = np.einsum("nkij,nij->nk", terms, weight * (stamps - model), optimize=True)
        scale = np.sqrt(np.maximum(np.einsum("nkk->nk", normal), 1e-300))
        scaled = normal / (scale[:, :, None] * scale[:, None]) + (damping[:, None, None] + 1e-9) * np.eye(7)
        step = np.linalg.solve(scaled, (gradient / scale)[..., None])[..., 0] / scale
        new = p + step
        new[:, 0] = np.clip(new[:, 0], 0.2 * top, 20.0 * np.maximum(top, 1e-300))
        new[:, 1:3] = np.clip(new[:, 1:3], -1.5, 1.5)
        new[:, 4] = np.clip(new[:, 4], middle - 1.2, middle + 1.2)
        size = np.hypot(new[:, 5], new[:, 6])
        new[:, 5:] *= np.minimum(1.0, 0.8 / np.maximum(size, 1e-9))[:, None]
        trial, slopes = _model(new, half, beta)
        trial_chi2 = np.sum(weight * (stamps - trial) ** 2, axis=(1, 2))
        better = trial_chi2 <= chi2
        p[better], model[better], terms[better] = new[better], trial[better], slopes[better]
        chi2 = np.where(better, trial_chi2, chi2)
        damping = np.where(better, 0.3 * damping, 10.0 * damping)
    normal = np.einsum("nkij,nij,nlij->nkl", terms, weight, terms, optimize=True)
    spread = np.einsum("nkij,nij,nlij->nkl", terms, weight**2 * sigma**2, terms, optimize=True)
    scale = np.sqrt(np.maximum(np.einsum("nkk->nk", normal), 1e-300))
    both = scale[:, :, None] * scale[:, None]
    inverse = np.linalg.inv(normal / both + 1e-9 * np.eye(7))
    covariance = inverse @ (spread / both) @ inverse / both
    errors = np.sqrt(np.maximum(np.einsum("nkk->nk", covariance), 0.0))
    return _Fits(p, model, chi2, errors[:, 4], errors[:, 0])


def _model(p, half, beta):
    """Moffats (n, s, s) and their derivatives (n, 7, s, s)."""
    height, row, column, level, log_width, plus, cross = (v[:, None, None] for v in p.T)
    side = np.arange(-half, half + 1.0)
    y, x = side[None, :, None] - row, side[None, None, :] - column
    per_alpha2 = (2.0 ** (1.0 / beta) - 1.0) * 4.0 * np.exp(-2.0 * log_width)
    norm = 1.0 / np.sqrt(1.0 - plus**2 - cross**2)
    form = x * x + y * y - plus * (x * x - y * y) - 2.0 * cross * x * y
    r2 = form * norm * per_alpha2
    shape = (1.0 + r2) ** -beta
    slope = -beta * height * shape / (1.0 + r2)  # by r2
    common = slope * norm * per_alpha2
    terms = [
        shape,
        common * (-2.0 * y * (1.0 + plus) + 2.0 * cross * x),
        common * (-2.0 * x * (1.0 - plus) + 2.0 * cross * y),
        np.ones_like(shape),
        -2.0 * slope * r2,
        common * (-(x * x - y * y) + form * plus * norm**2),
        common * (-2.0 * x * y + form * cross * norm**2),
    ]
    return level + height * shape, np.stack(terms, axis=1)
