"""Stars of an image, as a measure of its seeing."""

import warnings
from typing import NamedTuple

import numpy as np
import scipy.optimize

from deconjugate.astro.shape import fwhm_pix

BETA_RANGE = (1.5, 20.0)  # beyond 20 a Moffat is a Gaussian


class Seeing(NamedTuple):
    """A Moffat profile that stands for the stars of an image: what :meth:`PSF.moffat` takes."""

    fwhm_pix: float
    beta: float
    positions: np.ndarray  # (n, 2), columns and rows (x, y) of the stars it rests on


def measure_seeing(data, background, rms, mask=None, *, saturation=None, min_snr=30.0, max_stars=25):
    """Width and wings of the stars of an image: medians of Moffat fits to its isolated, bright, unsaturated stars.

    Point sources are the narrowest sources of a frame and share one width, so the stars are taken to be the densest
    clump among the narrower half of the widths (the half-sample mode).

    Parameters
    ----------
    data, background, rms : (h, w) arrays
    mask : (h, w) bool array, optional
        True = bad; a star near a bad pixel is left out.
    saturation : float, optional
        Sources whose peak reaches this are left out. Default: where three pixels or more share the highest value, as
        saturated ones do, 0.9 of its height.
    min_snr : float, > 0
        Peak over noise; larger values mean fewer and better stars.
    max_stars : int, >= 3
        The brightest so many are fitted.

    Returns
    -------
    Seeing

    Raises
    ------
    ValueError
        Fewer than three stars are found.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF, simulate
    >>> sky = np.zeros((400, 400))
    >>> sky[40:400:80, 40:400:80] = 1.0
    >>> scene = simulate(sky, PSF.moffat(3.4, beta=3.0), peak_snr=200, seed=1)
    >>> seeing = measure_seeing(scene.data, 0.0, scene.noise_map)
    >>> round(seeing.fwhm_pix, 1), round(seeing.beta)
    (3.4, 3)
    """
    bad = ~np.isfinite(data) if mask is None else ~np.isfinite(data) | np.asarray(mask, dtype=bool)
    light = np.where(bad, 0.0, data - background)
    if saturation is None:
        top = np.max(data[~bad])
        shared = np.count_nonzero(data[~bad] == top) > 2
        saturation = np.median(background) + 0.9 * (top - np.median(background)) if shared else np.inf
    peaks = _isolated_peaks(light, rms, bad, saturation - background, min_snr)
    widths = np.array([fwhm_pix(light[_window(peak, 10)]) for peak in peaks])
    if len(widths) < 3:
        raise ValueError(f"only {len(widths)} isolated stars found; give the width of the PSF yourself")
    width = half_sample_mode(widths[widths <= np.median(widths)])
    stars = peaks[np.abs(widths - width) < 0.15 * width][:max_stars]
    fits = np.array([_fit_moffat(light[_window(star, 10)], width) for star in stars])
    return Seeing(float(np.median(fits[:, 0])), float(np.median(fits[:, 1])), stars[:, ::-1])


def _isolated_peaks(light, rms, bad, saturation, min_snr, reach=10):
    """(row, column) of bright peaks without rival, edge or bad pixel within ``reach``, the brightest first."""
    from photutils.detection import find_peaks

    rms, saturation = np.broadcast_to(rms, light.shape), np.broadcast_to(saturation, light.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no peak is told by the return value
        found = find_peaks(light, min_snr * rms, box_size=5, mask=bad)
    if found is None:
        return np.empty((0, 2), dtype=int)
    peaks = np.stack([found["y_peak"], found["x_peak"]], axis=1).astype(int)
    height = light[tuple(peaks.T)]
    kept = []
    for i in np.argsort(height)[::-1]:
        window = _window(peaks[i], reach)
        if np.any(peaks[i] < reach) or np.any(peaks[i] >= np.array(light.shape) - reach) or bad[window].any():
            continue
        distance = np.abs(peaks - peaks[i]).max(axis=1)
        if np.any((distance > 0) & (distance <= reach) & (height > 0.1 * height[i])):
            continue
        # A rim that is not dark belongs to a crowd, or to a source that is no star.
        part = light[window]
        rim = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
        if height[i] < saturation[tuple(peaks[i])] and abs(np.median(rim)) < 0.05 * height[i]:
            kept.append(peaks[i])
    return np.array(kept, dtype=int).reshape(-1, 2)


def _window(peak, reach):
    return tuple(slice(p - reach, p + reach + 1) for p in peak)


def _fit_moffat(stamp, width):
    """FWHM and beta of the Moffat, on a level, that fits a star best; a robust loss forgives faint neighbours."""
    y, x = np.indices(stamp.shape) - stamp.shape[0] // 2
    height = stamp.max()

    def misfit(parameters):
        amplitude, level, row, column, fwhm, beta = parameters
        core = (0.5 * fwhm) ** 2 / (2.0 ** (1.0 / beta) - 1.0)
        model = level + amplitude * (1.0 + ((y - row) ** 2 + (x - column) ** 2) / core) ** -beta
        return ((stamp - model) / height).ravel()

    start = (height, 0.0, 0.0, 0.0, width, 3.0)
    low = (0.0, -height, -2.0, -2.0, 0.5 * width, BETA_RANGE[0])
    high = (3.0 * height, height, 2.0, 2.0, 2.0 * width, BETA_RANGE[1])
    fit = scipy.optimize.least_squares(
        misfit, start, bounds=(low, high), loss="soft_l1", f_scale=0.01, x_scale="jac", ftol=1e-6
    )
    return fit.x[4:]


def half_sample_mode(values):
    """Where the values lie densest: halve to the shortest half, until three or fewer are left."""
    values = np.sort(values)
    while len(values) > 3:
        half = (len(values) + 1) // 2
        start = int(np.argmin(values[half - 1 :] - values[: len(values) - half + 1]))
        values = values[start : start + half]
    return float(np.median(values))
