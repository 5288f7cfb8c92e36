"""Stars of an image, as a measure of its seeing."""

import numpy as np

from deconjugate.astro.shape import fwhm_pix


def measure_star_fwhm(data, background, rms, mask=None, *, saturation=None, min_snr=30.0, size=21):
    """FWHM of the stars of an image, in pixels: the median over its isolated, bright, unsaturated point sources.

    Point sources are the narrowest sources of a frame and share one width, so the stars are taken to be the densest
    clump among the narrower half of the widths (the half-sample mode).

    Parameters
    ----------
    data, background, rms : (h, w) arrays
    mask : (h, w) bool array, optional
        True = bad; a star with a bad pixel within ``size`` is left out.
    saturation : float, optional
        Sources whose peak reaches this are left out; default: those of more than 0.9 times the highest good pixel when
        several pixels share that height, which is how saturation shows.
    min_snr : float
        Peak over noise; larger values mean fewer and better stars.
    size : int
        Side of the stamp a star is measured in.

    Returns
    -------
    fwhm : float
        In pixels, to be given to :meth:`deconjugate.astro.psf.PSF.moffat`.
    positions : (n, 2) array
        Columns and rows (x, y) of the stars it rests on.

    Raises
    ------
    ValueError
        Fewer than three stars are found.
    """
    from photutils.detection import find_peaks

    bad = ~np.isfinite(data) if mask is None else ~np.isfinite(data) | np.asarray(mask, dtype=bool)
    light = np.where(bad, 0.0, data - background)
    half = size // 2
    peaks = find_peaks(light, min_snr * rms, box_size=5, mask=bad)
    if peaks is None:
        raise ValueError(f"no source reaches {min_snr:g} times the noise; give the width of the PSF yourself")
    x, y, height = (np.asarray(peaks[name]) for name in ("x_peak", "y_peak", "peak_value"))
    if saturation is None:
        top = np.max(np.where(bad, -np.inf, data))
        saturation = 0.9 * top if np.count_nonzero(data[~bad] == top) > 2 else np.inf
    widths, kept = [], []
    for i in np.argsort(height)[::-1]:
        inside = half <= x[i] < data.shape[1] - half and half <= y[i] < data.shape[0] - half
        if not inside or data[y[i], x[i]] >= saturation:
            continue
        distance = np.maximum(np.abs(x - x[i]), np.abs(y - y[i]))
        if np.any((distance > 0) & (distance <= half) & (height > 0.1 * height[i])):
            continue
        window = np.s_[y[i] - half : y[i] + half + 1, x[i] - half : x[i] + half + 1]
        if bad[window].any():
            continue
        # What a neighbour's wing adds at the rim of the stamp would widen the star.
        rim = np.concatenate([light[window][0], light[window][-1], light[window][:, 0], light[window][:, -1]])
        if abs(np.median(rim)) > 0.05 * height[i]:
            continue
        width = fwhm_pix(light[window])
        if width > 1.2:
            widths.append(width)
            kept.append((x[i], y[i]))
    if len(widths) < 3:
        raise ValueError(f"only {len(widths)} isolated stars found; give the width of the PSF yourself")
    widths, kept = np.array(widths), np.array(kept)
    centre = _half_sample_mode(widths[widths <= np.median(widths)])
    stars = np.abs(widths - centre) < 0.15 * centre
    return float(np.median(widths[stars])), kept[stars]


def _half_sample_mode(values):
    """Where the values lie densest: halve to the shortest half, until three or fewer are left."""
    values = np.sort(values)
    while len(values) > 3:
        half = (len(values) + 1) // 2
        start = int(np.argmin(values[half - 1 :] - values[: len(values) - half + 1]))
        values = values[start : start + half]
    return float(np.median(values))
