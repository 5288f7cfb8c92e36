"""Where the data show something: significant coefficients, the sources they form, the pixels these may fill."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.ndimage

from deconjugate.operators.convolution import Binning, Convolution

DETECTION_MARGIN = 2.0  # sigmas by which some pixel or coefficient of a source must exceed k_sigma


@dataclass(frozen=True, eq=False)
class Support:
    """What is significant in a frame."""

    coefficients: np.ndarray  # bool, the shape of the transform: multiresolution support, coarse plane kept
    sources: np.ndarray  # int (h, w), 0 where there is none: sources by number, on the native grid
    allowed: np.ndarray  # bool, padded fine grid: where there may be light


def find_support(model, dictionary, data, weight, psf, k_sigma=3.0):
    """The multiresolution support of the data, and the region of the sources that it holds.

    A coefficient is kept where |w_j(y / sigma)| > k_sigma sigma_j. By chance alone many are; a *source* is a set of
    positive ones, touching in position and scale, that somewhere reaches k_sigma + 2, either in the frame filtered with
    the PSF or in a coefficient of structure wider than the PSF. Light is allowed in the pixels of its coefficients and
    a little around them, as far as truth at the target resolution ever reaches; and wherever the sky without sources is
    significant on the coarse plane, so that a background left in the data comes out as one.
    Bad pixels are filled from their surroundings for this purpose only.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    dictionary : deconjugate.operators.Dictionary
        On the native frame.
    data, weight : (h, w) arrays
        The native frame, y and 1 / sigma^2, zero where bad.
    psf : (odd, odd) array
        p on the fine grid.
    k_sigma : float, > 0

    Returns
    -------
    Support
    """
    from deconjugate.operators.starlet import Starlet

    good = weight > 0
    whitened = (filled_from_around(data, good) * np.sqrt(filled_from_around(weight, good))).astype(data.dtype)
    starlet = dictionary if isinstance(dictionary, Starlet) else Starlet(data.shape, dictionary.n_scales)
    noise = unit_noise(starlet).astype(data.dtype)
    planes = starlet.apply(whitened) / noise
    if dictionary is starlet:
        coefficients = starlet.multiresolution_support(planes * noise, noise, k_sigma)
    else:
        coefficients = dictionary.multiresolution_support(whitened, 1.0, k_sigma)
    detection = k_sigma + DETECTION_MARGIN
    sky = np.median(data[good])  # a constant left in the data is no source
    seed = matched_filter(np.where(good, data - sky, 0.0), weight, psf, model.upsample) > detection
    width = rms_width(psf) / model.upsample
    for j in range(starlet.n_scales):
        if 2.0**j >= 2.0 * width:
            seed |= planes[j] > detection
    labels, _ = scipy.ndimage.label(planes[:-1] > k_sigma, np.ones((3, 3, 3), bool))
    kept = np.unique(labels[:, seed])
    is_source = np.zeros(labels.max() + 1, bool)
    is_source[kept[kept > 0]] = True
    region = scipy.ndimage.binary_dilation(seed, iterations=max(1, round(width)))
    for j in range(starlet.n_scales):
        region |= _dilated(is_source[labels[j]], 2**j // 4)
    sources, _ = scipy.ndimage.label(region)
    coarse = planes[-1] if region.all() else starlet.apply(filled_from_around(whitened, ~region))[-1] / noise[-1]
    allowed = region | (np.abs(coarse) > detection)
    return Support(coefficients, sources, _on_padded_grid(model, allowed))


def matched_filter(data, weight, psf, upsample):
    """Signal to noise of a point source at every native pixel.

    .. math:: e^T W y / \\sqrt{e^T W e}, \\qquad e = D p

    Parameters
    ----------
    data, weight : (h, w) arrays
    psf : (odd, odd) array on the fine grid
    upsample : int
    """
    effective = effective_psf(psf, upsample)
    signal = Convolution(data.shape, effective).adjoint(weight * data)
    variance = Convolution(data.shape, effective**2).adjoint(weight)
    return signal / np.sqrt(np.maximum(variance, 1e-6 * variance.max()))


def effective_psf(psf, upsample):
    """D p, its source in the middle of a native pixel."""
    pads = [(n // 2 // upsample + 1) * upsample + upsample // 2 - n // 2 for n in psf.shape]
    sides = [(2 * (n // 2 // upsample + 1) + 1) * upsample for n in psf.shape]
    fine = np.zeros(sides)
    fine[pads[0] : pads[0] + psf.shape[0], pads[1] : pads[1] + psf.shape[1]] = psf
    return Binning(sides, upsample).apply(fine)


def filled_from_around(values, good):
    """Values, the bad ones replaced by a weighted mean of the good ones around them, however far these are."""
    if good.all():
        return values
    out, missing, width = np.where(good, values, 0.0), ~good, 1.0
    while missing.any():
        if width > max(good.shape):
            out[missing] = values[good].mean()
            break
        share = scipy.ndimage.gaussian_filter(good.astype(np.float64), width, mode="constant")
        mean = scipy.ndimage.gaussian_filter(np.where(good, values, 0.0).astype(np.float64), width, mode="constant")
        now = missing & (share > 0.05)
        out[now] = (mean[now] / share[now]).astype(out.dtype)
        missing &= ~now
        width *= 2.0
    return out


def unit_noise(starlet):
    """Standard deviation of every coefficient of unit white noise; mirrored edges nearly double it.

    Away from the edges it is constant, so that a small frame tells that of a large one.
    """
    half = 4 * 2**starlet.n_scales
    small = tuple(min(n, 2 * half) for n in starlet.domain_shape)
    planes = _noise_of_small(small, starlet.n_scales)
    rows, columns = (
        np.where(np.arange(n) < m // 2, np.minimum(np.arange(n), m // 2), np.maximum(np.arange(n) - n + m, m // 2))
        for n, m in zip(starlet.domain_shape, small)
    )
    return planes[:, rows][:, :, columns]


@lru_cache(maxsize=8)
def _noise_of_small(shape, n_scales):
    """The noise of unit white noise in a frame: the same for every stamp of a shape."""
    from deconjugate.operators.starlet import Starlet

    return Starlet(shape, n_scales).noise_planes(np.ones(shape))


def rms_width(psf):
    """Gaussian sigma with the noise-equivalent area of the PSF: 1 / (4 pi sum p^2) = sigma^2."""
    return float(np.sqrt(1.0 / (4.0 * np.pi * np.sum(psf**2))))


def _dilated(mask, reach):
    return scipy.ndimage.maximum_filter(mask, 2 * reach + 1) if mask.any() else mask


def _on_padded_grid(model, native):
    """A native mask on the padded fine grid, its edge values continued into the margin."""
    pads = [(s.start, n - s.stop) for s, n in zip(model.frame, model.range_shape)]
    padded = np.pad(native, pads, mode="edge")
    return np.repeat(np.repeat(padded, model.upsample, axis=0), model.upsample, axis=1)
