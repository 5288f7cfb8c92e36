"""The data model on a torch device."""

import numpy as np
import torch


class TorchModel:
    """The maps of :class:`deconjugate.astro.forward.DataModel` for tensors (N, ...); nothing leaves the device.

    Its methods are those of the data model, which tells what they are; spectra are half-spectra over the last two axes.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    device : torch.device or str

    Example
    -------
    >>> from deconjugate.astro import PSF
    >>> from deconjugate.astro.forward import DataModel
    >>> model = TorchModel(DataModel((21, 33), PSF.moffat(3.0).fine(2), 2), "cpu")
    >>> model.apply(torch.ones(2, *model.domain_shape)).mean(dim=(1, 2)).round(decimals=3).tolist()
    [4.0, 4.0]
    """

    def __init__(self, model, device):
        self.device, self.upsample = torch.device(device), model.upsample
        self.domain_shape, self.range_shape = model.domain_shape, model.range_shape
        self.transfer = self._kept(model.transfer)
        (h, w), u = self.range_shape, self.upsample
        columns, mirrored = model.aliases
        self._columns, self._mirrored = self._kept(columns.ravel()), self._kept(mirrored)
        self._back = self._kept(-np.arange(h) % h)
        repeated = np.arange(self.domain_shape[1] // 2 + 1) % w
        turned = 2 * repeated > w
        self._repeated, self._turned = self._kept(np.where(turned, w - repeated, repeated)), self._kept(turned)
        self._unfolded = (u, h)

    def _kept(self, array):
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def fold(self, spectrum):
        rows = (self.transfer * spectrum).unflatten(-2, self._unfolded).sum(-3)
        shape = (*rows.shape[:-1], *self._mirrored.shape)
        plain = rows.index_select(-1, self._columns).view(shape)
        turned = rows.index_select(-2, self._back).index_select(-1, self._columns).view(shape).conj()
        return torch.where(self._mirrored, turned, plain).sum(-2)

    def unfold(self, native):
        """conj(a) times a native half-spectrum, repeated."""
        plain = native.index_select(-1, self._repeated)
        turned = native.index_select(-2, self._back).index_select(-1, self._repeated).conj()
        full = torch.where(self._turned, turned, plain)
        return (self.transfer.conj().unflatten(-2, self._unfolded) * full.unsqueeze(-3)).flatten(-3, -2)

    def apply(self, x):
        """A x for (N, H, W)."""
        return torch.fft.irfft2(self.fold(torch.fft.rfft2(x)), self.range_shape)

    def adjoint(self, y):
        """A^T y for (N, h, w)."""
        return torch.fft.irfft2(self.upsample**2 * self.unfold(torch.fft.rfft2(y)), self.domain_shape)
