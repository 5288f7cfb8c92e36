"""Step 3: what the data's significant coefficients still ask for, until the residual there is noise."""

from dataclasses import dataclass

import numpy as np

FLUX_TOLERANCE = 0.3  # sigmas of weighted residual flux that a source may keep


@dataclass(frozen=True, eq=False)
class DebiasResult:
    """The corrected image and why the correction ended."""

    image: np.ndarray
    iterations: int
    masked_chi2: np.ndarray  # per plane, mean square of the kept residual coefficients in units of their noise
    source_residuals: np.ndarray  # weighted residual flux of every source, in sigmas
    converged: bool


def debias(model, dictionary, data, weight, start, support, *, positivity=True, maxiter=30):
    """Active-coefficient correction by conjugate gradients.

    .. math:: \\min_x \\tfrac12 || M \\Sigma^{-1} W_d \\, s (y - A x) ||^2, \\qquad s = 1 / \\sigma

    W_d is the dictionary, Sigma the noise of its planes, M the support of the data, the coarse plane always kept. The
    normal equations are symmetric and semidefinite; early stopping regularises. The search moves in the metric
    diag(smooth x): light is added in proportion to light, so that nothing appears where the start shows nothing and
    positivity is rarely met; where it is, the image is projected and the directions start afresh.

    It stops when

    .. math:: \\frac{1}{|M_j|} || M_j \\Sigma_j^{-1} W_j s (y - A x) ||^2 \\le 1 \\ \\forall j
              \\quad\\text{and}\\quad \\frac{|m_i^T s^2 (y - A x)|}{|| s m_i ||} \\le 0.3 \\ \\forall i,

    m_i the model of source i. A total chi^2 would not see a few per cent of one source's flux.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    dictionary : deconjugate.operators.Dictionary
        On the native frame.
    data, weight : float32 arrays on the padded native grid
    start : float32 array on the padded fine grid
    support : deconjugate.astro.support.Support
    positivity : bool
    maxiter : int

    Returns
    -------
    DebiasResult
    """
    s = np.sqrt(weight)
    kept = support.coefficients / dictionary.expand(dictionary.noise_std() ** 2)
    kept = kept.astype(np.float32)
    counts = dictionary.expand(np.ones(len(dictionary.noise_std()))) * support.coefficients

    def masked(native):
        """s W^T M Sigma^-2 W s of a native image, and the coefficients it went through."""
        planes = dictionary.apply((s * native)[model.frame])
        chosen = kept * planes
        return s * model.embed(dictionary.adjoint(chosen)), np.sum(chosen * planes, axis=(-2, -1), dtype=np.float64)

    counts = np.maximum(counts.sum(axis=(-2, -1)), 1.0)
    x = start.copy()
    metric = _metric(model, start, support.allowed)
    fitted = model.apply(x)
    templates = _source_flux(model, support.sources, fitted, s)
    residual = data - fitted
    pull, energy = masked(residual)
    gradient = model.adjoint(pull)
    direction, steepness = None, 0.0
    iteration, done = 0, False
    while True:
        done = bool(np.all(energy <= counts) and np.all(np.abs(templates(residual)) <= FLUX_TOLERANCE))
        if done or iteration == maxiter:
            break
        preconditioned = metric * gradient
        slope = float(np.vdot(gradient, preconditioned))
        if not slope > 0.0:
            break
        direction = preconditioned if direction is None else preconditioned + (slope / steepness) * direction
        steepness = slope
        image = model.apply(direction)
        _, curvature = masked(image)
        length = np.float32(float(np.vdot(gradient, direction)) / max(float(curvature.sum()), 1e-30))
        x += length * direction
        iteration += 1
        if positivity and (x < 0.0).any():
            x = np.maximum(x, 0.0)
            direction = None
            residual = data - model.apply(x)
        else:
            residual = residual - length * image
        pull, energy = masked(residual)
        gradient = model.adjoint(pull)
    return DebiasResult(x, iteration, energy / counts, templates(residual), done)


def _metric(model, image, allowed):
    """Smoothed image plus a little, on the allowed pixels: how readily each may change."""
    import scipy.ndimage

    smooth = scipy.ndimage.gaussian_filter(np.abs(image), 1.5 * model.upsample)
    level = float(smooth[allowed].mean()) if allowed.any() else 1.0
    return np.where(allowed, smooth + 0.01 * level, 0.0).astype(np.float32)


def _source_flux(model, sources, fitted, s):
    """residual -> weighted residual flux of each source, in sigmas."""
    import scipy.ndimage

    index = np.arange(1, sources.max() + 1)
    shape = (s * fitted)[model.frame]
    norm = np.sqrt(np.maximum(scipy.ndimage.sum_labels(shape**2, sources, index), 1e-12))

    def flux(residual):
        return scipy.ndimage.sum_labels(shape * (s * residual)[model.frame], sources, index) / norm

    return flux
