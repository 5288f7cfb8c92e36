"""The stars of an image that show its PSF: bright, alone, unsaturated, and of the shape that point sources share."""

import warnings
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.stars import half_sample_mode

DETECTION = 5.0  # sigmas of a peak that counts as a neighbour
BRIGHTEST = 400  # peaks whose shape is looked at
REACH = 12  # half the side of the window in which it is
LEAST_WIDTH = 1.25  # pixels: a hot pixel or cosmic ray shows 1.1
WIDTH_SCATTER = 0.15  # of the common width by which a star may differ
CLEAR = 2.0  # FWHM around a star without a rival
RIVAL = 0.1  # of its height
INNER = 1.0  # FWHM around a star without a bad pixel


class Candidates(NamedTuple):
    """What :func:`find_stars` found."""

    stars: np.ndarray  # (n, 2) rows and columns of the stars' brightest pixels, the brightest first
    peaks: np.ndarray  # (m, 2) of every peak, stars among them
    heights: np.ndarray  # (m,) of the peaks
    fwhm_pix: float  # common width of the stars
    rejected: dict  # how many bright peaks were left out, by reason


def find_stars(light, rms, bad, *, saturation=np.inf, min_snr=30.0, max_stars=100):
    """Bright peaks, alone, unsaturated and whole, of the width that most of the narrow ones share.

    Point sources are the narrowest sources of a frame and share one width: they are taken to be the densest clump
    among the narrower half of the widths (the half-sample mode).

    Parameters
    ----------
    light : (h, w) array
        Background subtracted.
    rms : float or (h, w) array
        Noise of a pixel without source.
    bad : (h, w) bool array
    saturation : float or (h, w) array
        Sources whose peak reaches this, in units of ``light``, are left out.
    min_snr : float, > 0
        Peak over noise; larger values mean fewer and better stars.
    max_stars : int, >= 3
        The brightest so many are kept.

    Returns
    -------
    Candidates

    Raises
    ------
    ValueError
        Fewer than three stars are found; the message says why others were left out.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF, simulate
    >>> sky = np.zeros((400, 400))
    >>> sky[40:400:80, 40:400:80] = 1.0
    >>> scene = simulate(sky, PSF.moffat(3.4, beta=3.0), peak_snr=200, seed=1)
    >>> found = find_stars(scene.data, scene.noise_map, scene.mask)
    >>> len(found.stars), round(found.fwhm_pix, 1)
    (25, 3.4)
    """
    light = np.where(bad, 0.0, light)
    rms, saturation = (np.broadcast_to(x, light.shape) for x in (rms, saturation))
    peaks = _peaks(light, rms, bad)
    heights = light[tuple(peaks.T)]
    order = np.argsort(heights)[::-1]
    peaks, heights = peaks[order], heights[order]
    bright = np.flatnonzero(heights > min_snr * rms[tuple(peaks.T)])[:BRIGHTEST]
    rejected = {"saturated": 0, "near the edge": 0, "near bad pixels": 0, "crowded": 0, "of another width": 0}
    sound = []
    for i in bright:
        reason = _fault(light, bad, peaks, heights, saturation, i, 3.0)
        if reason:
            rejected[reason] += 1
        else:
            sound.append(i)
    widths = np.array([fwhm_pix(light[_around(peaks[i], light.shape)]) for i in sound])
    real = widths > LEAST_WIDTH
    if np.count_nonzero(real) < 3:
        rejected["of another width"] += len(sound) - np.count_nonzero(real)
        raise ValueError(_too_few(np.count_nonzero(real), min_snr, rejected))
    width = half_sample_mode(widths[real & (widths <= np.median(widths[real]))])
    stars = []
    for i, own in zip(sound, widths):
        reason = "of another width" if abs(own - width) > WIDTH_SCATTER * width else None
        reason = reason or _fault(light, bad, peaks, heights, saturation, i, width)
        if reason:
            rejected[reason] += 1
        else:
            stars.append(i)
    if len(stars) < 3:
        raise ValueError(_too_few(len(stars), min_snr, rejected))
    return Candidates(peaks[stars[:max_stars]], peaks, heights, width, rejected)


def _peaks(light, rms, bad):
    """(row, column) of the local maxima, noise within a PSF smoothed away first."""
    from photutils.detection import find_peaks

    smooth = scipy.ndimage.gaussian_filter(light, 0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no peak is told by the return value
        found = find_peaks(smooth, DETECTION * rms * 0.4, box_size=3, mask=bad)  # 0.4: what smoothing leaves of noise
    if found is None:
        return np.empty((0, 2), dtype=int)
    peaks = np.stack([found["y_peak"], found["x_peak"]], axis=1).astype(int)
    # Back to the brightest pixel itself, which is next to that of the smoothed image.
    steps = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1).reshape(-1, 2)
    near = np.clip(peaks[:, None] + steps, 0, np.array(light.shape) - 1)
    best = np.argmax(light[near[..., 0], near[..., 1]], axis=1)
    return np.unique(near[np.arange(len(near)), best], axis=0)


def _fault(light, bad, peaks, heights, saturation, i, width):
    """Why a peak is no star to measure, as a key of the table of reasons, or None."""
    peak, margin = peaks[i], int(np.ceil(CLEAR * width))
    if np.any(peak < margin) or np.any(peak >= np.array(light.shape) - margin):
        return "near the edge"
    inner = _around(peak, light.shape, int(np.ceil(INNER * width)))
    if np.any(light[inner] >= saturation[inner]):
        return "saturated"
    if bad[inner].any():
        return "near bad pixels"
    distance = np.hypot(*(peaks - peak).T)
    if np.any((distance > 0) & (distance < CLEAR * width) & (heights > RIVAL * heights[i])):
        return "crowded"
    return None


def _around(peak, shape, reach=REACH):
    return tuple(slice(max(p - reach, 0), min(p + reach + 1, n)) for p, n in zip(peak, shape))


def _too_few(count, min_snr, rejected):
    reasons = ", ".join(f"{n} {reason}" for reason, n in rejected.items() if n) or "no brighter peak at all"
    return (
        f"only {count} stars fit to show the PSF, with a peak of {min_snr:g} sigma or more (left out: {reasons}); "
        "3 are needed: lower min_snr (--min-snr), or give the width of the PSF yourself (--fwhm)"
    )
