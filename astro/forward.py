"""The data model of a deconvolution: y = D (k * x) + n, with x at the target resolution."""

import numpy as np
import scipy.fft

from deconjugate.astro import _forward_numba as kernels
from deconjugate.operators._arrays import is_tensor
from deconjugate.operators.base import LinearOperator
from deconjugate.operators.convolution import fft_workers, psf_to_otf

MIN_FWHM = 2.5  # fine pixels: a PSF sharper than this leaves nothing between it and the target resolution
EPS = 1e-2  # of the target's transfer function, below which k is not asked to undo it
RINGING = 12  # fine pixels by which k may reach beyond p


class DataModel(LinearOperator):
    """A = D K on a padded grid: the image at target resolution to native counts, nothing wrapping into the frame.

    .. math:: A x = D (k * x), \\qquad \\hat k = \\hat p \\hat r / (\\hat r^2 + \\epsilon^2)

    D sums upsample^2 fine pixels into a native one. The frame is surrounded by a margin of unknown pixels as wide as k
    reaches, so that light from beyond the edges is accounted for and the periodic FFT wraps only into the margin: data
    there have weight zero. Both grids are those of the padded frame: see :meth:`embed` and :meth:`crop`.

    D couples the upsample^2 fine frequencies nu + i / u that alias onto a native one, so that with the transfer
    a(nu) = k^(nu) b(nu) / u^2, b that of the box, (A x)^ = fold(a x^) and (A^T y)^ = u^2 conj(a) y^ repeated. A^T A is
    then of rank one in each group of frequencies: see :class:`deconjugate.astro.tikhonov.BlockSolver`.

    Parameters
    ----------
    shape : (int, int)
        Native height and width of the frame.
    psf : (odd, odd) array
        p on the fine grid, sum 1, native pixel response taken out: as :meth:`deconjugate.astro.PSF.fine` gives it.
    upsample : int, >= 1
        Fine pixels per native pixel, along each axis.
    margin : "auto" or int, >= 0
        Native pixels around the frame; "auto" holds the reach of k; 0 closes the frame on itself.
    workers : int, optional
        Threads of scipy.fft; default all, one where the padded fine grid has fewer than 2^18 pixels.

    Attributes
    ----------
    target, kernel : arrays
        r and k on the fine grid.
    mismatch : float
        ||k * r - p||_1.
    transfer : complex64 array
        a, on the half-spectrum of the padded fine grid.

    Torch tensors are taken where they lie: see :class:`deconjugate.astro.forward_torch.TorchModel`.

    Raises
    ------
    ValueError
        FWHM of p below 2.5 fine pixels: the native grid of the image is too coarse for it, increase ``upsample``.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF
    >>> model = DataModel((21, 33), PSF.moffat(3.0).fine(2), 2)
    >>> sky = np.ones(model.domain_shape)
    >>> bool(np.allclose(model.apply(sky), 4.0))
    True
    """

    takes_tensors = True

    def __init__(self, shape, psf, upsample, *, margin="auto", workers=None):
        from deconjugate.astro.shape import fwhm_pix
        from deconjugate.astro.simulate import target_psf

        width = float(fwhm_pix(psf))
        if width < MIN_FWHM:
            raise ValueError(
                f"the PSF has a FWHM of {width:.2f} fine pixels; the target resolution needs {MIN_FWHM}: "
                f"increase upsample (now {upsample})"
            )
        self.native_shape, self.upsample = tuple(shape), int(upsample)
        self.target = target_psf()
        self.kernel, self.mismatch = kernel_to_target(psf, self.target)
        reach = [-(-(k // 2) // self.upsample) for k in self.kernel.shape] if margin == "auto" else [int(margin)] * 2
        padded = [
            scipy.fft.next_fast_len(n + 2 * m, real=True) if margin == "auto" else n + 2 * m
            for n, m in zip(shape, reach)
        ]
        fine = tuple(n * self.upsample for n in padded)
        self.workers = fft_workers(fine) if workers is None else workers
        super().__init__(fine, padded, np.float32)
        self.frame = tuple(slice(m, m + n) for m, n in zip(reach, shape))
        self.inside = tuple(slice(s.start * self.upsample, s.stop * self.upsample) for s in self.frame)
        self.frequencies = np.fft.fftfreq(fine[0])[:, None], np.fft.rfftfreq(fine[1])[None]
        box = np.ones((1, 1))
        for f in self.frequencies:
            box = box * sum(np.exp(2j * np.pi * f * i) for i in range(self.upsample)) / self.upsample
        self.transfer = (_wrapped_otf(self.kernel, fine) * box).astype(np.complex64)
        self.aliases = _aliases(fine[1], self.upsample)
        self._on_device = {}

    def embed(self, native, fill=0.0):
        """A native frame (h, w) on the padded native grid, ``fill`` around it."""
        padded = np.full(self.range_shape, fill, native.dtype)
        padded[self.frame] = native
        return padded

    def crop(self, fine):
        """The frame out of an image (..., H, W) on the padded fine grid."""
        return fine[(..., *self.inside)]

    def fold(self, spectrum):
        """Sum of a x spectrum over the fine frequencies that alias onto each native one: (H, W/2+1) -> (h, w/2+1)."""
        out = np.empty((self.range_shape[0], self.range_shape[1] // 2 + 1), spectrum.dtype)
        kernels.fold(self.transfer, spectrum, *self.aliases, out)
        return out

    def to_native(self, spectrum):
        """A x from the half-spectrum of x."""
        return scipy.fft.irfft2(self.fold(spectrum), self.range_shape, workers=self.workers)

    def from_native(self, y):
        """The half-spectrum of A^T y."""
        native = scipy.fft.rfft2(y, workers=self.workers)
        out = np.empty(self.transfer.shape, native.dtype)
        kernels.unfold(native, self.transfer, np.float32(self.upsample**2), self.range_shape[1], out)
        return out

    def to_image(self, spectrum):
        """An image on the padded fine grid from its half-spectrum."""
        return scipy.fft.irfft2(spectrum, self.domain_shape, workers=self.workers)

    def symbol(self, values):
        """Values that broadcast to the half-spectrum, as an array of it in single precision."""
        return np.broadcast_to(values, self.transfer.shape).astype(np.float32)

    def subtract(self, native, inverse, spectrum):
        """spectrum less inverse conj(a) times a native half-spectrum, repeated; overwritten and returned."""
        kernels.subtract(native, self.transfer, inverse, self.range_shape[1], spectrum)
        return spectrum

    def _tensor_model(self, device):
        if device not in self._on_device:
            import torch

            from deconjugate.astro.forward_torch import TorchModel

            with torch.inference_mode(False):  # it is kept, and may serve where gradients are asked for
                self._on_device[device] = TorchModel(self, device)
        return self._on_device[device]

    def _forward(self, x):
        if is_tensor(x):
            return self._tensor_model(x.device).apply(x)
        return np.stack([self.to_native(scipy.fft.rfft2(image, workers=self.workers)) for image in x])

    def _backward(self, y):
        if is_tensor(y):
            return self._tensor_model(y.device).adjoint(y)
        return np.stack([self.to_image(self.from_native(native)) for native in y])


def kernel_to_target(psf, target):
    """The kernel k that takes the target resolution r to the PSF p, and how far k * r is from p.

    .. math:: \\hat k = \\hat p \\hat r / (\\hat r^2 + \\epsilon^2), \\qquad \\text{mismatch} = ||k * r - p||_1

    Parameters
    ----------
    psf, target : (odd, odd) arrays, sum 1, centred on their middle pixels

    Returns
    -------
    kernel : (odd, odd) array, sum 1
    mismatch : float
    """
    size = tuple(n + 2 * RINGING for n in psf.shape)
    grid = tuple(scipy.fft.next_fast_len(n + 4 * RINGING, real=True) for n in size)
    p, r = psf_to_otf(psf, grid), psf_to_otf(target, grid).real
    k = scipy.fft.irfft2(p * r / (r**2 + EPS**2), grid)
    k = np.roll(k, [n // 2 for n in size], axis=(0, 1))[: size[0], : size[1]]
    k = k / k.sum()
    remainder = scipy.fft.irfft2(psf_to_otf(k, grid) * r - p, grid)
    return k, float(np.abs(remainder).sum())


def _wrapped_otf(kernel, grid):
    """The transfer function of a kernel on a periodic grid, which may be smaller than the kernel."""
    size = tuple(-(-k // n) * n for k, n in zip(kernel.shape, grid))
    if size == tuple(grid):
        return psf_to_otf(kernel, grid)
    centred = np.roll(
        np.pad(kernel, [(0, s - k) for s, k in zip(size, kernel.shape)]), [-(k // 2) for k in kernel.shape], (0, 1)
    )
    blocks = centred.reshape(size[0] // grid[0], grid[0], size[1] // grid[1], grid[1])
    return scipy.fft.rfft2(blocks.sum(axis=(0, 2)))


def _aliases(width, upsample):
    """Alias by native column: the column of the half-spectrum that holds it, and whether it is found there mirrored."""
    w = width // upsample
    columns = np.arange(w // 2 + 1) + w * np.arange(upsample)[:, None]
    mirrored = columns > width // 2
    return np.where(mirrored, width - columns, columns), mirrored
