"""Eigenvectors of the second difference of one axis, for every pair of boundaries, as orthonormal transforms.

Eigenvalues are 4 sin^2(theta / 2), with theta and the eigenvectors, j = 0..n-1 being the cell:

==========  =======================  ==============================  ==================
low, high   theta                    eigenvector                     fast form
==========  =======================  ==============================  ==================
N, N        pi k / n                 cos(theta (j + 1/2))            DCT-II
D, D        pi (k + 1) / (n + 1)     sin(theta (j + 1))              DST-I
P, P        2 pi k / n               exp(i theta j)                  FFT
N, D        pi (2k + 1) / (2n + 1)   cos(theta (j + 1/2))            FFT of length 2n + 1
D, N        the same                 the same, mirrored              the same, mirrored
==========  =======================  ==============================  ==================

A length with a large prime factor makes a slow FFT; a product with the matrix of eigenvectors then takes its
place up to MATRIX_SIZE cells, and always does for N, D below that size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.fft

LARGEST_FAST_PRIME = 31
MATRIX_SIZE = 1024


@dataclass(frozen=True)
class Transform:
    """One axis: its eigenvalues and the maps to and from its eigenvectors, ``f(x, axis, workers, spare)``.

    A map returns its result and an array of that shape free for other use, or None; it may use the memory of x and
    of ``spare``, and can be pickled, as the solvers that hold it are. ``slow`` says that another way of treating this
    axis is worth having; ``fourier`` that the axis is left to a real FFT over all such axes, whose ``eigenvalues`` are
    of the full length.
    """

    eigenvalues: np.ndarray
    forward: Callable | None = None
    inverse: Callable | None = None
    slow: bool = False
    fourier: bool = False


def transform(n, pair):
    """The Transform of an axis of n cells with boundaries ``pair`` = (low, high)."""
    k = np.arange(n)
    if pair == ("neumann", "neumann"):
        theta, length = np.pi * k / n, n
        fast = Transform(_eigenvalues(theta), partial(_scipy, scipy.fft.dct, 2), partial(_scipy, scipy.fft.idct, 2))
    elif pair == ("dirichlet", "dirichlet"):
        theta, length = np.pi * (k + 1) / (n + 1), n + 1
        fast = Transform(_eigenvalues(theta), partial(_scipy, scipy.fft.dst, 1), partial(_scipy, scipy.fft.idst, 1))
    elif pair == ("periodic", "periodic"):
        theta, length = 2 * np.pi * k / n, n
        fast = Transform(_eigenvalues(theta), fourier=True)
    else:
        theta, length = np.pi * (2 * k + 1) / (2 * n + 1), None
        mirrored = pair == ("dirichlet", "neumann")
        maps = partial(_to_quarter_waves, mirrored), partial(_from_quarter_waves, mirrored)
        fast = Transform(_eigenvalues(theta), *maps, slow=True)
    if n > MATRIX_SIZE or (length is not None and _largest_prime_factor(length) <= LARGEST_FAST_PRIME):
        return fast
    basis = _basis(theta, pair)
    maps = (
        partial(_product, {np.dtype(t): np.ascontiguousarray(q, t) for t in (np.float32, np.float64)})
        for q in (basis, basis.T)
    )
    return Transform(fast.eigenvalues, *maps, slow=True)


def _eigenvalues(theta):
    return 4 * np.sin(theta / 2) ** 2


def _scipy(function, kind, x, axis, workers, spare):
    return function(x, type=kind, axis=axis, norm="ortho", overwrite_x=True, workers=workers), spare


def _cosines(x, axis, workers):
    """sum_j x_j cos(theta_k (j + 1/2)) 2 / sqrt(2n + 1), its own inverse, by a real FFT of length 2n + 1.

    x continued antisymmetrically about j = n has cos(theta_k (j + 1/2)) = (-1)^j sin(omega_m (j + 1/2)) with
    omega_m = 2 pi m / (2n + 1), m = n - k: the sines of an ordinary transform of the sign-alternated sequence.
    """
    x = np.moveaxis(x, axis, -1)
    n = x.shape[-1]
    v = np.zeros((*x.shape[:-1], 2 * n + 1), x.dtype)
    v[..., :n] = x
    v[..., n + 1 :] = -x[..., ::-1]
    v[..., 1::2] *= -1
    spectrum = scipy.fft.rfft(v, overwrite_x=True, workers=workers)[..., :0:-1]
    shift = np.exp(-1j * np.pi * np.arange(n, 0, -1) / (2 * n + 1)) / np.sqrt(2 * n + 1)
    y = -(spectrum.real * shift.imag.astype(x.dtype) + spectrum.imag * shift.real.astype(x.dtype))
    return np.ascontiguousarray(np.moveaxis(y, -1, axis))


def _to_quarter_waves(mirrored, x, axis, workers, spare):
    return _cosines(np.flip(x, axis) if mirrored else x, axis, workers), spare


def _from_quarter_waves(mirrored, x, axis, workers, spare):
    y = _cosines(x, axis, workers)
    return np.ascontiguousarray(np.flip(y, axis)) if mirrored else y, spare


def _basis(theta, pair):
    """Rows: the orthonormal eigenvectors with frequencies theta, in float64."""
    n = len(theta)
    j = np.arange(n)
    if pair == ("dirichlet", "dirichlet"):
        rows = np.sin(np.outer(theta, j + 1))
    elif pair == ("periodic", "periodic"):
        # theta and 2 pi - theta share an eigenvalue: the cosine goes to one, the sine to the other.
        rows = np.where(theta[:, None] <= np.pi, np.cos(np.outer(theta, j)), np.sin(np.outer(theta, j)))
    elif pair == ("dirichlet", "neumann"):
        rows = np.cos(np.outer(theta, j[::-1] + 0.5))
    else:
        rows = np.cos(np.outer(theta, j + 0.5))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _product(matrices, x, axis, workers, spare):
    Q = matrices[x.dtype]
    rows, n = int(np.prod(x.shape[:axis])), x.shape[axis]
    out = np.empty_like(x) if spare is None else spare
    if axis == x.ndim - 1:
        np.matmul(x.reshape(rows, n), Q.T, out=out.reshape(rows, n))
    else:
        np.matmul(Q, x.reshape(rows, n, -1), out=out.reshape(rows, n, -1))
    return out, x


def _largest_prime_factor(n):
    factor, largest = 2, 1
    while factor * factor <= n:
        while n % factor == 0:
            n, largest = n // factor, factor
        factor += 1
    return max(n, largest)
