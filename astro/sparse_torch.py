"""The classical step for a batch of frames: :mod:`deconjugate.astro.sparse` for the starlet on a torch device."""

from functools import lru_cache

import numpy as np
import torch

from deconjugate.astro.sparse import COUPLING, FINE, RELAX, starlet_symbols
from deconjugate.astro.tikhonov import BlockSolver
from deconjugate.operators.starlet import Starlet


def sparse_deconvolution(model, data, weight, start, *, region, k_sigma=3.0, n_scales=5, positivity=True, maxiter=None):
    """As :func:`deconjugate.astro.sparse.sparse_deconvolution`, frame by frame of a batch.

    Parameters
    ----------
    model : deconjugate.astro.forward_torch.TorchModel
    data, weight : float32 tensors (N, h, w) on the padded native grid
    start : float32 tensor (N, H, W)
    region : bool tensor (N, H, W)
    k_sigma, n_scales, positivity, maxiter
        As there.

    Returns
    -------
    float32 tensor (N, H, W)
    """
    maxiter = max(20, 10 * model.upsample) if maxiter is None else maxiter
    coupling = COUPLING / model.upsample
    x = start.clamp(min=0.0) if positivity else start
    split = _Split(model, Starlet(model.domain_shape, n_scales), weight, x, k_sigma, coupling, region)
    penalty = (coupling * split.largest / _typical(x, region))[:, None, None].float()
    solver = BlockSolver(model, split.symbol + penalty)

    spectrum = model.to_spectrum(x)
    native = model.to_native(spectrum)
    state, fitted = x, native  # z + u of the splitting: the projection of each is z, the rest u
    keep = 1.0 - RELAX
    for _ in range(maxiter):
        z = state.clamp(min=0.0) if positivity else state
        state = RELAX * x + keep * z + state - z
        z = state.clamp(min=0.0) if positivity else state
        gradient = split.update(x) + penalty * (x - 2 * z + state)
        known = (weight * data + fitted) / (weight + 1)
        fitted = RELAX * native + keep * known + fitted - known
        known = (weight * data + fitted) / (weight + 1)
        step = model.to_spectrum(gradient) + model.from_native(native - 2 * known + fitted)
        spectrum = spectrum - solver.solve(step)
        x = model.to_image(spectrum)
        native = model.to_native(spectrum)
    return state.clamp(min=0.0) if positivity else state


class _Split:
    """Coefficients of the starlet: see :class:`deconjugate.astro.sparse._StarletSplit`."""

    def __init__(self, model, starlet, weight, start, k_sigma, coupling, region):
        squares = squared_symbols(model.domain_shape, starlet.n_scales, model.device)
        power = model.upsample**2 * model.transfer.abs().square() * model.columns / int(np.prod(model.domain_shape))
        noise = (power.flatten(1).double() @ squares.T).sqrt()  # of the gradient, (1 or N, scales)
        largest = noise.amax(1, keepdim=True)
        finer = torch.arange(noise.shape[1], device=noise.device) < noise.argmax(1)[:, None]
        thresholds = k_sigma * torch.where(finer, torch.maximum(noise, FINE * largest), noise)
        self.starlet = starlet
        self.largest = thresholds.amax(1)
        planes = starlet.apply(start)[:, :-1]
        sizes = torch.stack([_typical(w, region) for w in planes.unbind(1)], dim=1)
        penalties = coupling * thresholds / sizes  # (N, scales)
        self.symbol = (penalties @ squares).float().unflatten(1, model.transfer.shape[1:])
        spread = model.adjoint(weight).clamp(min=0.1).sqrt()  # beyond the frame there is no weight, but still a price
        self.penalties = penalties.float()[:, :, None, None]
        self.levels = (thresholds / penalties).float()[:, :, None, None]
        self.spread = spread[:, None]
        self.state = planes

    def update(self, image):
        """Move the coefficients towards those of ``image``; the gradient of the coupling."""
        planes, limit = self.starlet.apply(image), self.levels * self.spread
        wavelets = planes[:, :-1]
        multiplier = torch.clamp(self.state, -limit, limit)
        self.state = RELAX * wavelets + (1.0 - RELAX) * (self.state - multiplier) + multiplier
        multiplier = torch.clamp(self.state, -limit, limit)
        coupled = self.penalties * (wavelets - self.state + 2 * multiplier)
        return self.starlet.adjoint(torch.cat([coupled, torch.zeros_like(planes[:, -1:])], dim=1))


def _typical(values, region):
    """Size of what carries each image: sum of squares over sum of magnitudes, (N,) float64."""
    held = torch.where(region, values, 0.0)
    total = held.abs().sum((1, 2), dtype=torch.float64)
    square = held.square().sum((1, 2), dtype=torch.float64)
    return torch.where(total > 0.0, square / torch.where(total > 0.0, total, 1.0), 1.0)


@lru_cache(maxsize=8)
def squared_symbols(shape, n_scales, device):
    """Squares of :func:`deconjugate.astro.sparse.starlet_symbols` on a half-spectrum, (n_scales, frequencies)."""
    frequencies = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    full = [np.broadcast_to(s**2, (shape[0], shape[1] // 2 + 1)) for s in starlet_symbols(frequencies, n_scales)]
    return torch.from_numpy(np.stack(full).reshape(n_scales, -1)).to(device)
