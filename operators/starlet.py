"""The starlet: isotropic undecimated wavelet transform with the B3 spline, its true adjoint and its noise."""

import numpy as np
import scipy.sparse

from deconjugate.operators import _starlet_numba as kernels
from deconjugate.operators._arrays import is_tensor
from deconjugate.operators.dictionaries import (
    Dictionary,
    check_trailing,
    checked_scales,
    checked_shape,
    checked_variance,
)

B3_SPLINE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


class Starlet(Dictionary):
    """Starlet transform of 2-D images: n_scales detail planes, finest first, then the coarse plane.

    .. math:: c_0 = x, \\quad c_j = H_j c_{j-1}, \\quad w_j = c_{j-1} - c_j, \\quad W x = (w_1, ..., w_J, c_J)

    H_j smooths rows and columns with (1, 4, 6, 4, 1) / 16, the taps 2^(j-1) pixels apart. The image continues beyond
    its edges as its half-sample mirror (scipy's ``mode="reflect"``), which makes every H_j symmetric. So the adjoint is
    the recursion v_(j-1) = w_j + H_j (v_j - w_j) from v_J = c_J down to v_0: as fast as the transform, and exact to
    rounding up to the edges. It is not the reconstruction, which is the plain sum of the planes.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image in pixels.
    n_scales : int, 1 <= n_scales <= log2(min(shape))
        Detail planes J; plane j holds structures of about 2^j pixels. More scales see larger structures.

    Raises
    ------
    ValueError
        shape is not two positive integers, or n_scales does not fit it.

    References
    ----------
    Starck, Murtagh, Bijaoui, Image Processing and Data Analysis (1998).
    Starck, Fadili, Murtagh, IEEE Transactions on Image Processing 16, 297 (2007).

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import Starlet
    >>> starlet = Starlet((31, 37), 3)
    >>> image = np.random.default_rng(1).standard_normal((31, 37))
    >>> planes = starlet.apply(image)
    >>> planes.shape
    (4, 31, 37)
    >>> bool(np.allclose(starlet.reconstruct(planes), image))
    True
    """

    takes_tensors = True

    def __init__(self, shape, n_scales):
        shape = checked_shape(shape)
        self.n_scales = checked_scales(n_scales, shape)
        super().__init__(shape, (self.n_scales + 1, *shape))

    def apply_to(self, x, out):
        """W x written into ``out`` and returned: :meth:`apply` for loops, without its allocation.

        Parameters
        ----------
        x : float array (..., height, width), C-contiguous
        out : float array (..., n_scales + 1, height, width), C-contiguous, same dtype as x

        Raises
        ------
        ValueError
            Shape, dtype or memory order of either array is not as above.
        """
        self._check_pair(x, out, "x", self.domain_shape, self.range_shape)
        self._analyse(x.reshape(-1, *self.domain_shape), out.reshape(-1, *self.range_shape))
        return out

    def adjoint_to(self, y, out):
        """W^T y written into ``out`` and returned: :meth:`adjoint` for loops; see :meth:`apply_to`."""
        self._check_pair(y, out, "y", self.range_shape, self.domain_shape)
        self._transpose_into(y.reshape(-1, *self.range_shape), out.reshape(-1, *self.domain_shape))
        return out

    def reconstruct(self, planes):
        """The image whose transform is ``planes``: their sum.

        .. math:: x = c_J + \\sum_j w_j

        Parameters
        ----------
        planes : array (..., n_scales + 1, height, width)
        """
        planes = planes if is_tensor(planes) else np.asarray(planes)
        check_trailing(planes, "planes", self.range_shape)
        return planes.sum(-3)

    def noise_std(self):
        """Standard deviation per plane of the transform of white noise of unit variance, (n_scales + 1,) float64.

        .. math:: \\sigma_j = ||W_j||_F / \\sqrt{\\text{pixels}}

        The root mean square over the frame, mirrored edges included, from the eigenvalues of the smoothings in the
        cosine basis that diagonalises them; so E ||W_j n||^2 = pixels sigma_j^2 exactly. Noise that is not uniform:
        :meth:`noise_planes`.
        """
        return np.array([np.sqrt(np.mean(power)) for power in self._powers()])

    def redundancy(self):
        """How many coefficients of a plane tell as much as one independent number: 1.1, 5, 23, 96, ...

        .. math:: A_j = n \\sum_k p_k^2 / (\\sum_k p_k)^2

        for n pixels and p_k the squared eigenvalues of W_j.
        """
        pixels = np.prod(self.domain_shape)
        return np.array([pixels * np.sum(power**2) / np.sum(power) ** 2 for power in self._powers()])

    def _powers(self):
        """The squared eigenvalues of every plane in the cosine basis."""
        frequency = [np.pi * np.arange(n) / n for n in self.domain_shape]
        smooth = np.ones(self.domain_shape)
        for j in range(self.n_scales):
            rows, columns = (np.cos(2.0**j * f / 2) ** 4 for f in frequency)
            smoother = smooth * np.outer(rows, columns)
            yield (smooth - smoother) ** 2
            smooth = smoother
        yield smooth**2

    def noise_planes(self, noise_map):
        """Standard deviation of every coefficient for independent pixel noise of the given standard deviations.

        .. math:: \\sigma_{j,k}^2 = \\sum_i (W_j)_{ki}^2 \\sigma_i^2

        Exact up to the edges: W_j = P_(j-1) - P_j with separable P_j, so that its square is three separable products.

        Parameters
        ----------
        noise_map : array (height, width), finite, >= 0
            1 sigma per pixel.

        Returns
        -------
        float64 array (n_scales + 1, height, width)

        Raises
        ------
        ValueError
            noise_map has another shape, or values that are negative or not finite.
        """
        variance = checked_variance(noise_map, self.domain_shape)
        rows, columns = (scipy.sparse.identity(n, format="csr") for n in self.domain_shape)
        planes = np.empty(self.range_shape)
        before = variance
        for j in range(self.n_scales):
            smoother_rows, smoother_columns = (
                _smoothing_matrix(n, 2**j) @ p for n, p in zip(self.domain_shape, (rows, columns))
            )
            cross = _separable(rows.multiply(smoother_rows), columns.multiply(smoother_columns), variance)
            after = _separable(smoother_rows.power(2), smoother_columns.power(2), variance)
            planes[j] = np.sqrt(np.maximum(before - 2 * cross + after, 0.0))  # rounding alone goes below zero
            rows, columns, before = smoother_rows, smoother_columns, after
        planes[-1] = np.sqrt(before)
        return planes

    def expand(self, values):
        """One value per plane, as an array that broadcasts to ``range_shape``."""
        return np.asarray(values)[:, None, None]

    def _forward(self, x):
        if is_tensor(x):
            from deconjugate.operators._starlet_torch import analyse

            return analyse(x, self.n_scales)
        return self._analyse(x, np.empty((len(x), *self.range_shape), x.dtype))

    def _backward(self, y):
        if is_tensor(y):
            from deconjugate.operators._starlet_torch import transpose

            return transpose(y)
        return self._transpose_into(y, np.empty((len(y), *self.domain_shape), y.dtype))

    def _analyse(self, x, planes):
        """Smoothed images alternate between the coarse plane and one scratch image, so that c_J lands in its place."""
        taps = np.array(B3_SPLINE[:3], x.dtype)
        last = self.n_scales
        scratch = np.empty((len(x), 1, *self.domain_shape), x.dtype)
        places = ((planes, last), (scratch, 0))
        source = (x[:, None], 0)
        with kernels.enough_threads(x.size):
            for j in range(last):
                target = places[(last - 1 - j) % 2]
                kernels.smooth_and_detail(*source, 2**j, taps, *target, planes, j)
                source = target
        return planes

    def _transpose_into(self, planes, image):
        """The recursion kept as d_j = v_j - w_j, which is what the next smoothing reads."""
        taps = np.array(B3_SPLINE[:3], planes.dtype)
        image, scratch = image[:, None], np.empty((len(planes), 1, *self.domain_shape), planes.dtype)
        places = (image, scratch)
        source = places[self.n_scales % 2]
        with kernels.enough_threads(image.size):
            kernels.last_difference(planes, source)
            for j in reversed(range(self.n_scales)):
                target = places[j % 2]
                kernels.smooth_and_add(source, 2**j, taps, planes, j, target)
                source = target
        return image[:, 0]

    def _check_pair(self, array, out, name, shape, out_shape):
        check_trailing(array, name, shape)
        for label, a in ((name, array), ("out", out)):
            if a.dtype not in (np.float32, np.float64) or not a.flags.c_contiguous:
                raise ValueError(f"{label} must be a C-contiguous float32 or float64 array, found {a.dtype}")
        expected = (*array.shape[: -len(shape)], *out_shape)
        if out.shape != expected or out.dtype != array.dtype:
            raise ValueError(f"out is {out.shape} {out.dtype}; {name} needs {expected} {array.dtype}")


def _smoothing_matrix(n, step):
    """H of one axis as a sparse matrix (n, n), mirrored ends included."""
    rows, taps = np.meshgrid(np.arange(n), np.arange(-2, 3), indexing="ij")
    columns = (rows + step * taps) % (2 * n)
    columns = np.where(columns < n, columns, 2 * n - 1 - columns)
    values = np.broadcast_to(B3_SPLINE, rows.shape)
    return scipy.sparse.csr_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=(n, n))


def _separable(rows, columns, image):
    """rows image columns^T for banded sparse matrices."""
    return _banded(columns, _banded(rows, image).T).T


def _banded(matrix, image):
    """matrix image, through a dense band: the rows of a smoothing are contiguous runs of columns."""
    matrix = matrix.tocoo()
    n = matrix.shape[0]
    first, last = np.full(n, n, np.int64), np.zeros(n, np.int64)
    np.minimum.at(first, matrix.row, matrix.col)
    np.maximum.at(last, matrix.row, matrix.col)
    values = np.zeros((n, int((last - first).max()) + 1))
    np.add.at(values, (matrix.row, matrix.col - first[matrix.row]), matrix.data)
    image = np.ascontiguousarray(image)
    out = np.empty((n, image.shape[1]))
    kernels.banded_rows(first, values, image, out)
    return out
