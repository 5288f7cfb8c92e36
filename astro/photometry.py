"""Fluxes of the same sources before and after a deconvolution: in equal apertures on the sky."""

import warnings

import numpy as np

from deconjugate.astro.zero_point import magnitude

SMOOTHING = 3.0  # pixels FWHM of the filter that sources are found with
LEAST_PIXELS = 5


def find_sources(light, rms, mask=None, *, threshold=3.0):
    """Places and total apertures of the sources of an image.

    Connected pixels above the threshold in the image smoothed with a Gaussian of 3 pixels; the total aperture is the
    ellipse of 2.5 Kron radii, at least 3.5 pixels.

    Parameters
    ----------
    light : (h, w) array
        Sky subtracted.
    rms : float or (h, w) array
    mask : (h, w) bool array, optional
        True = bad.
    threshold : float, > 0
        Sigmas of the smoothed image.

    Returns
    -------
    positions : (n, 2) array
        x and y, pixels from 0.
    ellipses : (n, 3) array
        Semi-axes in pixels, and the angle of the major axis in degrees from x.
    """
    from astropy.convolution import convolve
    from photutils.segmentation import SourceCatalog, detect_sources, make_2dgaussian_kernel

    mask = np.zeros(light.shape, bool) if mask is None else np.asarray(mask, bool)
    light = np.where(mask | ~np.isfinite(light), 0.0, light)
    kernel = make_2dgaussian_kernel(SMOOTHING, size=7)
    smooth = convolve(light, kernel, boundary="extend")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no source is told by the return value; edges and masks do no harm
        level = threshold * np.broadcast_to(rms, light.shape) * float(np.sqrt(np.sum(kernel.array**2)))
        segments = detect_sources(smooth, level, LEAST_PIXELS, mask=mask)
        if segments is None:
            return np.empty((0, 2)), np.empty((0, 3))
        catalogue = SourceCatalog(light, segments, convolved_data=smooth, mask=mask)
        positions = np.atleast_2d(catalogue.centroid)
        apertures = catalogue.kron_aperture
    apertures = apertures if isinstance(apertures, list | tuple | np.ndarray) else [apertures]
    ellipses = np.array([(np.nan, np.nan, np.nan) if a is None else _ellipse(a) for a in apertures])
    kept = np.isfinite(positions).all(axis=1) & np.isfinite(ellipses).all(axis=1)
    return positions[kept], ellipses[kept]


def _ellipse(aperture):
    if hasattr(aperture, "r"):
        return aperture.r, aperture.r, 0.0
    theta = aperture.theta
    return aperture.a, aperture.b, theta.to_value("deg") if hasattr(theta, "to_value") else np.degrees(theta)


def photometry(before, after, rms, positions, ellipses, *, upsample, radii=(), mask=None, zero=None, level=None):
    """Fluxes in equal apertures of an image and of the same sky on a finer grid.

    .. math:: F = \\sum_p a_p I_p, \\qquad \\sigma_F^2 = \\sum_p a_p \\, \\mathrm{rms}_p^2

    a is the exact share of a pixel in the aperture. A position x of the native grid is u (x + 1/2) - 1/2 on the fine
    one. The total flux is the one to compare: the smaller an aperture, the more light the seeing takes out of it.

    Parameters
    ----------
    before : (h, w) array
        Sky subtracted, but for ``level``.
    after : (u h, u w) array
        The same, counts per fine pixel.
    rms : float or (h, w) array
        Noise of ``before``.
    positions : (n, 2) array
        x, y in native pixels. Where they lie off the frame, or are NaN, the fluxes are NaN.
    ellipses : (n, 3) array
        Total apertures, native pixels and degrees: see :func:`find_sources`.
    upsample : int
    radii : sequence of float, > 0
        Further circular apertures, native pixels.
    mask : (h, w) bool array, optional
        Pixels left out of both.
    zero : float, optional
        Magnitude of one count.
    level : (h, w) array, optional
        Sky of ``before`` that both images hold still: taken off in the apertures alone, for want of memory.

    Returns
    -------
    astropy.table.Table
        x, y, semi-axes and angle of the total aperture, flux_before, flux_after, flux_error, ratio (after / before),
        difference (after - before, in sigmas); the same by radius; magnitudes where ``zero`` is given, NaN for fluxes
        that are not positive.

    Raises
    ------
    ValueError
        The shapes do not fit; a radius is not positive.

    Example
    -------
    >>> before, after = np.zeros((20, 30)), np.zeros((40, 60))
    >>> before[10, 12], after[20:22, 24:26] = 8.0, 2.0
    >>> table = photometry(before, after, 0.1, [(12.0, 10.0)], [(3.0, 3.0, 0.0)], upsample=2)
    >>> float(table["flux_before"][0]), float(table["flux_after"][0])
    (8.0, 8.0)
    """
    from astropy import units
    from astropy.table import Table
    from photutils.aperture import CircularAperture, EllipticalAperture

    before, after = np.asarray(before), np.asarray(after)
    if after.shape != tuple(n * upsample for n in before.shape):
        raise ValueError(
            f"after has shape {after.shape}, before {before.shape}: not the same sky on a grid {upsample} times finer"
        )
    if any(not (np.isfinite(r) and r > 0) for r in radii):
        raise ValueError(f"radii are {tuple(radii)}; give positive numbers of pixels")
    positions = np.asarray(positions, dtype=float).reshape(-1, 2)
    ellipses = np.asarray(ellipses, dtype=float).reshape(-1, 3)
    rms = np.broadcast_to(np.asarray(rms), before.shape)

    def one(i, reach, aperture):
        """Flux before, its error, and flux after of a source, from what lies within a reach of it."""
        if not np.isfinite(positions[i]).all():
            return np.nan, np.nan, np.nan
        box = _around(positions[i], reach, before.shape)
        fine_box = tuple(slice(upsample * s.start, upsample * s.stop) for s in box)
        seen, sharp = before[box], np.asarray(after[fine_box], dtype=np.float64)
        bad = ~np.isfinite(seen) if mask is None else ~np.isfinite(seen) | np.asarray(mask[box], dtype=bool)
        if level is not None:
            seen, sharp = seen - level[box], sharp - _finer(level[box], upsample) / upsample**2
        corner = np.array([s.start for s in box[::-1]])
        coarse = aperture(positions[i] - corner, 1.0)
        fine = aperture(upsample * (positions[i] + 0.5) - 0.5 - upsample * corner, upsample)
        sums = [
            shape.do_photometry(values, mask=where)[0][0]
            for shape, values, where in (
                (coarse, np.asarray(seen, dtype=np.float64), bad),
                (coarse, np.asarray(rms[box], dtype=np.float64) ** 2, bad),
                (fine, sharp, _finer(bad, upsample)),
            )
        ]
        return sums[0], np.sqrt(sums[1]), sums[2]

    def ellipse(i):
        a, b, angle = ellipses[i]
        return one(i, max(a, b), lambda place, u: EllipticalAperture(place, u * a, u * b, theta=angle * units.deg))

    def circle(i, r):
        return one(i, r, lambda place, u: CircularAperture(place, u * r))

    def of_all(measure, *given):
        return np.array([measure(i, *given) for i in range(len(positions))], dtype=float).reshape(-1, 3).T

    table = Table({"x": positions[:, 0], "y": positions[:, 1]})
    table["a"], table["b"], table["pa"] = ellipses.T
    table["flux_before"], table["flux_error"], table["flux_after"] = of_all(ellipse)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["ratio"] = table["flux_after"] / table["flux_before"]
        table["difference"] = (table["flux_after"] - table["flux_before"]) / table["flux_error"]
    for r in radii:
        names = (f"aper_{r:g}_before", f"aper_{r:g}_error", f"aper_{r:g}_after")
        table.add_columns(list(of_all(circle, r)), names=names)
    if zero is not None:
        for name in (
            "flux_before",
            "flux_after",
            *(n for r in radii for n in (f"aper_{r:g}_before", f"aper_{r:g}_after")),
        ):
            table[name.replace("flux", "mag") if name.startswith("flux") else f"mag_{name}"] = magnitude(
                table[name], zero
            )
        table["mag_error"] = 1.0857 * np.abs(table["flux_error"] / table["flux_before"])
    for name in ("x", "y", "a", "b"):
        table[name].unit = units.pix
    table["pa"].unit = units.deg
    return table


def _around(position, reach, shape):
    """Slices of the pixels within a reach of (x, y), one at least."""
    low, high = position[::-1] - reach - 2, position[::-1] + reach + 3
    starts = [int(np.clip(a, 0, n - 1)) for a, n in zip(low, shape)]
    return tuple(slice(s, int(np.clip(b, s + 1, n))) for s, b, n in zip(starts, high, shape))


def _finer(native, upsample):
    return np.repeat(np.repeat(native, upsample, 0), upsample, 1)
