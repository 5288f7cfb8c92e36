"""Deconvolution of an image: Tikhonov, a guess, and the correction that certifies it."""

import sys
import time
import warnings
from dataclasses import dataclass, field

import numpy as np

from deconjugate.astro.debias import debias
from deconjugate.astro.forward import RINGING, DataModel
from deconjugate.astro.observation import observation
from deconjugate.astro.points import find_points, point_image
from deconjugate.astro.sparse import sparse_deconvolution
from deconjugate.astro.support import find_support
from deconjugate.astro.tikhonov import choose_regularization, tikhonov
from deconjugate.astro.tiling import tiling
from deconjugate.operators.dictionaries import dictionary as make_dictionary

TILE_FINE = 2304  # largest side, in fine pixels, of a frame that is processed in one piece
STAGES = ("tikhonov", "classical", "debiased")


@dataclass(frozen=True, eq=False)
class DeconvolutionResult:
    """A deconvolved image and the numbers that certify it.

    Attributes
    ----------
    image : astropy.nddata.CCDData
        Fine grid: counts per fine pixel at the target resolution, mask, WCS and unit. Stamps keep their first axis.
    psf : array
        The PSF of ``image``: a Gaussian of FWHM 2 fine pixels.
    residual : array
        (y - A x) / sigma on the native grid, 0 where bad.
    reduced_chi2 : float or (N,) array
        Mean square of the residual over good pixels.
    support : bool array (n_scales + 1, h, w), stamps (N, ...)
        Coefficients of the data that stand out of the noise.
    stages : dict
        Images on the fine grid by step: "tikhonov", "network" or "classical", "debiased".
    flux_ratio : float or (N,) array
        Counts of the model over counts of the data within detected sources; NaN where there is none.
    mismatch : float or (N,) array
        ||k * r - p||_1: how far the model's PSF is from the one given.
    regularization : float or (N,) array
        lambda of step 1; the median over the tiles of a frame.
    timings : dict
        Seconds by step.
    """

    image: object
    psf: np.ndarray
    residual: np.ndarray
    reduced_chi2: object
    support: np.ndarray
    stages: dict
    flux_ratio: object
    mismatch: object
    regularization: object
    timings: dict = field(default_factory=dict)


def deconvolve(
    image,
    psf,
    *,
    upsample=2,
    noise=None,
    mask=None,
    network="default",
    dictionary="starlet",
    k_sigma=3.0,
    n_scales=None,
    regularization="auto",
    positivity=True,
    uncertainty=None,
    center="centroid",
    maxiter=30,
    seed=0,
    device="auto",
    tile=None,
    progress=None,
):
    """Deconvolve an image to a resolution of 2 fine pixels.

    .. math:: y = D (k * x) + n, \\qquad x = r * \\text{sky}

    Three steps: weighted Tikhonov; a guess that removes its noise (the network, or an l1 image in the starlet); the
    correction of the coefficients in which the data stand out of the noise, until the residual there is noise. Sources
    that prove to be points are fitted with the PSF and taken out of the data after step 1; steps 2 and 3 see what is
    left, and the points come back at the target resolution: no sparse image of a bright star is sharp enough.

    Parameters
    ----------
    image : (h, w) array, (N, h, w) stamps, or astropy.nddata.CCDData
        Background subtracted. NaN and infinite pixels have no weight. Uncertainty, mask, WCS and unit of a CCDData are
        used and carried through.
    psf : array or deconjugate.astro.PSF, or a list of N for stamps
        An array is the effective PSF at native sampling.
    upsample : int, >= 1
        Fine pixels per native pixel, along each axis. The PSF must span at least 2.5 fine pixels.
    noise : float or array, optional
        1 sigma per pixel; default the uncertainty of the image, else estimated from it.
    mask : bool array, optional
        True = bad: such pixels, saturated ones among them, have no weight.
    network : "default" or None
        None: the classical path. No network ships with this version: "default" warns and takes the classical path.
    dictionary : str
        "starlet", or a wavelet as :func:`deconjugate.operators.dictionary` takes it, for the correction.
    k_sigma : float, > 0
        Significance of a coefficient; larger keeps less.
    n_scales : int, optional
        Scales of the dictionary on the native grid; default 4, fewer on small frames.
    regularization : "auto" or float, > 0
        Weight lambda of the Laplacian penalty in step 1, for data in units of their median noise.
    positivity : bool
        Whether the image may not be negative.
    uncertainty : None
        No estimate of the uncertainty is offered in this version.
    center : "centroid" or "keep"
        See :meth:`deconjugate.astro.PSF.fine`.
    maxiter : int
        Largest number of steps of the correction.
    seed : int
        The classical path draws no random numbers; kept for those that do.
    device : "auto" or "cpu"
        The classical path runs on the processor.
    tile : int, optional
        Side in native pixels of overlapping tiles; default one piece up to 2304 fine pixels a side.
    progress : bool, optional
        Whether to show a bar on stderr; default only on a terminal.

    Returns
    -------
    DeconvolutionResult

    Raises
    ------
    ValueError
        An argument that is out of its interval, of a wrong shape, or without a good pixel; a PSF that is larger than
        the image, or too sharp for this ``upsample``.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF, deconvolve, simulate
    >>> sky = np.zeros((96, 128))
    >>> sky[36:48, 60:76] = 1.0
    >>> scene = simulate(sky, PSF.moffat(3.5), peak_snr=50, seed=1)
    >>> result = deconvolve(scene.data, PSF.moffat(3.5), noise=scene.noise_map, network=None)
    >>> result.image.shape, bool(abs(result.image.data.sum() / scene.truth.sum() - 1) < 0.1)
    ((96, 128), True)
    """
    _check_options(upsample, network, k_sigma, regularization, uncertainty, maxiter, device, tile)
    seen = observation(image, noise, mask)
    n, *shape = seen.data.shape
    psfs = _fine_psfs(psf, n, seen.stamps, shape, upsample, center)
    if network == "default":
        warnings.warn("no network ships with this version: the classical path is taken", stacklevel=2)
    reach = max(-(-max(p.shape) // (2 * upsample)) for p in psfs) + RINGING // upsample
    tiles = tiling(shape, TILE_FINE // upsample if tile is None else tile, 2 * reach + 16)
    scales = _scales(n_scales, tiles.size)
    settings = _Settings(dictionary, scales, k_sigma, regularization, positivity, maxiter)

    from tqdm import tqdm

    shown = sys.stderr.isatty() if progress is None else bool(progress)
    timings = {}
    outputs = []
    model = None
    with tqdm(total=n * len(tiles.places()), disable=not shown, desc="deconvolve", unit="tile", file=sys.stderr) as bar:
        for i in range(n):
            p = psfs[i if len(psfs) > 1 else 0]
            if model is None or len(psfs) > 1:
                model = DataModel(tiles.size, p, upsample)
            outputs.append(_frame(model, p, seen.data[i], seen.weight[i], tiles, settings, timings, bar))
    return _result(seen, outputs, model.target, upsample, timings)


@dataclass(frozen=True)
class _Settings:
    dictionary: str
    n_scales: int
    k_sigma: float
    regularization: object
    positivity: bool
    maxiter: int


def _frame(model, psf, data, weight, tiles, settings, timings, bar):
    """One frame, in units of its median noise: the three steps tile by tile, then the residual of the whole."""
    u = model.upsample
    unit = 1.0 / np.sqrt(np.median(weight[weight > 0]))
    data, weight = (data / unit).astype(np.float32), (weight * unit**2).astype(np.float32)
    margin = [s.start for s in model.frame]  # the images are blended with theirs, which holds light from outside
    canvas = tuple((n + 2 * m) * u for n, m in zip(data.shape, margin))
    stages = {name: np.zeros(canvas, np.float32) for name in STAGES}
    support = np.zeros((settings.n_scales + 1, *data.shape), bool)
    sources = np.zeros(data.shape, bool)
    lambdas = []
    for place in tiles.places():
        if (weight[place] > 0).any():
            window = tiles.window(place, margin)
            images, found, lam = _three_steps(model, psf, data[place], weight[place], settings, timings)
            lambdas.append(lam)
            target = tuple(slice(s.start * u, (s.stop + 2 * m) * u) for s, m in zip(place, margin))
            weights = np.repeat(np.repeat(window.astype(np.float32), u, axis=0), u, axis=1)
            for name, x in images.items():
                stages[name][target] += weights * x[: weights.shape[0], : weights.shape[1]]
            used = tiles.window(place) > 0
            if found.coefficients.shape == support[(..., *place)].shape:
                support[(..., *place)] |= found.coefficients & used
            sources[place] |= (found.sources > 0) & used
        bar.update()
    fitted = _fit(model, stages["debiased"], tiles, margin)
    residual = (data - fitted) * np.sqrt(weight)
    chi2 = float(np.square(residual, dtype=np.float64).sum() / np.count_nonzero(weight))
    inside = sources & (weight > 0)
    counts = float(data[inside].sum(dtype=np.float64))
    ratio = float(fitted[inside].sum(dtype=np.float64)) / counts if counts else np.nan
    frame = tuple(slice(m * u, (m + n) * u) for m, n in zip(margin, data.shape))
    stages = {name: x[frame] * np.float32(unit) for name, x in stages.items()}
    return _Frame(stages, residual, support, chi2, ratio, model.mismatch, float(np.median(lambdas)))


def _three_steps(model, psf, data, weight, settings, timings):
    """The three steps on one tile; images on the padded fine grid, the support, lambda."""
    dictionary = make_dictionary(settings.dictionary, data.shape, settings.n_scales)
    y, w = model.embed(data), model.embed(weight)
    clock = _Clock(timings)
    lam = settings.regularization
    lam = choose_regularization(model, y, w) if lam == "auto" else float(lam)
    first = tikhonov(model, y, w, lam, rtol=1e-2)
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
    if smooth.allowed.any():
        if stars.any():
            again = choose_regularization(model, y, w) if settings.regularization == "auto" else lam
            start = tikhonov(model, y, w, again, rtol=1e-2)
            clock("stars")
        second = sparse_deconvolution(
            model,
            y,
            w,
            start,
            dictionary=settings.dictionary,
            k_sigma=settings.k_sigma,
            n_scales=settings.n_scales + round(np.log2(model.upsample)),
            positivity=settings.positivity,
            region=smooth.allowed,
        )
        second = np.where(smooth.allowed, second, np.float32(0.0))
        clock("classical")
        options = {"floor": -stars, "positivity": settings.positivity, "maxiter": settings.maxiter}
        third = debias(model, dictionary, y, w, second, smooth, **options).image
        clock("debiased")
    return dict(zip(STAGES, (first, second + stars, third + stars))), support, lam


def _fit(model, image, tiles, margin):
    """A x on the native frame, tile by tile, for x on the frame and its margin."""
    u = model.upsample
    fitted = np.zeros(tiles.shape, np.float32)
    for place in tiles.places():
        piece = image[tuple(slice(s.start * u, (s.stop + 2 * m) * u) for s, m in zip(place, margin))]
        padded = np.zeros(model.domain_shape, np.float32)
        padded[: piece.shape[0], : piece.shape[1]] = piece
        fitted[place] += tiles.window(place).astype(np.float32) * model.apply(padded)[model.frame]
    return fitted


@dataclass(frozen=True, eq=False)
class _Frame:
    """What one frame gives."""

    stages: dict
    residual: np.ndarray
    support: np.ndarray
    reduced_chi2: float
    flux_ratio: float
    mismatch: float
    regularization: float


def _result(seen, frames, target, upsample, timings):
    """Everything in the layout that the caller used."""
    from astropy.nddata import CCDData

    from deconjugate.astro.wcs import scale_wcs

    def gathered(name):
        values = [getattr(frame, name) for frame in frames]
        return np.stack(values) if seen.stamps else values[0]

    stages = {name: np.stack([frame.stages[name] for frame in frames]) for name in STAGES}
    bad = np.repeat(np.repeat(seen.bad, upsample, axis=1), upsample, axis=2)
    if not seen.stamps:
        stages, bad = {name: x[0] for name, x in stages.items()}, bad[0]
    image = CCDData(
        stages["debiased"],
        unit=seen.unit or "",
        mask=bad if bad.any() else None,
        wcs=None if seen.wcs is None else scale_wcs(seen.wcs, upsample),
        meta=seen.meta,
    )
    names = ("residual", "reduced_chi2", "support", "flux_ratio", "mismatch", "regularization")
    residual, chi2, support, ratio, mismatch, lam = (gathered(name) for name in names)
    return DeconvolutionResult(image, target, residual, chi2, support, stages, ratio, mismatch, lam, timings)


def _fine_psfs(psf, n, stamps, shape, upsample, center):
    """p on the fine grid: one for all frames, or one per stamp."""
    from deconjugate.astro.psf import PSF

    several = isinstance(psf, (list, tuple)) or np.ndim(psf) == 3
    given = list(psf) if several else [psf]
    if several and (not stamps or len(given) != n):
        raise ValueError(f"psf holds {len(given)} PSFs; give one" + (f", or {n}, one per stamp" if stamps else ""))
    largest = min(shape) * upsample
    fine = []
    for one in given:
        p = one if isinstance(one, PSF) else PSF.from_array(one)
        if not isinstance(one, PSF) and any(k > m for k, m in zip(np.shape(one), shape)):
            raise ValueError(f"psf of shape {np.shape(one)} is larger than the image, {tuple(shape)}: crop the PSF")
        fine.append(p.fine(upsample, center=center, max_size=largest))
    return fine


def _check_options(upsample, network, k_sigma, regularization, uncertainty, maxiter, device, tile):
    whole = {"upsample": (upsample, 1), "maxiter": (maxiter, 0), "tile": (8 if tile is None else tile, 8)}
    for name, (value, least) in whole.items():
        if isinstance(value, bool) or not np.isscalar(value) or value != int(value) or value < least:
            raise ValueError(f"{name} is {value!r}; give a whole number, {least} or more")
    if not (network is None or (isinstance(network, str) and network == "default")):
        raise ValueError(f'network is {network!r}; this version takes "default" or None')
    if not (np.isfinite(k_sigma) and k_sigma > 0):
        raise ValueError(f"k_sigma is {k_sigma}; give a positive number of sigmas, 3 is usual")
    if regularization != "auto" and not (np.isfinite(regularization) and regularization > 0):
        raise ValueError(f'regularization is {regularization}; give "auto" or a positive lambda')
    if uncertainty is not None:
        raise ValueError(f"uncertainty is {uncertainty!r}; this version offers None only")
    if device not in ("auto", "cpu"):
        raise ValueError(f'device is {device!r}; the classical path runs on the processor: give "auto" or "cpu"')


def _scales(n_scales, shape):
    """Scales on the native grid: as asked for, else 4 where the largest wavelet is no wider than the tile."""
    largest = int(np.log2(min(shape)))
    if n_scales is None:
        return max(1, min(4, largest - 1))
    if isinstance(n_scales, bool) or n_scales != int(n_scales) or not 1 <= n_scales <= largest:
        raise ValueError(f"n_scales is {n_scales}; frames of {shape} pixels take a whole number from 1 to {largest}")
    return int(n_scales)


class _Clock:
    """Adds the seconds since its last call to a step."""

    def __init__(self, timings):
        self.timings, self.start = timings, time.perf_counter()

    def __call__(self, name):
        now = time.perf_counter()
        self.timings[name] = self.timings.get(name, 0.0) + now - self.start
        self.start = now
