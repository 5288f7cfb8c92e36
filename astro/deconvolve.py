"""Deconvolution of an image: Tikhonov, a guess, and the correction that certifies it."""

import sys
from dataclasses import dataclass, field

import numpy as np

from deconjugate.astro.explained import SATURATED, SHARP
from deconjugate.astro.forward import RINGING
from deconjugate.astro.frame_psf import FramePsf
from deconjugate.astro.guess import GivenGuess, choose_guess
from deconjugate.astro.observation import observation
from deconjugate.astro.scratch import Scratch, forget
from deconjugate.astro.simulate import target_psf
from deconjugate.astro.three_steps import Settings, deconvolve_frame
from deconjugate.astro.tiling import tiling
from deconjugate.astro.uncertainty import LEAST, standard_deviation

TILE_FINE = 2304  # largest side, in fine pixels, of a frame that is processed in one piece
LARGEST_ERROR = 0.1  # of a PSF that is believed: one that says worse of itself is not asked
TILE_VARYING = 1152  # the same where the PSF varies over the frame


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
        Images on the fine grid by step: "tikhonov", "network" or "classical", "debiased"; the last alone where no
        others were asked for.
    flux_ratio : float or (N,) array
        Counts of the model over counts of the data within detected sources; NaN where there is none.
    mismatch : float or (N,) array
        ||k * r - p||_1: how far the model's PSF is from the one given, at most.
    network : str
        Which weights made the guess: their file and the start of its sha256; "none" on the classical path.
    regularization : float or (N,) array
        lambda of step 1; the median over the tiles of a frame.
    replaced : float or (N,) array
        Share of the tiles whose result comes from the classical guess, since the network's left more of the data than
        noise does and more than that one: what the network has not met in training, crowds of stars say.
    rejected : uint8 array
        Native pixels that the model cannot explain: 1 saturated core, 2 sharper than the PSF (both without weight),
        4 where the PSF's error exceeds the noise; 0 elsewhere. ``reduced_chi2`` is of the others.
    psf_error : float or (N,) array
        Relative error of the PSF that was counted as noise.
    timings : dict
        Seconds by step.

    Example
    -------
    >>> from deconjugate.astro import PSF, simulate
    >>> sky = np.zeros((64, 80))
    >>> sky[30, 42] = 1.0
    >>> seen = simulate(sky, PSF.moffat(3.0), peak_snr=100, seed=1)
    >>> result = deconvolve(seen.data, PSF.moffat(3.0), noise=seen.noise_map, network=None)
    >>> result.image.shape, result.residual.shape, list(result.stages)
    ((64, 80), (32, 40), ['tikhonov', 'classical', 'debiased'])
    >>> bool(abs(result.flux_ratio - 1) < 0.05), bool(abs(result.reduced_chi2 - 1) < 0.1)
    (True, True)
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
    network: str = "none"
    replaced: object = 0.0
    rejected: object = None
    psf_error: object = 0.0
    timings: dict = field(default_factory=dict)


def deconvolve(
    image,
    psf,
    *,
    upsample=2,
    noise=None,
    mask=None,
    network="default",
    guess=None,
    dictionary="starlet",
    k_sigma=3.0,
    n_scales=None,
    regularization="auto",
    positivity=True,
    uncertainty=None,
    center="centroid",
    saturated=None,
    psf_error=None,
    maxiter=30,
    seed=0,
    device="auto",
    tile=None,
    stages=True,
    scratch=None,
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
        An array is the effective PSF at native sampling. One that varies over the frame is taken at the middle of
        every tile, whose pixels count from 0 at the frame's corner.
    upsample : int, >= 1
        Fine pixels per native pixel, along each axis. The PSF must span at least 2.5 fine pixels.
    noise : float or array, optional
        1 sigma per pixel; default the uncertainty of the image, else estimated from it.
    mask : bool array, optional
        True = bad: such pixels, saturated ones among them, have no weight.
    network : "default", path or None
        Which Swin-UNet makes the guess: the one that ships, or a .safetensors file with its card. None: the classical
        path.
    guess : (h u, w u) array, optional
        An image of one frame at the target resolution to be corrected in place of step 2's, where the data show
        something: from another band (:func:`deconjugate.astro.deconvolve_bands`) or another program.
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
    uncertainty : int, >= 4, optional
        From how many realisations of the noise to estimate the standard deviation of every pixel, each as dear as the
        image itself: see :func:`deconjugate.astro.uncertainty.standard_deviation`. It becomes that of ``image``.
    center : "centroid" or "keep"
        See :meth:`deconjugate.astro.PSF.fine`.
    saturated : bool array, optional
        Pixels known to be saturated, masked like those of ``mask``; saturated cores are looked for in any case. A star
        behind one gets its flux from its wings.
    psf_error : float, optional
        Relative error of the PSF, which is noise in proportion to what is as sharp as the PSF; larger values fit bright
        stars less closely. Default: what the bright stars of the frame show, else what the PSF says of itself.
    maxiter : int
        Largest number of steps of the correction.
    seed : int
        Of what is drawn at random: nothing unless ``uncertainty`` is asked for.
    device : "auto", "cpu", "cuda" or "cuda:N"
        Where the network runs; the other steps run on the processor. "auto" takes a GPU where there is one.
    tile : int, optional
        Side in native pixels of overlapping tiles; default one piece up to 2304 fine pixels a side, 1152 where the PSF
        varies.
    stages : bool
        Whether to keep what the first two steps give; without, a large frame takes a third of the memory.
    scratch : str or path, optional
        A folder: what the result of a large frame holds lies in nameless files there in place of memory, mapped.
    progress : bool, optional
        Whether to show a bar on stderr; default only on a terminal.

    Returns
    -------
    DeconvolutionResult

    Raises
    ------
    ValueError
        An argument that is out of its interval, of a wrong shape, or without a good pixel; a PSF that is larger than
        the image, or too sharp for this ``upsample``; a device that is not there, or a GPU without a network.
    deconjugate.operators.learned.weights.WeightsError
        Weights that are missing, cut short, changed or of another network: ``network=None`` does without.

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
    _check_options(upsample, k_sigma, regularization, uncertainty, maxiter, tile, psf_error)
    seen, saturated = _without(image, noise, mask, saturated)
    scratch = Scratch(scratch)
    forget(noise)
    del image, noise, mask  # a large frame need not stay in memory twice
    n, *shape = seen.data.shape
    guess = choose_guess(network, device) if guess is None else _given(guess, seen, upsample, uncertainty)
    fine, size, stated = _fine_psfs(psf, n, seen.stamps, shape, upsample, center)
    reach = -(-size // (2 * upsample)) + RINGING // upsample
    default = TILE_VARYING if callable(fine[0]) else TILE_FINE
    tile = default // upsample if tile is None else tile, 2 * reach + 16
    tiles = tiling(shape, *tile)
    scales = _scales(n_scales, tiles.size)
    psf_error = stated if psf_error is None else psf_error
    settings = Settings(guess, dictionary, scales, k_sigma, regularization, positivity, maxiter, stages, psf_error)

    from tqdm import tqdm

    shown = sys.stderr.isatty() if progress is None else bool(progress)
    timings = {}
    outputs, spreads = [], []
    psfs, rng = None, np.random.default_rng(seed)
    total = n * len(tiles.places()) * (1 + (uncertainty or 0))
    with tqdm(total=total, disable=not shown, desc="deconvolve", unit="tile", file=sys.stderr) as bar:
        for i in range(n):
            if psfs is None or len(fine) > 1:
                psfs = FramePsf(tiles, upsample, fine[i if len(fine) > 1 else 0])
            known = None if saturated is None else saturated[i]
            given = seen.data[i], seen.weight[i], settings, timings, bar, scratch, known
            outputs.append(deconvolve_frame(psfs, *given))
            if uncertainty:
                trusted = np.where(outputs[i].rejected & (SATURATED | SHARP), 0.0, seen.weight[i])
                given = outputs[i], seen.data[i], trusted, fine[i if len(fine) > 1 else 0], upsample, tile
                spreads.append(standard_deviation(*given, settings, uncertainty, rng, bar, scratch))
    return _result(seen, outputs, spreads, target_psf(), upsample, guess.origin, timings, scratch)


def _result(seen, frames, spreads, target, upsample, network, timings, scratch):
    """Everything in the layout that the caller used."""
    from astropy.nddata import CCDData, StdDevUncertainty

    from deconjugate.astro.wcs import scale_wcs

    def gathered(name):
        values = [getattr(frame, name) for frame in frames]
        return np.stack(values) if seen.stamps else values[0]

    stages = frames[0].stages
    if seen.stamps:
        stages = {name: np.stack([frame.stages[name] for frame in frames]) for name in stages}
    spread = np.stack(spreads) if seen.stamps and spreads else next(iter(spreads), None)
    bad = seen.bad if seen.stamps else seen.bad[0]
    bad = _finer(bad, upsample, scratch) if bad.any() else None
    image = CCDData(
        stages["debiased"],
        unit=seen.unit or "",
        uncertainty=StdDevUncertainty(spread, copy=False) if spreads else None,
        mask=bad,
        wcs=None if seen.wcs is None else scale_wcs(seen.wcs, upsample),
        meta=seen.meta,
    )
    names = ("residual", "reduced_chi2", "support", "flux_ratio", "mismatch", "regularization", "replaced", "rejected")
    residual, chi2, support, ratio, mismatch, lam, replaced, rejected = (gathered(name) for name in names)
    return DeconvolutionResult(
        image, target, residual, chi2, support, stages, ratio, mismatch, lam, network, replaced, rejected,
        gathered("psf_error"), timings,
    )  # fmt: skip


def _finer(native, upsample, scratch):
    """A native mask on the fine grid."""
    fine = scratch.zeros((*native.shape[:-2], *(upsample * n for n in native.shape[-2:])), bool)
    for row in range(upsample):
        for column in range(upsample):
            fine[..., row::upsample, column::upsample] = native
    forget(fine)
    return fine


def _fine_psfs(psf, n, stamps, shape, upsample, center):
    """p on the fine grid: one for all frames, or one per stamp, as FramePsf takes it; the largest side; their error."""
    from deconjugate.astro.psf import PSF

    several = isinstance(psf, (list, tuple)) or np.ndim(psf) == 3
    given = list(psf) if several else [psf]
    if several and (not stamps or len(given) != n):
        raise ValueError(f"psf holds {len(given)} PSFs; give one" + (f", or {n}, one per stamp" if stamps else ""))
    options = {"center": center, "max_size": min(shape) * upsample}
    fine, size, errors = [], 0, []
    for one in given:
        p = one if isinstance(one, PSF) else PSF.from_array(one)
        middle = p.fine(upsample, **options)
        size = max(size, *middle.shape)
        errors.append(p.error)
        if p.varies and not stamps:
            fine.append(lambda x, y, p=p: p.fine(upsample, position=(x, y), **options))
        else:
            fine.append(middle)
    known = [error for error in errors if error is not None]
    return fine, size, min(max(known), LARGEST_ERROR) if known else None


def _given(guess, seen, upsample, uncertainty):
    guess, shape = np.asarray(guess), tuple(n * upsample for n in seen.data.shape[1:])
    if seen.stamps or guess.shape != shape:
        raise ValueError(f"guess has shape {guess.shape}; give one image of {shape} fine pixels for one frame")
    if not np.isfinite(guess).all():
        raise ValueError(f"guess has {np.count_nonzero(~np.isfinite(guess))} pixels that are not finite")
    if uncertainty:
        raise ValueError("uncertainty cannot be had with a guess that is given: what made it is not known")
    return GivenGuess(guess)


def _without(image, noise, mask, saturated):
    """The observation with saturated pixels masked, and which these are: (N, h, w) or None."""
    if saturated is None:
        return observation(image, noise, mask), None
    shape = np.shape(image.data if hasattr(image, "wcs") else image)
    try:
        known = np.broadcast_to(np.asarray(saturated, dtype=bool), shape)
    except ValueError:
        raise ValueError(f"saturated has shape {np.shape(saturated)}; the image has {shape}") from None
    seen = observation(image, noise, known if mask is None else known | np.asarray(mask, dtype=bool))
    return seen, known.reshape(seen.data.shape)


def _check_options(upsample, k_sigma, regularization, uncertainty, maxiter, tile, psf_error):
    whole = {"upsample": (upsample, 1), "maxiter": (maxiter, 0), "tile": (8 if tile is None else tile, 8)}
    whole["uncertainty"] = (LEAST if uncertainty is None else uncertainty, LEAST)
    for name, (value, least) in whole.items():
        if isinstance(value, bool) or not np.isscalar(value) or value != int(value) or value < least:
            raise ValueError(f"{name} is {value!r}; give a whole number, {least} or more")
    if not (np.isfinite(k_sigma) and k_sigma > 0):
        raise ValueError(f"k_sigma is {k_sigma}; give a positive number of sigmas, 3 is usual")
    if psf_error is not None and not (np.isfinite(psf_error) and 0.0 <= psf_error < 1.0):
        raise ValueError(f"psf_error is {psf_error}; give a fraction of the PSF, at least 0 and below 1")
    if regularization != "auto" and not (np.isfinite(regularization) and regularization > 0):
        raise ValueError(f'regularization is {regularization}; give "auto" or a positive lambda')


def _scales(n_scales, shape):
    """Scales on the native grid: as asked for, else 4 where the largest wavelet is no wider than the tile."""
    largest = int(np.log2(min(shape)))
    if n_scales is None:
        return max(1, min(4, largest - 1))
    if isinstance(n_scales, bool) or n_scales != int(n_scales) or not 1 <= n_scales <= largest:
        raise ValueError(f"n_scales is {n_scales}; frames of {shape} pixels take a whole number from 1 to {largest}")
    return int(n_scales)
