"""The flux of every source of a batch of frames: :mod:`deconjugate.astro.apertures` on a torch device."""

import torch

from deconjugate.astro.apertures import PASSES, PRECISION, SHARE
from deconjugate.astro.conjugate_torch import conjugate_gradient
from deconjugate.astro.sums_torch import SourceSums

PIECE = 2**26  # distances that are compared at a time


class FrameApertures:
    """As :class:`deconjugate.astro.apertures.Apertures`, for the sources of all frames in one row.

    Parameters
    ----------
    light : tensor (N, h, w)
        A x on the frames.
    sources, counts : int64 tensors (N, h, w) and (N,)
    weight : tensor (N, h, w)
    """

    def __init__(self, light, sources, counts, weight):
        self.sums = SourceSums(nearest_source(sources), counts)
        light, weight = light.clamp(min=0.0).double(), weight.double()
        self.shape = self._circles(light)
        self._weigh(light, weight)

    def measure(self, native):
        """The flux of native images in every aperture, in sigmas, (sources,) float64."""
        return self.sums.of(self.shape * native)

    def spread(self, fluxes):
        """The adjoint of :meth:`measure`."""
        return self.shape * self.sums.at(fluxes)

    def _circles(self, light):
        """1 inside of the circles, 0 outside."""
        sums, (_, height, width) = self.sums, light.shape
        total = sums.of(light).clamp(min=1e-30)
        rows = torch.arange(height, device=light.device, dtype=torch.float64)[:, None]
        columns = torch.arange(width, device=light.device, dtype=torch.float64)
        radius = sum((x - sums.at(sums.of(light * x) / total)) ** 2 for x in (rows, columns)).flatten()
        order = radius.argsort()
        order = order[sums.place.flatten()[order].argsort(stable=True)]
        ordered, source = light.flatten()[order], sums.place.flatten()[order]
        total = torch.cat([total, total.new_zeros(1)])
        before = ordered.cumsum(0) - ordered - (total.cumsum(0) - total)[source]
        inside = (before < SHARE * total[source]) & (source < sums.count)
        return torch.empty_like(ordered).index_copy_(0, order, inside.double()).view_as(light)

    def _weigh(self, light, weight):
        sums, good = self.sums, weight > 0
        variance = sums.of(light) / sums.of(light * weight).clamp(min=1e-30)
        self.shape = self.shape * (sums.at(variance) * weight).clamp(max=1.0)
        power = sums.of(torch.where(good, self.shape**2 / torch.where(good, weight, 1.0), 0.0))
        self.shape = self.shape * sums.at(torch.where(power > 0, power.clamp(min=1e-300).rsqrt(), 0.0))


def nearest_source(sources):
    """The number of the source that is nearest to each pixel, (N, h, w); 0 in frames without one.

    First along columns, then the least over the row of what that leaves: exact, in pieces of bounded memory.
    """
    n, height, width = sources.shape
    rows = torch.arange(height, device=sources.device)[:, None]
    far = 4 * (height + width)
    held = sources > 0
    above = torch.where(held, rows, -far).cummax(1).values
    below = torch.where(held, rows, far).flip(1).cummin(1).values.flip(1)
    row = torch.where(rows - above <= below - rows, above, below)
    apart = (row - rows).square().to(torch.int32)  # to the nearest in the column
    columns = torch.arange(width, device=sources.device)
    across = (columns[:, None] - columns).square().to(torch.int32)
    step = max(1, PIECE // (n * width * width))
    best = torch.cat(
        [(across + piece[:, :, None, :]).argmin(-1) for piece in apart.split(step, dim=1)], dim=1
    )  # (N, h, w), the column in which it is
    there = row.gather(2, best).clamp(0, height - 1)
    return sources.flatten(1).gather(1, (there * width + best).flatten(1)).view_as(sources)


def close_fluxes(model, data, weight, image, metric, supports, floor=None):
    """As :func:`deconjugate.astro.apertures.close_fluxes`, frame by frame of a batch.

    Parameters
    ----------
    model : deconjugate.astro.forward_torch.TorchModel
    data, weight : float32 tensors (N, h, w) on the padded native grid
    image, metric : float32 tensors (N, H, W)
    supports : deconjugate.astro.support_torch.Supports
    floor : float or tensor (N, H, W), optional

    Returns
    -------
    image : float32 tensor (N, H, W)
    fluxes : float64 tensor (sources,)
    fitted : float32 tensor (N, h, w) on the padded native grid
    """
    fitted = model.apply(image)
    apertures = FrameApertures(model.native(fitted), supports.sources, supports.counts, model.native(weight))
    sums = apertures.sums
    if not sums.count:
        return image, fitted.new_zeros(0, dtype=torch.float64), fitted

    def change(c):
        return metric * model.adjoint(model.embed(apertures.spread(c).float()))

    def normal(c):
        return apertures.measure(model.native(model.apply(change(c))))

    diagonal = apertures.measure(apertures.shape * model.native(model.apply(metric)))
    inverse = torch.where(diagonal > 0, 1.0 / diagonal.clamp(min=1e-300), 0.0)
    signal = apertures.measure(model.native(fitted)).clamp(min=1e-30)
    left = apertures.measure(model.native(data - fitted)) / (1.0 + (PRECISION * signal) ** 2)
    for _ in range(PASSES):
        c = conjugate_gradient(
            normal,
            lambda r: inverse * r,
            apertures.measure(model.native(data - fitted)) - left,
            lambda a, b: sums.per_frame(a * b),
            lambda values: values[sums.owner],
            rtol=1e-2,
            maxiter=10,
        )
        image = image + change(c)
        image = image if floor is None else _at_least(image, floor)
        fitted = model.apply(image)
    return image, apertures.measure(model.native(data - fitted)), fitted


def _at_least(image, floor):
    return torch.maximum(image, floor) if torch.is_tensor(floor) else image.clamp(min=floor)
