"""Standard deviations of a deconvolved image: its own noise, sent through the whole pipeline again and again."""

from dataclasses import replace

import numpy as np

from deconjugate.astro.frame_psf import FramePsf, orient
from deconjugate.astro.scratch import STRIP, Scratch, forget, strips
from deconjugate.astro.three_steps import deconvolve_frame
from deconjugate.astro.tiling import tiling

LEAST = 4  # realisations
# Measured on the half of the validation galaxies on which settings are chosen.
SPREAD, POWER, DETAIL = 0.95, 0.4, 0.07
EMPTY = 0.1  # of the height of a one-sigma point source: with less light than this, nothing was found


def standard_deviation(frame, data, weight, psf, upsample, tile, settings, count, rng, bar=None, scratch=None):
    """Standard deviation of every fine pixel, the bias that the realisations show included.

    .. math:: y_k = A \\hat x + n_k, \\quad \\hat x_k = \\mathrm{pipeline}(y_k), \\quad
              s^2 = \\mathrm{mean}_k (\\hat x_k - \\hat x)^2, \\quad
              \\sigma^2 = (0.95 \\, u^{0.4} s)^2 + (0.07 \\, \\hat x)^2

    Realisation k is flipped and turned into the k-th of the eight orientations, so that what the network and the grid
    prefer is seen too. The image that plays the truth is smoother than the truth, so s alone is too small, the more
    so the finer the grid is beside what data show; and detail that no data show is worth some per cent of a pixel's
    light. The constants were measured on views of galaxies (Moffat and PSFEx PSFs, upsample u of 2 and 4, peak SNR 10
    to 200): 65 to 71 % of the pixels that show more than one sigma of light are within one sigma of the truth in each
    of these settings, of galaxies that had no part in it 65 to 77 %. Of a single galaxy it may be 40 or 90 %, for no
    data tell a smooth one from one whose detail is too fine to be seen. Where nothing was found, sigma is the height
    in the image of a point source as bright as its one-sigma flux; a bad pixel counts as a typical one.

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
    scratch : deconjugate.astro.scratch.Scratch, optional
        Makes the arrays of the fine grid.

    Returns
    -------
    (H, W) float32 array
    """
    scratch = scratch or Scratch()
    sigma = np.divide(1.0, np.sqrt(weight), out=np.zeros(weight.shape), where=weight > 0)
    fitted = np.where(weight > 0, data - frame.residual * sigma, 0.0)
    image = frame.stages["debiased"]
    settings = replace(settings, stages=False)
    squares = scratch.zeros(image.shape, np.float64)
    for turn in range(min(count, 8)):
        seen = orient(weight, turn)
        tiles = tiling(seen.shape, *tile)
        psfs = FramePsf(tiles, upsample, psf, turn)
        for _ in range(turn, count, 8):
            noisy = orient(fitted + sigma * rng.standard_normal(sigma.shape), turn)
            found = deconvolve_frame(psfs, noisy, seen, settings, {}, bar, scratch).stages["debiased"]
            add_square(orient(found, turn, back=True), image, squares)
    middle = psf(*((n - 1) / 2 for n in data.shape[::-1])) if callable(psf) else psf
    return calibrated(image, squares, count, weight, middle, upsample, scratch)


def add_square(found, image, squares):
    """Add the square of the difference of two images to its sum."""
    for rows in strips(squares):
        squares[rows] += (found[rows].astype(np.float64) - image[rows]) ** 2
        forget(found, image, squares)


def calibrated(image, squares, count, weight, psf, upsample, scratch):
    """The standard deviation from the sum over realisations of the squared differences to the image."""
    kernel = np.sqrt(np.square(native_psf(psf, upsample)).sum())
    peak = 4 * np.log(2) / (np.pi * 4.0)  # of the target resolution
    typical = 1.0 / np.sqrt(np.median(weight[weight > 0]))
    deviation = scratch.zeros(image.shape)
    step = max(1, STRIP // (squares.itemsize * image.shape[1] * upsample))
    for start in range(0, len(weight), step):
        rows = slice(start, min(start + step, len(weight)))
        fine = slice(rows.start * upsample, rows.stop * upsample)
        light, w = image[fine].astype(np.float64), weight[rows]
        sigma = np.where(w > 0, 1.0 / np.sqrt(np.where(w > 0, w, 1.0)), typical)
        unseen = peak * np.repeat(np.repeat(sigma, upsample, 0), upsample, 1) / kernel
        spread = SPREAD * upsample**POWER * np.sqrt(squares[fine] / count)
        whole = np.hypot(spread, DETAIL * light)
        deviation[fine] = np.where(light > EMPTY * unseen, whole, np.maximum(unseen, whole))
        forget(image, squares, deviation)
    return deviation


def native_psf(psf, upsample):
    """Sums of p over native pixels, one of them centred on the source."""
    pad = [(-(n // 2 - (upsample - 1) // 2)) % upsample for n in psf.shape]
    psf = np.pad(psf, [(before, 0) for before in pad])
    psf = np.pad(psf, [(0, -n % upsample) for n in psf.shape])
    return psf.reshape(psf.shape[0] // upsample, upsample, -1, upsample).sum(axis=(1, 3))
