"""Bands of one object brought to one resolution, so that colours are honest."""

from dataclasses import replace

import numpy as np

from deconjugate.astro.deconvolve import deconvolve
from deconjugate.astro.grids import check_alike
from deconjugate.astro.observation import observation
from deconjugate.astro.psf import PSF
from deconjugate.astro.scratch import Scratch
from deconjugate.astro.shared_shape import shared_guesses
from deconjugate.astro.uncertainty import LEAST, add_square, calibrated


def deconvolve_bands(images, psfs, *, noise=None, mask=None, upsample=2, uncertainty=None, seed=0, **options):
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
    uncertainty : int, >= 4, optional
        From how many realisations of the noise of all bands to estimate the standard deviation of every pixel, each as
        dear as the images themselves: see :func:`deconjugate.astro.uncertainty.standard_deviation`. The orientation
        stays the same here.
    seed : int
        Of these realisations.
    **options
        Further arguments of :func:`deconjugate.astro.deconvolve`; not ``guess``.

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
    if options.get("guess") is not None:
        raise ValueError("guess is not for bands: that of each is made from all; deconvolve them one by one for it")
    if uncertainty is not None and (uncertainty != int(uncertainty) or uncertainty < LEAST):
        raise ValueError(f"uncertainty is {uncertainty!r}; give a whole number, {LEAST} or more")
    noise, mask = (_one_each(name, given, count) for name, given in (("noise", noise), ("mask", mask)))
    if not isinstance(psfs, (list, tuple)):
        psfs = [psfs] * count
    psfs = [p if isinstance(p, PSF) else PSF.from_array(p) for p in _one_each("psfs", psfs, count)]
    check_alike(images)
    scratch = Scratch(options.get("scratch"))
    seen = [observation(image, n, m) for image, n, m in zip(images, noise, mask)]
    weights = [one.weight[0] for one in seen]
    options |= {"upsample": upsample}
    results = _together(images, psfs, noise, mask, weights, options, scratch)
    if uncertainty is None:
        return results
    options = options | {"stages": False}
    return _with_deviations(results, seen, psfs, weights, int(uncertainty), seed, options, scratch)


def _with_deviations(results, seen, psfs, weights, count, seed, options, scratch):
    """The results with the standard deviation of every pixel, from realisations of the noise of all bands."""
    from astropy.nddata import StdDevUncertainty

    rng, bad = np.random.default_rng(seed), [weight == 0 for weight in weights]
    sigmas = [1.0 / np.sqrt(np.where(b, 1.0, weight)) for b, weight in zip(bad, weights)]
    fitted = [
        np.where(b, 0.0, one.data[0] - result.residual * sigma)
        for one, result, sigma, b in zip(seen, results, sigmas, bad)
    ]
    sums = [scratch.zeros(result.image.shape, np.float64) for result in results]
    for _ in range(count):
        noisy = [data + sigma * rng.standard_normal(sigma.shape) for data, sigma in zip(fitted, sigmas)]
        for found, result, squares in zip(
            _together(noisy, psfs, sigmas, bad, weights, options, scratch), results, sums
        ):
            add_square(found.image.data, result.image.data, squares)
    upsample = options["upsample"]
    for result, psf, weight, squares in zip(results, psfs, weights, sums):
        fine = psf.fine(upsample, max_size=min(weight.shape) * upsample)
        deviation = calibrated(result.image.data, squares, count, weight, fine, upsample, scratch)
        result.image.uncertainty = StdDevUncertainty(deviation, copy=False)
    return results


def _together(images, psfs, noise, mask, weights, options, scratch):
    """Each band by itself, then from the shape of all."""
    given = [{"noise": n, "mask": m} for n, m in zip(noise, mask)]
    alone = [deconvolve(image, p, **one, **options) for image, p, one in zip(images, psfs, given)]
    upsample = options["upsample"]
    guesses = shared_guesses([one.image.data for one in alone], weights, [p.fwhm_pix for p in psfs], upsample, scratch)
    results = []
    for image, p, guess, one, first in zip(images, psfs, guesses, given, alone):
        last = deconvolve(image, p, guess=guess, **one, **options)
        results.append(replace(last, network=first.network, replaced=first.replaced))
    return results


def _one_each(name, given, count):
    if given is None:
        return [None] * count
    given = list(given)
    if len(given) != count:
        raise ValueError(f"{name} holds {len(given)}; there are {count} images")
    return given
