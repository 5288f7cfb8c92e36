"""The stars of an image that show its PSF: bright, alone, unsaturated, and of the shape that point sources share."""

import warnings
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.star_locus import width_locus
from deconjugate.astro.star_shapes import flattened, peak_shapes

DETECTION = 5.0  # sigmas of a peak that counts as a neighbour
BRIGHTEST = 400  # peaks whose shape is looked at
WITNESS = 12.0  # sigmas of a peak, too faint for a star, that still tells which width is that of points
REACH = 12  # half the side of the window in which a width is first guessed
LEAST_WIDTH = 1.25  # pixels: a hot pixel or cosmic ray shows 1.1
MOST_ELONGATED = 0.4  # 1 - axis ratio of a star
MOST_MISFIT = 0.1  # of the peak, from a Moffat
CLEAR = 2.0  # FWHM around a star without a rival
RIVAL = 0.1  # of its height
INNER = 1.0  # FWHM around a star without a bad pixel
FLAT = 0.15  # of a core's height that its flanks miss, where it is saturated
LEAST_SAMPLED = 2.3  # pixels of FWHM, from which on flanks foretell a core
SAME_LEVEL = 0.8, 1.3  # of the height of saturated cores: none above is trusted, all must be below


class Candidates(NamedTuple):
    """What :func:`find_stars` found."""

    stars: np.ndarray  # (n, 2) rows and columns of the stars' brightest pixels, the brightest first
    peaks: np.ndarray  # (m, 2) of every peak, stars among them
    heights: np.ndarray  # (m,) of the peaks
    fwhm_pix: float  # common width of the stars
    rejected: dict  # how many bright peaks were left out, by reason


def find_stars(light, rms, bad, *, saturation=np.inf, min_snr=30.0, max_stars=100):
    """Bright peaks, alone, unsaturated and whole, of the width that point sources have in this frame.

    Widths are those of elliptical Moffats fitted to the peaks; which of them is that of a point source is decided by
    :func:`deconjugate.astro.star_locus.width_locus`. A peak that is lower than its flanks foretell is saturated,
    whatever the header says, and so is all that reaches its height.

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
    max_stars : int, >= 1
        The brightest so many are kept.

    Returns
    -------
    Candidates

    Raises
    ------
    ValueError
        No star is found; the message says why others were left out.

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
    snr = heights / rms[tuple(peaks.T)]
    looked = np.flatnonzero(snr > min(WITNESS, min_snr))[:BRIGHTEST]
    rejected = {"saturated": 0, "near the edge": 0, "near bad pixels": 0, "crowded": 0, "of another width": 0}
    sound = []
    for i in looked:
        reason = _fault(light, bad, peaks, heights, saturation, i, 3.0)
        if not reason:
            sound.append(i)
        elif snr[i] > min_snr:
            rejected[reason] += 1
    sound = np.array(sound, dtype=int)
    guesses = np.array([fwhm_pix(light[_around(peaks[i], light.shape)]) for i in sound])
    shapes = peak_shapes(light, rms, bad, peaks[sound], guesses)
    round_ = (shapes.ellipticity < MOST_ELONGATED) & (shapes.misfit < MOST_MISFIT)
    point = (shapes.fwhm_pix > LEAST_WIDTH) & round_ & (shapes.fwhm_error < 0.2 * shapes.fwhm_pix)
    flat = np.zeros(len(sound), bool)
    wide = np.flatnonzero(point & (shapes.fwhm_pix > LEAST_SAMPLED))
    flat[wide] = flattened(light, rms, bad, peaks[sound[wide]], shapes.fwhm_pix[wide]) > FLAT
    flat |= _as_high(heights[sound], flat)
    rejected["saturated"] += int(np.count_nonzero(flat & (snr[sound] > min_snr)))
    kept = point & ~flat
    rejected["of another width"] += int(np.count_nonzero(~point & ~flat & (snr[sound] > min_snr)))
    if not kept.any():
        raise ValueError(_none(min_snr, rejected))
    sound, widths = sound[kept], shapes.fwhm_pix[kept]
    # What is no Moffat, as two stars that touch, has no width that could speak against those of others.
    unlike = np.maximum(shapes.misfit - np.median(shapes.misfit[kept]), 0.0)
    errors = np.hypot(shapes.fwhm_error, unlike * shapes.fwhm_pix)[kept]
    width, members = width_locus(widths, errors, peaks[sound, ::-1], light.shape)
    stars = []
    for i, member in zip(sound, members):
        if snr[i] <= min_snr:
            continue
        reason = _fault(light, bad, peaks, heights, saturation, i, width) if member else "of another width"
        if reason:
            rejected[reason] += 1
        else:
            stars.append(i)
    if not stars:
        raise ValueError(_none(min_snr, rejected))
    return Candidates(peaks[stars[:max_stars]], peaks, heights, width, rejected)


def _as_high(heights, flat):
    """Peaks that reach the height at which others are flat, where no sound peak is higher than that."""
    if not flat.any():
        return flat
    level = np.median(heights[flat])
    if np.any(heights[~flat] > SAME_LEVEL[1] * level):  # some other fault then
        return flat
    return heights > SAME_LEVEL[0] * level


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


def _none(min_snr, rejected):
    reasons = ", ".join(f"{n} {reason}" for reason, n in rejected.items() if n) or "no brighter peak at all"
    return (
        f"no star fits to show the PSF, with a peak of {min_snr:g} sigma or more (left out: {reasons}): lower min_snr "
        "(--min-snr), measure the PSF on a neighbouring field of the same night, or give its width (--fwhm)"
    )
