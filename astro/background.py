"""Sky background and noise of an image that comes without them."""

import numpy as np

SKIES = ("map", "flat", "none")
SMOOTHING = 1.5  # pixels: deviation of the Gaussian that brings out what is faint
SEED, EDGE = 5.0, 1.0  # sigmas of the smoothed frame: a source has the first and reaches down to the second
GROWTH = 3  # pixels that a source is larger than its edge
LEAST_SKY = 0.15  # of a frame without source: with less, the mode of all pixels is the better guess
PASSES = 3
CLIPPED = 0.9866  # of its sigma that Gaussian noise has left, once cut at three


def background_and_rms(data, mask=None, *, sky="map", box=None):
    """Background and rms maps, sources left out.

    "map": sigma-clipped means in boxes, median-filtered and interpolated: photutils' ``Background2D``; an image of
    fewer than three boxes a side counts as one box. A first map with SExtractor's mode estimate shows the sources;
    these are masked down to their edge, and the map is made again. The wings and outskirts below any threshold are what
    makes a sky too high: a source is all that is connected above one sigma of the smoothed frame, and three pixels
    around. Where sources leave less than 15 per cent of the image, the mode stays.

    "flat": one mode for the whole image, and the scatter of the pixels below it, which no crowd of sources widens:

    .. math:: \\mathrm{rms}^2 = \\langle (d - b)^2 \\rangle_{d < b}

    Parameters
    ----------
    data : (h, w) array
    mask : (h, w) bool array, optional
        True = bad. NaN is left out in any case.
    sky : "map", "flat" or "none"
        "flat" for a field that crowds or fills the boxes with light, whose sky a map would take for background;
        "none" for an image without sky: the background is 0, the noise as for "map".
    box : int, optional
        Side of a box in pixels; default an eighth of the shorter side, at least 32. Larger boxes keep more of the light
        of extended sources out of the background.

    Returns
    -------
    background, rms : (h, w) arrays
        In the precision of the data, float32 at least.

    Raises
    ------
    ValueError
        No pixel is good; all good pixels are equal; box is less than 8; sky is unknown.

    Example
    -------
    >>> import numpy as np
    >>> level, rms = background_and_rms(np.random.default_rng(1).normal(100.0, 3.0, (131, 143)))
    >>> round(float(level.mean())), round(float(rms.mean()))
    (100, 3)
    """
    from astropy.stats import SigmaClip
    from photutils.background import SExtractorBackground

    if sky not in SKIES:
        raise ValueError(f"sky is {sky!r}; choose one of {', '.join(SKIES)}")
    data = np.asarray(data)
    data = data.astype(np.result_type(data.dtype, np.float32), copy=False)  # a large frame need not be doubled
    bad = ~np.isfinite(data) if mask is None else ~np.isfinite(data) | np.asarray(mask, dtype=bool)
    if bad.all():
        raise ValueError("no pixel of the image is good: all are masked or NaN")
    if np.ptp(data[~bad]) == 0.0:
        raise ValueError(f"all good pixels of the image are {data[~bad][0]:g}: there is nothing to measure noise from")
    box = max(32, min(data.shape) // 8) if box is None else int(box)
    if box < 8:
        raise ValueError(f"box is {box} pixels; statistics need 8 or more")
    clip, mode = SigmaClip(3.0, maxiters=10), SExtractorBackground()
    one_box = min(data.shape) < 3 * box
    if sky == "flat" or one_box:
        good = clip(data[~bad].astype(np.float64), masked=False)
        level, rms = float(mode(good)), good.std()
        below = good[good < level]
        if sky == "flat" and below.size:
            rms = np.sqrt(np.mean((below - level) ** 2))
        level, rms = np.full(data.shape, level, data.dtype), np.full(data.shape, rms, data.dtype)
        if sky != "flat":
            level, rms = _without_sources(data, bad, level, rms, None)
    else:
        level, rms = _map(data, bad, box, mode, 50.0)
        # A gradient within boxes, and beyond the middle of the outermost, would pass for sources.
        trend = _trend(level)
        level, rms = _without_sources(data - trend, bad, level - trend, rms, box)
        level = level + trend
    return (np.zeros(data.shape, data.dtype) if sky == "none" else level), rms


def _map(data, bad, box, estimator, exclude_percentile):
    from astropy.stats import SigmaClip
    from photutils.background import Background2D

    # What is near zero has no use for double precision, whatever the level.
    level = data.dtype.type(np.median(data[~bad][:: max(1, data.size // 10**6)]))
    boxes = Background2D(
        np.where(bad, data.dtype.type(0), data - level),
        box,
        mask=bad,
        filter_size=3,
        exclude_percentile=exclude_percentile,
        sigma_clip=SigmaClip(3.0, maxiters=10),
        bkg_estimator=estimator,
    )
    return boxes.background + level, boxes.background_rms


def _trend(level):
    """The plane through a map."""
    rows, columns = (np.linspace(-1.0, 1.0, n, dtype=level.dtype) for n in level.shape)
    terms = [(0, 0), (1, 0), (0, 1)]  # a parabola would follow a cluster or a large galaxy
    few = tuple(slice(n // 16, None, max(1, n // 8)) for n in level.shape)
    y, x = (v.ravel().astype(np.float64) for v in np.meshgrid(rows[few[0]], columns[few[1]], indexing="ij"))
    design = np.stack([y**i * x**j for i, j in terms], axis=1)
    fit = np.linalg.lstsq(design, level[few].ravel().astype(np.float64), rcond=None)[0]
    return sum(level.dtype.type(c) * rows[:, None] ** i * columns**j for c, (i, j) in zip(fit, terms))


def _without_sources(data, bad, level, rms, box):
    """The sky of what is left once the sources that a first sky shows are masked; ``box`` None: one number."""
    from astropy.stats import SigmaClip
    from photutils.background import MeanBackground

    for _ in range(PASSES):
        source = _sources(data, bad, level, rms)
        sky = ~(source | bad)
        if np.count_nonzero(sky) < LEAST_SKY * np.count_nonzero(~bad) or np.ptp(data[sky]) == 0.0:
            break
        if box is None:
            left = SigmaClip(3.0, maxiters=10)(data[sky].astype(np.float64), masked=False)
            level, rms = (np.full(data.shape, x, data.dtype) for x in (left.mean(), left.std() / CLIPPED))
            continue
        try:
            level, rms = _map(data, ~sky, box, MeanBackground(), 80.0)
        except ValueError:  # no box has a fifth of its pixels left
            break
        rms = rms / data.dtype.type(CLIPPED)
    return level, rms


def _sources(data, bad, level, rms):
    """Mask of the sources: connected pixels above the edge of the smoothed frame, with one above the seed, grown."""
    import scipy.ndimage

    good = (~bad).astype(data.dtype)
    smooth = scipy.ndimage.gaussian_filter(np.where(bad, data.dtype.type(0), data - level), SMOOTHING)
    smooth /= np.maximum(scipy.ndimage.gaussian_filter(good, SMOOTHING), data.dtype.type(0.01))
    white = float(np.median(rms)) / (2.0 * np.sqrt(np.pi) * SMOOTHING)
    # Noise that is correlated is smoothed away less: what is below the sky tells.
    below = smooth[(smooth < 0.0) & ~bad][:: max(1, data.size // 10**6)]
    noise = max(white, 1.4826 * float(np.median(-below))) if below.size else white
    labels, count = scipy.ndimage.label(smooth > EDGE * noise, np.ones((3, 3), bool))
    if not count:
        return np.zeros(data.shape, bool)
    highest = scipy.ndimage.maximum(smooth, labels, np.arange(1, count + 1))
    source = np.concatenate([[False], np.asarray(highest) > SEED * noise])[labels]
    return scipy.ndimage.binary_dilation(source, np.ones((3, 3), bool), GROWTH)


def noise_map(data, background, rms, *, gain=None, psf_error=0.0):
    """Standard deviation per pixel: sky noise, shot noise of the sources, and what an imperfect PSF leaves of them.

    .. math:: \\sigma^2 = \\mathrm{rms}^2 + s / \\mathrm{gain} + (\\epsilon s)^2, \\qquad
              s = \\max(\\mathrm{data} - \\mathrm{background}, 0)

    Parameters
    ----------
    data, background, rms : (h, w) arrays
    gain : float, > 0, optional
        Electrons per unit of the data; without it there is no shot noise.
    psf_error : float, >= 0
        epsilon, the relative error of the PSF. Without it, errors of the PSF around stars brighter than 1 / epsilon
        times the noise are explained by light that is not there.

    Raises
    ------
    ValueError
        gain is not positive; psf_error is negative.

    Example
    -------
    >>> import numpy as np
    >>> float(noise_map(np.array([[109.0]]), 100.0, 4.0, gain=1.0)[0, 0])
    5.0
    """
    if not (gain is None or (np.isfinite(gain) and gain > 0.0)):
        raise ValueError(f"gain is {gain}; give the electrons per unit of the data, a positive number")
    if not (np.isfinite(psf_error) and psf_error >= 0.0):
        raise ValueError(f"psf_error is {psf_error}; give a fraction, 0 or more")
    data = np.asarray(data, dtype=np.result_type(data, np.float32))  # a large frame need not be doubled
    signal = np.where(np.isfinite(data), np.fmax(data - background, 0.0), 0.0).astype(data.dtype)
    shot = 0.0 if gain is None else signal / gain
    return np.sqrt(np.asarray(rms, dtype=data.dtype) ** 2 + shot + (psf_error * signal) ** 2)
