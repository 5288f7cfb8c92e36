"""Poisson's equation on a box on a torch device, solved exactly in the eigenvectors of its stencil."""

import numpy as np
import torch

from deconjugate.operators.poisson import _pad_axis
from deconjugate.solver._box_transforms import _basis
from deconjugate.solver.fast_poisson import BoxPoisson

# Axes of at most this many cells are transformed by products with the matrix of eigenvectors: at these sizes they take
# as long as the passes of a fast transform over memory, and serve every pair of boundaries.
_MATRIX = 512


class TorchBox:
    """The (pseudo-)inverse that :class:`deconjugate.solver.BoxPoisson` is, for batches on a torch device.

    .. math:: u = Q (\\Lambda_1 + ... + \\Lambda_d)^{-1} Q^T b

    with all axes transformed: by products with their orthonormal eigenvectors, or, where they are long, by Fourier
    transforms of the sequence continued as its boundaries say.

    Parameters
    ----------
    operator : PoissonOperator
        Its obstacles are left out and its coefficient is replaced by its mean.
    device : torch.device

    Example
    -------
    >>> import numpy as np, torch
    >>> from deconjugate.operators import PoissonOperator
    >>> A = PoissonOperator(np.ones((6, 5), bool), boundary="dirichlet")
    >>> b = torch.ones(1, 6, 1, 5, dtype=torch.float64)
    >>> u = TorchBox(A).solve(b).reshape(6, 5).numpy()
    >>> bool(abs(A.apply(u) - 1).max() < 1e-13)
    True
    """

    def __init__(self, operator, device="cpu"):
        box = BoxPoisson.of(operator)
        self.device = torch.device(device)
        shape = operator._shape3
        pairs = _pad_axis(box.boundary, ("neumann",) * 2)
        scales = _pad_axis([beta / h**2 for beta, h in zip(box.coefficient, box.spacing)], 0.0)
        self._axes = [_Axis(n, tuple(pair)) for n, pair in zip(shape, pairs)]
        fourier = [a for a, axis in enumerate(self._axes) if axis.fourier]
        self._fourier, self._lengths = [a + 1 for a in fourier], [shape[a] for a in fourier]
        total = torch.zeros(1, 1, 1, dtype=torch.float64, device="cpu")
        for a, (axis, scale) in enumerate(zip(self._axes, scales)):
            values = scale * axis.eigenvalues
            if fourier and a == fourier[-1]:
                values = values[: shape[a] // 2 + 1]
            total = total + torch.from_numpy(values).reshape([-1 if a == b else 1 for b in range(3)])
        # The constant, where nothing holds it, comes out as zero.
        inverse = torch.where(total > 0, 1 / torch.where(total > 0, total, 1), 0).to(self.device)
        if box.singular:
            inverse[0, 0, 0] = 0
        self._inverse = {torch.float64: inverse, torch.float32: inverse.float()}

    def solve(self, b):
        """u with A u = b for b (batch, n0, n1, n2), in its precision; C-contiguous, whatever transforms leave."""
        x = b
        for a, axis in enumerate(self._axes, start=1):
            x = axis.forward(x, a)
        if self._fourier:
            spectrum = torch.fft.rfftn(x, dim=self._fourier) * self._inverse[b.dtype]
            x = torch.fft.irfftn(spectrum, s=self._lengths, dim=self._fourier)
        else:
            x = x * self._inverse[b.dtype]
        for a, axis in enumerate(self._axes, start=1):
            x = axis.inverse(x, a)
        return x.contiguous()


class _Axis:
    """One axis: eigenvalues in the order of its transform, and the orthonormal transform and its inverse."""

    def __init__(self, n, pair):
        self.n, self.pair = n, pair
        k = np.arange(n)
        theta = {
            ("neumann", "neumann"): np.pi * k / n,
            ("dirichlet", "dirichlet"): np.pi * (k + 1) / (n + 1),
            ("periodic", "periodic"): 2 * np.pi * k / n,
        }.get(pair, np.pi * (2 * k + 1) / (2 * n + 1))
        self.eigenvalues = 4 * np.sin(theta / 2) ** 2
        self.fourier = pair[0] == "periodic" and n > 1
        self._matrix, self._made = None, {}
        if n <= _MATRIX and not self.fourier:
            self._matrix = _basis(theta, pair) if n > 1 else np.ones((1, 1))
        self._fast = {("neumann", "neumann"): _cosines, ("dirichlet", "dirichlet"): _sines}.get(pair, _quarter_waves)

    def forward(self, x, axis):
        return self._apply(x, axis, False)

    def inverse(self, x, axis):
        return self._apply(x, axis, True)

    def _apply(self, x, axis, back):
        if self.fourier or self.n == 1:
            return x
        if self._matrix is not None:
            return self._product(x, axis, back)
        mirrored = self.pair == ("dirichlet", "neumann")
        if mirrored and not back:
            x = x.flip(axis)
        x = self._fast(x.transpose(axis, -1), back).transpose(axis, -1)
        return x.flip(axis) if mirrored and back else x

    def _product(self, x, axis, back):
        key = x.dtype, x.device
        if key not in self._made:
            self._made[key] = torch.from_numpy(np.ascontiguousarray(self._matrix)).to(x.device, x.dtype)
        Q = self._made[key].T if back else self._made[key]
        if axis == x.dim() - 1:
            return torch.matmul(x, Q.T)
        rows = x.shape[:axis]
        return torch.matmul(Q, x.reshape(*rows, self.n, -1)).reshape(x.shape)


def _cosines(x, back):
    """Orthonormal DCT-II along the last axis, or its inverse, by a Fourier transform of the same length."""
    n = x.shape[-1]
    k = torch.arange(n, device=x.device, dtype=torch.float64)
    turn = torch.exp(-0.5j * torch.pi * k / n).to(torch.complex64 if x.dtype == torch.float32 else torch.complex128)
    scale = torch.full((n,), (2 / n) ** 0.5, dtype=x.dtype, device=x.device)
    scale[0] = (1 / n) ** 0.5
    if not back:
        v = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
        return (torch.fft.fft(v) * turn).real * scale
    y = x / scale
    shifted = torch.cat([torch.zeros_like(y[..., :1]), y[..., 1:].flip(-1)], -1)
    v = torch.fft.ifft(torch.complex(y, -shifted) * turn.conj()).real
    out = torch.empty_like(x)
    out[..., ::2], out[..., 1::2] = v[..., : (n + 1) // 2], v[..., (n + 1) // 2 :].flip(-1)
    return out


def _sines(x, back):
    """Orthonormal DST-I along the last axis, its own inverse."""
    n = x.shape[-1]
    zero = torch.zeros_like(x[..., :1])
    spectrum = torch.fft.rfft(torch.cat([zero, x, zero, -x.flip(-1)], -1))
    return -spectrum.imag[..., 1 : n + 1] / (2 * (n + 1)) ** 0.5


def _quarter_waves(x, back):
    """sum_j x_j cos(theta_k (j + 1/2)) 2 / sqrt(2n + 1), its own inverse; see ``_box_transforms.py``."""
    n = x.shape[-1]
    v = torch.cat([x, torch.zeros_like(x[..., :1]), -x.flip(-1)], -1)
    v[..., 1::2] *= -1
    spectrum = torch.fft.rfft(v)[..., 1:].flip(-1)
    m = torch.arange(n, 0, -1, device=x.device, dtype=torch.float64)
    shift = torch.exp(-1j * torch.pi * m / (2 * n + 1)) / (2 * n + 1) ** 0.5
    return -(spectrum.real * shift.imag.to(x.dtype) + spectrum.imag * shift.real.to(x.dtype))
