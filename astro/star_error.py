"""How wrong a PSF measured on stars may be: one number, from what the stars say of it."""

import numpy as np

from deconjugate.astro.star_profile import outside, profile_samples
from deconjugate.astro.star_surface import RADIUS

# The weights were chosen on simulated fields of 1 to 40 stars: Moffats, Gaussians, a core with a halo, PSFEx models of
# real exposures, PSFs that vary over the frame.
SHARE = 4.0  # light in a residual over its rms in the core, both of a PSF of sum and peak 1
LEFT = 0.3  # of its departure from the profile, by which a PSF is wrong
OUTER = 1.0  # of the light beyond the stamps, that is the profile's alone
FEW = 0.04  # of the light: what one star cannot show, since frames vary and PSFs are no Moffats; shared by more
COARSE = 0.015  # of the light, where the FWHM is two pixels: what coarse pixels hide
OUTLYING = 10.0  # times the median of the squared misfits, no more of which is counted
SCATTER = 0.004  # of the misfits of stars: bright ones do not decide alone


def misfits(stars, c, fwhm):
    """Root mean square of the residual within a FWHM over the peak of each star, its noise taken out."""
    excess, peak, _ = _core(stars, c, fwhm)
    return np.sqrt(np.maximum(excess, 0.0)) / peak


def misfit_floors(stars, c, fwhm):
    """The misfit that noise alone may feign, one sigma of it: smaller ones cannot be seen."""
    _, peak, noise = _core(stars, c, fwhm)
    return noise / peak


def _core(stars, c, fwhm):
    y, x = np.indices(stars.stamps.shape[1:]) - stars.half
    core = y * y + x * x <= max(1.5, fwhm) ** 2
    peak = np.maximum(stars.flux, 1e-300) * stars.model(c).max(axis=(1, 2))
    good = stars.good[:, core]
    count = np.maximum(np.count_nonzero(good, axis=1), 1)
    residual = np.where(good, stars.residual(c)[:, core], 0.0)
    variance = np.where(good, stars.variance[:, core], 0.0)
    excess = (np.sum(residual**2, axis=1) - np.sum(variance, axis=1)) / count
    return excess, peak, np.sqrt(np.sum(variance, axis=1) / count * np.sqrt(2.0 / count))


def error_of(built):
    """Estimate of ||PSF - truth||_1, both of sum 1, the truth being that at any place of the frame.

    .. math:: \\epsilon^2 = \\tfrac{1}{4} \\| e_1 - e_2 \\|_1^2 + \\epsilon_p^2 + (4 m)^2 + (0.3 \\, \\| e - b \\|_1)^2
              + b_\\mathrm{out}^2 + (0.04 / n)^2 + (0.06 / w^2)^2

    e_1 and e_2 are the PSFs of the two halves of the n stars; epsilon_p comes from the covariance of the profile b; m
    is the rms misfit of the stars in their cores over their peaks, beyond noise: neighbours, saturation, variation over
    the frame that is not followed; e - b is what departs from the profile, of which some share is always missed; b_out
    is the flux beyond the stamps, which no star shows; w is the FWHM in pixels. The weights were found on simulated
    fields.

    Parameters
    ----------
    built : deconjugate.astro.star_build.Built

    Returns
    -------
    float
        Finite, above 0.
    """
    surface, stars = built.surface, built.stars
    area = surface.oversampling**2
    parameters, samples = surface.parameters[0], surface.samples() / area
    parts = [
        _misfit_light(built),
        _profile_error(surface, built.covariance),
        LEFT * np.abs(samples - profile_samples(parameters, surface.grid, surface.oversampling) / area).sum(),
        OUTER * outside(parameters, RADIUS * np.exp(parameters[0])),
        FEW / len(stars.flux),
        COARSE * (2.0 / np.exp(parameters[0])) ** 2,
    ]
    if built.halves is not None:
        one, other = (half.samples() / half.samples().sum() for half in built.halves)
        parts.append(0.5 * np.abs(one - other).sum())
    return float(np.sqrt(np.sum(np.square(parts))))


def _misfit_light(built):
    c = built.surface.coefficients(built.stars.basis)
    excess, peak, noise = _core(built.stars, c, np.exp(built.surface.parameters[0, 0]))
    square, uncertain = excess / peak**2, (noise / peak) ** 2
    # One star with a neighbour must not decide for all.
    square = np.minimum(square, OUTLYING * max(np.median(square), SCATTER**2))
    weight = 1.0 / (uncertain**2 + SCATTER**4)
    mean = np.average(square, weights=weight) - 1.0 / np.sqrt(weight.sum())
    return SHARE * np.sqrt(max(mean, 0.0))


def _profile_error(surface, covariance):
    """Error of the profile by that of its parameters, along the axes of their covariance."""
    k, p = len(surface.parameters), surface.parameters[0]
    index = [0, k, k + 1, 2 * k + 1]
    values, axes = np.linalg.eigh(covariance[np.ix_(index, index)])
    total, most = 0.0, 0.3 * np.array([1.0, p[1], 1.0, 1.0])
    for value, axis in zip(values, axes.T):
        step = np.sqrt(max(value, 0.0)) * axis
        step *= min(1.0, 1.0 / max(np.max(np.abs(step) / most), 1e-300))
        sides = [profile_samples(_allowed(p + sign * step), surface.grid, surface.oversampling) for sign in (1, -1)]
        total += (0.5 * np.abs(sides[0] - sides[1]).sum() / surface.oversampling**2) ** 2
    return np.sqrt(2.0 / np.pi * total)  # mean of a normal variable's size


def _allowed(p):
    size = np.hypot(p[2], p[3])
    return np.array([p[0], max(p[1], 1.2), *(p[2:] * min(1.0, 0.8 / max(size, 1e-9)))])
