"""Sky background and noise of an image that comes without them."""

import numpy as np


def background_and_rms(data, mask=None, *, box=None):
    """Background and rms maps, sources left out.

    Sigma-clipped statistics in boxes, median-filtered and interpolated: photutils' ``Background2D`` with SExtractor's
    mode estimate. An image of fewer than three boxes a side gets one number for all of it.

    Parameters
    ----------
    data : (h, w) array
    mask : (h, w) bool array, optional
        True = bad. NaN is left out in any case.
    box : int, optional
        Side of a box in pixels; default an eighth of the shorter side, at least 32. Larger boxes keep more of the light
        of extended sources out of the background.

    Returns
    -------
    background, rms : (h, w) float64 arrays

    Raises
    ------
    ValueError
        No pixel is good; box is less than 8.

    Example
    -------
    >>> import numpy as np
    >>> sky, rms = background_and_rms(np.random.default_rng(1).normal(100.0, 3.0, (131, 143)))
    >>> round(float(sky.mean())), round(float(rms.mean()))
    (100, 3)
    """
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, SExtractorBackground

    data = np.asarray(data, dtype=np.float64)
    bad = ~np.isfinite(data) if mask is None else ~np.isfinite(data) | np.asarray(mask, dtype=bool)
    if bad.all():
        raise ValueError("no pixel of the image is good: all are masked or NaN")
    box = max(32, min(data.shape) // 8) if box is None else int(box)
    if box < 8:
        raise ValueError(f"box is {box} pixels; statistics need 8 or more")
    clip, sky = SigmaClip(3.0, maxiters=10), SExtractorBackground()
    if min(data.shape) < 3 * box:
        good = clip(data[~bad], masked=False)
        return np.full(data.shape, sky(good)), np.full(data.shape, good.std())
    boxes = Background2D(
        np.where(bad, 0.0, data),
        box,
        mask=bad,
        filter_size=3,
        exclude_percentile=50.0,
        sigma_clip=clip,
        bkg_estimator=sky,
    )
    return boxes.background, boxes.background_rms


def noise_map(data, background, rms, *, gain=None):
    """Standard deviation per pixel: sky noise, and the shot noise of the sources where the gain is known.

    .. math:: \\sigma^2 = \\mathrm{rms}^2 + \\max(\\mathrm{data} - \\mathrm{background}, 0) / \\mathrm{gain}

    Parameters
    ----------
    data, background, rms : (h, w) arrays
    gain : float, > 0, optional
        Electrons per unit of the data.

    Raises
    ------
    ValueError
        gain is not positive.

    Example
    -------
    >>> import numpy as np
    >>> float(noise_map(np.array([[109.0]]), 100.0, 4.0, gain=1.0)[0, 0])
    5.0
    """
    data, background, rms = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (data, background, rms)))
    if gain is None:
        return rms.copy()
    if not (np.isfinite(gain) and gain > 0.0):
        raise ValueError(f"gain is {gain}; give the electrons per unit of the data, a positive number")
    return np.sqrt(rms**2 + np.fmax(data - background, 0.0) / gain)
