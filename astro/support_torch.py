"""Where the data of a batch of frames show something: :mod:`deconjugate.astro.support` on a torch device."""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch

from deconjugate.astro.gaussian_torch import gaussian_filter
from deconjugate.astro.medians_torch import masked_median
from deconjugate.astro.regions_torch import connected_to, dilated, dilated_across, labels
from deconjugate.astro.support import DETECTION_MARGIN, effective_psf, rms_width, unit_noise
from deconjugate.operators.convolution import Convolution
from deconjugate.operators.starlet import Starlet


@dataclass(frozen=True, eq=False)
class Supports:
    """What is significant in each frame; see :class:`deconjugate.astro.support.Support`."""

    coefficients: torch.Tensor  # bool (N, planes, h, w)
    sources: torch.Tensor  # int64 (N, h, w), numbered from 1 in each frame
    counts: torch.Tensor  # int64 (N,), how many
    allowed: torch.Tensor  # bool (N, H, W)

    def take(self, index):
        """That of some frames."""
        return Supports(*(getattr(self, field.name)[index] for field in fields(self)))

    def put(self, index, other):
        """A copy in which some frames have another."""
        return Supports(*(getattr(self, f.name).index_copy(0, index, getattr(other, f.name)) for f in fields(self)))


class Views:
    """The PSFs of a batch, as what shows a point source: the matched filter and how wide they are.

    Parameters
    ----------
    psfs : list of (odd, odd) arrays of one shape
        p on the fine grid, one for all frames or one for each.
    shape : (int, int)
        Native height and width of the frames.
    upsample : int
    device : torch.device or str
    """

    def __init__(self, psfs, shape, upsample, device):
        self.shape = shape
        self.widths = np.array([rms_width(psf) / upsample for psf in psfs])
        effective = [effective_psf(psf, upsample) for psf in psfs]
        filters = [[Convolution(shape, e**power) for e in effective] for power in (1, 2)]
        self._fft_shape = filters[0][0].fft_shape
        self._otfs = [
            torch.from_numpy(np.stack([f.otf for f in some]).astype(np.complex64)).to(device).conj() for some in filters
        ]

    def take(self, index):
        """Those of some frames."""
        if len(self.widths) == 1:
            return self
        other = object.__new__(Views)
        other.__dict__.update(self.__dict__)
        other.widths, other._otfs = self.widths[index.tolist()], [otf[index] for otf in self._otfs]
        return other

    def matched_filter(self, data, weight):
        """As :func:`deconjugate.astro.support.matched_filter`, (N, h, w)."""
        signal, variance = (self._filtered(x, otf) for x, otf in zip((weight * data, weight), self._otfs))
        return signal / torch.maximum(variance, 1e-6 * variance.amax((1, 2), keepdim=True)).sqrt()

    def _filtered(self, x, otf):
        height, width = self.shape
        full = torch.fft.irfft2(torch.fft.rfft2(x, self._fft_shape) * otf, self._fft_shape)
        return full[:, :height, :width]


def significance(data, weight, views):
    """Signal to noise of a point source at every native pixel above the sky, (N, h, w)."""
    good = weight > 0
    sky = masked_median(data, good)[:, None, None]  # a constant left in the data is no source
    return views.matched_filter(torch.where(good, data - sky, 0.0), weight)


def find_supports(model, starlet, data, weight, views, snr=None, k_sigma=3.0):
    """As :func:`deconjugate.astro.support.find_support` for the starlet, frame by frame of a batch.

    Parameters
    ----------
    model : deconjugate.astro.forward_torch.TorchModel
    starlet : deconjugate.operators.Starlet
        On the native frame.
    data, weight : float32 tensors (N, h, w)
        Native frames.
    views : Views
    snr : tensor (N, h, w), optional
        What :func:`significance` gives, where it is known.
    k_sigma : float, > 0

    Returns
    -------
    Supports
    """
    good = weight > 0
    whitened = filled(data, good) * filled(weight, good).sqrt()
    noise = _unit_noise(starlet.domain_shape, starlet.n_scales, data.device)
    planes = starlet.apply(whitened) / noise
    coefficients = planes.abs() > k_sigma
    coefficients[:, -1] = True
    detection = k_sigma + DETECTION_MARGIN
    seed = (significance(data, weight, views) if snr is None else snr) > detection
    for j in range(starlet.n_scales):
        wide = torch.tensor([2.0**j >= 2.0 * width for width in views.widths], device=data.device)
        seed = seed | ((planes[:, j] > detection) & wide[:, None, None])
    kept = connected_to(seed[:, None].expand_as(planes[:, :-1]), planes[:, :-1] > k_sigma)
    region = dilated_across(seed, [max(1, round(width)) for width in views.widths])
    for j in range(starlet.n_scales):
        region = region | dilated(kept[:, j], 2**j // 4)
    sources, counts = labels(region)
    emptied = starlet.apply(filled(whitened, ~region))[:, -1] / noise[-1]
    everywhere = region.all(2).all(1)[:, None, None]
    coarse = torch.where(everywhere, planes[:, -1], emptied)
    allowed = region | (coarse.abs() > detection)
    return Supports(coefficients, sources, counts, _on_padded_grid(model, allowed))


def filled(values, good):
    """Values, the bad ones replaced from the good ones around them: see :mod:`deconjugate.astro.support`."""
    missing, width = ~good, 1.0
    if not missing.any():
        return values
    known = torch.where(good, values, 0.0)
    out = known
    while missing.any():
        if width > max(good.shape[1:]):
            mean = known.sum((1, 2)) / good.sum((1, 2)).clamp(min=1)
            return torch.where(missing, mean[:, None, None], out)
        share, mean = (gaussian_filter(x, width, mode="constant") for x in (good.to(values.dtype), known))
        now = missing & (share > 0.05)
        out = torch.where(now, mean / torch.where(now, share, 1.0), out)
        missing = missing & ~now
        width *= 2.0
    return out


@lru_cache(maxsize=8)
def _unit_noise(shape, n_scales, device):
    return torch.from_numpy(unit_noise(Starlet(shape, n_scales)).astype(np.float32)).to(device)


def _on_padded_grid(model, native):
    """Native masks on the padded fine grid, their edge values continued into the margin."""
    for axis, (inside, n) in enumerate(zip(model.frame, model.range_shape), start=1):
        index = (torch.arange(n, device=native.device) - inside.start).clamp(0, native.shape[axis] - 1)
        native = native.index_select(axis, index)
    return native.repeat_interleave(model.upsample, 1).repeat_interleave(model.upsample, 2)
