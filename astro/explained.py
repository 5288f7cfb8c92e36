"""What the data model can explain: defects lose their weight, stars are fitted, the PSF's error counts as noise."""

from typing import NamedTuple

import numpy as np
import scipy.ndimage

from deconjugate.astro.outliers import sharper_than_psf
from deconjugate.astro.points import Points, find_points, point_image
from deconjugate.astro.saturated_stars import fit_saturated
from deconjugate.astro.saturation import saturated_cores
from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.support import effective_psf, filled_from_around

SATURATED, SHARP, PSF_LIMITED = 1, 2, 4  # why a pixel is not explained
LEAST_ERROR = 0.002  # of any PSF, relative: what interpolation leaves
MOST = 0.5  # of the flux of a saturated star that may lie around its point
PASSES = 1  # of putting back what is unexplained
BLUR = 0.25  # FWHM: Gaussian sigma by which unexplained flux is smoothed
BELOW = 5.0  # errors of the PSF, relative, by which a star may be lowered by the correction
SOFTEST = 0.03  # of that error, what counts for sources that are no stars
NARROW, WIDE = 0.3, 1.0  # FWHM of the Gaussians between which detail is as sharp as the PSF


class Stars(NamedTuple):
    """The stars of a tile, and the data without them; arrays on the padded grids."""

    image: np.ndarray  # float32, fine: the stars at the target resolution
    floor: np.ndarray  # float32, fine: how far below zero what is added to them may go, since they are not known better
    data: np.ndarray  # float32, native: without them
    weight: np.ndarray  # float32, native: the error of the PSF counted as noise
    variance: np.ndarray  # native: of the PSF's error
    error: float  # of the PSF, relative
    refuted: np.ndarray  # bool (h, w): cores that are none


def without_defects(model, psf, data, weight, saturated=None):
    """Weights without saturated cores and without pixels that are sharper than the PSF, and which these are.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    psf : (odd, odd) array
        p on the fine grid.
    data, weight : (h, w) arrays
    saturated : (h, w) bool array, optional
        Pixels known to be saturated, without weight already.

    Returns
    -------
    weight : (h, w) array
    rejected : (h, w) uint8 array
        SATURATED, SHARP or 0.
    """
    u = model.upsample
    good = weight > 0
    sigma = 1.0 / np.sqrt(np.where(good, weight, 1.0))
    # A plateau has no shot noise: the sky's tells how flat it is.
    quiet = np.minimum(sigma, np.median(sigma[good])) if good.any() else sigma
    found, _ = saturated_cores(data, quiet, bad=~good, fwhm_pix=float(fwhm_pix(psf)) / u, psf=effective_psf(psf, u))
    found = found if saturated is None else found | saturated
    sharp = sharper_than_psf(data, np.where(found, 0.0, weight), psf, u)
    rejected = np.where(found, SATURATED, np.where(sharp, SHARP, 0)).astype(np.uint8)
    return np.where(rejected > 0, weight.dtype.type(0), weight), rejected


def take_stars(model, psf, data, weight, cores, known=None, error=None):
    """Fit the stars of a tile and take them off.

    .. math:: \\sigma^2 \\leftarrow \\sigma^2 + e^2 (A x_\\star)^2 + e^2 \\; G * (d - G * d)^2

    The error e of the PSF, measured on the stars that are bright enough, is noise in proportion to the stars, and to
    that part of the rest d which is as sharp as the PSF: smooth light does not feel an error of the PSF. Around a
    saturated star e is what its wings show, ring by ring.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    psf : (odd, odd) array
    data, weight : float32 arrays on the padded native grid
    cores : (h, w) bool array
        Saturated pixels of the frame.
    known : (h, w) bool array, optional
        Those of them that are known; the others have to be confirmed by their wings.
    error : float, optional
        e where no star shows it.

    Returns
    -------
    Stars
    """
    saturated, fitted, variance, refuted = fit_saturated(model, data, weight, cores, psf, known)
    rest = (data - fitted).astype(np.float32)
    doubted = _with(weight, variance)
    fits = find_points(model, rest[model.frame], doubted[model.frame], psf, LEAST_ERROR if error is None else error)
    # An error that nothing shows is none for galaxies: their own detail must not count as noise.
    soft = min(fits.error, SOFTEST) if fits.measured or error is not None else 0.0
    error = max(fits.error, LEAST_ERROR)
    proven = Points(*(x[fits.proven] for x in fits.points))
    image = floor = np.zeros(model.domain_shape, np.float32)
    if len(proven.flux):
        image = point_image(model, proven).astype(np.float32)
        errors = np.maximum(fits.errors[fits.proven], LEAST_ERROR)
        doubt = point_image(model, proven._replace(flux=proven.flux * errors)).astype(np.float32)
        floor = np.maximum(np.float32(-BELOW) * doubt, -image)
        rest, variance = rest - model.apply(image), variance + model.apply(doubt).astype(np.float64) ** 2
    width = float(fwhm_pix(psf)) / model.upsample
    lit = np.where(weight > 0, rest, np.float32(0.0)).astype(np.float64)
    detail = scipy.ndimage.gaussian_filter(lit, NARROW * width) - scipy.ndimage.gaussian_filter(lit, WIDE * width)
    variance = variance + soft**2 * scipy.ndimage.gaussian_filter(detail**2, NARROW * width)
    if len(saturated.flux):
        image = image + point_image(model, saturated).astype(np.float32)
    return Stars(
        image, floor, np.where(weight > 0, rest, np.float32(0.0)), _with(weight, variance), variance, error, refuted
    )


def _with(weight, variance):
    """Weights after so much more variance."""
    return (weight / (1.0 + weight * variance)).astype(np.float32)


def unexplained_flux(model, image, data, weight, zone, holes, width):
    """What the image leaves of the data where it cannot explain them, at the resolution of the data.

    .. math:: x \\leftarrow \\max(x + U \\, G * (z \\, (y - A x)), 0)

    z is the zone where the PSF errs by more than the noise, around bright stars, U spreads native pixels over fine ones,
    and G is a Gaussian of half the PSF's width: halos and spikes that the PSF does not hold keep their blurred shape and
    their flux in place of leaving a dark ring. One pass: of a second, what the PSF spreads beyond the zone would be added twice.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    image : float32 array on the padded fine grid
    data, weight : float32 arrays on the padded native grid
        Weights before the PSF's error was counted: zero where there are no data.
    zone, holes : (h, w) bool arrays
        Where the PSF errs by more than the noise; saturated cores, filled from around them.
    width : float
        FWHM of the PSF, native pixels.

    Returns
    -------
    float32 array on the padded fine grid
        What to add to the image.
    """
    u, sigma = model.upsample, BLUR * width
    here, empty = model.embed(zone) & (weight > 0), model.embed(holes)
    share = scipy.ndimage.gaussian_filter((here | empty).astype(np.float64), sigma)
    added = np.zeros_like(image)
    for _ in range(PASSES):
        left = np.where(here, data - model.apply(image + added), np.float32(0.0)).astype(np.float64)
        if empty.any():
            left = np.where(empty, filled_from_around(left, ~empty), left)
        left = scipy.ndimage.gaussian_filter(left, sigma) * share
        fine = np.repeat(np.repeat(left / u**2, u, axis=0), u, axis=1)
        fine = scipy.ndimage.gaussian_filter(fine, 0.5 * u) if u > 1 else fine
        added = np.maximum(added + fine.astype(np.float32), -np.maximum(image, np.float32(0.0)))
    return _over_cores(added, image, empty, width, u) if empty.any() else added


def _over_cores(added, image, empty, width, u):
    """Continue what surrounds a saturated core across it, at the expense of its star: the flux stays."""
    near = scipy.ndimage.binary_dilation(empty, iterations=max(1, round(0.9 * width)))
    labels, count = scipy.ndimage.label(near, np.ones((3, 3), bool))
    for number, place in enumerate(scipy.ndimage.find_objects(labels, count), 1):
        reach = 2 * max(s.stop - s.start for s in place)
        place = tuple(slice(max(s.start - reach, 0), min(s.stop + reach, n)) for s, n in zip(place, labels.shape))
        core = np.repeat(np.repeat(labels[place] == number, u, axis=0), u, axis=1)
        here = tuple(slice(s.start * u, s.stop * u) for s in place)
        across = np.where(core, np.maximum(filled_from_around(added[here], ~core), added[here]), added[here])
        flux, more = float(image[here][core].sum()), float((across - added[here]).sum())
        if 0.0 < more < MOST * flux:
            added[here] = np.where(core, across - np.float32(more / flux) * image[here], across)
    return added
