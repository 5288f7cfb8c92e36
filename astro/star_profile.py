"""The analytic profile of stars: the elliptical Moffat that fits all of them, and what shape a PSF has."""

import numpy as np
import scipy.optimize

from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.star_fit import spline_coefficients, spline_samples
from deconjugate.astro.stars import BETA_RANGE

REACH = 3.0  # FWHM around a star in which the profile is fitted
USUAL_BETA, BETA_SPREAD = 3.0, 0.25  # of seeing, and the scatter of its logarithm
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
    """The Moffat on a grid of ``grid`` samples to each side, of sum 1 over native pixels were it infinite.

    Parameters that are arrays (n,) make as many: (n, 2 grid + 1, 2 grid + 1).
    """
    side = np.arange(-grid, grid + 1) / oversampling
    parameters = [np.asarray(v)[..., None, None] for v in parameters]
    alpha2 = (0.5 * np.exp(parameters[0])) ** 2 / (2.0 ** (1.0 / parameters[1]) - 1.0)
    return moffat(parameters, side[:, None], side) * (parameters[1] - 1.0) / (np.pi * alpha2)


def fit_profile(stars, fwhm, error, start=None, passes=PASSES):
    """Parameters of the Moffat that fits all stars best; flux, place and level of the stars are fitted along.

    .. math:: \\log w, e_+, e_\\times = \\sum_k \\phi_k(x) \\, p_k

    with the polynomials phi of ``stars.basis``; beta is one for all. Stars that say little of beta leave it near 3.

    Parameters
    ----------
    stars : deconjugate.astro.star_fit.Stars
        Changed.
    fwhm : float
        A first guess, native pixels.
    error : float
        Relative error of the profile that is allowed for.
    start : (K, 4) array, optional
        First guess of all parameters.
    passes : int
        Of stars from profile, profile from stars.

    Returns
    -------
    (K, 4) array
        log FWHM, beta, e+ and ex by polynomial; that of beta is zero beyond the first.
    covariance : (3 K + 1, 3 K + 1) array
        Of log FWHM (K), beta, e+ (K) and ex (K), by noise and ``error``.
    """
    k = stars.basis.shape[1]
    p = np.zeros((k, 4)) if start is None else np.array(start, dtype=float)
    if start is None:
        p[0] = np.log(fwhm), USUAL_BETA, 0.0, 0.0
    low, high = np.full((k, 4), -0.5), np.full((k, 4), 0.5)
    low[0], high[0] = (np.log(0.4 * fwhm), BETA_RANGE[0], -0.7, -0.7), (np.log(2.5 * fwhm), BETA_RANGE[1], 0.7, 0.7)
    for _ in range(passes):
        c = spline_coefficients(profile_samples(at_stars(p, stars.basis), stars.grid, stars.oversampling))
        stars.refit(c, stars.weight(c, error), passes=5, radius=REACH * fwhm)
        fit = scipy.optimize.least_squares(
            _misfit(stars, c, error, REACH * fwhm),
            np.clip(_packed(p), _packed(low), _packed(high)),
            bounds=(_packed(low), _packed(high)),
            loss="soft_l1",
            x_scale="jac",
            ftol=1e-5,
            max_nfev=20,
        )
        p = _unpacked(fit.x, k)
    return p, np.linalg.pinv(fit.jac.T @ fit.jac)


def at_stars(parameters, basis):
    """Parameters of the profile of each star, or of all where they are the same: 4 rows, as :func:`moffat` takes."""
    if len(parameters) == 1:
        return parameters[0]
    each = (basis @ parameters).T
    each[2:] *= np.minimum(1.0, 0.8 / np.maximum(np.hypot(each[2], each[3]), 1e-9))
    each[1] = parameters[0, 1]
    return each


def _packed(parameters):
    return np.concatenate([parameters[:, 0], parameters[:1, 1], parameters[:, 2], parameters[:, 3]])


def _unpacked(x, k):
    p = np.zeros((k, 4))
    p[:, 0], p[0, 1], p[:, 2], p[:, 3] = x[:k], x[k], x[k + 1 : 2 * k + 1], x[2 * k + 1 :]
    return p


def _misfit(stars, c, error, reach):
    """Residuals of all good pixels in sigmas, and what is known of beta, as a function of the parameters."""
    weight = np.sqrt(stars.weight(c, error))
    rows, columns = (np.arange(-stars.half, stars.half + 1) - p[:, None] for p in stars.places.T)
    y, x = np.broadcast_arrays(rows[:, :, None], columns[:, None, :])
    seen = (weight > 0) & (y**2 + x**2 < reach**2)
    y, x, w = y[seen], x[seen], weight[seen]
    data, star, n = stars.stamps[seen], np.nonzero(seen)[0], len(stars.flux)
    w2 = w * w
    ones, sums = np.maximum(np.bincount(star, w2, n), 1e-300), np.bincount(star, w2 * data, n)

    def misfit(packed):
        """The best flux and level of every star go with the profile: wings and level tell apart only together."""
        parameters = at_stars(_unpacked(packed, stars.basis.shape[1]), stars.basis)
        if np.ndim(parameters[0]):
            parameters = [v[star] for v in parameters]
        shape = moffat(parameters, y, x)
        mean = np.bincount(star, w2 * shape, n) / ones
        own = shape - mean[star]
        flux = np.bincount(star, w2 * own * data, n) / np.maximum(np.bincount(star, w2 * own * own, n), 1e-300)
        beta = np.log(packed[stars.basis.shape[1]] / USUAL_BETA) / BETA_SPREAD
        return np.append(w * (data - (sums / ones)[star] - flux[star] * own), beta)

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
    slope_y, slope_x = np.gradient(samples, axis=(-2, -1))
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
