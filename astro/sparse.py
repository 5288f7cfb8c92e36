"""The classical step in place of a network: an image that is sparse in the starlet and nowhere negative."""

import numpy as np
import scipy.fft

from deconjugate.astro import _sparse_numba as kernels
from deconjugate.astro.tikhonov import BlockSolver
from deconjugate.operators.starlet import Starlet

RELAX = 1.6  # over-relaxation, in (1, 2)
SPREAD = 4.0  # coupling against the size of the coefficients; larger moves in smaller steps
SHUT = 1e20  # threshold where no detail is allowed


def sparse_deconvolution(
    model, data, weight, start, region, *, allowed=None, k_sigma=3.0, n_scales=5, positivity=True, maxiter=20
):
    """The l1 image: least weighted residual plus the size of the starlet coefficients.

    .. math:: \\min_{x \\ge 0} \\tfrac12 || y - A x ||_W^2 + k_\\sigma \\sum_j \\sigma_j || s \\, w_j(x) ||_1

    w_j are the starlet planes of x, sigma_j the noise of w_j(A^T W n), the gradient of the data term, and s^2 the
    weight of the data seen by a fine pixel. Outside ``region`` no detail is allowed (s is infinite), and nothing at all
    outside ``allowed``. Solved by splitting into data, coefficients and positivity (ADMM): the data term meets masks
    and uneven noise pixel by pixel, and the image comes from an exact block solve in Fourier space, so that twenty
    iterations do what gradient methods need hundreds for. They start from Tikhonov and end early on purpose: the last
    digits of the minimum only sharpen noise.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : float32 arrays on the padded native grid
        y and W = 1 / sigma^2; both in units that make the typical sigma 1.
    start : float32 array on the padded fine grid
    region : bool array on the padded fine grid
        Where the data show sources.
    allowed : bool array on the padded fine grid, optional
        Where the image may differ from zero; default everywhere.
    k_sigma : float, > 0
        Larger is sparser, smoother and loses more flux until the correction restores it.
    n_scales : int, >= 1
        Starlet scales on the fine grid.
    positivity : bool
    maxiter : int

    Returns
    -------
    float32 array on the padded fine grid

    Source
    ------
    Boyd et al., Foundations and Trends in Machine Learning 3, 1 (2011); Almeida, Figueiredo, IEEE Transactions on Image
    Processing 22, 3074 (2013), for the splitting that frees masks and edges.
    """
    shape = model.domain_shape
    starlet = Starlet(shape, n_scales)
    symbols = starlet_symbols(model.frequencies, n_scales)
    thresholds = k_sigma * gradient_noise(model, symbols)
    allowed = np.ones(shape, bool) if allowed is None else allowed
    spread = np.where(region, _seen_weight(model, weight), SHUT).astype(np.float32)

    x = np.where(allowed, np.maximum(start, 0.0) if positivity else start, 0.0).astype(np.float32)
    planes = np.empty(starlet.range_shape, np.float32)
    starlet.apply_to(x, planes)
    sizes = [_typical(w[region]) for w in planes[:-1]]
    penalties = np.array([SPREAD * t / s for t, s in zip(thresholds, sizes)], np.float32)
    penalty = np.float32(SPREAD * thresholds.max() / _typical(x[region]))
    levels = (thresholds / penalties).astype(np.float32)
    solver = BlockSolver(model, sum(r * s**2 for r, s in zip(penalties, symbols)) + penalty)

    spectrum = scipy.fft.rfft2(x, workers=model.workers)
    native = model.to_native(spectrum)
    states, state, fitted = planes[:-1].copy(), x.copy(), native.copy()
    gradient = np.empty(shape, np.float32)
    relax, keep = np.float32(RELAX), np.float32(1.0 - RELAX)
    for _ in range(maxiter):
        kernels.shrink(planes, states, levels, penalties, spread, relax, keep)
        starlet.adjoint_to(planes, gradient)
        kernels.project(x, state, allowed, positivity, penalty, relax, keep, gradient)
        known = (weight * data + fitted) / (weight + 1)
        fitted = relax * native + keep * known + fitted - known
        known = (weight * data + fitted) / (weight + 1)
        step = scipy.fft.rfft2(gradient, workers=model.workers)
        step += model.from_native(native - 2 * known + fitted)
        spectrum -= solver.solve(step)
        x = model.to_image(spectrum)
        native = model.to_native(spectrum)
        starlet.apply_to(x, planes)
    return np.where(allowed, np.maximum(state, 0.0) if positivity else state, 0.0).astype(np.float32)


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


def _seen_weight(model, weight):
    """Square root of the weight that a fine pixel is seen with: 1 where the noise is the typical one."""
    seen = model.adjoint(weight)
    return np.sqrt(np.maximum(seen, 0.1))  # beyond the frame there is no weight, but still a price


def _typical(values):
    """Size of the coefficients that carry the image: sum of squares over sum of magnitudes."""
    total = float(np.abs(values).sum(dtype=np.float64))
    return float(np.square(values, dtype=np.float64).sum()) / total if total > 0.0 else 1.0
