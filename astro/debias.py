"""Step 3: what the data's significant coefficients still ask for, until the residual there is noise."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from deconjugate.astro.apertures import close_fluxes

FLUX_TOLERANCE = 0.3  # sigmas of weighted residual flux that a source may keep, unless another is given
FLUX_WEIGHT = 10.0  # of the source terms beside the coefficients: a source is one number, its coefficients many
FALLING = 0.98  # of the energy of a plane before a step: one that stays above has come to rest
METRIC_WIDTH, LEAST_METRIC = 1.5, 0.01  # native pixels by which light is smoothed; of the mean, what all pixels have


@dataclass(frozen=True, eq=False)
class DebiasResult:
    """The corrected image and why the correction ended."""

    image: np.ndarray
    iterations: int
    masked_chi2: np.ndarray  # per plane, mean square of the kept residual coefficients in units of their noise
    source_residuals: np.ndarray  # residual flux of every source in its aperture, in sigmas
    converged: bool


def debias(
    model,
    dictionary,
    data,
    weight,
    start,
    support,
    *,
    positivity=True,
    floor=0.0,
    maxiter=30,
    flux_tolerance=FLUX_TOLERANCE,
):
    """Active-coefficient correction by conjugate gradients.

    .. math:: \\min_x \\tfrac12 || M \\Sigma^{-1} W_d \\, s (y - A x) ||^2 + \\tfrac{\\kappa}{2} \\sum_i f_i^2,
              \\qquad f_i = \\frac{m_i^T s^2 (y - A x)}{|| s m_i ||}, \\quad s = 1 / \\sigma

    W_d is the dictionary, Sigma the noise of its planes, M the support of the data, the coarse plane always kept; f_i
    is the residual flux of source i in sigmas, weighted with the model m_i = A x of its pixels at the start. The normal
    equations are symmetric and semidefinite; early stopping regularises. The search moves in the metric
    diag(smooth x): light is added in proportion to light, so that nothing appears where the start shows nothing. Where
    positivity is met, the image is projected at once and the directions start afresh: projecting after several free
    steps would leave flux behind. With noise that is nearly every step; directions that are kept on the free pixels
    fit as well in half the steps, but it is noise that they fit first.

    The steps stop when on every plane the kept residual coefficients have reached the noise they must hold, or fall no
    more by 2 per cent a step, and the flux of every source is right:

    .. math:: || M_j \\Sigma_j^{-1} W_j s (y - A x) ||^2 \\le |M_j| + \\sqrt{2 A_j |M_j|} \\ \\forall j,
              \\qquad |f_i| \\le t \\ \\forall i.

    The root is one standard deviation of what noise leaves there, A_j of its coefficients being one independent number
    (:meth:`deconjugate.operators.Dictionary.redundancy`): on the wide planes of a faint source few are independent, and
    steps that they alone ask for fit noise. A total chi^2 would not see a few per cent of one source's flux. At last
    the flux of every source in an aperture is brought to that of the data: see
    :func:`deconjugate.astro.apertures.close_fluxes`.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    dictionary : deconjugate.operators.Dictionary
        On the native frame.
    data, weight : float32 arrays on the padded native grid
    start : float32 array on the padded fine grid
    support : deconjugate.astro.support.Support
    positivity : bool
    floor : float or float32 array on the padded fine grid
        With ``positivity``, the least value of each pixel: below zero where something will be added to the image.
    maxiter : int
        0 leaves the start as it is.
    flux_tolerance : float, > 0
        t. A start whose light is in the right place by itself loses by steps that only the flux asks for: the last of
        them closes it anyway.

    Returns
    -------
    DebiasResult
    """
    s = np.sqrt(weight)
    fitted = model.apply(start)
    terms = _Terms(model, dictionary, support, s, fitted)
    x = start.copy()
    metric = light_metric(model, start, support.allowed)
    planes, fluxes = terms.measure(data - fitted)
    energy, falling = terms.energy(planes), True
    direction, slope, iteration = None, 1.0, 0
    while iteration < maxiter and not _reached(energy, terms.most, fluxes, falling, flux_tolerance):
        gradient = model.adjoint(terms.pull(planes, fluxes))
        preconditioned = metric * gradient
        previous, slope = slope, float(np.vdot(gradient, preconditioned))
        if not slope > 0.0:
            break
        direction = preconditioned if direction is None else preconditioned + np.float32(slope / previous) * direction
        along, flux_along = terms.measure(model.apply(direction))
        steepness = float(terms.energy(along).sum() + FLUX_WEIGHT * np.square(flux_along).sum())
        length = np.float32(float(np.vdot(gradient, direction)) / max(steepness, 1e-30))
        x += length * direction
        if positivity and (x < floor).any():
            x = np.maximum(x, floor)
            direction = None
            planes, fluxes = terms.measure(data - model.apply(x))
        else:
            planes -= length * along
            fluxes = fluxes - length * flux_along
        before, energy = energy, terms.energy(planes)
        falling = energy < FALLING * before
        iteration += 1
    done = _reached(energy, terms.most, fluxes, falling, flux_tolerance)
    if maxiter:
        least = floor if positivity else None
        x, fluxes, fitted = close_fluxes(model, data, weight, x, metric, support.sources, least)
        energy = terms.energy(terms.measure(data - fitted)[0])
    return DebiasResult(x, iteration, energy / terms.counts, fluxes, done)


class _Terms:
    """The terms of the objective for a native residual: their gradient, and what the stopping rule looks at."""

    def __init__(self, model, dictionary, support, s, fitted):
        self.model, self.dictionary, self.s = model, dictionary, s
        self.kept = support.coefficients * (1.0 / dictionary.expand(dictionary.noise_std() ** 2)).astype(np.float32)
        planes = np.arange(len(dictionary.noise_std()))
        self.plane = np.broadcast_to(dictionary.expand(planes), dictionary.range_shape)
        self.counts = np.maximum(self._per_plane(support.coefficients), 1.0)
        self.most = self.counts + np.sqrt(2.0 * dictionary.redundancy() * self.counts)
        self.pixels = np.flatnonzero(support.sources)
        self.source = support.sources.ravel()[self.pixels] - 1
        shape = (s * fitted)[model.frame].ravel()[self.pixels]
        norm = np.sqrt(np.bincount(self.source, shape**2))
        norm = np.maximum(norm, 1e-6 * max(norm.max(initial=0.0), 1.0))
        self.shape = (shape / norm[self.source]).astype(s.dtype)

    def measure(self, native):
        """Coefficients of s times a native image, and its weighted flux in every source: linear in the image."""
        white = (self.s * native)[self.model.frame]
        return self.dictionary.apply(white), np.bincount(self.source, self.shape * white.ravel()[self.pixels])

    def energy(self, planes):
        """|| M Sigma^-1 planes ||^2, plane by plane."""
        return self._per_plane(self.kept * planes**2)

    def pull(self, planes, fluxes):
        """The negative gradient on the native grid, from the coefficients and fluxes of the residual."""
        image = self.dictionary.adjoint(self.kept * planes)
        image.ravel()[self.pixels] += self.shape * (FLUX_WEIGHT * fluxes).astype(image.dtype)[self.source]
        return self.s * self.model.embed(image)

    def _per_plane(self, values):
        if values.ndim == 3:
            return values.sum(axis=(1, 2), dtype=np.float64)
        return np.bincount(self.plane.ravel(), values.ravel(), self.plane.max() + 1)


def _reached(energy, most, fluxes, falling, tolerance):
    return bool(np.all((energy <= most) | ~np.asarray(falling)) and np.all(np.abs(fluxes) <= tolerance))


def light_metric(model, image, allowed):
    """How readily each pixel may change, its smoothed light plus a little on the allowed ones."""
    smooth = scipy.ndimage.gaussian_filter(np.abs(image), METRIC_WIDTH * model.upsample)
    level = float(smooth[allowed].mean()) if allowed.any() else 1.0
    return np.where(allowed, smooth + LEAST_METRIC * level, 0.0).astype(np.float32)
