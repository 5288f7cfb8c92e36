"""The PSF of an image, measured on its stars."""

from dataclasses import dataclass, field

import numpy as np
import scipy.ndimage

from deconjugate.astro.psf import PSF
from deconjugate.astro.shape import fwhm_pix, windowed_centroid
from deconjugate.astro.star_finding import find_stars
from deconjugate.astro.star_fit import Stars, spline_coefficients, spline_samples
from deconjugate.astro.star_profile import (
    ellipse,
    fit_profile,
    outside,
    profile_samples,
    relative_widths,
    width_gradient,
)

SAMPLES = 5.0  # per FWHM, at least: what a spline needs
RADIUS = 4.0  # FWHM of the stars' stamps
WINGS = 2.0  # beta of the brightest wings that are expected
OUTER = 8.0  # FWHM at most of the PSF that is written
OUTSIDE = 0.003  # of the light, beyond its edge
FITTED = 3.0  # FWHM around a star in which its flux, place and level are fitted
ROUNDS = 3  # of stars from PSF, PSF from stars
PSF_ERROR = 0.01  # of a pixel of the model: bright stars do not decide alone
STRENGTHS = (0.03, 0.1, 0.3, 1.0)  # by which the PSF may depart from its profile, tried on stars that are left out
OUTLIER = 5.0  # scatters of the misfit beyond which a star is left out


@dataclass(frozen=True, eq=False)
class StarPSF:
    """A PSF measured on stars, and how good it is.

    Attributes
    ----------
    array : (odd, odd) array
        The effective PSF, sum 1, ``oversampling`` samples per pixel, centred on its middle sample.
    oversampling : int
    psf : deconjugate.astro.PSF
        The same, as :func:`deconjugate.astro.deconvolve` takes it.
    fwhm_pix, ellipticity, pa : float
        Of the effective PSF, native pixels; 1 - minor / major axis and the angle of the major axis, degrees
        counter-clockwise from the x axis, from its Gaussian-weighted second moments.
    beta : float
        Exponent of the Moffat that it was built on.
    error : float
        Estimate of ||PSF - truth||_1 from its scatter: half of the stars against the other half. What all stars share
        (a variation over the frame, a nonlinear detector) it cannot tell.
    gradient, gradient_error : float
        Largest relative change of the FWHM across the frame, from a plane through the stars' widths.
    stars : dict of (n,) arrays
        x, y (pixels from 0), flux, snr (of the peak), fwhm_pix, misfit (rms of the residual within one FWHM over the
        peak, noise taken out).
    residual : (s, s) array
        Mean over the stars of the residual, native pixels, relative to the peak of the star.
    rejected : dict
        How many bright peaks were left out, by reason.
    """

    array: np.ndarray
    oversampling: int
    psf: PSF
    fwhm_pix: float
    ellipticity: float
    pa: float
    beta: float
    error: float
    gradient: float
    gradient_error: float
    stars: dict
    residual: np.ndarray
    rejected: dict = field(default_factory=dict)

    @property
    def count(self):
        """Stars that it rests on."""
        return len(self.stars["x"])

    def summary(self, pixel_scale=None):
        """What was measured, in a line."""
        arcsec = "" if pixel_scale is None else f" ({self.fwhm_pix * pixel_scale:.3f} arcsec)"
        halves = "" if np.isnan(self.error) else f", halves of the stars agree to {self.error:.1%}"
        varies = f"{self.gradient:.1%}, +- {self.gradient_error:.1%}" if np.isfinite(self.gradient_error) else "unknown"
        residual = np.median(self.stars["misfit"])
        return (
            f"{self.count} stars, FWHM {self.fwhm_pix:.3f} pixels{arcsec}, ellipticity {self.ellipticity:.3f} at "
            f"{self.pa:.0f} degrees, Moffat beta {self.beta:.1f}; residuals {residual:.1%} of the "
            f"peak{halves}; change of the width over the frame {varies}"
        )


def measure_psf(
    data,
    background=0.0,
    rms=None,
    mask=None,
    *,
    saturation=None,
    gain=None,
    oversampling=None,
    min_snr=30.0,
    max_stars=100,
):
    """The effective PSF of an image from its stars.

    .. math:: y_{ip} = f_i \\, e(x_p - x_i) + l_i + n_{ip}, \\qquad e = b \\, (1 + \\text{a smooth correction})

    e is a cubic spline on a grid of ``oversampling`` samples per pixel; b is the elliptical Moffat that fits all
    stars best. PSF and stars (flux, place, local level) are fitted in turns; pixels that the model does not explain, as
    faint neighbours and cosmic rays, are left out, and so are stars of which much is not explained, as galaxies and
    close pairs. How far e may depart from b is decided by stars that are left out of the fit.

    Parameters
    ----------
    data : (h, w) array
        NaN and infinite pixels are bad.
    background : float or (h, w) array
    rms : float or (h, w) array, optional
        Noise of the sky; default measured.
    mask : (h, w) bool array, optional
        True = bad.
    saturation : float, optional
        Stars with a pixel of this value or more are left out. Default: where three pixels or more share the highest
        value, as saturated ones do, 0.9 of its height.
    gain : float, > 0, optional
        Electrons per count: adds the stars' shot noise.
    oversampling : int, >= 1, optional
        Samples per pixel; default as many as make 5 a FWHM. More needs more stars, at different places within a pixel.
    min_snr : float, > 0
        Peak of a star over noise.
    max_stars : int, >= 3
        The brightest so many are used.

    Returns
    -------
    StarPSF

    Raises
    ------
    ValueError
        Fewer than three stars fit; an argument is out of its interval.

    Source
    ------
    Anderson, King, PASP 112, 1360 (2000), for effective PSFs.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF, simulate
    >>> sky = np.zeros((500, 500))
    >>> sky[41:480:73, 43:480:73] = 1.0
    >>> scene = simulate(sky, PSF.moffat(3.4, beta=3.0), peak_snr=200, seed=1)
    >>> measured = measure_psf(scene.data, rms=scene.noise_map)
    >>> measured.count, round(measured.fwhm_pix, 1)
    (42, 3.4)
    """
    data = np.asarray(data, dtype=np.float64)
    if data.ndim != 2:
        raise ValueError(f"data has shape {data.shape}; give a 2-D image")
    if oversampling is not None and (isinstance(oversampling, bool) or oversampling not in range(1, 11)):
        raise ValueError(f"oversampling is {oversampling!r}; give a whole number from 1 to 10")
    if not (np.isfinite(min_snr) and min_snr > 0.0):
        raise ValueError(f"min_snr is {min_snr}; give a positive number")
    if max_stars != int(max_stars) or max_stars < 3:
        raise ValueError(f"max_stars is {max_stars}; give a whole number, 3 or more")
    if gain is not None and not (np.isfinite(gain) and gain > 0.0):
        raise ValueError(f"gain is {gain}; give the electrons per unit of the data, a positive number")
    bad = ~np.isfinite(data) if mask is None else ~np.isfinite(data) | np.asarray(mask, dtype=bool)
    if bad.all():
        raise ValueError("no pixel of the image is good: all are masked or NaN")
    if rms is None:
        from deconjugate.astro.background import background_and_rms

        rms = background_and_rms(data - background, bad, sky="none")[1]
    if saturation is None:
        top = np.max(data[~bad])
        shared = np.count_nonzero(data[~bad] == top) > 2
        saturation = np.median(background) + 0.9 * (top - np.median(background)) if shared else np.inf
    light = np.where(bad, 0.0, data - background)
    found = find_stars(light, rms, bad, saturation=saturation - background, min_snr=min_snr, max_stars=int(max_stars))
    q = int(np.clip(np.ceil(SAMPLES / found.fwhm_pix), 1, 5)) if oversampling is None else int(oversampling)
    stars = _cut(light, np.broadcast_to(rms, light.shape), bad, gain, found, q)
    return _measured(stars, found, light.shape)


def _cut(light, rms, bad, gain, found, oversampling):
    """Stamps of the stars; what lies nearer to a neighbour than its light reaches is not good."""
    half = max(6, int(np.ceil(RADIUS * found.fwhm_pix)))
    padded = [np.pad(x, half, constant_values=c) for x, c in ((light, 0.0), (rms, 1.0), (bad, True))]
    windows = [tuple(slice(p, p + 2 * half + 1) for p in star) for star in found.stars]
    stamps, noise, masked = (np.stack([x[window] for window in windows]) for x in padded)
    good = ~masked
    y, x = np.indices(stamps.shape[1:]) - half
    alpha2 = (0.5 * found.fwhm_pix) ** 2 / (2.0 ** (1.0 / 3.0) - 1.0)
    for star, stamp, keep in zip(found.stars, stamps, good):
        offset = found.peaks - star
        near = (np.abs(offset) <= 2 * half).all(axis=1) & offset.any(axis=1)
        own = max(stamp[half, half], 0.0) * (1.0 + (y * y + x * x) / alpha2) ** -3.0
        for (row, column), height in zip(offset[near], found.heights[near]):
            distance2 = (y - row) ** 2 + (x - column) ** 2
            other = height * (1.0 + distance2 / alpha2) ** -3.0
            level = rms[tuple(star)] + 0.02 * own
            keep &= (other < level) & (distance2 > found.fwhm_pix**2)
    variance = noise**2 if gain is None else noise**2 + np.maximum(stamps, 0.0) / gain
    stars = Stars(stamps, variance, good, oversampling)
    stars.flux = stamps[:, half, half] * 0.5 * np.pi * alpha2  # that of a Moffat of beta 3
    return stars


def _measured(stars, found, shape):
    """The fit, a second time without the stars that are not like the others."""
    fwhm, rejected, used = found.fwhm_pix, dict(found.rejected), np.arange(len(found.stars))
    # Wings this bright are possible whatever profile the cores have.
    room = profile_samples((np.log(fwhm), WINGS, 0.0, 0.0), stars.grid, stars.oversampling)
    for last in (False, True):
        parameters = fit_profile(stars, fwhm, 3.0 * PSF_ERROR)
        base = c = spline_coefficients(profile_samples(parameters, stars.grid, stars.oversampling))
        for _ in range(ROUNDS):
            stars.measure_spread()
            stars.refit(c, stars.weight(c, PSF_ERROR), radius=FITTED * fwhm)
            c = _centred(stars, stars.fit_psf(base, room, stars.weight(c, PSF_ERROR), fwhm, STRENGTHS[1]))
        misfit = _misfit(stars, c, fwhm)
        usual = np.median(misfit)
        keep = misfit < usual + OUTLIER * max(1.4826 * np.median(np.abs(misfit - usual)), 0.005)
        if last or keep.all() or np.count_nonzero(keep) < 3:
            break
        rejected["unlike the others"] = int(np.count_nonzero(~keep))
        stars, used = stars.select(keep), used[keep]
    strength, halves = _strength(stars, base, room, c, fwhm)
    c = _centred(stars, stars.fit_psf(base, room, stars.weight(c, PSF_ERROR), fwhm, strength))
    stars.refit(c, stars.weight(c, PSF_ERROR), radius=FITTED * fwhm)
    return _report(stars, c, parameters, halves, found._replace(stars=found.stars[used], rejected=rejected), shape)


def _centred(stars, c):
    """The PSF with its centre in the middle; the stars move the other way."""
    samples = spline_samples(c)
    offset = np.array(windowed_centroid(samples)) - stars.grid
    stars.places = stars.places + offset / stars.oversampling
    return spline_coefficients(scipy.ndimage.shift(samples, -offset, order=5, mode="nearest"))


def _misfit(stars, c, fwhm):
    """Root mean square of the residual within a FWHM over the peak of the star, its noise taken out."""
    y, x = np.indices(stars.stamps.shape[1:]) - stars.half
    core = y * y + x * x <= max(1.5, fwhm) ** 2
    peak = stars.flux * stars.model(c).max(axis=(1, 2))
    residual = np.where(stars.good, stars.residual(c), 0.0)[:, core]
    excess = np.mean(residual**2, axis=1) - np.mean(stars.variance[:, core], axis=1)
    return np.sqrt(np.maximum(excess, 0.0)) / peak


def _strength(stars, base, room, c, fwhm):
    """How far the PSF may depart from its profile, by the chi^2 of stars left out; the PSFs of the two halves."""
    order = np.argsort(stars.flux)
    halves = [order[0::2], order[1::2]]
    if min(map(len, halves)) < 2:
        return STRENGTHS[0], None
    tried = []
    for strength in STRENGTHS:
        psfs, chi2 = [], 0.0
        for own, other in (halves, halves[::-1]):
            some, rest = stars.select(own), stars.select(other)
            psfs.append(some.fit_psf(base, room, some.weight(c, PSF_ERROR), fwhm, strength))
            weight = rest.weight(c, PSF_ERROR)
            rest.refit(psfs[-1], weight, passes=1, radius=FITTED * fwhm)
            chi2 += rest.chi2(psfs[-1], weight)
        tried.append((chi2, strength, psfs))
    return min(tried, key=lambda one: one[0])[1:]


def _report(stars, c, parameters, halves, found, shape):
    q, fwhm = stars.oversampling, found.fwhm_pix
    samples = spline_samples(c)
    width = float(fwhm_pix(samples)) / q
    error = np.nan
    if halves is not None:
        first, second = (h / h.sum() for h in map(spline_samples, halves))
        error = 0.5 * float(np.abs(first - second).sum())
    places = found.stars + stars.places
    light = stars.flux[:, None, None] * stars.model(c)
    peak = light.max(axis=(1, 2))
    table = {
        "x": places[:, 1],
        "y": places[:, 0],
        "flux": stars.flux,
        "snr": peak / np.sqrt(np.median(stars.variance, axis=(1, 2))),
        "fwhm_pix": width * relative_widths(stars, c),
        "misfit": _misfit(stars, c, fwhm),
    }
    good = stars.weight(c, PSF_ERROR) > 0
    relative = np.where(good, stars.residual(c), 0.0) / peak[:, None, None]
    mean = relative.sum(axis=0) / np.maximum(np.count_nonzero(good, axis=0), 1)
    gradient, uncertain = width_gradient(table["x"], table["y"], table["fwhm_pix"], shape)
    array = _whole(samples, parameters, stars.grid, q)
    return StarPSF(
        array=array,
        oversampling=q,
        psf=PSF.from_array(array, oversampling=q),
        fwhm_pix=width,
        **dict(zip(("ellipticity", "pa"), ellipse(samples))),
        beta=float(parameters[1]),
        error=error,
        gradient=gradient,
        gradient_error=uncertain,
        stars=table,
        residual=mean,
        rejected=found.rejected,
    )


def _whole(samples, parameters, grid, oversampling):
    """The PSF with the wings of the profile beyond the stamps, to where little light is left; sum 1."""
    fwhm = np.exp(parameters[0])
    radius = next((r for r in np.arange(RADIUS, OUTER, 0.5) if outside(parameters, r * fwhm) < OUTSIDE), OUTER)
    far = max(grid, int(np.ceil(radius * fwhm * oversampling)))
    whole = profile_samples(parameters, far, oversampling)
    near = slice(far - grid, far + grid + 1)
    # The step from the one to the other is spread over a fifth of the stamp.
    taper = np.clip((grid + 1 - np.abs(np.arange(-grid, grid + 1))) / (0.2 * grid), 0.0, 1.0)
    whole[near, near] += np.minimum.outer(taper, taper) * (samples - whole[near, near])
    return whole / whole.sum()
