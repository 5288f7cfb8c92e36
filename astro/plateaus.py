"""Plateaus: tops of sources that are too flat, and rims that are too sharp, for anything that a PSF has blurred."""

import numpy as np
import scipy.ndimage

LEAST_SNR = 25.0  # of a plateau: fainter ones cannot be told from noise
# Depths of a plateau below its highest pixel that are tried, and the curvature that its rim must show.
DEPTHS = {0.0005: 0.3, 0.003: 0.3, 0.01: 0.3, 0.03: 0.35, 0.08: 0.45, 0.2: 0.6}
NO_CHANCE = 0.015  # of the curvature, by which three pixels differ in one star of a thousand
SHARP = 1.1  # curvature of a rim that no unsaturated star has
MARGIN = 1.3  # times the area of a saturated star's flank, where the rim is sharp
CHOSEN = 3.0  # sigmas by which the choice of a region sets its outermost pixels apart from their neighbours, at most
ROUNDED = 0.6  # of the curvature, that the rims of rough plateaus show
OVERLAP = 1.83  # a spot holds at most (the root of its area + this)^2 pixels
LEVER = 1.5  # times the area of the flank by which a wide source must differ from a saturated star
SHARE = 0.35  # of the way to the wide source, in logarithm, that the flank may lie
FLANKS = 0.7, 0.5  # of the plateau, where the flank is measured
SEEN = 0.75  # of the pixels of a plateau must not be masked: a core that is masked needs nothing more
PHASES = 16  # places within a pixel, a side
FLOOR = 3.0  # sigmas that stand for anything fainter in a logarithm
NOT, ROUGH, SURE = range(3)
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
SQUARE = np.ones((3, 3), bool)


class Star:
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
        self.curvature = {e: curvature_at_peak(e, log, width) for e in DIRECTIONS}
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


def curvature_at_peak(e, log, width):
    """-D of the PSF: the largest among the pixels of its core."""
    rows, columns = np.nonzero(log[1:-1, 1:-1] > np.log(0.4))
    rows, columns = rows + 1, columns + 1
    bent = 2.0 * log[rows, columns] - log[rows + e[0], columns + e[1]] - log[rows - e[0], columns - e[1]]
    return max(float(bent.max(initial=0.0)), 4.5 * (e[0] ** 2 + e[1] ** 2) / width**2)


class Frame:
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
        self.star = Star(self.width, psf)

    def peaks(self):
        """Bright local maxima that have more pixels near their height than most stars, the brightest first."""
        high = scipy.ndimage.maximum_filter(self.f, 3)
        rows, columns = np.nonzero(self.good & (self.f == high) & (self.f > LEAST_SNR * self.sigma))
        order = np.argsort(-self.f[rows, columns], kind="stable")
        return list(zip(rows[order].tolist(), columns[order].tolist()))


def add_plateau(frame, seed, plateaus, tried):
    """Mark the plateau that a peak belongs to, where it is saturated; return a rough one as (region, window) instead.

    Parameters
    ----------
    frame : Frame
    seed : (int, int)
        The peak.
    plateaus, tried : (h, w) bool arrays
        Changed: pixels of plateaus, and those that need not be tried as another seed.
    """
    best, rough = None, None
    reach = max(12, int(3 * frame.width))
    for depth, least in DEPTHS.items():
        region, window, high, reach = flood(frame, seed, depth, reach)
        if region is None:
            break
        n = int(scipy.ndimage.binary_fill_holes(region).sum())
        masked = scipy.ndimage.binary_dilation(region, SQUARE, 2) & ~frame.good[window]
        seen = n > 2 and region.sum() > SEEN * (region | masked).sum()
        flat = flatness(frame, region, window, seed, high, n, depth, least, reach) if seen else NOT
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


def flatness(frame, region, window, seed, high, n, depth, least, reach):
    """Whether n pixels, almost equal, are too many for a star or a rim too sharp, and the flank is a star's."""
    noise = frame.sigma[seed] / high
    most, usual = frame.star.pixels(depth + 4.0 * noise)
    if n <= usual:
        return NOT
    bent, error = rim_curvature(frame, region, window)
    sharp = bent - 2.0 * error > SHARP
    # Few pixels so close to each other that hardly any place within a pixel makes them so.
    sharp |= bent > 0.8 and depth + 4.0 * noise < NO_CHANCE * frame.star.curvature[0, 1]
    many = n > 1.1 * most and bent > least
    rough = NOT
    for share in FLANKS:
        flank, *_ = flood(frame, seed, 1.0 - share, reach)
        if flank is None:
            continue
        clipped = frame.star.area(n, share)
        # An unsaturated source whose top is a paraboloid: the area of its top by what n pixels hold at least.
        wide = max(np.sqrt(n) - OVERLAP, 0.0) ** 2 * np.log(share) / np.log1p(-depth - 4.0 * noise)
        area = scipy.ndimage.binary_fill_holes(flank).sum() / clipped
        if (sharp and area <= MARGIN) or (many and wide > LEVER * clipped and area <= (wide / clipped) ** SHARE):
            return SURE
        # Plateaus of resampled and stacked frames, whose rims are rounded too.
        if n >= 2 * most and bent > ROUNDED * least and area <= MARGIN:
            rough = ROUGH
    return rough


def flood(frame, seed, depth, reach):
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


def rim_curvature(frame, region, window):
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
