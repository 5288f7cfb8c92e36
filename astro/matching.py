"""Bands of one object brought to one resolution, so that colours are honest."""

from dataclasses import replace

import numpy as np
import scipy.ndimage

from deconjugate.astro.deconvolve import deconvolve
from deconjugate.astro.observation import observation
from deconjugate.astro.psf import PSF
from deconjugate.astro.shape import GAUSSIAN_FWHM
from deconjugate.astro.wcs import pixel_scale_arcsec

SHARPNESS = 8  # power of the FWHM by which a sharper band counts for more
LOCAL = 0.5  # of the width of a band's PSF: over this much the ratio of two bands is taken
SHIFT = 0.1  # pixels by which the grids of two bands may differ
SCALES = 1e-3  # by which their pixel scales may


def deconvolve_bands(images, psfs, *, noise=None, mask=None, upsample=2, **options):
    """Deconvolve several bands of one object to one resolution and one shape.

    Each band comes out at the target resolution, a Gaussian of FWHM 2 fine pixels. That alone does not make colours
    honest: below the resolution of the blurrier data every image is an opinion, and the opinions differ. So each band
    is first deconvolved by itself; what they show together, the sharper and deeper bands foremost, is the shape G; and
    each band is deconvolved once more from the guess

    .. math:: g_b = G \\, \\frac{S_b x_b}{S_b G}, \\qquad
              G = \\frac{\\sum_b m_b \\, x_b / c_b}{\\sum_b m_b}, \\quad
              m_b = \\frac{(\\mathrm{S/N})_b^2}{\\mathrm{FWHM}_b^8}

    c_b is the light of band b, S_b a Gaussian of half the width of its PSF, and bad pixels of a band count for nothing.
    The data of the band then correct the guess where they contradict it. Bands thus differ in shape where their own
    data show it, and over S_b; finer differences of colour than the blurrier data show are not seen, nor invented.

    Parameters
    ----------
    images : list of (h, w) arrays or astropy.nddata.CCDData
        Sky subtracted, on the same pixels of the sky.
    psfs : array, deconjugate.astro.PSF, or a list of as many as there are images
    noise, mask : list, optional
        Of each band, as :func:`deconjugate.astro.deconvolve` takes them.
    upsample : int, >= 1
        Of all bands.
    **options
        Further arguments of :func:`deconjugate.astro.deconvolve`; not ``guess`` and ``uncertainty``.

    Returns
    -------
    list of DeconvolutionResult

    Raises
    ------
    ValueError
        Fewer than two images; PSFs, noise or masks of another number; images of different shape, pixel scale or place;
        an option that bands cannot have; see also :func:`deconjugate.astro.deconvolve`.

    Example
    -------
    >>> from deconjugate.astro import PSF, simulate
    >>> y, x = np.mgrid[-48:48, -64:64]
    >>> galaxy, psfs = np.exp(-np.hypot(x, 1.5 * y) / 8.0), [PSF.moffat(3.0), PSF.moffat(4.5)]
    >>> seen = [simulate(galaxy * f, p, peak_snr=50, seed=1) for f, p in zip((1.0, 0.6), psfs)]
    >>> blue, red = deconvolve_bands([s.data for s in seen], psfs, noise=[s.noise_map for s in seen], network=None)
    >>> ratio = red.image.data[46:51, 62:67].sum() / blue.image.data[46:51, 62:67].sum()
    >>> bool(abs(ratio - 0.6) < 0.02)
    True
    """
    images, count = list(images), len(images)
    if count < 2:
        raise ValueError(f"images holds {count}; give two bands or more")
    for name in ("guess", "uncertainty"):
        if options.get(name) is not None:
            raise ValueError(f"{name} is not for bands: each is made from all; deconvolve them one by one for it")
    noise, mask = (_one_each(name, given, count) for name, given in (("noise", noise), ("mask", mask)))
    if not isinstance(psfs, (list, tuple)):
        psfs = [psfs] * count
    psfs = [p if isinstance(p, PSF) else PSF.from_array(p) for p in _one_each("psfs", psfs, count)]
    check_alike(images)
    seen = [observation(image, n, m) for image, n, m in zip(images, noise, mask)]
    given = [{"noise": n, "mask": m, "upsample": upsample} for n, m in zip(noise, mask)]
    alone = [deconvolve(image, p, **one, **options) for image, p, one in zip(images, psfs, given)]
    guesses = shared_guesses(
        [result.image.data for result in alone],
        [one.weight[0] for one in seen],
        [p.fwhm_pix for p in psfs],
        upsample,
    )
    results = []
    for image, p, guess, one, first in zip(images, psfs, guesses, given, alone):
        last = deconvolve(image, p, guess=guess, **one, **options)
        results.append(replace(last, network=first.network, replaced=first.replaced))
    return results


def check_alike(images, names=None):
    """Raise ValueError where images, arrays or CCDData, do not show the same pixels of the sky."""
    names = [f"image {i}" for i in range(len(images))] if names is None else names
    first = images[0]
    scale = pixel_scale_arcsec(getattr(first, "wcs", None))
    for image, name in zip(images[1:], names[1:]):
        if np.shape(image) != np.shape(first):
            raise ValueError(
                f"{name} is {np.shape(image)[::-1]} pixels, {names[0]} {np.shape(first)[::-1]}: bands are matched "
                "pixel by pixel; bring them to one grid first"
            )
        other = pixel_scale_arcsec(getattr(image, "wcs", None))
        if scale is None or other is None:
            continue
        if abs(other / scale - 1.0) > SCALES:
            raise ValueError(
                f"the pixels of {name} are {other:.5g} arcsec, those of {names[0]} {scale:.5g}: as many fine pixels "
                "would be another resolution; bring them to one grid first"
            )
        shift = largest_shift(first, image)
        if shift > SHIFT:
            raise ValueError(
                f"{name} lies {shift:.2g} pixels from {names[0]}: bands are matched pixel by pixel; bring them to one "
                "grid first"
            )


def largest_shift(one, other):
    """Pixels by which the corners of one image lie elsewhere in another of its shape, both with sky coordinates."""
    h, w = one.shape
    x, y = np.array([0.0, w - 1, 0.0, w - 1]), np.array([0.0, 0.0, h - 1, h - 1])
    there = other.wcs.all_world2pix(*one.wcs.all_pix2world(x, y, 0), 0, quiet=True)
    return float(np.hypot(there[0] - x, there[1] - y).max())


def shared_guesses(images, weights, fwhms, upsample):
    """The guess of each band from all of them: see :func:`deconvolve_bands`.

    Parameters
    ----------
    images : list of (h u, w u) arrays
        Each band deconvolved by itself.
    weights : list of (h, w) arrays
        1 / sigma^2 of what they were made from, zero where bad.
    fwhms : list of float
        Of their PSFs, native pixels.
    upsample : int

    Returns
    -------
    list of (h u, w u) arrays
    """
    shape, total = (np.zeros(np.shape(images[0]), np.float32) for _ in range(2))
    for image, weight, fwhm in zip(images, weights, fwhms):
        light = float(np.sum(image, dtype=np.float64))
        if not light > 0.0:
            continue
        h, w = weight.shape
        sums = image.reshape(h, upsample, w, upsample).sum(axis=(1, 3), dtype=np.float64)
        merit = float((weight * sums**2).sum()) / fwhm**SHARPNESS * _good(weight, upsample)
        shape += merit / light * image
        total += merit
    shape = np.divide(shape, total, out=np.zeros_like(shape), where=total > 0.0)
    guesses = []
    for image, weight, fwhm in zip(images, weights, fwhms):
        width = LOCAL * fwhm * upsample / GAUSSIAN_FWHM
        good = _good(weight, upsample)
        own, others = (scipy.ndimage.gaussian_filter(good * x, width, mode="constant") for x in (image, shape))
        known = others > 1e-9 * others.max(initial=0.0)
        ratio = np.divide(own, others, out=np.zeros_like(own), where=known)
        guesses.append(np.where(known, shape * ratio, image).astype(np.float32))
    return guesses


def _good(weight, upsample):
    """1 where a fine pixel has data, else 0."""
    return np.repeat(np.repeat((weight > 0).astype(np.float32), upsample, axis=0), upsample, axis=1)


def _one_each(name, given, count):
    if given is None:
        return [None] * count
    given = list(given)
    if len(given) != count:
        raise ValueError(f"{name} holds {len(given)}; there are {count} images")
    return given
