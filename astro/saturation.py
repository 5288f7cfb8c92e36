"""Saturated cores of stars, found without a saturation level: plateaus, bleed trails and holes that no PSF makes."""

from typing import NamedTuple

import numpy as np
import scipy.ndimage

LEAST_SNR = 25.0  # of a plateau: fainter ones cannot be told from noise
DEPTHS = {
    0.0005: 0.3,
    0.003: 0.3,
    0.01: 0.3,
    0.03: 0.35,
    0.08: 0.45,
    0.2: 0.6,
}  # of a plateau, and the curvature its rim must show
NO_CHANCE = 0.015  # of the curvature, by which three pixels differ in one star of a thousand
SHARP = 1.1  # curvature of a rim that no unsaturated star has
MARGIN = 1.3  # times the area of a saturated star's flank, where the rim is sharp
CHOSEN = 3.0  # sigmas by which a pixel inside a region and one outside differ at most by the choice of the region
ROUNDED = 0.6  # of the curvature
OVERLAP = 1.83  # a spot has at most (its side + this)^2 pixels
LEVER = 1.5  # times the area of the flank by which a wide source must differ from a saturated star
SHARE = 0.35  # of the way to the wide source, in logarithm, that the flank may lie
FLANKS = 0.7, 0.5  # of the plateau, where the flank is measured
HIGHEST = 1000.0  # sigmas above which neighbours equal within EQUAL sigmas are no chance
EQUAL = 0.05
PHASES = 16  # places within a pixel, a side
FLOOR = 3.0  # sigmas that stand for anything fainter in a logarithm
HOLE = 0.5  # of what surrounds it: less is a hole, if its edge is too steep for the PSF
HOLE_SIDE = 5.0  # FWHM: largest hole that is looked for
UNDERSHOOT = 0.8  # of the next pixel away from a core: a flank rises towards the core
TORN = 1.5  # times the curvature of the PSF
JUMP = 1.3  # times the steepest step of a star's flank
AGREEMENT = 0.08  # of two levels
NOT, ROUGH, SURE = range(3)
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
SQUARE = np.ones((3, 3), bool)


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

    with equality in a star, and the profiles of real PSFs are bent most at their centre. The rim of a clipped core is
    bent more: flat to one side, on the other as steep as the star's flank. A core is saturated where the mean of -D
    over its rim exceeds 1.3 times that of the PSF (1.5 where only its width is known), by five sigma. Further signs:
    two neighbours or more exactly at the frame's highest value; holes narrower than the PSF in a bright core
    (wrapped or zeroed pixels); pixels at the level of cores already found.

    The mask holds the plateau, the trail connected with it, holes, one pixel around, and beyond it those that
    are sharper than the PSF or below what lies farther out (undershoots), as far as they are connected.

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
        Saturation level over the sky. Pixels that reach it are saturated, and plateaus above half of it need less
        evidence; those of median stacks lie below what a header says.

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
    frame = _Frame(data, sigma, bad, fwhm_pix, psf)
    plateaus = _equal_highest(frame)
    if level is not None:
        plateaus |= frame.good & (frame.f >= level)
    tried, rough = plateaus.copy(), []
    for seed in frame.peaks():
        if not (plateaus[seed] or tried[seed]):
            rough.append(_add_plateau(frame, seed, plateaus, tried))
    _add_rough(frame, [found for found in rough if found is not None], plateaus)
    _add_same_level(frame, plateaus)
    holes = _holes(frame)
    found = _with_what_is_torn(frame, plateaus | holes, None if bad is None else np.asarray(bad, bool))
    cores = []
    for whole in _components(scipy.ndimage.binary_dilation(plateaus | holes, SQUARE)):
        core = whole & plateaus if (whole & plateaus).any() else whole & holes
        places = [float(p.mean()) for p in np.nonzero(core)]
        value = np.median(frame.f[core]) if (whole & plateaus).any() else frame.f[whole].max()
        cores.append(Core(*places, int(np.count_nonzero(whole & (plateaus | holes))), float(value)))
    return found, sorted(cores, key=lambda core: -core.value)


class _Star:
    """What an unsaturated star looks like: pixels near its highest, curvature of the logarithm, area above a level."""

    def __init__(self, width, psf):
        if psf is None:
            half = max(4, int(6 * width))
            offset = np.arange(-half, half + 1)
            squared = offset[:, None] ** 2 + offset**2
            # Wings as bright as any seeing has; those of real PSFs are between these and a Gaussian's.
            psf = (1.0 + squared * 4.0 * (2.0**0.4 - 1.0) / width**2) ** -2.5
        psf = np.asarray(psf, np.float64)
        log = np.log(np.maximum(psf / psf.max(), 1e-6))
        peak = np.unravel_index(np.argmax(psf), psf.shape)
        reach = max(3, int(np.ceil(1.2 * width)))
        core = log[tuple(slice(max(0, p - reach), p + reach + 1) for p in peak)]
        places = (np.arange(PHASES) + 0.5) / PHASES - 0.5
        moved = [scipy.ndimage.shift(core, (y, x), order=3, mode="nearest") for y in places for x in places]
        moved = np.stack(moved).reshape(PHASES**2, -1)
        self.fall = np.sort(moved.max(axis=1, keepdims=True) - moved, axis=1)
        self.curvature = {e: _curvature(e, log, width) for e in DIRECTIONS}
        self.levels = np.sort(np.exp(log.ravel()))[::-1]
        steps = [np.abs(np.diff(np.where(log > np.log(1e-3), log, np.nan), axis=k)) for k in (0, 1)]
        self.steepest = max(float(np.nanmax(step)) for step in steps)

    def pixels(self, depth):
        """Most pixels that lie within ``depth`` of the highest: for any place in a pixel, and for 99 of 100."""
        count = np.sum(self.fall <= -np.log1p(-min(depth, 0.9)), axis=1)
        return int(count.max()), float(np.quantile(count, 0.99))

    def area(self, pixels, share):
        """Area above ``share`` of its plateau of a star that is clipped so that the plateau has so many pixels."""
        n = len(self.levels)
        clip = np.interp(pixels, np.arange(1, n + 1), self.levels)
        if share * clip > self.levels[n // 2]:
            return float(np.interp(-share * clip, -self.levels, np.arange(1, n + 1)))
        return pixels * share ** -(2.0 / 3.0)  # beyond the array: wings that fall as r^-3


def _curvature(e, log, width):
    """-D of the PSF: the largest among the pixels of its core."""
    rows, columns = np.nonzero(log[1:-1, 1:-1] > np.log(0.4))
    rows, columns = rows + 1, columns + 1
    bent = 2.0 * log[rows, columns] - log[rows + e[0], columns + e[1]] - log[rows - e[0], columns - e[1]]
    return max(float(bent.max(initial=0.0)), 4.5 * (e[0] ** 2 + e[1] ** 2) / width**2)


class _Frame:
    """The data, their logarithm, and the star to compare with."""

    def __init__(self, data, sigma, bad, fwhm_pix, psf):
        f = np.asarray(data, np.float64)
        self.good = np.isfinite(f) if bad is None else np.isfinite(f) & ~np.asarray(bad, bool)
        sigma = np.asarray(sigma, np.float64)
        known = np.isfinite(sigma) & (sigma > 0.0)
        usual = float(np.median(sigma[known])) if known.any() else 1.0
        self.sigma = np.broadcast_to(np.where(known, sigma, usual), f.shape)
        self.f = np.where(self.good, f, 0.0)
        bounded = np.maximum(self.f, FLOOR * self.sigma)
        self.log = np.where(self.good, np.log(bounded), np.nan)
        self.width = float(fwhm_pix)
        self.star = _Star(self.width, psf)

    def peaks(self):
        """Bright local maxima that have more pixels near their height than most stars, the brightest first."""
        high = scipy.ndimage.maximum_filter(self.f, 3)
        rows, columns = np.nonzero(self.good & (self.f == high) & (self.f > LEAST_SNR * self.sigma))
        order = np.argsort(-self.f[rows, columns], kind="stable")
        return list(zip(rows[order].tolist(), columns[order].tolist()))

    def sharp(self):
        """Where the data are bent down more than the PSF in any direction, beyond noise."""
        result = np.zeros(self.f.shape, bool)
        variance = (self.sigma / np.maximum(self.f, FLOOR * self.sigma)) ** 2
        for (i, j), curvature in self.star.curvature.items():
            here, before, after = (
                np.s_[
                    abs(i) + k * i : self.f.shape[0] - abs(i) + k * i, abs(j) + k * j : self.f.shape[1] - abs(j) + k * j
                ]
                for k in (0, -1, 1)
            )
            bent = 2.0 * self.log[here] - self.log[before] - self.log[after]
            error = np.sqrt(4.0 * variance[here] + variance[before] + variance[after])
            with np.errstate(invalid="ignore"):
                result[here] |= bent > TORN * curvature + 5.0 * error
        return result & (self.f > FLOOR * self.sigma)


def _add_plateau(frame, seed, plateaus, tried):
    """Mark the plateau that a peak belongs to, where it is saturated; a rough one is returned instead."""
    best, rough = None, None
    reach = max(12, int(3 * frame.width))
    for depth, least in DEPTHS.items():
        region, window, high, reach = _flood(frame, seed, depth, reach)
        if region is None:
            break
        n = int(scipy.ndimage.binary_fill_holes(region).sum())
        flat = _flatness(frame, region, window, seed, high, n, depth, least, reach) if n > 2 else NOT
        if flat == SURE:
            best = region, window
        elif flat == ROUGH:
            rough = region, window
        if depth < 0.05:
            tried[window] |= region
    if best is not None:
        plateaus[best[1]] |= best[0]
        return None
    return rough


def _add_rough(frame, rough, plateaus):
    """Rough plateaus, where they agree with a sure one, or three of them with each other, on the frame's highest level."""
    sure = frame.f[plateaus & frame.good]
    levels = np.array([np.median(frame.f[window][region]) for region, window in rough])
    top = np.max(frame.f, initial=0.0, where=~plateaus)
    for level, (region, window) in zip(levels, rough):
        agree = sure.size and abs(level / np.median(sure) - 1.0) < AGREEMENT
        agree = agree or np.count_nonzero(np.abs(levels / level - 1.0) < AGREEMENT) >= 3
        if agree and top < 1.3 * level:
            plateaus[window] |= region


def _flatness(frame, region, window, seed, high, n, depth, least, reach):
    """Whether n pixels, almost equal, are too many for a star or a rim too sharp, and the flank is a star's."""
    noise = frame.sigma[seed] / high
    most, usual = frame.star.pixels(depth + 4.0 * noise)
    if n <= usual:
        return NOT
    bent, error = _rim(frame, region, window)
    sharp = bent - 2.0 * error > SHARP
    # Few pixels so close to each other that hardly any place within a pixel makes them so.
    sharp |= bent > 0.8 and depth + 4.0 * noise < NO_CHANCE * frame.star.curvature[0, 1]
    many = n > 1.1 * most and bent > least
    rough = NOT
    for share in FLANKS:
        flank, *_ = _flood(frame, seed, 1.0 - share, reach)
        if flank is None:
            continue
        clipped = frame.star.area(n, share)
        # An unsaturated source whose top is a paraboloid: the area of its top by what n pixels hold at least.
        wide = max(np.sqrt(n) - OVERLAP, 0.0) ** 2 * np.log(share) / np.log1p(-depth - 4.0 * noise)
        area = flank.sum() / clipped
        if (sharp and area <= MARGIN) or (many and wide > LEVER * clipped and area <= (wide / clipped) ** SHARE):
            return SURE
        # Plateaus of resampled and stacked frames, whose rims are rounded too.
        if n >= 2 * most and bent > ROUNDED * least and area <= 1.0:
            rough = ROUGH
    return rough


def _flood(frame, seed, depth, reach):
    """Pixels connected with a seed that lie at most ``depth`` below the highest of them; bad pixels conduct."""
    high = frame.f[seed]
    while True:
        window = tuple(slice(max(0, s - reach), min(n, s + reach + 1)) for s, n in zip(seed, frame.f.shape))
        at = tuple(s - w.start for s, w in zip(seed, window))
        f, good, sigma = frame.f[window], frame.good[window], frame.sigma[window]
        for _ in range(4):  # the highest pixel may lie elsewhere on the plateau
            labels, _ = scipy.ndimage.label((f >= high * (1.0 - depth) - 2.0 * sigma) | ~good, SQUARE)
            region = (labels == labels[at]) & good
            top = float(f[region].max(initial=high))
            if top <= high:
                break
            if top > frame.f[seed] * (1.0 + depth) + 4.0 * frame.sigma[seed]:
                return None, window, high, reach  # a shoulder of something brighter
            high = top
        inner = tuple(slice(1 if w.start > 0 else 0, -1 if w.stop < n else None) for w, n in zip(window, frame.f.shape))
        if region[inner].sum() == region.sum():
            return region, window, high, reach
        reach *= 2


def _rim(frame, region, window):
    """Mean curvature of the logarithm across the rim of a region in units of the PSF's, and its standard error."""
    step = max(1, round(frame.width / 4.0))  # wide PSFs bend little from one pixel to the next
    log = np.pad(frame.log[window], step, constant_values=np.nan)
    inside = np.pad(region, step)
    values = []
    for e in DIRECTIONS:
        for out in ((step * e[0], step * e[1]), (-step * e[0], -step * e[1])):
            back = (-out[0], -out[1])
            # np.roll by "back" brings the pixel at x + out to x.
            beyond, behind = np.roll(log, back, (0, 1)), np.roll(log, out, (0, 1))
            rim = inside & np.roll(inside, out, (0, 1)) & ~np.roll(inside, back, (0, 1))
            bent = (2.0 * log - behind - beyond)[rim] / (step**2 * frame.star.curvature[e])
            values.append(bent[np.isfinite(bent)])
    values = np.concatenate(values)
    if len(values) < 2:
        return 0.0, np.inf
    # Noise decides what is inside and what is not, and so bends every rim.
    bias = (
        CHOSEN * np.median((frame.sigma / np.exp(frame.log))[window][region]) / (step**2 * frame.star.curvature[0, 1])
    )
    return float(values.mean() - bias), float(values.std() / np.sqrt(len(values)))


def _components(where):
    labels, count = scipy.ndimage.label(where, SQUARE)
    return [labels == k for k in range(1, count + 1)]


def _equal_highest(frame):
    """Two neighbours or more at the frame's highest value, far above what noise and rounding make equal."""
    high = frame.f.max()
    equal = frame.good & (frame.f >= high - np.minimum(EQUAL * frame.sigma, 1e-4 * high))
    found = np.zeros(equal.shape, bool)
    if high > HIGHEST * frame.sigma[equal].max(initial=0.0):
        for region in _components(equal):
            if np.count_nonzero(region) > 1 and _rim(frame, region, (slice(None), slice(None)))[0] > 0.6:
                found |= region
    return found


def _holes(frame):
    """Wrapped or zeroed pixels in the middle of a bright core: enclosed, by an edge steeper than any flank."""
    found = np.zeros(frame.f.shape, bool)
    filled = np.where(frame.good, frame.f, scipy.ndimage.maximum_filter(frame.f, 3))
    side = 3
    bright = 0.02 * scipy.ndimage.maximum_filter(frame.f, 2 * int(3 * frame.width) + 1)
    border = np.ones(frame.f.shape, bool)
    border[1:-1, 1:-1] = False
    while side <= max(3.0, HOLE_SIDE * frame.width) and side < min(frame.f.shape):
        closed = scipy.ndimage.grey_closing(filled, side)
        hole = (
            frame.good
            & (closed > np.maximum(2.0 * LEAST_SNR * frame.sigma, bright))
            & (frame.f < HOLE * closed)
            & ~found
        )
        for region in _components(hole):
            ring = scipy.ndimage.binary_dilation(region, SQUARE) & ~region & frame.good
            inner = scipy.ndimage.maximum_filter(np.where(region, frame.log, -np.inf), 3)
            jump = (frame.log - inner)[ring]
            if ring.any() and not (region & border).any() and np.quantile(jump, 0.25) > JUMP * frame.star.steepest:
                found |= region
        side = 2 * side - 1
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


def _with_what_is_torn(frame, found, bad):
    """One pixel around, and as far as connected: pixels sharper than the PSF, or below what lies farther out."""
    if bad is not None:
        bright = scipy.ndimage.maximum_filter(frame.f, 3) > 2.0 * LEAST_SNR * frame.sigma
        core = bad & bright
    else:
        core = np.zeros(found.shape, bool)
    mask = scipy.ndimage.binary_dilation(scipy.ndimage.binary_fill_holes(found), SQUARE) if found.any() else found
    mask = mask | core
    if not mask.any():
        return found
    torn = frame.sharp()
    for _ in range(int(2 * frame.width) + 2):
        new = scipy.ndimage.binary_dilation(mask, SQUARE) & ~mask & frame.good
        new &= _undershoots(frame, mask) | (torn & scipy.ndimage.binary_dilation(mask & ~core, SQUARE))
        if not new.any():
            break
        mask |= new
    mask |= scipy.ndimage.binary_closing(np.pad(mask, 1), SQUARE)[1:-1, 1:-1]
    return mask if bad is None else mask & ~bad


def _undershoots(frame, mask):
    """Where a pixel is clearly fainter than the next one away from the mask."""
    distance, nearest = scipy.ndimage.distance_transform_edt(~mask, return_indices=True)
    places = np.indices(mask.shape)
    away = (places - nearest) / np.maximum(distance, 1.0)
    limits = np.array(mask.shape)[:, None, None] - 1
    beyond = tuple(np.clip(places + np.rint(away).astype(int), 0, limits))
    next_f = np.where(frame.good[beyond] & ~mask[beyond], frame.f[beyond], -np.inf)
    return (frame.f < UNDERSHOOT * next_f - 3.0 * frame.sigma) & (next_f > 5.0 * frame.sigma)
