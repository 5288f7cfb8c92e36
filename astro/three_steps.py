"""The three steps on one frame, tile by tile, in units of its median noise."""

import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from deconjugate.astro.debias import debias
from deconjugate.astro.explained import PSF_LIMITED, SATURATED, take_stars, unexplained_flux, without_defects
from deconjugate.astro.guess import GivenGuess, NetworkGuess, SparseGuess
from deconjugate.astro.local import LocalTikhonov
from deconjugate.astro.regions import Regions, groups
from deconjugate.astro.saturated_stars import LARGEST
from deconjugate.astro.scratch import Scratch, forget, strips
from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.support import find_support
from deconjugate.operators.dictionaries import dictionary as make_dictionary

DOUBTFUL = 1.2  # chi^2 of a source, at least, for another guess to be tried
BETTER = 0.95  # of the chi^2 after the network's guess: the classical guess is taken where it leaves less than this


@dataclass(frozen=True)
class Settings:
    """What the user chose."""

    guess: object  # SparseGuess, NetworkGuess or GivenGuess of deconjugate.astro.guess
    dictionary: str
    n_scales: int
    k_sigma: float
    regularization: object
    positivity: bool
    maxiter: int
    stages: bool = True  # whether to keep what the first two steps give
    psf_error: float | None = None  # relative, where it is known; None: as the stars of the frame show it


def deconvolve_frame(psfs, data, weight, settings, timings, bar, scratch=None, known=None):
    """One frame, in units of its median noise: the three steps tile by tile, then the residual of the whole.

    Pixels that the model cannot explain are found first and lose their weight: saturated cores, and what is sharper
    than the PSF. ``psfs`` is the :class:`deconjugate.astro.frame_psf.FramePsf` of its tiles. A tile's images are a
    function of its data, weight, PSF and the settings alone. Beside its input and output this takes the memory of a
    tile; the output is made by ``scratch``, a :class:`deconjugate.astro.scratch.Scratch`, where there is one.
    ``known`` are saturated pixels that the caller knows of, (h, w) bool.
    """
    scratch = scratch or Scratch()
    tiles, u = psfs.tiles, psfs.upsample
    unit = 1.0 / np.sqrt(np.median(weight[weight > 0]))
    margin = [s.start for s in psfs.at(tiles.places()[0])[0].frame]  # it holds light from outside, blended as well
    canvas = tuple((n + 2 * m) * u for n, m in zip(data.shape, margin))
    kept = ("tikhonov", settings.guess.name, "debiased") if settings.stages else ("debiased",)
    stages = {name: scratch.zeros(canvas) for name in kept}
    support = scratch.zeros((settings.n_scales + 1, *data.shape), bool)
    sources = scratch.zeros(data.shape, bool)
    rejected = scratch.zeros(data.shape, np.uint8)
    lambdas, replaced, mismatch, errors = [], [], 0.0, []

    def target_of(place):
        return tuple(slice(s.start * u, (s.stop + 2 * m) * u) for s, m in zip(place, margin))

    def here(place, model):
        """The settings, with that part of a given guess which a tile sees."""
        if not isinstance(settings.guess, GivenGuess):
            return settings
        # Light goes on beyond the edges; what it does there is not known, and least wrong as a mirror image.
        whole = settings.guess.image
        piece = (
            whole[np.ix_(*(_mirrored(s, m * u, n) for s, m, n in zip(target_of(place), margin, whole.shape)))] / unit
        )
        sizes = zip(model.domain_shape, piece.shape)
        return replace(settings, guess=GivenGuess(np.pad(piece.astype(np.float32), [(0, n - k) for n, k in sizes])))

    def lit(place):
        """Whether a tile has data."""
        if (weight[place] > 0).any():
            return True
        bar.update()
        return False

    places = [place for place in tiles.places() if lit(place)]
    for place in places:
        model, psf = psfs.at(place)
        y, w = _in_units(data, weight, unit, place)
        saturated = None if known is None else known[place]
        one = three_steps(model, psf, y, w, here(place, model), timings, saturated)
        window = tiles.window(place, margin)
        target = target_of(place)
        lambdas.append(one.regularization)
        replaced.append(one.replaced)
        errors.append(one.psf_error)
        mismatch = max(mismatch, model.mismatch)
        weights = np.repeat(np.repeat(window.astype(np.float32), u, axis=0), u, axis=1)
        for name in kept:
            stages[name][target] += weights * one.images[name][: weights.shape[0], : weights.shape[1]]
        used = tiles.window(place) > 0
        if one.support.coefficients.shape == support[(..., *place)].shape:
            support[(..., *place)] |= one.support.coefficients & used
        sources[place] |= (one.support.sources > 0) & used
        rejected[place] |= one.rejected * used
        forget(*stages.values(), support, sources, rejected)
        bar.update()
    residual = scratch.zeros(data.shape)
    counts, modelled = _residual(
        residual, psfs, stages["debiased"], data, weight, sources & (rejected == 0), unit, margin
    )
    # What is saturated or sharper than the PSF holds no data, and where the PSF errs by more than the noise it decides.
    good = (weight > 0) & (rejected == 0)
    chi2 = sum(float(np.square(residual[rows], dtype=np.float64)[good[rows]].sum()) for rows in strips(residual)) / max(
        np.count_nonzero(good), 1
    )
    forget(residual)
    ratio = modelled / counts if counts else np.nan
    frame = tuple(slice(m * u, (m + n) * u) for m, n in zip(margin, data.shape))
    for name, x in stages.items():
        for rows in strips(x):
            x[rows] *= np.float32(unit)
            forget(x)
        stages[name] = x[frame]
    lam = float(np.median(lambdas))
    return Frame(stages, residual, support, chi2, ratio, mismatch, lam, np.mean(replaced), rejected, np.median(errors))


def _mirrored(places, margin, n):
    """Which of n pixels show in some places of a canvas that has a margin on both sides, a mirror image of them."""
    i = (np.arange(places.start, places.stop) - margin) % (2 * n - 2)
    return np.where(i < n, i, 2 * n - 2 - i)


class Tile(NamedTuple):
    """What the steps give on one tile."""

    images: dict  # by step, on the padded fine grid
    support: object  # of the data as they are
    regularization: float
    replaced: float  # share of the sources, by area, whose image is the classical one
    rejected: np.ndarray  # uint8 (h, w)
    psf_error: float


def three_steps(model, psf, data, weight, settings, timings, saturated=None):
    """The three steps on one tile, in units of its noise.

    Nothing that the model cannot explain may spoil the rest: saturated cores and pixels sharper than the PSF have no
    weight; stars, saturated ones among them, are fitted and taken off; what the error of the PSF makes of the rest
    counts as noise; lambda, the stops of the correction and the choice of the guess are those of a neighbourhood.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    psf : (odd, odd) array
        p on the fine grid.
    data, weight : (h, w) float32 arrays
    settings : Settings
    timings : dict
    saturated : (h, w) bool array, optional
        Pixels known to be.

    Returns
    -------
    Tile
    """
    clock = Clock(timings)
    dictionary = make_dictionary(settings.dictionary, data.shape, settings.n_scales)
    given, error = weight, settings.psf_error
    weight, rejected = without_defects(model, psf, data, weight, saturated)
    stars = take_stars(model, psf, model.embed(data), model.embed(weight), rejected == SATURATED, saturated, error)
    if stars.refuted.any():
        weight, rejected = np.where(stars.refuted, given, weight), np.where(stars.refuted, 0, rejected).astype(np.uint8)
        stars = take_stars(model, psf, model.embed(data), model.embed(weight), rejected == SATURATED, saturated, error)
    clock("stars")
    support = find_support(model, dictionary, data, weight, psf, settings.k_sigma)
    y, w = stars.data, stars.weight
    rejected[(rejected == 0) & (given * stars.variance[model.frame] > 1.0)] = PSF_LIMITED
    smooth = support
    if stars.image.any():
        smooth = find_support(model, dictionary, y[model.frame], w[model.frame], psf, settings.k_sigma)
    clock("support")
    local = LocalTikhonov(model, y, w, psf, settings.regularization)
    first = local.balanced()
    clock("tikhonov")
    second = third = np.zeros_like(first)
    replaced = 0.0
    if smooth.allowed.any():
        reach = 1.5 * float(fwhm_pix(psf)) / model.upsample
        options = {"floor": stars.floor, "positivity": settings.positivity, "maxiter": settings.maxiter}
        regions = Regions(groups(smooth.sources, reach), model)

        def corrected(guess):
            """The guess, what the correction makes of it, and by region the mean square of what that leaves."""
            image = guess(model, y, w, first, local, smooth.allowed, settings)
            image = image - stars.image if isinstance(guess, GivenGuess) else image
            image = np.where(smooth.allowed, image, np.float32(0.0))
            clock(guess.name)
            flux = {"flux_tolerance": guess.flux_tolerance, "pace": guess.pace}
            done = debias(model, dictionary, y, w, image, smooth, reach=reach, **flux, **options)
            left = w[model.frame] * np.square((y - model.apply(done.image))[model.frame])
            clock("debiased")
            return image, done.image, regions.native_sums(left * shown) / np.maximum(good, 1.0)

        shown = (smooth.sources > 0) & (w[model.frame] > 0) & (rejected == 0)
        good = regions.native_sums(shown)
        second, third, chi2 = corrected(settings.guess)
        # Noise alone may leave this much; a network that leaves more has met what it never saw.
        doubtful = chi2 > np.maximum(DOUBTFUL, 1 + 3 * np.sqrt(2 / np.maximum(good, 1.0)))
        if isinstance(settings.guess, NetworkGuess) and doubtful.any():
            _, other, less = corrected(SparseGuess())
            better = doubtful & (less < BETTER * chi2)
            third = np.where(regions.on_fine(better) > 0, other, third)
            replaced = float(good[better].sum() / max(good.sum(), 1.0))
    third = third + stars.image
    limited, cores = rejected == PSF_LIMITED, rejected == SATURATED
    if cores.any() and limited.any():
        # Around saturated stars alone: what another star leaves is its PSF's error, of no sign, and no flux of its own.
        limited &= scipy.ndimage.distance_transform_edt(~cores) <= LARGEST
        seen, known = model.embed(data), model.embed(weight)
        width = float(fwhm_pix(psf)) / model.upsample
        third = third + unexplained_flux(model, third, seen, known, limited, rejected == SATURATED, width)
    images = {
        "tikhonov": first + stars.image,
        settings.guess.name: second + stars.image,
        "debiased": third,
    }
    return Tile(images, support, local.regularization, replaced, rejected, stars.error)


def _residual(residual, psfs, image, data, weight, sources, unit, margin):
    """Fill in (y - A x) / sigma, for x on frame and margin; the counts of data and model in the sources."""
    tiles, u = psfs.tiles, psfs.upsample
    counts = modelled = 0.0
    for place in tiles.places():
        model, _ = psfs.at(place)
        piece = image[tuple(slice(s.start * u, (s.stop + 2 * m) * u) for s, m in zip(place, margin))]
        padded = np.zeros(model.domain_shape, np.float32)
        padded[: piece.shape[0], : piece.shape[1]] = piece
        fitted = model.apply(padded)[model.frame]
        y, w = _in_units(data, weight, unit, place)
        share = tiles.window(place).astype(np.float32)
        residual[place] += share * (y - fitted) * np.sqrt(w)
        inside = np.where(sources[place] & (w > 0), share, np.float32(0.0))
        counts += float((inside * y).sum(dtype=np.float64))
        modelled += float((inside * fitted).sum(dtype=np.float64))
        forget(residual, image, sources)
    return counts, modelled


def _in_units(data, weight, unit, place):
    return (data[place] / unit).astype(np.float32), (weight[place] * unit**2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Frame:
    """What one frame gives."""

    stages: dict
    residual: np.ndarray
    support: np.ndarray
    reduced_chi2: float
    flux_ratio: float
    mismatch: float
    regularization: float
    replaced: float
    rejected: np.ndarray  # uint8: SATURATED, SHARP, PSF_LIMITED, or 0
    psf_error: float


class Clock:
    """Adds the seconds since its last call to a step."""

    def __init__(self, timings):
        self.timings, self.start = timings, time.perf_counter()

    def __call__(self, name):
        now = time.perf_counter()
        self.timings[name] = self.timings.get(name, 0.0) + now - self.start
        self.start = now
