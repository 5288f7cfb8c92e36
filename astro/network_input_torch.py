"""What the network is told of a batch of frames: :mod:`deconjugate.astro.network_input` on a torch device."""

from typing import NamedTuple

import torch

from deconjugate.astro.gaussian_torch import gaussian_filter
from deconjugate.astro.medians_torch import clipped_median, masked_median
from deconjugate.astro.network_input import LADDER, PLANES, UNEVEN
from deconjugate.astro.sparse_torch import squared_symbols
from deconjugate.astro.tikhonov import BlockSolver, preconditioner_symbol
from deconjugate.astro.tikhonov_torch import squared_laplacian, tikhonov


class Guesses(NamedTuple):
    """What goes into the network for a batch, and how what comes out is read."""

    channels: torch.Tensor  # (N, CHANNELS, H, W) float32
    conditions: torch.Tensor  # (N, CONDITIONS) float32
    base: torch.Tensor  # (N, H, W), the balanced Tikhonov images
    scale: torch.Tensor  # (N, H, W), counts that an output of 1 stands for

    def images(self, output):
        """The images for the network's output (N, H, W)."""
        return self.base + self.scale * output


def prepare(model, data, weight, balanced, regularization):
    """As :func:`deconjugate.astro.network_input.prepare`, frame by frame of a batch.

    Parameters
    ----------
    model : deconjugate.astro.forward_torch.TorchModel
    data, weight : float32 tensors (N, h, w) on the padded native grid
    balanced : float32 tensor (N, H, W)
        The Tikhonov images at lambda.
    regularization : float64 tensor (N,)
        lambda.

    Returns
    -------
    Guesses
    """
    u, good = model.upsample, weight > 0
    level = masked_median(weight, good)
    sky = clipped_median(data, good).float()[:, None, None]
    above = torch.where(good, data - sky, 0.0)
    images = [
        balanced - sky / u**2 if step == 1.0 else tikhonov(model, above, weight, step * regularization, rtol=1e-2)
        for step in LADDER
    ]
    conditions, noise = describe(model, level, regularization)
    level = level[:, None, None]
    uneven = (level / torch.maximum(weight, level / UNEVEN**2)).sqrt()
    noise = noise[:, None, None].float() * uneven.repeat_interleave(u, 1).repeat_interleave(u, 2)
    scale = torch.hypot(noise, gaussian_filter(images[-1], 1.0))
    channels = torch.stack([*(image / scale for image in images), torch.log(noise / scale)], dim=1)
    return Guesses(channels, conditions, balanced, scale)


def describe(model, level, regularization):
    """As :func:`deconjugate.astro.network_input.describe`, for (N,) levels and lambdas: (N, CONDITIONS) and (N,)."""
    u, pixels = model.upsample, model.domain_shape[0] * model.domain_shape[1]
    symbols = squared_symbols(model.domain_shape, PLANES, model.device)  # (planes, frequencies)
    share = (model.columns / pixels).double().expand(model.domain_shape[0], -1).flatten()  # of all frequencies
    transfer = model.transfer.abs().flatten(1) * share
    penalty, level = squared_laplacian(model), level[:, None, None]
    flat = model.transfer.conj() * u**2
    rows, total = [], None
    for step in LADDER:
        lam = (step * regularization).float()[:, None, None]
        solver = BlockSolver(model, preconditioner_symbol(model, lam * penalty, level), level)
        inverse = level * solver.solve(flat.expand(len(level), -1, -1).clone()).abs()
        inverse = inverse.flatten(1).double()
        squares = inverse.square() * share
        power = squares @ symbols.T / u**2
        response = (transfer * inverse) @ symbols.T / (symbols * share).sum(1)
        rows += [0.5 * torch.log(power + 1e-10), torch.log(response + 1e-5)]
        if step == 1.0:
            total = (squares.sum(1) / level[:, 0, 0]).sqrt() / u
    return (torch.cat(rows, dim=1) / 3.0 + 1.0).float(), total
