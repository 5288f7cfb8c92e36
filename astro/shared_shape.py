"""What several bands of one object show together, as a guess of each."""

import numpy as np
import scipy.ndimage

from deconjugate.astro.scratch import Scratch, forget, strips
from deconjugate.astro.shape import GAUSSIAN_FWHM

SHARPNESS = 8  # power of the FWHM by which a sharper band counts for more
LOCAL = 0.5  # of the width of a band's PSF: over this much the ratio of two bands is taken
REACH = 4.0  # sigmas at which a Gaussian is cut


def shared_guesses(images, weights, fwhms, upsample, scratch=None):
    """The guess of each band from all of them: see :func:`deconjugate.astro.deconvolve_bands`.

    Parameters
    ----------
    images : list of (h u, w u) arrays
        Each band deconvolved by itself.
    weights : list of (h, w) arrays
        1 / sigma^2 of what they were made from, zero where bad.
    fwhms : list of float
        Of their PSFs, native pixels.
    upsample : int
    scratch : deconjugate.astro.scratch.Scratch, optional
        Makes the arrays.

    Returns
    -------
    list of (h u, w u) arrays
    """
    scratch = scratch or Scratch()
    shape, total = (scratch.zeros(np.shape(images[0])) for _ in range(2))
    for image, weight, fwhm in zip(images, weights, fwhms):
        light = sum(float(image[rows].sum(dtype=np.float64)) for rows in strips(image))
        if not light > 0.0:
            continue
        strength = 0.0
        for rows in strips(weight):
            fine = image[rows.start * upsample : rows.stop * upsample]
            sums = fine.reshape(-1, upsample, weight.shape[1], upsample).sum(axis=(1, 3), dtype=np.float64)
            strength += float((weight[rows] * sums**2).sum())
        for rows in strips(weight):
            fine = slice(rows.start * upsample, rows.stop * upsample)
            merit = np.float32(strength / fwhm**SHARPNESS) * _good(weight[rows], upsample)
            shape[fine] += merit / np.float32(light) * image[fine]
            total[fine] += merit
            forget(image, shape, total)
    for rows in strips(shape):
        np.divide(shape[rows], total[rows], out=shape[rows], where=total[rows] > 0.0)
        forget(shape, total)
    # Where there is less light than this nearby, a ratio means nothing.
    least = 1e-9 * max(float(shape[rows].max(initial=0.0)) for rows in strips(shape))
    return [_ratio_times(shape, *band, least, upsample, scratch) for band in zip(images, weights, fwhms)]


def _ratio_times(shape, image, weight, fwhm, least, upsample, scratch):
    """The shape times the ratio of a band to it, both smoothed."""
    width = LOCAL * fwhm * upsample / GAUSSIAN_FWHM
    margin = int(np.ceil(REACH * width / upsample))
    guess = scratch.zeros(shape.shape)
    for rows in strips(weight):
        wide = slice(max(0, rows.start - margin), min(len(weight), rows.stop + margin))
        fine, kept = (slice(s.start * upsample, s.stop * upsample) for s in (wide, rows))
        inside = slice(kept.start - fine.start, kept.stop - fine.start)
        good = _good(weight[wide], upsample)
        own, others = (
            scipy.ndimage.gaussian_filter(good * x[fine], width, mode="constant", truncate=REACH)[inside]
            for x in (image, shape)
        )
        known = others > least
        ratio = np.divide(own, others, out=np.zeros_like(own), where=known)
        guess[kept] = np.where(known, shape[kept] * ratio, image[kept])
        forget(image, shape, guess)
    return guess


def _good(weight, upsample):
    """1 where a fine pixel has data, else 0."""
    return np.repeat(np.repeat((weight > 0).astype(np.float32), upsample, axis=0), upsample, axis=1)
