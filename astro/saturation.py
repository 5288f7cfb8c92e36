"""Saturated cores of stars, found without a saturation level: plateaus, bleed trails and holes that no PSF makes."""

from typing import NamedTuple

import numpy as np
import scipy.ndimage

from deconjugate.astro.plateaus import FLOOR, LEAST_SNR, SQUARE, Frame, add_plateau, rim_curvature

HIGHEST = 1000.0  # sigmas above which neighbours equal within EQUAL sigmas are no chance
EQUAL = 0.05
PAIR = 0.6  # curvature of the rim of such neighbours
HOLE = 0.5  # of what surrounds it: less is a hole, if its edge is too steep for the PSF
HOLE_SIDE = 5.0  # FWHM: largest hole that is looked for
JUMP = 1.3  # times the steepest step of a star's flank
UNDERSHOOT = 0.8  # of the next pixel away from a core: a flank rises towards the core
TORN = 1.5  # times the curvature of the PSF
AGREEMENT = 0.08  # of two levels of rough plateaus


class Core(NamedTuple):
    """One saturated core."""

    row: float  # of the middle of its plateau
    column: float
    pixels: int  # at the plateau, trail included
    value: float  # of the plateau, as the data have it


def saturated_cores(data, sigma, *, bad=None, fwhm_pix, psf=None, level=None):
    """Mask of the saturated cores of stars, and what was found.

    A scene of non-negative flux seen through a Gaussian of deviation s, whatever it holds, has a logarithm that is
    nowhere bent down more than that of a star:

    .. math:: -D_e = 2 \\ln f(x) - \\ln f(x + e) - \\ln f(x - e) \\le |e|^2 / s^2

    with equality in a star; the profiles of real PSFs are bent most at their centre. So much for what cannot be. What
    is a saturated core has, at some depth below its highest pixel, more pixels than the star of the frame whatever its
    place within a pixel; a rim that is bent as no star is, or a flank that fits the star clipped at that area far
    better than an unsaturated wider source with such a top. Rough plateaus, of stacks and resampled frames, count
    where they agree with others on the frame's highest level. Further signs: two neighbours or more at the frame's
    highest value; holes in a bright core with edges steeper than any flank (wrapped or zeroed pixels); peaks at the
    level of cores already found.

    The mask holds the plateau, the trail connected with it, holes, one pixel around, and beyond it those that
    are sharper than the PSF or below what lies farther out (undershoots), as far as they are connected. Plateaus of one
    or two pixels, less than about a tenth below the star's peak, are not found by themselves.

    Parameters
    ----------
    data : (h, w) array
        Sky subtracted.
    sigma : float or (h, w) array
        Noise, one sigma.
    bad : (h, w) bool array, optional
        Pixels that are masked already; NaN is in any case. The mask returned does not repeat them, but grows around
        those in the middle of a bright core.
    fwhm_pix : float, > 0
        Width of the effective PSF, native pixels.
    psf : (odd, odd) array, optional
        The effective PSF at native sampling, centred.
    level : float, optional
        Saturation level over the sky: pixels that reach it are saturated. Plateaus of median stacks, which lie below
        what a header says, are found in any case.

    Returns
    -------
    mask : (h, w) bool array
    cores : list of Core
        The brightest first.

    Raises
    ------
    ValueError
        fwhm_pix is not positive.

    Example
    -------
    >>> import numpy as np
    >>> y, x = np.mgrid[:41, :51]
    >>> star = np.minimum(5000.0 * (1 + ((y - 20.2) ** 2 + (x - 25.4) ** 2) / 15.0) ** -3, 2000.0)
    >>> mask, cores = saturated_cores(star + np.random.default_rng(1).normal(size=star.shape), 1.0, fwhm_pix=4.0)
    >>> bool(mask[star == 2000.0].all()), len(cores), round(cores[0].value, -1)
    (True, 1, 2000.0)
    """
    if not (np.isfinite(fwhm_pix) and fwhm_pix > 0.0):
        raise ValueError(f"fwhm_pix is {fwhm_pix}; give the width of the PSF in pixels, a positive number")
    frame = Frame(data, sigma, bad, fwhm_pix, psf)
    plateaus = _equal_highest(frame)
    if level is not None:
        plateaus |= frame.good & (frame.f >= level)
    tried, rough = plateaus.copy(), []
    for seed in frame.peaks():
        if not (plateaus[seed] or tried[seed]):
            rough.append(add_plateau(frame, seed, plateaus, tried))
    _add_rough(frame, [found for found in rough if found is not None], plateaus)
    _add_same_level(frame, plateaus)
    holes = _holes(frame)
    bad = ~frame.good
    mask = _with_what_is_torn(frame, plateaus | holes, bad)
    cores = []
    for region, window in components(scipy.ndimage.binary_dilation(plateaus | holes, SQUARE)):
        flat = region & plateaus[window]
        core = flat if flat.any() else region & holes[window]
        row, column = (float(p.mean()) + w.start for p, w in zip(np.nonzero(core), window))
        value = np.median(frame.f[window][core]) if flat.any() else frame.f[window][region].max()
        cores.append(Core(row, column, int(np.count_nonzero(region & (plateaus | holes)[window])), float(value)))
    return mask & ~bad, sorted(cores, key=lambda core: -core.value)


def _add_rough(frame, rough, plateaus):
    """Rough plateaus, where they agree with a sure one, or three of them, on the frame's highest level."""
    sure = frame.f[plateaus & frame.good]
    levels = np.array([np.median(frame.f[window][region]) for region, window in rough])
    top = np.max(frame.f, initial=0.0, where=~plateaus)
    for level, (region, window) in zip(levels, rough):
        agree = sure.size and abs(level / np.median(sure) - 1.0) < AGREEMENT
        agree = agree or np.count_nonzero(np.abs(levels / level - 1.0) < AGREEMENT) >= 3
        if agree and top < 1.3 * level:
            plateaus[window] |= region


def _equal_highest(frame):
    """Two neighbours or more at the frame's highest value, far above what noise and rounding make equal."""
    high = frame.f.max()
    equal = frame.good & (frame.f >= high - np.minimum(EQUAL * frame.sigma, 1e-4 * high))
    found = np.zeros(equal.shape, bool)
    if high > HIGHEST * frame.sigma[equal].max(initial=0.0):
        for region, window in components(equal, 2):
            if np.count_nonzero(region) > 1 and rim_curvature(frame, region, window)[0] > PAIR:
                found[window] |= region
    return found


def _add_same_level(frame, plateaus):
    """Peaks at the level at which the plateaus of the frame lie, where these agree and nothing is far above them."""
    values = frame.f[plateaus]
    if not values.size:
        return
    level = float(np.median(values))
    spread = max(1.4826 * float(np.median(np.abs(values - level))), float(np.median(frame.sigma)))
    above = frame.f > level + 6.0 * spread
    if spread > 0.02 * level or (above & ~scipy.ndimage.binary_dilation(plateaus, SQUARE, 3)).any():
        return
    plateaus |= frame.good & (np.abs(frame.f - level) <= 4.0 * spread)


def _holes(frame):
    """Wrapped or zeroed pixels in the middle of a bright core: enclosed, by an edge steeper than any flank."""
    found = np.zeros(frame.f.shape, bool)
    filled = np.where(frame.good, frame.f, scipy.ndimage.maximum_filter(frame.f, 3))
    bright = 0.02 * scipy.ndimage.maximum_filter(frame.f, 2 * int(3 * frame.width) + 1)
    bright = np.maximum(2.0 * LEAST_SNR * frame.sigma, bright)
    side = 3
    while side <= max(3.0, HOLE_SIDE * frame.width) and side < min(frame.f.shape):
        closed = scipy.ndimage.grey_closing(filled, side)
        for region, window in components(frame.good & (closed > bright) & (frame.f < HOLE * closed) & ~found, 1):
            if region[0].any() or region[-1].any() or region[:, 0].any() or region[:, -1].any():
                continue  # open to the border of the frame
            log = frame.log[window]
            inner = scipy.ndimage.maximum_filter(np.where(region, log, -np.inf), 3)
            ring = scipy.ndimage.binary_dilation(region, SQUARE) & ~region & frame.good[window]
            if ring.any() and np.quantile((log - inner)[ring], 0.25) > JUMP * frame.star.steepest:
                found[window] |= region
        side = 2 * side - 1
    return found


def components(where, margin=0):
    """The 8-connected components of a mask, each as (region, window) with a margin around it."""
    labels, _ = scipy.ndimage.label(where, SQUARE)
    for k, box in enumerate(scipy.ndimage.find_objects(labels), start=1):
        window = tuple(slice(max(0, b.start - margin), min(n, b.stop + margin)) for b, n in zip(box, where.shape))
        yield labels[window] == k, window


def _with_what_is_torn(frame, found, bad):
    """One pixel around, and as far as connected: pixels sharper than the PSF, or below what lies farther out."""
    mask = scipy.ndimage.binary_dilation(scipy.ndimage.binary_fill_holes(found), SQUARE)
    given = _masked_cores(frame, bad)
    steps = int(2 * frame.width) + 2
    whole = mask | given
    for _, window in components(whole, steps + 3):
        grown, own = whole[window].copy(), mask[window].copy()
        sharp = _sharp(frame, window)
        for _ in range(steps):
            new = _undershoots(frame, grown, window) & scipy.ndimage.binary_dilation(grown, SQUARE)
            new = (new | (sharp & scipy.ndimage.binary_dilation(own, SQUARE))) & ~grown & frame.good[window]
            if not new.any():
                break
            grown |= new
            own |= new
        own |= scipy.ndimage.binary_closing(np.pad(own, 1), SQUARE)[1:-1, 1:-1]
        mask[window] |= own
    return mask


def _masked_cores(frame, bad):
    """Bad pixels, three or more, where a bright source has its top: nothing near is brighter than what is beside."""
    cores = np.zeros(bad.shape, bool)
    reach = int(2 * frame.width) + 2
    for region, window in components(bad, reach):
        beside = scipy.ndimage.binary_dilation(region, SQUARE) & frame.good[window]
        if np.count_nonzero(region) < 3 or not beside.any():
            continue
        f = frame.f[window]
        top = f[beside].max()
        bright = np.median(f[beside]) > 2.0 * LEAST_SNR * np.median(frame.sigma[window])
        cores[window] |= region & bool(bright and top >= np.max(f, initial=0.0, where=frame.good[window]))
    return cores


def _undershoots(frame, mask, window):
    """Where a pixel is clearly fainter than the next one away from the mask."""
    f, sigma = frame.f[window], frame.sigma[window]
    distance, nearest = scipy.ndimage.distance_transform_edt(~mask, return_indices=True)
    places = np.indices(mask.shape)
    away = (places - nearest) / np.maximum(distance, 1.0)
    limits = np.array(mask.shape)[:, None, None] - 1
    beyond = tuple(np.clip(places + np.rint(away).astype(int), 0, limits))
    next_f = np.where(frame.good[window][beyond] & ~mask[beyond], f[beyond], -np.inf)
    return (f < UNDERSHOOT * next_f - 3.0 * sigma) & (next_f > 5.0 * sigma)


def _sharp(frame, window):
    """Where the data are bent down more than the PSF in any direction, beyond noise."""
    f, log, sigma = frame.f[window], frame.log[window], frame.sigma[window]
    result = np.zeros(f.shape, bool)
    variance = (sigma / np.maximum(f, FLOOR * sigma)) ** 2
    for (i, j), curvature in frame.star.curvature.items():
        here, before, after = (
            np.s_[abs(i) + k * i : f.shape[0] - abs(i) + k * i, abs(j) + k * j : f.shape[1] - abs(j) + k * j]
            for k in (0, -1, 1)
        )
        bent = 2.0 * log[here] - log[before] - log[after]
        error = np.sqrt(4.0 * variance[here] + variance[before] + variance[after])
        with np.errstate(invalid="ignore"):
            result[here] |= bent > TORN * curvature + 5.0 * error
    return result & (f > FLOOR * sigma)
