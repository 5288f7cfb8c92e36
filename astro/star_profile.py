"""The analytic profile of stars: the elliptical Moffat that fits all of them, and what shape a PSF has."""

import numpy as np
import scipy.optimize

from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.star_fit import spline_coefficients, spline_samples
from deconjugate.astro.stars import BETA_RANGE

REACH = 3.0  # FWHM around a star in which the profile is fitted
PASSES = 3  # of stars from profile, profile from stars


def moffat(parameters, y, x):
    """An elliptical Moffat of peak 1.

    Parameters
    ----------
    parameters : (log FWHM in pixels, beta, e+, ex)
        The FWHM is the geometric mean of both axes; the axis ratio is sqrt((1 - e) / (1 + e)), e = hypot(e+, ex).
    y, x : arrays
        Native pixels from the centre.
    """
    width, beta, plus, cross = parameters
    alpha2 = (0.5 * np.exp(width)) ** 2 / (2.0 ** (1.0 / beta) - 1.0)
    r2 = (x * x + y * y - plus * (x * x - y * y) - 2.0 * cross * x * y) / np.sqrt(1.0 - plus**2 - cross**2)
    return (1.0 + r2 / alpha2) ** -beta


def outside(parameters, radius):
    """Share of the light of a circular Moffat beyond a radius."""
    alpha2 = (0.5 * np.exp(parameters[0])) ** 2 / (2.0 ** (1.0 / parameters[1]) - 1.0)
    return (1.0 + radius**2 / alpha2) ** (1.0 - parameters[1])


def profile_samples(parameters, grid, oversampling):
    """The Moffat on a grid of ``grid`` samples to each side, of sum 1 over native pixels were it infinite."""
    side = np.arange(-grid, grid + 1) / oversampling
    alpha2 = (0.5 * np.exp(parameters[0])) ** 2 / (2.0 ** (1.0 / parameters[1]) - 1.0)
    return moffat(parameters, side[:, None], side) * (parameters[1] - 1.0) / (np.pi * alpha2)


def fit_profile(stars, fwhm, error):
    """Parameters of the Moffat that fits all stars best; flux, place and level of the stars are fitted along.

    Parameters
    ----------
    stars : deconjugate.astro.star_fit.Stars
        Changed.
    fwhm : float
        A first guess, native pixels.
    error : float
        Relative error of the profile that is allowed for.
    """
    parameters = np.array([np.log(fwhm), 3.0, 0.0, 0.0])
    low, high = (np.log(0.5 * fwhm), BETA_RANGE[0], -0.7, -0.7), (np.log(2.0 * fwhm), BETA_RANGE[1], 0.7, 0.7)
    for _ in range(PASSES):
        c = spline_coefficients(profile_samples(parameters, stars.grid, stars.oversampling))
        stars.refit(c, stars.weight(c, error), passes=5, radius=REACH * fwhm)
        fit = scipy.optimize.least_squares(
            _misfit(stars, c, error, REACH * fwhm),
            parameters,
            bounds=(low, high),
            loss="soft_l1",
            x_scale="jac",
            ftol=1e-5,
            max_nfev=20,
        )
        parameters = fit.x
    return parameters


def _misfit(stars, c, error, reach):
    """Residuals of all good pixels in sigmas as a function of the parameters."""
    weight = np.sqrt(stars.weight(c, error))
    rows, columns = (np.arange(-stars.half, stars.half + 1) - p[:, None] for p in stars.places.T)
    y, x = np.broadcast_arrays(rows[:, :, None], columns[:, None, :])
    seen = (weight > 0) & (y**2 + x**2 < reach**2)
    y, x, w = y[seen], x[seen], weight[seen]
    data, star, n = stars.stamps[seen], np.nonzero(seen)[0], len(stars.flux)
    w2 = w * w
    ones, sums = np.maximum(np.bincount(star, w2, n), 1e-300), np.bincount(star, w2 * data, n)

    def misfit(parameters):
        """The best flux and level of every star go with the profile: wings and level tell apart only together."""
        shape = moffat(parameters, y, x)
        mean = np.bincount(star, w2 * shape, n) / ones
        own = shape - mean[star]
        flux = np.bincount(star, w2 * own * data, n) / np.maximum(np.bincount(star, w2 * own * own, n), 1e-300)
        return w * (data - (sums / ones)[star] - flux[star] * own)

    return misfit


def ellipse(samples):
    """Ellipticity 1 - minor / major and angle of the major axis (degrees from x), by adaptive Gaussian moments.

    Source: Bernstein, Jarvis, AJ 123, 583 (2002).

    Example
    -------
    >>> y, x = np.mgrid[-20:21, -20:21]
    >>> [round(float(v), 3) for v in ellipse(np.exp(-0.5 * (x**2 / 16.0 + y**2 / 9.0)))]
    [0.25, 0.0]
    """
    y, x = (i - (n - 1) / 2 for i, n in zip(np.indices(samples.shape), samples.shape))
    moments = (fwhm_pix(samples) / 2.355) ** 2 * np.eye(2)
    for _ in range(60):
        inverse = np.linalg.inv(moments)
        weight = samples * np.exp(-0.5 * (inverse[0, 0] * x * x + 2.0 * inverse[0, 1] * x * y + inverse[1, 1] * y * y))
        cross = np.sum(weight * x * y)
        new = 2.0 * np.array([[np.sum(weight * x * x), cross], [cross, np.sum(weight * y * y)]]) / weight.sum()
        done, moments = np.abs(new - moments).max() < 1e-8 * moments[0, 0], new
        if done:
            break
    small, large = np.linalg.eigvalsh(moments)
    angle = 0.5 * np.degrees(np.arctan2(2.0 * moments[0, 1], moments[0, 0] - moments[1, 1]))
    return 1.0 - float(np.sqrt(small / large)), float(angle % 180.0)


def relative_widths(stars, c):
    """Width of every star over that of the PSF, from the change of the PSF with its scale, to first order."""
    samples = spline_samples(c)
    side = np.arange(-stars.grid, stars.grid + 1.0)
    slope_y, slope_x = np.gradient(samples)
    wider = spline_coefficients(-(side[:, None] * slope_y + side * slope_x) - 2.0 * samples)
    terms = np.stack([stars.model(wider), stars.model(c), np.ones_like(stars.stamps)], axis=1)
    weight = stars.weight(c, 0.02)
    normal = np.einsum("nkij,nij,nlij->nkl", terms, weight, terms, optimize=True)
    gradient = np.einsum("nkij,nij,nij->nk", terms, weight, stars.residual(c), optimize=True)
    scale = np.sqrt(np.maximum(np.einsum("nkk->nk", normal), 1e-300))
    normal = normal / (scale[:, :, None] * scale[:, None]) + 1e-8 * np.eye(3)
    return 1.0 + np.linalg.solve(normal, (gradient / scale)[..., None])[:, 0, 0] / scale[:, 0] / stars.flux


def width_gradient(x, y, widths, shape):
    """Largest relative change across the frame of a plane through the widths, and its standard error."""
    if len(widths) < 6:
        return 0.0, np.inf
    design = np.stack([np.ones(len(x)), x / shape[1] - 0.5, y / shape[0] - 0.5], axis=1)
    middle = np.median(widths)
    near = np.abs(widths - middle) < 5.0 * 1.4826 * np.median(np.abs(widths - middle)) + 1e-12
    design, seen = design[near], widths[near]
    plane, *_ = np.linalg.lstsq(design, seen, rcond=None)
    scatter = np.sqrt(np.sum((seen - design @ plane) ** 2) / max(len(seen) - 3, 1))
    error = scatter * np.sqrt(np.trace(np.linalg.pinv(design.T @ design)[1:, 1:]))
    return float(np.abs(plane[1:]).sum() / plane[0]), float(error / plane[0])
