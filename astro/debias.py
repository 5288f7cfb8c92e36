"""Step 3: what the data's significant coefficients still ask for, until the residual there is noise."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from deconjugate.astro.apertures import close_fluxes
from deconjugate.astro.regions import Regions, groups

FLUX_TOLERANCE = 0.3  # sigmas of weighted residual flux that a source may keep, unless another is given
FLUX_WEIGHT = 10.0  # of the source terms beside the coefficients: a source is one number, its coefficients many
FALLING = 0.98  # of the energy of a plane before a step: one that stays above has come to rest
REACH = 8.0  # native pixels between sources that are corrected together
PATIENCE = 10  # steps before a flux that hardly moves is left to the last step
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
    pace=np.inf,
    reach=REACH,
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
    regions = Regions(groups(support.sources, reach) if dictionary_is_local(dictionary) else 0 * support.sources, model)
    terms = _Terms(model, dictionary, support, s, fitted, regions)
    x = start.copy()
    metric = light_metric(start, support.allowed, model.upsample, regions)
    planes, fluxes = terms.measure(data - fitted)
    energy = terms.energy(planes)
    falling = np.ones(energy.shape, bool)
    cost = terms.cost(energy, fluxes)
    direction, fresh, slope, iteration = 0.0, np.ones(regions.count, bool), np.ones(regions.count), 0
    moving = np.ones(fluxes.shape, bool)
    going = ~terms.reached(energy, fluxes, falling, moving, flux_tolerance)
    while iteration < maxiter and going.any():
        gradient = model.adjoint(terms.pull(planes, fluxes, going))
        preconditioned = metric * gradient
        if not going.all():
            preconditioned *= regions.on_fine(going)
        previous, slope = slope, regions.fine_sums(gradient * preconditioned)
        going &= slope > 0.0
        if not going.any():
            break
        keep = np.where(fresh | ~(previous > 0.0), 0.0, slope / np.where(previous > 0.0, previous, 1.0))
        direction = preconditioned + regions.on_fine(keep) * direction if keep.any() else preconditioned
        along, flux_along = terms.measure(model.apply(direction))
        steepness = terms.cost(terms.energy(along), flux_along)
        length = np.where(going, regions.fine_sums(gradient * direction) / np.maximum(steepness, 1e-30), 0.0)
        off = np.abs(fluxes)
        before, x = x, x + regions.on_fine(length) * direction
        if positivity:
            met = x < floor
            fresh = regions.fine_sums(met) > 0.0
            if fresh.any():
                x = np.maximum(x, floor)
        else:
            fresh = np.zeros(regions.count, bool)
        if regions.count == 1 and not fresh[0]:
            step = np.float32(length[0])
            planes, fluxes = planes - step * along, fluxes - length[0] * flux_along
        else:
            planes, fluxes = terms.measure(data - model.apply(x))
        earlier, energy = energy, terms.energy(planes)
        moving = (np.abs(fluxes) < pace * off) | (iteration < PATIENCE)
        worse = (terms.cost(energy, fluxes) > cost) & (regions.count > 1)
        if worse.any():
            # Two groups that share pixels may both step too far: such a one goes back and rests.
            x = np.where(regions.on_fine(worse) > 0, before, x)
            going &= ~worse
            planes, fluxes = terms.measure(data - model.apply(x))
            energy = terms.energy(planes)
        cost = terms.cost(energy, fluxes)
        falling = energy < FALLING * earlier
        going &= ~terms.reached(energy, fluxes, falling, moving, flux_tolerance)
        iteration += 1
    done = bool(terms.reached(energy, fluxes, falling, moving, flux_tolerance).all())
    if maxiter:
        least = floor if positivity else None
        x, fluxes, fitted = close_fluxes(model, data, weight, x, metric, support.sources, least)
        energy = terms.energy(terms.measure(data - fitted)[0])
    return DebiasResult(x, iteration, energy.sum(axis=0) / np.maximum(terms.counts.sum(axis=0), 1.0), fluxes, done)


def dictionary_is_local(dictionary):
    """Whether a coefficient has a place on the native grid, so that sources can be told apart."""
    return len(dictionary.range_shape) == 3


class _Terms:
    """The terms of the objective for a native residual: their gradient, and what the stopping rule looks at."""

    def __init__(self, model, dictionary, support, s, fitted, regions):
        self.model, self.dictionary, self.s, self.regions = model, dictionary, s, regions
        self.kept = support.coefficients * (1.0 / dictionary.expand(dictionary.noise_std() ** 2)).astype(np.float32)
        planes = np.arange(len(dictionary.noise_std()))
        self.plane = np.broadcast_to(dictionary.expand(planes), dictionary.range_shape)
        self.counts = self._sums(support.coefficients)
        counts = np.maximum(self.counts, 1.0)
        self.most = counts + np.sqrt(2.0 * dictionary.redundancy() * counts)
        self.pixels = np.flatnonzero(support.sources)
        self.source = support.sources.ravel()[self.pixels] - 1
        shape = (s * fitted)[model.frame].ravel()[self.pixels]
        norm = np.sqrt(np.bincount(self.source, shape**2))
        norm = np.maximum(norm, 1e-6 * max(norm.max(initial=0.0), 1.0))
        self.shape = (shape / norm[self.source]).astype(s.dtype)
        self.owner = np.zeros(len(norm), int)  # the region of each source
        if regions.count > 1:
            self.owner[self.source] = regions.native[self.pixels]

    def measure(self, native):
        """Coefficients of s times a native image, and its weighted flux in every source: linear in the image."""
        white = (self.s * native)[self.model.frame]
        return self.dictionary.apply(white), np.bincount(self.source, self.shape * white.ravel()[self.pixels])

    def energy(self, planes):
        """|| M Sigma^-1 planes ||^2 by region and plane."""
        return self._sums(self.kept * planes**2)

    def cost(self, energy, fluxes):
        """The objective of each region, twice."""
        return energy.sum(axis=1) + FLUX_WEIGHT * np.bincount(self.owner, fluxes**2, self.regions.count)

    def pull(self, planes, fluxes, going):
        """The negative gradient on the native grid, from what is left in the regions that go on."""
        kept, fluxes = self.kept, FLUX_WEIGHT * fluxes
        if not going.all():
            kept, fluxes = kept * self.regions.on_native(going), fluxes * going[self.owner]
        image = self.dictionary.adjoint(kept * planes)
        image.ravel()[self.pixels] += self.shape * fluxes.astype(image.dtype)[self.source]
        return self.s * self.model.embed(image)

    def reached(self, energy, fluxes, falling, moving, tolerance):
        """Which regions may stop."""
        fitted = np.all((energy <= self.most) | ~falling, axis=1)
        off = np.bincount(self.owner, (np.abs(fluxes) > tolerance) & moving, self.regions.count) > 0
        return fitted & ~off

    def _sums(self, values):
        """By region and plane, float64."""
        if values.ndim == 3:
            return np.stack([self.regions.native_sums(plane) for plane in values], axis=1)
        return np.bincount(self.plane.ravel(), values.ravel(), self.plane.max() + 1)[None]


def light_metric(image, allowed, upsample, regions):
    """The metric of the steps: the image smoothed, and a little more everywhere that light is allowed."""
    smooth = scipy.ndimage.gaussian_filter(np.abs(image), METRIC_WIDTH * upsample)
    level = regions.fine_sums(smooth * allowed) / np.maximum(regions.fine_sums(allowed), 1.0)
    level = np.where(level > 0.0, level, 1.0)
    return np.where(allowed, smooth + np.float32(LEAST_METRIC) * regions.on_fine(level), np.float32(0.0))
