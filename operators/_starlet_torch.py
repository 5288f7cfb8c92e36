"""The starlet on torch tensors of any device: the recursions of starlet.py, in plain operations that autograd knows."""

from functools import lru_cache

import torch

TAPS = (1 / 16, 4 / 16, 6 / 16)


def analyse(x, n_scales):
    """The planes (batch, n_scales + 1, h, w) of images (batch, h, w)."""
    planes = []
    for j in range(n_scales):
        smoother = smooth(x, 2**j)
        planes.append(x - smoother)
        x = smoother
    return torch.stack([*planes, x], dim=1)


def transpose(planes):
    """The adjoint of :func:`analyse`, by v_(j-1) = w_j + H_j (v_j - w_j)."""
    *details, v = planes.unbind(1)
    for j in reversed(range(len(details))):
        v = details[j] + smooth(v - details[j], 2**j)
    return v


def smooth(x, step):
    """Rows and columns smoothed with (1, 4, 6, 4, 1) / 16, taps ``step`` apart, ends mirrored about half a sample."""
    for axis in (-2, -1):
        n = x.shape[axis]
        padded = x.index_select(axis, _mirrored(n, step, x.device))
        tap = lambda k, p=padded, axis=axis, n=n: p.narrow(axis, k * step, n)  # noqa: E731
        x = tap(2) * TAPS[2]
        x = torch.add(x, tap(1) + tap(3), alpha=TAPS[1])
        x = torch.add(x, tap(0) + tap(4), alpha=TAPS[0])
    return x


@lru_cache(maxsize=64)
def _mirrored(n, step, device):
    """Which samples a signal of length n shows with 2 step more at either end."""
    with torch.inference_mode(False):  # it is kept, and may serve where gradients are asked for
        index = torch.arange(-2 * step, n + 2 * step, device=device) % (2 * n)
        return torch.minimum(index, 2 * n - 1 - index)
