"""Sky background and noise of an image that comes without them."""

import numpy as np

SKIES = ("map", "flat", "none")


def background_and_rms(data, mask=None, *, sky="map", box=None):
    """Background and rms maps, sources left out.

    "map": sigma-clipped statistics in boxes, median-filtered and interpolated: photutils' ``Background2D`` with
    SExtractor's mode estimate; an image of fewer than three boxes a side counts as one box. "flat": one mode for the
    whole image, and the scatter of the pixels below it, which no crowd of sources widens:

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
    from photutils.background import Background2D, SExtractorBackground

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
    if sky == "flat" or min(data.shape) < 3 * box:
        good = clip(data[~bad].astype(np.float64), masked=False)
        level, rms = float(mode(good)), good.std()
        below = good[good < level]
        if sky == "flat" and below.size:
            rms = np.sqrt(np.mean((below - level) ** 2))
        level, rms = np.full(data.shape, level, data.dtype), np.full(data.shape, rms, data.dtype)
    else:
        # What is near zero has no use for double precision, whatever the level.
        level = data.dtype.type(np.median(data[~bad][:: max(1, data.size // 10**6)]))
        boxes = Background2D(
            np.where(bad, data.dtype.type(0), data - level),
            box,
            mask=bad,
            filter_size=3,
            exclude_percentile=50.0,
            sigma_clip=clip,
            bkg_estimator=mode,
        )
        level, rms = boxes.background + level, boxes.background_rms
    return (np.zeros(data.shape, data.dtype) if sky == "none" else level), rms


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
