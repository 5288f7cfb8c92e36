"""The data models of a batch of frames on a torch device."""

import numpy as np
import torch


class TorchModel:
    """The maps of :class:`deconjugate.astro.forward.DataModel` for tensors (N, ...), with one PSF or one for each.

    Its methods are those of the data model, which tells what they are; spectra are half-spectra over the last two axes.
    Nothing leaves the device.

    Parameters
    ----------
    models : list of deconjugate.astro.forward.DataModel
        One for all frames of a batch, or one for each: of one shape, with kernels of one shape.
    device : torch.device or str

    Raises
    ------
    ValueError
        Models that differ in more than their PSF.

    Example
    -------
    >>> from deconjugate.astro import PSF
    >>> from deconjugate.astro.forward import DataModel
    >>> model = TorchModel([DataModel((21, 33), PSF.moffat(3.0).fine(2), 2)], "cpu")
    >>> model.apply(torch.ones(2, *model.domain_shape)).mean(dim=(1, 2)).round(decimals=3).tolist()
    [4.0, 4.0]
    """

    def __init__(self, models, device):
        first = models[0]
        for model in models[1:]:
            if (model.native_shape, model.upsample, model.domain_shape) != (
                first.native_shape,
                first.upsample,
                first.domain_shape,
            ):
                raise ValueError(
                    f"the models of a batch differ: frames of {first.native_shape} on {first.domain_shape} fine pixels "
                    f"and {model.native_shape} on {model.domain_shape}; give frames and PSFs of one size"
                )
        self.models, self.device = models, torch.device(device)
        self.native_shape, self.upsample = first.native_shape, first.upsample
        self.domain_shape, self.range_shape = first.domain_shape, first.range_shape
        self.frame, self.inside, self.frequencies = first.frame, first.inside, first.frequencies
        self.transfer = torch.from_numpy(np.stack([model.transfer for model in models])).to(self.device)
        self._adjoint = self.transfer.conj().resolve_conj()
        (h, w), u = self.range_shape, self.upsample
        columns, mirrored = first.aliases
        self._columns, self._mirrored = self._kept(columns.ravel()), self._kept(mirrored)
        self._back = self._kept(-np.arange(h) % h)
        repeated = np.arange(self.domain_shape[1] // 2 + 1) % w
        turned = 2 * repeated > w
        self._repeated, self._turned = self._kept(np.where(turned, w - repeated, repeated)), self._kept(turned)
        # Columns of a half-spectrum that stand for their mirror images too: for sums over all frequencies.
        self.columns = torch.full((self.domain_shape[1] // 2 + 1,), 2.0, dtype=torch.float32, device=self.device)
        self.columns[0] = 1.0
        if self.domain_shape[1] % 2 == 0:
            self.columns[-1] = 1.0
        self._unfolded = (u, h)

    def _kept(self, array):
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def take(self, index):
        """The model of some frames of the batch."""
        if len(self.models) == 1:
            return self
        other = object.__new__(TorchModel)
        other.__dict__.update(self.__dict__)
        other.models = [self.models[i] for i in index.tolist()]
        other.transfer, other._adjoint = self.transfer[index], self._adjoint[index]
        return other

    def embed(self, native):
        """Native frames (N, h, w) on the padded native grid, zero around them."""
        padded = native.new_zeros(len(native), *self.range_shape)
        padded[(slice(None), *self.frame)] = native
        return padded

    def crop(self, fine):
        """The frames out of images (..., H, W)."""
        return fine[(..., *self.inside)]

    def native(self, padded):
        """The frames out of padded native ones."""
        return padded[(..., *self.frame)]

    def symbol(self, values):
        """Values that broadcast to half-spectra, in single precision."""
        return values.float()

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
        return (self._adjoint.unflatten(-2, self._unfolded) * full.unsqueeze(-3)).flatten(-3, -2)

    def subtract(self, native, inverse, spectrum):
        return spectrum - inverse * self.unfold(native)

    def to_spectrum(self, image):
        """The half-spectrum of images."""
        return torch.fft.rfft2(image)

    def to_native(self, spectrum):
        return torch.fft.irfft2(self.fold(spectrum), self.range_shape)

    def from_native(self, y):
        return self.upsample**2 * self.unfold(torch.fft.rfft2(y))

    def to_image(self, spectrum):
        return torch.fft.irfft2(spectrum, self.domain_shape)

    def apply(self, x):
        """A x for (N, H, W)."""
        return self.to_native(torch.fft.rfft2(x))

    def adjoint(self, y):
        """A^T y for (N, h, w)."""
        return self.to_image(self.from_native(y))

    def dot(self, left, right):
        """Inner products of the images of two batches of half-spectra, (N,) float64."""
        products = (left.real * right.real + left.imag * right.imag) * self.columns
        return products.sum(dim=(-2, -1), dtype=torch.float64) / (self.domain_shape[0] * self.domain_shape[1])
