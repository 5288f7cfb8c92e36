"""Standard deviations of a deconvolved image: its own noise, sent through the whole pipeline again and again."""

from dataclasses import replace

import numpy as np

from deconjugate.astro.frame_psf import FramePsf, orient
from deconjugate.astro.three_steps import deconvolve_frame
from deconjugate.astro.tiling import tiling

LEAST = 4  # realisations
SPREAD, DETAIL = 1.2, 0.045  # measured on the half of the validation galaxies on which settings are chosen
EMPTY = 0.1  # of the height of a one-sigma point source: with less light than this, nothing was found


def standard_deviation(frame, data, weight, psf, upsample, tile, settings, count, rng, bar=None):
    """Standard deviation of every fine pixel, the bias that the realisations show included.

    .. math:: y_k = A \\hat x + n_k, \\quad \\hat x_k = \\mathrm{pipeline}(y_k), \\quad
              s^2 = \\mathrm{var}_k \\hat x_k + (\\mathrm{mean}_k \\hat x_k - \\hat x)^2, \\quad
              \\sigma^2 = (1.2 s)^2 + (0.045 \\, u \\, \\hat x)^2

    Realisation k is flipped and turned into the k-th of the eight orientations, so that what the network and the grid
    prefer is seen too. The image that plays the truth is smoother than the truth, so s alone is too small: detail
    that no data show is worth some per cent of a pixel's light, more the finer the grid, as measured on views of
    galaxies (Moffat PSF, upsample u of 2 and 4, peak SNR 10 to 200). Where nothing was found, sigma is the height in
    the image of a point source as bright as its one-sigma flux; a bad pixel counts as a typical one.

    Parameters
    ----------
    frame : deconjugate.astro.three_steps.Frame
    data, weight : (h, w) arrays
    psf : array on the fine grid, or callable
        As :class:`deconjugate.astro.frame_psf.FramePsf` takes it.
    upsample : int
    tile : (int, int)
        Side of the tiles and their overlap, native pixels.
    settings : deconjugate.astro.three_steps.Settings
    count : int
    rng : numpy.random.Generator
    bar : tqdm, optional

    Returns
    -------
    (H, W) float32 array
    """
    sigma = np.divide(1.0, np.sqrt(weight), out=np.zeros(weight.shape), where=weight > 0)
    fitted = np.where(weight > 0, data - frame.residual * sigma, 0.0)
    image = frame.stages["debiased"].astype(np.float64)
    settings = replace(settings, stages=False)
    total, square = np.zeros(image.shape), np.zeros(image.shape)
    for turn in range(min(count, 8)):
        seen = orient(weight, turn)
        tiles = tiling(seen.shape, *tile)
        psfs = FramePsf(tiles, upsample, psf, turn)
        for _ in range(turn, count, 8):
            noisy = orient(fitted + sigma * rng.standard_normal(sigma.shape), turn)
            found = deconvolve_frame(psfs, noisy, seen, settings, {}, bar).stages["debiased"]
            difference = orient(found, turn, back=True) - image
            total += difference
            square += difference**2
    spread = np.sqrt(np.maximum(square - total**2 / count, 0.0) / (count - 1) + (total / count) ** 2)
    middle = psf(*((n - 1) / 2 for n in data.shape[::-1])) if callable(psf) else psf
    kernel = np.sqrt(np.square(native_psf(middle, upsample)).sum())
    peak = 4 * np.log(2) / (np.pi * 4.0)  # of the target resolution
    typical = np.where(weight > 0, sigma, np.median(sigma[weight > 0]))
    unseen = peak * np.repeat(np.repeat(typical, upsample, 0), upsample, 1) / kernel
    calibrated = np.hypot(SPREAD * spread, DETAIL * upsample * image)
    return np.where(image > EMPTY * unseen, calibrated, np.maximum(unseen, calibrated)).astype(np.float32)


def native_psf(psf, upsample):
    """Sums of p over native pixels, one of them centred on the source."""
    pad = [(-(n // 2 - (upsample - 1) // 2)) % upsample for n in psf.shape]
    psf = np.pad(psf, [(before, 0) for before in pad])
    psf = np.pad(psf, [(0, -n % upsample) for n in psf.shape])
    return psf.reshape(psf.shape[0] // upsample, upsample, -1, upsample).sum(axis=(1, 3))
