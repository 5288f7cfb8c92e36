"""Step 3 for a batch of frames: :mod:`deconjugate.astro.debias` on a torch device, each frame stopping by itself."""

from typing import NamedTuple

import torch

from deconjugate.astro.apertures_torch import close_fluxes
from deconjugate.astro.debias import FALLING, FLUX_TOLERANCE, FLUX_WEIGHT, LEAST_METRIC, METRIC_WIDTH
from deconjugate.astro.gaussian_torch import gaussian_filter
from deconjugate.astro.sums_torch import SourceSums

CHECK = 4  # iterations between looks at which frames go on, where looking means waiting for the device


class DebiasedFrames(NamedTuple):
    """The corrected images and why the correction of each ended."""

    image: torch.Tensor  # (N, H, W)
    iterations: torch.Tensor  # (N,)
    converged: torch.Tensor  # bool (N,)
    source_residuals: torch.Tensor  # (sources,) of all frames in a row


def debias(
    model,
    starlet,
    data,
    weight,
    start,
    supports,
    *,
    positivity=True,
    floor=None,
    maxiter=30,
    flux_tolerance=FLUX_TOLERANCE,
):
    """As :func:`deconjugate.astro.debias.debias`, for the starlet and a batch.

    Frames that have ended are left alone; from time to time those that go on are gathered, so that nothing is computed
    for the others.

    Parameters
    ----------
    model : deconjugate.astro.forward_torch.TorchModel
    starlet : deconjugate.operators.Starlet
        On the native frame.
    data, weight : float32 tensors (N, h, w) on the padded native grid
    start : float32 tensor (N, H, W)
    supports : deconjugate.astro.support_torch.Supports
    floor : tensor (N, H, W), optional
        Default zero.

    Returns
    -------
    DebiasedFrames
    """
    floor = torch.zeros_like(start) if floor is None else floor
    metric = light_metric(model, start, supports.allowed)
    image, steps = start.clone(), torch.zeros(len(start), dtype=torch.int64, device=start.device)
    converged = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    if maxiter:
        part = (data, weight, start, metric, floor)
        _correct(model, starlet, part, supports, image, steps, converged, positivity, maxiter, flux_tolerance)
        least = floor if positivity else None
        image, fluxes, _ = close_fluxes(model, data, weight, image, metric, supports, least)
        return DebiasedFrames(image, steps, converged, fluxes)
    return DebiasedFrames(image, steps, converged, start.new_zeros(0))


def _correct(model, starlet, part, supports, image, steps, converged, positivity, maxiter, tolerance):
    """The conjugate gradients: ``image``, ``steps`` and ``converged`` are filled in, frame by frame."""
    check = 1 if image.device.type == "cpu" else CHECK
    here = torch.arange(len(image), device=image.device)  # the frames that go on
    data, weight, x, metric, floor = part
    terms = _Terms(model, starlet, supports, weight, model.apply(x))
    planes, fluxes = terms.measure(data - model.apply(x))
    energy = terms.energy(planes)
    falling = torch.ones_like(energy, dtype=torch.bool)
    fresh = torch.ones(len(x), dtype=torch.bool, device=x.device)
    slope, direction = torch.ones_like(energy[:, 0]), torch.zeros_like(x)
    going = torch.ones_like(fresh)
    for iteration in range(maxiter + 1):
        reached = terms.reached(energy, fluxes, falling, tolerance)
        going &= ~reached
        if iteration % check == 0 or iteration == maxiter:
            left = going.nonzero()[:, 0]
            if len(left) < len(here) or iteration == maxiter:
                image[here], converged[here] = x, reached
                if not len(left) or iteration == maxiter:
                    return
                here, model = here[left], model.take(left)
                terms, fluxes = terms.take(left, fluxes)
                given = (data, metric, floor, x, direction)
                data, metric, floor, x, direction = (v[left] for v in given)
                planes, energy, falling, fresh, slope = (v[left] for v in (planes, energy, falling, fresh, slope))
                going = going[left]
        gradient = model.adjoint(terms.pull(planes, fluxes))
        preconditioned = metric * gradient
        before, slope = slope, _dot(gradient, preconditioned)
        going &= slope > 0.0
        keep = torch.where(fresh, 0.0, slope / before)[:, None, None].float()
        direction = preconditioned + keep * direction
        along, flux_along = terms.measure(model.apply(direction))
        steepness = terms.energy(along).sum(1) + FLUX_WEIGHT * terms.sums.per_frame(flux_along.square())
        length = torch.where(going, _dot(gradient, direction) / steepness.clamp(min=1e-30), 0.0)
        x = x + length[:, None, None].float() * direction
        steps[here] += going
        if positivity:
            # What was met is met by nearly every step: the residual is taken anew for all.
            fresh = going & (x < floor).flatten(1).any(1)
            x = torch.maximum(x, floor)
            planes, fluxes = terms.measure(data - model.apply(x))
        else:
            fresh = torch.zeros_like(fresh)
            planes = planes - length[:, None, None, None].float() * along
            fluxes = fluxes - length[terms.sums.owner] * flux_along
        previous, energy = energy, terms.energy(planes)
        falling = torch.where(going[:, None], energy < FALLING * previous, falling)


class _Terms:
    """The terms of the objective for native residuals: see :class:`deconjugate.astro.debias._Terms`."""

    def __init__(self, model, starlet, supports, weight, fitted):
        self.model, self.starlet, self.supports = model, starlet, supports
        variance = torch.from_numpy(starlet.noise_std() ** 2).to(fitted)
        self.kept = supports.coefficients / variance[:, None, None]
        counts = supports.coefficients.sum((2, 3)).clamp(min=1).double()
        self.most = counts + (2.0 * torch.from_numpy(starlet.redundancy()).to(counts) * counts).sqrt()
        self.s = model.native(weight.sqrt())
        self.sums = SourceSums(supports.sources, supports.counts)
        light = self.s * model.native(fitted)
        norm = self.sums.of(light.square()).sqrt()
        least = 1e-6 * self.sums.largest(norm).clamp(min=1.0)
        norm = torch.maximum(norm, least[self.sums.owner])
        inside = supports.sources > 0
        self.shape = torch.where(inside, light / torch.where(inside, self.sums.at(norm), 1.0).float(), 0.0)

    def take(self, index, fluxes):
        """Those of some frames, and of their sources' fluxes."""
        other = object.__new__(_Terms)
        other.model, other.starlet, other.supports = self.model.take(index), self.starlet, self.supports.take(index)
        for name in ("kept", "most", "s", "shape"):
            setattr(other, name, getattr(self, name)[index])
        other.sums = SourceSums(other.supports.sources, other.supports.counts)
        chosen = torch.zeros(self.sums.frames, dtype=torch.bool, device=index.device)
        chosen[index] = True
        return other, fluxes[chosen[self.sums.owner]]

    def measure(self, native):
        """Coefficients of s times native images, and their weighted flux in every source."""
        white = self.s * self.model.native(native)
        return self.starlet.apply(white), self.sums.of(self.shape * white)

    def energy(self, planes):
        """|| M Sigma^-1 planes ||^2 by frame and plane, float64."""
        return (self.kept * planes.square()).sum((2, 3), dtype=torch.float64)

    def pull(self, planes, fluxes):
        """The negative gradients on the padded native grid."""
        images = self.starlet.adjoint(self.kept * planes)
        images = images + self.shape * self.sums.at(FLUX_WEIGHT * fluxes).float()
        return self.model.embed(self.s * images)

    def reached(self, energy, fluxes, falling, tolerance):
        """Which frames may stop."""
        fitted = ((energy <= self.most) | ~falling).all(1)
        return fitted & (self.sums.largest(fluxes.abs()) <= tolerance)


def light_metric(model, image, allowed):
    """As :func:`deconjugate.astro.debias.light_metric`, (N, H, W)."""
    smooth = gaussian_filter(image.abs(), METRIC_WIDTH * model.upsample)
    held = allowed.flatten(1).sum(1)
    level = (smooth * allowed).sum((1, 2), dtype=torch.float64) / held.clamp(min=1)
    level = torch.where(held > 0, level, 1.0)[:, None, None].float()
    return torch.where(allowed, smooth + LEAST_METRIC * level, 0.0)


def _dot(a, b):
    return (a * b).sum((1, 2), dtype=torch.float64)
