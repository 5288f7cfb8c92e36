"""Pixels that no sky can have made: sharper than the PSF, as cosmic rays and hot pixels are."""

import numpy as np

from deconjugate.astro.shape import fwhm_pix
from deconjugate.operators.convolution import Binning

SIGMAS = 6.0  # by which a pixel must exceed what its neighbours allow
PSF_ERROR = 0.05  # of the pixel itself that is forgiven: the PSF's core is not known better
PAIRS = (0, 1), (1, 0), (1, 1), (1, -1)  # neighbours on opposite sides, by rows and columns
PASSES = 3  # the pixels beside a bad one are judged again without it


def sharper_than_psf(data, weight, psf, upsample):
    """Pixels that exceed what any non-negative sky makes of them, their neighbours given.

    .. math:: y_p - c_q \\frac{y_{p+q} + y_{p-q}}{2} > 6 \\, \\sigma, \\qquad
              c_q = \\max_t \\frac{2 e(t)}{e(t + q) + e(t - q)}

    e is the effective PSF. A source at t gives the pixel at most c_q times the mean of the two pixels beside it, and
    what holds for every source holds for their sum. One direction q of four suffices, so that a track of several pixels
    is found across it. An error of 5 per cent of the pixel is forgiven.

    Parameters
    ----------
    data, weight : (h, w) arrays
        Sky subtracted; 1 / sigma^2, 0 where bad.
    psf : (odd, odd) array
        p on the fine grid.
    upsample : int

    Returns
    -------
    (h, w) bool array

    Source
    ------
    In the spirit of van Dokkum, PASP 113, 1420 (2001), with the PSF in place of a noise threshold on the Laplacian.

    Example
    -------
    >>> from deconjugate.astro import PSF, simulate
    >>> sky = np.zeros((64, 80))
    >>> sky[30, 40] = 1.0
    >>> scene = simulate(sky, PSF.moffat(3.0), peak_snr=300, seed=1)
    >>> scene.data[10, 12] += 20 * scene.noise_map[0, 0]
    >>> np.argwhere(sharper_than_psf(scene.data, scene.noise_map**-2.0, scene.psf, 2)).tolist()
    [[10, 12]]
    """
    limits = contrasts(psf, upsample)
    good, found = weight > 0, np.zeros(data.shape, bool)
    variance = 1.0 / np.where(good, weight, 1.0)
    for _ in range(PASSES):
        y = np.pad(np.where(good, data, 0.0), 1)
        v, known = np.pad(np.where(good, variance, 0.0), 1), np.pad(good, 1)
        new = np.zeros(data.shape, bool)
        for (row, column), limit in zip(PAIRS, limits):
            sides = [(slice(1 + s * row, data.shape[0] + 1 + s * row), slice(1 + s * column, data.shape[1] + 1 + s * column)) for s in (1, -1)]  # fmt: skip
            mean = 0.5 * sum(y[side] for side in sides)
            spread = variance + 0.25 * limit**2 * sum(v[side] for side in sides) + (PSF_ERROR * data) ** 2
            new |= good & known[sides[0]] & known[sides[1]] & (data - limit * mean > SIGMAS * np.sqrt(spread))
        if not new.any():
            break
        found |= new
        good = good & ~new
    return found


def contrasts(psf, upsample):
    """c_q for the four pairs of neighbours: the largest ratio of a pixel to their mean that a point source makes."""
    largest = np.zeros(len(PAIRS))
    core = min(min(psf.shape) // 2, int(np.ceil(1.5 * float(fwhm_pix(psf)))) + upsample)
    middle = [n // 2 for n in psf.shape]
    near = psf[tuple(slice(max(m - core, 0), m + core + 1) for m in middle)]
    side = near.shape[0] // upsample + 4
    for row in range(upsample):
        for column in range(upsample):
            fine = np.zeros((side * upsample, side * upsample))
            corner = [upsample + a for a in (row, column)]
            fine[corner[0] : corner[0] + near.shape[0], corner[1] : corner[1] + near.shape[1]] = near
            e = Binning(fine.shape, upsample).apply(fine)
            # Where the PSF is a thousandth of its peak ratios are noise, and of no consequence.
            inner, known = e[1:-1, 1:-1], e[1:-1, 1:-1] > 0.2 * e.max()
            for k, (a, b) in enumerate(PAIRS):
                pair = 0.5 * (np.roll(e, (a, b), (0, 1)) + np.roll(e, (-a, -b), (0, 1)))[1:-1, 1:-1]
                largest[k] = max(largest[k], float((inner / np.maximum(pair, 1e-12))[known].max()))
    return largest
