"""Convolution with a kernel by real FFTs, and binning of fine pixels into native ones."""

import numpy as np
import scipy  # its fft is loaded when it is used

from deconjugate.operators._arrays import is_tensor
from deconjugate.operators.base import LinearOperator

SMALL = 1 << 18  # pixels; a transform of fewer is over before a second thread has started


def fft_workers(shape):
    """Threads that scipy.fft is worth giving for a grid of ``shape``: one, or -1 for all."""
    return 1 if np.prod(shape) < SMALL else -1


def psf_to_otf(psf, shape, *, workers=None):
    """The transfer function of a kernel: its real FFT on a grid of ``shape``, kernel centre at the origin.

    .. math:: \\hat p(\\nu) = \\sum_i p_i \\, e^{-2 \\pi i \\, \\nu \\cdot (i - c)}, \\qquad c = n // 2

    The centre of the kernel is its pixel ``n // 2`` on every axis, for odd and even n alike. This is the only place
    in the package where that convention is applied.

    Parameters
    ----------
    psf : array, any number of axes
        Kernel; at most as large as ``shape`` on each axis.
    shape : tuple of int
        The periodic grid on which the transform is taken.
    workers : int, optional
        Threads of scipy.fft; -1 takes all processors, default one for a small grid and all for a large one.

    Returns
    -------
    complex array
        As scipy.fft.rfftn lays it out: the last axis holds ``shape[-1] // 2 + 1`` frequencies. Float32 gives complex64.

    Raises
    ------
    ValueError
        The kernel has another number of axes than ``shape``, or is larger.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import psf_to_otf
    >>> np.allclose(psf_to_otf(np.array([0.0, 1.0, 0.0]), (7,)), 1.0)
    True
    """
    psf = np.asarray(psf)
    if psf.ndim != len(shape):
        raise ValueError(f"the kernel has {psf.ndim} axes, the grid {len(shape)}: give a kernel of shape like {shape}")
    if any(k > n for k, n in zip(psf.shape, shape)):
        raise ValueError(f"the kernel of shape {psf.shape} is larger than the grid {tuple(shape)}; crop the kernel")
    padded = np.zeros(shape, np.float32 if psf.dtype == np.float32 else np.float64)
    padded[tuple(slice(k) for k in psf.shape)] = psf
    padded = np.roll(padded, [-(k // 2) for k in psf.shape], axis=tuple(range(psf.ndim)))
    return scipy.fft.rfftn(padded, workers=fft_workers(shape) if workers is None else workers)


class Convolution(LinearOperator):
    """Convolution with a kernel, (A x)_i = sum_j k_(c + j) x_(i - j), output of the shape of the input.

    Parameters
    ----------
    shape : tuple of int
        Shape of x and of A x, any number of axes.
    kernel : array with as many axes as ``shape``
        Its centre c is its pixel ``n // 2`` on each axis; see :func:`psf_to_otf`.
    boundary : "zero" or "periodic"
        "zero": x is zero outside; the FFT is padded so that nothing wraps. "periodic": the grid closes on itself.
    workers : int, optional
        Threads of scipy.fft, as :func:`psf_to_otf` takes them.

    Raises
    ------
    ValueError
        Unknown boundary; a kernel that holds NaN or infinity; with "periodic", a kernel larger than the grid.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import Convolution
    >>> Convolution((5,), np.array([1.0, 2.0, 3.0])).apply(np.array([0.0, 0.0, 1.0, 0.0, 0.0])).round(12).tolist()
    [0.0, 1.0, 2.0, 3.0, 0.0]
    """

    takes_tensors = True

    def __init__(self, shape, kernel, *, boundary="zero", workers=None):
        shape = tuple(int(n) for n in shape)
        kernel = np.asarray(kernel, dtype=np.float64)
        if boundary not in ("zero", "periodic"):
            raise ValueError(f'boundary is {boundary!r}; it must be "zero" or "periodic"')
        if not np.isfinite(kernel).all():
            raise ValueError(f"the kernel holds {np.count_nonzero(~np.isfinite(kernel))} values that are not finite")
        super().__init__(shape, shape)
        self.boundary = boundary
        if boundary == "periodic" or kernel.ndim != len(shape):
            self.fft_shape = shape
        else:
            self.fft_shape = tuple(scipy.fft.next_fast_len(n + k - 1, real=True) for n, k in zip(shape, kernel.shape))
        self.workers = fft_workers(self.fft_shape) if workers is None else workers
        self.otf = psf_to_otf(kernel, self.fft_shape, workers=self.workers)
        self._otf_single = self.otf.astype(np.complex64)
        self._otf_on = {}  # tensors by device and precision
        self._axes = tuple(range(1, len(shape) + 1))
        self._inside = (slice(None), *(slice(n) for n in shape))

    def _filter(self, x, conjugate):
        if is_tensor(x):
            return self._filter_tensor(x, conjugate)
        otf = self._otf_single if x.dtype == np.float32 else self.otf
        spectrum = scipy.fft.rfftn(x, self.fft_shape, axes=self._axes, workers=self.workers)
        spectrum *= otf.conj() if conjugate else otf
        full = scipy.fft.irfftn(spectrum, self.fft_shape, axes=self._axes, workers=self.workers, overwrite_x=True)
        return full[self._inside]

    def _filter_tensor(self, x, conjugate):
        import torch

        key = x.device, x.dtype
        if key not in self._otf_on:
            otf = self._otf_single if x.dtype == torch.float32 else self.otf
            with torch.inference_mode(False):  # it is kept, and may serve where gradients are asked for
                self._otf_on[key] = torch.from_numpy(otf).to(x.device)
        otf = self._otf_on[key].conj() if conjugate else self._otf_on[key]
        spectrum = torch.fft.rfftn(x, self.fft_shape, dim=self._axes) * otf
        return torch.fft.irfftn(spectrum, self.fft_shape, dim=self._axes)[self._inside]

    def _forward(self, x):
        return self._filter(x, conjugate=False)

    def _backward(self, y):
        return self._filter(y, conjugate=True)


class Binning(LinearOperator):
    """Sum of ``factor`` fine pixels along every axis into one native pixel: counts are conserved.

    Parameters
    ----------
    shape : tuple of int
        Shape of the fine grid, a multiple of ``factor`` on each axis.
    factor : int, >= 1
        Fine pixels to a native one, along each axis.

    Raises
    ------
    ValueError
        ``factor`` is not a positive integer, or does not divide ``shape``.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import Binning
    >>> Binning((2, 4), 2).apply(np.ones((2, 4))).tolist()
    [[4.0, 4.0]]
    """

    takes_tensors = True

    def __init__(self, shape, factor):
        if factor != int(factor) or factor < 1:
            raise ValueError(f"factor is {factor}; it must be a positive integer")
        if any(n % factor for n in shape):
            raise ValueError(f"the fine grid {tuple(shape)} is not a multiple of factor {factor} on every axis")
        self.factor = int(factor)
        super().__init__(shape, tuple(n // self.factor for n in shape))

    def _forward(self, x):
        for axis in range(1, x.ndim):
            blocks = [x[(slice(None),) * axis + (slice(i, None, self.factor),)] for i in range(self.factor)]
            x = sum(blocks[1:], start=blocks[0])
        return x

    def _backward(self, y):
        for axis in range(1, y.ndim):
            y = y.repeat_interleave(self.factor, axis) if is_tensor(y) else np.repeat(y, self.factor, axis=axis)
        return y
