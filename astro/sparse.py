"""The classical step in place of a network: an image that is sparse in a dictionary and nowhere negative."""

import numpy as np
import scipy.fft

from deconjugate.astro import _sparse_numba as kernels
from deconjugate.astro.tikhonov import BlockSolver
from deconjugate.operators.dictionaries import dictionary as make_dictionary
from deconjugate.operators.starlet import Starlet

RELAX = 1.6  # over-relaxation, in (1, 2)
FINE = 0.25  # least threshold of the scales finer than the noisiest, against that one's
COUPLING = 16.0  # threshold over coupling, against the size of the coefficients, times upsample; larger steps less far


def sparse_deconvolution(
    model,
    data,
    weight,
    start,
    *,
    dictionary="starlet",
    k_sigma=3.0,
    n_scales=5,
    positivity=True,
    maxiter=None,
    region=None,
):
    """The l1 image: least weighted residual plus the size of the coefficients.

    .. math:: \\min_{x \\ge 0} \\tfrac12 || y - A x ||_W^2 + k_\\sigma \\sum_j \\sigma_j || s \\, w_j(x) ||_1

    w_j are the planes of x but for the coarse one, sigma_j the noise of w_j(A^T W n), the gradient of the data term,
    and s^2 the weight of the data seen by a fine pixel. Scales finer than the PSF have next to no noise there: their
    sigma_j is raised to a quarter of the largest. The prior is of the analysis kind: thresholding the planes and adding
    them up is not its proximal map, and does far worse. Solved by splitting into data, coefficients and positivity
    (ADMM): the data term meets masks and uneven noise pixel by pixel, and the image comes from an exact block solve in
    Fourier space, so that twenty iterations do what gradient methods need hundreds for. They start from Tikhonov and
    end early on purpose: the last digits of the minimum sharpen noise into points.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : float32 arrays on the padded native grid
        y and W = 1 / sigma^2; both in units that make the typical sigma 1.
    start : float32 array on the padded fine grid
    dictionary : str
        As :func:`deconjugate.operators.dictionary` takes it.
    k_sigma : float, > 0
        Larger is sparser, smoother and loses more flux until the correction restores it.
    n_scales : int, >= 1
        Scales on the fine grid.
    positivity : bool
    maxiter : int, optional
        Default 10 per fine pixel in a native one, at least 20.
    region : bool array on the padded fine grid, optional
        Where the sources are, default everywhere: the size of the coefficients is taken there, so that how far the
        iterations come does not depend on how much empty sky surrounds a source.

    Returns
    -------
    float32 array on the padded fine grid

    Source
    ------
    Boyd et al., Foundations and Trends in Machine Learning 3, 1 (2011); Almeida, Figueiredo, IEEE Transactions on Image
    Processing 22, 3074 (2013), for the splitting that frees masks and edges.
    """
    maxiter = max(20, 10 * model.upsample) if maxiter is None else maxiter
    coupling = COUPLING / model.upsample
    x = (np.maximum(start, 0.0) if positivity else start).astype(np.float32)
    frame = make_dictionary(dictionary, model.domain_shape, n_scales)
    region = np.ones(x.shape, bool) if region is None else region
    kind = _StarletSplit if isinstance(frame, Starlet) else _TightSplit
    split = kind(model, frame, weight, x, k_sigma, coupling, region)
    penalty = np.float32(coupling * split.thresholds.max() / _typical(x[region]))
    solver = BlockSolver(model, split.symbol + penalty)

    spectrum = scipy.fft.rfft2(x, workers=model.workers)
    native = model.to_native(spectrum)
    state, fitted = x.copy(), native.copy()  # z + u of the splitting: the projection of each is z, the rest u
    relax, keep = np.float32(RELAX), np.float32(1.0 - RELAX)
    for _ in range(maxiter):
        gradient = split.update(x, relax, keep)
        kernels.project(x, state, positivity, penalty, relax, keep, gradient)
        known = (weight * data + fitted) / (weight + 1)
        fitted = relax * native + keep * known + fitted - known
        known = (weight * data + fitted) / (weight + 1)
        step = scipy.fft.rfft2(gradient, workers=model.workers)
        step += model.from_native(native - 2 * known + fitted)
        spectrum -= solver.solve(step)
        x = model.to_image(spectrum)
        native = model.to_native(spectrum)
    return np.maximum(state, 0.0) if positivity else state


class _StarletSplit:
    """Coefficients of the starlet: a coupling per scale, its symbol known in Fourier space."""

    def __init__(self, model, starlet, weight, start, k_sigma, coupling, region):
        symbols = starlet_symbols(model.frequencies, starlet.n_scales)
        self.starlet = starlet
        noise = gradient_noise(model, symbols)
        finer = np.arange(noise.size) < np.argmax(noise)
        self.thresholds = k_sigma * np.where(finer, np.maximum(noise, FINE * noise.max()), noise)
        self.planes = starlet.apply(start)
        sizes = [_typical(w[region]) for w in self.planes[:-1]]
        self.penalties = (coupling * self.thresholds / sizes).astype(np.float32)
        self.levels = (self.thresholds / self.penalties).astype(np.float32)
        self.symbol = sum(r * s**2 for r, s in zip(self.penalties, symbols))
        self.state = self.planes[:-1].copy()
        seen = model.adjoint(weight)  # beyond the frame there is no weight, but still a price
        self.spread = np.sqrt(np.maximum(seen, np.float32(0.1)))

    def update(self, image, relax, keep):
        """Move the coefficients towards those of ``image``; the gradient of the coupling."""
        self.starlet.apply_to(image, self.planes)
        kernels.shrink(self.planes, self.state, self.levels, self.penalties, self.spread, relax, keep)
        return self.starlet.adjoint_to(self.planes, np.empty_like(image))


class _TightSplit:
    """Coefficients of a dictionary with W^T W = 1: one coupling for all, whose symbol is a constant."""

    def __init__(self, model, frame, weight, start, k_sigma, coupling, region):
        self.frame = frame
        count = len(frame.noise_std())
        noise = np.random.default_rng(0).standard_normal(model.range_shape).astype(np.float32)
        power = np.square(frame.apply(model.adjoint(np.sqrt(weight) * noise)), dtype=np.float64)
        index = np.broadcast_to(frame.expand(np.arange(count)), frame.range_shape).ravel()
        power = np.bincount(index, power.ravel(), count) / np.bincount(index, minlength=count)
        self.thresholds = k_sigma * np.sqrt(power)
        self.thresholds[-1] = 0.0
        self.state = frame.apply(start)
        self.symbol = np.float32(coupling * self.thresholds.max() / _typical(frame.apply(np.where(region, start, 0))))
        self.levels = frame.expand((self.thresholds / self.symbol).astype(np.float32))

    def update(self, image, relax, keep):
        """As :meth:`_StarletSplit.update`."""
        planes, state = self.frame.apply(image), self.state
        multiplier = np.clip(state, -self.levels, self.levels)
        state[...] = relax * planes + keep * (state - multiplier) + multiplier
        multiplier = np.clip(state, -self.levels, self.levels)
        return self.symbol * self.frame.adjoint(planes - state + 2 * multiplier)


def starlet_symbols(frequencies, n_scales):
    """Transfer functions of the detail planes of the starlet on a periodic grid, finest first."""
    smooth, symbols = np.ones((1, 1)), []
    for j in range(n_scales):
        smoother = smooth
        for f in frequencies:
            smoother = smoother * np.cos(np.pi * f * 2.0**j) ** 4
        symbols.append(smooth - smoother)
        smooth = smoother
    return symbols


def gradient_noise(model, symbols):
    """Standard deviation of w_j(A^T n) for unit white noise n on the native grid, per detail plane.

    .. math:: \\sigma_j^2 = u^2 \\; \\mathrm{mean}_\\nu \\; |\\phi_j(\\nu)|^2 |a(\\nu)|^2
    """
    power = model.upsample**2 * np.abs(model.transfer) ** 2
    columns = np.full(power.shape[1], 2.0)
    columns[0] = 1.0
    if model.domain_shape[1] % 2 == 0:
        columns[-1] = 1.0
    return np.array([np.sqrt((s**2 * power * columns).sum() / np.prod(model.domain_shape)) for s in symbols])


def _typical(values):
    """Size of the coefficients that carry the image: sum of squares over sum of magnitudes."""
    total = float(np.abs(values).sum(dtype=np.float64))
    return float(np.square(values, dtype=np.float64).sum()) / total if total > 0.0 else 1.0
