"""The three steps on one frame, tile by tile, in units of its median noise."""

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from deconjugate.astro.debias import debias
from deconjugate.astro.guess import GivenGuess, NetworkGuess, SparseGuess
from deconjugate.astro.points import find_points, point_image
from deconjugate.astro.scratch import Scratch, forget, strips
from deconjugate.astro.support import find_support
from deconjugate.astro.tikhonov import choose_regularization, tikhonov
from deconjugate.operators.dictionaries import dictionary as make_dictionary

STEP_1 = 1e-3  # how far the system of step 1 is solved: masked stars need it, others are there in a step or two
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
    device: object = None  # torch device that takes all steps; None: NumPy and Numba, with the network where it is


def deconvolve_frame(psfs, data, weight, settings, timings, bar, scratch=None):
    """One frame, in units of its median noise: the three steps tile by tile, then the residual of the whole.

    ``psfs`` is the :class:`deconjugate.astro.frame_psf.FramePsf` of its tiles. A tile's images are a function of its
    data, weight, PSF and the settings alone. Beside its input and output this takes the memory of a tile; the output is
    made by ``scratch``, a :class:`deconjugate.astro.scratch.Scratch`, where there is one.
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
    lambdas, replaced, mismatch = [], [], 0.0

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

    given = partial(_in_units, data, weight, unit)
    places = [place for place in tiles.places() if lit(place)]
    for place, images, coefficients, shown, lam, other, off in _results(psfs, given, places, here, settings, timings):
        window = tiles.window(place, margin)
        target = target_of(place)
        lambdas.append(lam)
        replaced.append(other)
        mismatch = max(mismatch, off)
        weights = np.repeat(np.repeat(window.astype(np.float32), u, axis=0), u, axis=1)
        for name in kept:
            stages[name][target] += weights * images[name][: weights.shape[0], : weights.shape[1]]
        used = tiles.window(place) > 0
        if coefficients.shape == support[(..., *place)].shape:
            support[(..., *place)] |= coefficients & used
        sources[place] |= shown & used
        forget(*stages.values(), support, sources)
        bar.update()
    residual = scratch.zeros(data.shape)
    given = residual, psfs, stages["debiased"], data, weight, sources, unit, margin
    counts, modelled = _residual(*given, settings.device)
    chi2 = sum(float(np.square(residual[rows], dtype=np.float64).sum()) for rows in strips(residual))
    chi2 /= np.count_nonzero(weight)
    forget(residual)
    ratio = modelled / counts if counts else np.nan
    frame = tuple(slice(m * u, (m + n) * u) for m, n in zip(margin, data.shape))
    for name, x in stages.items():
        for rows in strips(x):
            x[rows] *= np.float32(unit)
            forget(x)
        stages[name] = x[frame]
    return Frame(stages, residual, support, chi2, ratio, mismatch, float(np.median(lambdas)), np.mean(replaced))


def _mirrored(places, margin, n):
    """Which of n pixels show in some places of a canvas that has a margin on both sides, a mirror image of them."""
    i = (np.arange(places.start, places.stop) - margin) % (2 * n - 2)
    return np.where(i < n, i, 2 * n - 2 - i)


def _results(psfs, given, places, here, settings, timings):
    """The steps of every tile: its place, images on the padded fine grid, coefficients and sources that are
    significant, lambda, whether the network's image was replaced, and the mismatch of the model."""
    if settings.device is not None:
        from deconjugate.astro.three_steps_torch import TorchSteps, tile_results

        yield from tile_results(TorchSteps(settings.device, settings, timings), psfs, given, places)
        return
    for place in places:
        model, psf = psfs.at(place)
        images, found, lam, other = _three_steps(model, psf, *given(place), here(place, model), timings)
        yield place, images, found.coefficients, found.sources > 0, lam, other, model.mismatch


def _three_steps(model, psf, data, weight, settings, timings):
    """The three steps on one tile; images on the padded fine grid, the support, lambda, was the network replaced."""
    dictionary = make_dictionary(settings.dictionary, data.shape, settings.n_scales)
    y, w = model.embed(data), model.embed(weight)
    clock = Clock(timings)
    lam = settings.regularization
    lam = choose_regularization(model, y, w) if lam == "auto" else float(lam)
    first = tikhonov(model, y, w, lam, rtol=STEP_1)
    clock("tikhonov")
    support = find_support(model, dictionary, data, weight, psf, settings.k_sigma)
    clock("support")
    stars = point_image(model, find_points(model, data, weight, psf)).astype(np.float32)
    smooth, start = support, first
    if stars.any():
        data = np.where(weight > 0, data - model.apply(stars)[model.frame], np.float32(0.0))
        y = model.embed(data)
        smooth = find_support(model, dictionary, data, weight, psf, settings.k_sigma)
    clock("stars")
    second = third = np.zeros_like(first)
    replaced = False
    if smooth.allowed.any():
        again = lam
        if stars.any():
            if settings.regularization == "auto":
                again = choose_regularization(model, y, w)
            start = tikhonov(model, y, w, again, rtol=STEP_1)
            clock("stars")
        options = {"floor": -stars, "positivity": settings.positivity, "maxiter": settings.maxiter}

        def corrected(guess):
            """The guess, what the correction makes of it, and the mean square of what that leaves of the data."""
            image = guess(model, y, w, start, again, smooth.allowed, settings)
            image = image - stars if isinstance(guess, GivenGuess) else image
            image = np.where(smooth.allowed, image, np.float32(0.0))
            clock(guess.name)
            tolerance = guess.flux_tolerance
            final = debias(model, dictionary, y, w, image, smooth, flux_tolerance=tolerance, **options).image
            left = (y - model.apply(final))[model.frame]
            clock("debiased")
            return image, final, float(np.square(left, dtype=np.float64).ravel() @ weight.ravel()) / good

        good = np.count_nonzero(weight)
        second, third, chi2 = corrected(settings.guess)
        # Noise alone may leave this much; a network that leaves more has met what it never saw.
        if isinstance(settings.guess, NetworkGuess) and chi2 > 1 + 3 * np.sqrt(2 / good):
            _, other, less = corrected(SparseGuess())
            if less < BETTER * chi2:
                third, replaced = other, True
    images = {"tikhonov": first, settings.guess.name: second + stars, "debiased": third + stars}
    return images, support, lam, replaced


def _residual(residual, psfs, image, data, weight, sources, unit, margin, device):
    """Fill in (y - A x) / sigma, for x on frame and margin; the counts of data and model in the sources."""
    tiles, u = psfs.tiles, psfs.upsample
    counts = modelled = 0.0
    for place in tiles.places():
        model, _ = psfs.at(place)
        piece = image[tuple(slice(s.start * u, (s.stop + 2 * m) * u) for s, m in zip(place, margin))]
        padded = np.zeros(model.domain_shape, np.float32)
        padded[: piece.shape[0], : piece.shape[1]] = piece
        fitted = _applied(model, padded, device)[model.frame]
        y, w = _in_units(data, weight, unit, place)
        share = tiles.window(place).astype(np.float32)
        residual[place] += share * (y - fitted) * np.sqrt(w)
        inside = np.where(sources[place] & (w > 0), share, np.float32(0.0))
        counts += float((inside * y).sum(dtype=np.float64))
        modelled += float((inside * fitted).sum(dtype=np.float64))
        forget(residual, image, sources)
    return counts, modelled


def _applied(model, image, device):
    if device is None:
        return model.apply(image)
    import torch

    return model.apply(torch.from_numpy(image).to(device)).numpy(force=True)


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


class Clock:
    """Adds the seconds since its last call to a step."""

    def __init__(self, timings):
        self.timings, self.start = timings, time.perf_counter()

    def __call__(self, name):
        now = time.perf_counter()
        self.timings[name] = self.timings.get(name, 0.0) + now - self.start
        self.start = now
