"""Step 1 for a batch of frames: weighted Tikhonov with a lambda for each, in Fourier space throughout."""

from functools import lru_cache

import numpy as np
import scipy.signal
import torch

from deconjugate.astro.conjugate_torch import conjugate_gradient
from deconjugate.astro.medians_torch import masked_median
from deconjugate.astro.tikhonov import FILL, LEAST, LOG_LARGEST, BlockSolver, laplacian, preconditioner_symbol

HALVINGS = 24  # of an interval of at most 37 in log lambda


def mean_weight(weight):
    """The mean of each frame's positive weights, (N,)."""
    return weight.sum((1, 2)) / (weight > 0).sum((1, 2))


def tikhonov(model, data, weight, regularization, *, rtol=1e-3, maxiter=60):
    """As :func:`deconjugate.astro.tikhonov.tikhonov`, for (N, h, w) frames and (N,) lambdas.

    The vectors of conjugate gradients are half-spectra, with the inner product of their images: their steps are those
    of the images, while only native grids are transformed.

    Parameters
    ----------
    model : deconjugate.astro.forward_torch.TorchModel
    data, weight : float32 tensors (N, h, w) on the padded native grid
    regularization : tensor (N,)

    Returns
    -------
    tensor (N, H, W)
    """
    penalty = regularization.float()[:, None, None] * squared_laplacian(model)
    mean = mean_weight(weight)[:, None, None]
    solver = BlockSolver(model, preconditioner_symbol(model, penalty, mean), mean)

    def normal(spectrum):
        return penalty * spectrum + model.from_native(weight * model.to_native(spectrum))

    spectrum = conjugate_gradient(
        normal,
        lambda spectrum: solver.solve(spectrum.clone()),
        model.from_native(weight * data),
        model.dot,
        lambda values: values[:, None, None],
        rtol=rtol,
        maxiter=maxiter,
    )
    return model.to_image(spectrum)


def choose_regularization(model, data, weight):
    """As :func:`deconjugate.astro.tikhonov.choose_regularization`, for a batch: (N,) float64.

    The derivative of the cost is brought to zero by bisection, all frames at once.
    """
    level = mean_weight(weight).double()
    window = torch.zeros(model.range_shape, dtype=torch.float64, device=data.device)
    window[model.frame] = _taper(model.native_shape, data.device)
    good = weight > 0
    middle = masked_median(data, good)[:, None, None]
    cut = (~model.native(good)).any((1, 2)).nonzero()[:, 0]
    if len(cut):
        some, given = model.take(cut), (data[cut], weight[cut])
        fitted = some.apply(tikhonov(some, *given, FILL * level[cut], rtol=1e-3))
        data = data.index_copy(0, cut, torch.where(good[cut], data[cut], fitted))
    centred = torch.where(window > 0, (data - middle).double(), 0.0)
    power = torch.fft.rfft2(centred * window).abs().square() * (level[:, None, None] / window.square().sum())
    penalty = squared_laplacian(model).clone()
    penalty[0, 0] = 1.0
    prior = model.fold(model.transfer.conj() / penalty).real.double() * model.upsample**2
    prior[:, 0, 0] = 0.0

    def slope(log_lambda):
        share = prior * torch.exp(-log_lambda)[:, None, None]
        share = share / (1.0 + share)
        return (share * (power * (1.0 - share) - 1.0)).sum((1, 2))

    peak = (data * data * weight).amax((1, 2)).double().clamp(min=1.0)
    low = torch.log((LEAST * model.upsample**4 / peak).clamp(1e-8, 1e7))
    high = torch.full_like(low, LOG_LARGEST)
    for _ in range(HALVINGS):
        half = 0.5 * (low + high)
        falls = slope(half) < 0
        low, high = torch.where(falls, half, low), torch.where(falls, high, half)
    return torch.exp(0.5 * (low + high)) * level


def squared_laplacian(model):
    """The symbol of L^T L on the half-spectrum, float32."""
    return _on_device(model.domain_shape, model.device)


@lru_cache(maxsize=8)
def _on_device(shape, device):
    frequencies = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    return torch.from_numpy((laplacian(frequencies) ** 2).astype(np.float32)).to(device)


@lru_cache(maxsize=8)
def _taper(shape, device):
    return torch.from_numpy(np.outer(*(scipy.signal.windows.tukey(n, 0.1, sym=True) for n in shape))).to(device)
