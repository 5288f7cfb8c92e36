"""PSF from stars and stars from PSF, in turns, until they agree; and over which order of position the PSF varies."""

from typing import NamedTuple

import numpy as np

from deconjugate.astro.star_error import misfits
from deconjugate.astro.star_fit import Stars
from deconjugate.astro.star_profile import fit_profile, profile_samples
from deconjugate.astro.star_surface import ORDERS, RADIUS, Surface, centred, legendre, terms

WINGS = 2.0  # beta of the brightest wings that are expected
FITTED = 3.0  # FWHM around a star in which its flux, place and level are fitted
ROUNDS = 3  # of stars from PSF, PSF from stars
PSF_ERROR = 0.01  # of a pixel of the model: bright stars do not decide alone
STRENGTHS = (0.03, 0.1, 0.3, 1.0)  # by which the PSF may depart from its profile, tried on stars that are left out
ANALYTIC = 3  # stars, fewer than which show no more than the profile
OUTLIER = 5.0  # scatters of the misfit beyond which a star is left out
STARS_A_TERM = 4  # stars that each polynomial needs
PAYS = 3.0  # standard errors by which stars that are left out must be better explained by a higher order


class Built(NamedTuple):
    """What the iteration ends with."""

    stars: Stars
    surface: Surface
    covariance: np.ndarray  # of the parameters of the profile
    halves: tuple | None  # surfaces of the two halves of the stars
    used: np.ndarray  # which of the stars that were cut
    unlike: int  # how many were left out since they do not look like the others


def cut_stars(light, rms, bad, gain, found, oversampling):
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


def build(stars, places, fwhm, shape, order):
    """The PSF over the frame from the stamps of stars.

    Parameters
    ----------
    stars : deconjugate.astro.star_fit.Stars
    places : (n, 2) array
        x and y of the stamps' middles in the frame.
    fwhm : float
        First guess, pixels.
    shape : (rows, columns)
        Of the frame.
    order : 0, 1, 2 or "auto"

    Returns
    -------
    Built
    """
    room = profile_samples((np.log(fwhm), WINGS, 0.0, 0.0), stars.grid, stars.oversampling)
    used, unlike = np.arange(len(places)), 0
    order, tried = (0, ORDERS[: most(len(places)) + 1]) if order == "auto" else (min(order, most(len(places))), ())
    for last in (False, True):
        stars.basis = legendre(places[used], shape, order)
        surface, covariance = _fitted(stars, fwhm, shape, room, STRENGTHS[1])
        if not last and len(tried) > 1:
            order = _paying_order(stars, places[used], fwhm, shape, room, surface, tried)
            if order:
                stars.basis = legendre(places[used], shape, order)
                surface, covariance = _fitted(stars, fwhm, shape, room, STRENGTHS[1], surface)
        misfit = misfits(stars, surface.coefficients(stars.basis), fwhm)
        usual = np.median(misfit)
        keep = misfit < usual + OUTLIER * max(1.4826 * np.median(np.abs(misfit - usual)), 0.005)
        if last or keep.all() or np.count_nonzero(keep) < ANALYTIC:
            break
        unlike = int(np.count_nonzero(~keep))
        stars, used = stars.select(keep), used[keep]
        order = min(order, most(len(used)))
    halves = None
    if len(used) >= ANALYTIC:
        strength, halves = _strength(stars, surface, room, fwhm)
        c = surface.coefficients(stars.basis)
        surface = _departed(stars, surface, room, stars.weight(c, PSF_ERROR), fwhm, strength)
    c = surface.coefficients(stars.basis)
    stars.refit(c, stars.weight(c, PSF_ERROR), radius=FITTED * fwhm)
    return Built(stars, surface, covariance, halves, used, unlike)


def most(count):
    """The highest order that so many stars can show."""
    return max(k for k in ORDERS if not k or count >= STARS_A_TERM * terms(k))


def _fitted(stars, fwhm, shape, room, strength, start=None, rounds=ROUNDS):
    """Profile, then stars and departures in turns."""
    k, analytic = stars.basis.shape[1], len(stars.flux) < ANALYTIC
    first = None
    if start is not None:
        first = np.zeros((k, 4))
        first[: min(k, len(start.parameters))] = start.parameters[:k]
    passes = 3 if start is None else 1
    parameters, covariance = fit_profile(stars, fwhm, 3.0 * PSF_ERROR, first, passes)
    surface = Surface(parameters, np.zeros((k, *room.shape)), shape, stars.oversampling)
    for _ in range(rounds):
        stars.measure_spread()
        c = surface.coefficients(stars.basis)
        stars.refit(c, stars.weight(c, PSF_ERROR), radius=FITTED * fwhm)
        if not analytic:
            surface = _departed(stars, surface, room, stars.weight(c, PSF_ERROR), fwhm, strength)
    return surface, covariance


def _departed(stars, surface, room, weight, fwhm, strength):
    """The same profile with the departures that these stars show."""
    departures = stars.fit_psf(surface.profile(stars.basis), room, weight, fwhm, strength)
    return centred(Surface(surface.parameters, departures, surface.shape, surface.oversampling), stars)


def _split(stars):
    """Two halves of the stars, of the same brightnesses."""
    order = np.argsort(stars.flux)
    return order[0::2], order[1::2]


def _strength(stars, surface, room, fwhm):
    """How far the PSF may depart from its profile, by the chi^2 of stars left out; the surfaces of the two halves."""
    halves = _split(stars)
    if min(map(len, halves)) < 2:
        return STRENGTHS[0], None
    tried, profile = [], surface.profile(stars.basis)
    weight = stars.weight(surface.coefficients(stars.basis), PSF_ERROR)
    for strength in STRENGTHS:
        found, chi2 = [], 0.0
        for own, other in (halves, halves[::-1]):
            some, rest = stars.select(own), stars.select(other)
            base = profile if profile.ndim == 2 else profile[own]
            departures = some.fit_psf(base, room, weight[own], fwhm, strength)
            found.append(Surface(surface.parameters, departures, surface.shape, surface.oversampling))
            c = found[-1].coefficients(rest.basis)
            rest.refit(c, weight[other], passes=1, radius=FITTED * fwhm)
            chi2 += rest.chi2(c, weight[other])
        tried.append((chi2, strength, tuple(found)))
    return min(tried, key=lambda one: one[0])[1:]


def _paying_order(stars, places, fwhm, shape, room, surface, orders):
    """The lowest order from which no higher one explains stars that are left out clearly better."""
    halves = _split(stars)
    weight = stars.weight(surface.coefficients(stars.basis), 3.0 * PSF_ERROR)
    left = []
    for order in orders:
        chi2 = np.empty(len(places))
        for own, other in (halves, halves[::-1]):
            some, rest = stars.select(own), stars.select(other)
            some.basis, rest.basis = (legendre(places[i], shape, order) for i in (own, other))
            found, _ = _fitted(some, fwhm, shape, room, STRENGTHS[0], surface, rounds=1)
            c = found.coefficients(rest.basis)
            rest.refit(c, weight[other], passes=2, radius=FITTED * fwhm)
            chi2[other] = np.sum(weight[other] * rest.residual(c) ** 2, axis=(1, 2))
        left.append(chi2)
    best = 0
    for order in range(1, len(left)):
        gain = left[best] - left[order]
        # One star with a neighbour must not decide.
        gain = np.clip(gain, *np.median(gain) + np.array([-1.0, 1.0]) * 10.0 * 1.4826 * _scatter(gain))
        if gain.mean() > PAYS * gain.std() / np.sqrt(len(gain)):
            best = order
    return orders[best]


def _scatter(values):
    return np.median(np.abs(values - np.median(values)))
