"""Poisson's equation on a box, solved exactly in the eigenvectors of its stencil."""

import numba
import numpy as np
import scipy.fft

from deconjugate.operators.base import LinearOperator
from deconjugate.operators.poisson import _check_boundary, _check_spacing
from deconjugate.solver._box_transforms import transform
from deconjugate.solver._fast_poisson_numba import divide, tridiagonal


class BoxPoisson(LinearOperator):
    """The (pseudo-)inverse of -div(beta grad u) on a box without obstacles, beta constant along each axis.

    The second difference of one axis has known eigenvectors for every boundary pair: cosines (DCT-II) between
    Neumann walls, sines (DST-I) between Dirichlet ends, Fourier modes where periodic, cosines of odd quarter
    waves between a Neumann wall and a Dirichlet end. All axes but one are transformed, a tridiagonal system is
    solved along that one, and the transforms are undone::

        u = Q (beta_1 Lambda_1 / h_1^2 + ... + beta_d T_d / h_d^2)^-1 Q^T b

    which is the solution of the discrete equations to rounding. Where every side is Neumann or periodic the
    mean of b is removed and u has zero mean. As an operator it is symmetric and positive (semi)definite; so is
    R BoxPoisson R^T, R the restriction to the unknowns of a domain with obstacles, which makes
    ``lambda r: unknowns * box.apply(r)`` a preconditioner of conjugate gradients there.

    Parameters
    ----------
    shape : tuple of int
        Cells along each axis; any sizes.
    spacing : float or one per axis
        Cell size h, > 0.
    boundary : str, one per axis, or a pair (low, high) per axis
        "neumann" (wall half a spacing from the last centre), "dirichlet" (value given one spacing from it) or
        "periodic" (both sides of an axis).
    coefficient : float or one per axis
        beta, > 0.
    workers : int, optional
        Threads of the Fourier transforms; the number numba uses by default.

    Raises
    ------
    ValueError
        A size, spacing, coefficient or boundary outside what is said above.

    References
    ----------
    R. E. Lynch, J. R. Rice and D. H. Thomas, Numerische Mathematik 6, 185 (1964); P. N. Swarztrauber, SIAM
    Review 19, 490 (1977).

    Examples
    --------
    >>> import numpy as np
    >>> box = BoxPoisson((8, 5), boundary=("neumann", "periodic"))
    >>> b = np.zeros((8, 5))
    >>> b[2, 3], b[6, 1] = 1.0, -1.0
    >>> u = box.solve(b)
    >>> bool(abs(4 * u[4, 2] - u[3, 2] - u[5, 2] - u[4, 1] - u[4, 3]) < 1e-14)
    True
    """

    def __init__(self, shape, *, spacing=1.0, boundary="neumann", coefficient=1.0, workers=None):
        shape = tuple(int(n) for n in shape)
        if not shape or min(shape) < 1:
            raise ValueError(f"shape is {shape}; give at least one axis of at least one cell")
        super().__init__(shape, shape)
        self.spacing = _check_spacing(spacing, len(shape))
        self.coefficient = _check_coefficient(coefficient, len(shape))
        self.boundary = _check_boundary(boundary, len(shape))
        self.workers = numba.get_num_threads() if workers is None else int(workers)
        self.singular = all("dirichlet" not in pair for pair in self.boundary)
        transforms = [transform(n, pair) for n, pair in zip(shape, self.boundary)]
        self._line = _line_axis(transforms, self.boundary)
        self._real = [(a, t) for a, t in enumerate(transforms) if a != self._line and not t.fourier]
        self._fourier = [a for a, t in enumerate(transforms) if a != self._line and t.fourier]
        eigenvalues = [beta / h**2 * t.eigenvalues for beta, h, t in zip(self.coefficient, self.spacing, transforms)]
        self._tables = {t: self._eigenvalue_tables(eigenvalues, t) for t in map(np.dtype, (np.float32, np.float64))}

    @classmethod
    def of(cls, operator, *, workers=None):
        """The box solver of a PoissonOperator: its inverse without obstacles and jumps, a model of it with them.

        A variable coefficient is replaced by its mean over the unknowns, or over the faces of each axis.
        """
        beta = operator.coefficient
        if beta is None:
            beta = 1.0
        elif isinstance(beta, tuple):
            beta = [float(face.mean()) for face in beta]
        elif np.ndim(beta):
            beta = float(beta[operator.unknowns].mean())
        return cls(
            operator.grid_shape,
            spacing=operator.spacing,
            boundary=operator.boundary,
            coefficient=beta,
            workers=workers,
        )

    def solve(self, b, *, overwrite=False):
        """u with A u = b, for b of shape (..., \\*shape); float32 in, float32 out, else float64.

        With ``overwrite`` a contiguous floating b may be used as working memory; the answer is what is returned.
        """
        shape = self.domain_shape
        if overwrite and b.flags.c_contiguous and b.dtype in self._tables and b.shape[-len(shape) :] == shape:
            return self._in_place(b.reshape(-1, *shape)).reshape(b.shape)
        return self.apply(b)

    def _forward(self, x):
        return self._in_place(x.copy())

    _backward = _forward

    def _in_place(self, x):
        """The solution for x (batch, \\*shape), whose memory is used."""
        spare = None
        for axis, t in self._real:
            x, spare = t.forward(x, axis + 1, self.workers, spare)
        if self._fourier:
            axes = [axis + 1 for axis in self._fourier]
            spectrum = scipy.fft.rfftn(x, axes=axes, overwrite_x=True, workers=self.workers)
            lengths = [x.shape[axis] for axis in axes]
            # Real and imaginary part share an eigenvalue: the kernels see them as neighbours on the last axis.
            self._divide(spectrum.view(x.dtype))
            x = scipy.fft.irfftn(spectrum, s=lengths, axes=axes, overwrite_x=True, workers=self.workers)
        else:
            self._divide(x)
        for axis, t in reversed(self._real):
            x, spare = t.inverse(x, axis + 1, self.workers, spare)
        return x

    def _eigenvalue_tables(self, eigenvalues, dtype):
        """Sums of the transformed axes' eigenvalues over the axes before, and from, the one that is split off."""
        scale = 1.0 if self._line is None else self.coefficient[self._line] / self.spacing[self._line] ** 2
        tables = [values / scale for values in eigenvalues]
        if self._fourier:
            halved = self._fourier[-1]
            tables[halved] = tables[halved][: self.domain_shape[halved] // 2 + 1]
            tables.append(np.zeros(2))
        before, after = (
            (tables[:1], tables[1:]) if self._line is None else (tables[: self._line], tables[self._line + 1 :])
        )
        return tuple(_outer_sum(group).astype(dtype) for group in (before, after))

    def _divide(self, x):
        """Divide by the operator in the eigenvectors of all axes but the line, in place."""
        before, after = self._tables[x.dtype]
        if self._line is None:
            divide(x.reshape(len(x), len(before), len(after)), before, after)
            return
        x = x.reshape(len(x), len(before), self.domain_shape[self._line], len(after))
        constant = x[:, 0, :, 0].astype(np.float64) if self.singular else None
        low, high = (int(side == "dirichlet") for side in self.boundary[self._line])
        scale = self.coefficient[self._line] / self.spacing[self._line] ** 2
        tridiagonal(x, before, after, scale, low, high)
        if self.singular:
            # The one singular line: its flux is the running sum, its solution the running sum of that.
            flux = np.cumsum(constant - constant.mean(axis=1, keepdims=True), axis=1) / scale
            u = -np.cumsum(np.pad(flux[:, :-1], ((0, 0), (1, 0))), axis=1)
            x[:, 0, :, 0] = u - u.mean(axis=1, keepdims=True)


def _line_axis(transforms, boundary):
    """The axis left to a tridiagonal system: the one whose transform is dearest; None if all are periodic.

    A slow middle axis comes before slow outer ones, along which matrix products are cheaper, and among fast
    ones the first, where cells are farthest apart in memory.
    """
    axes = [a for a in range(len(boundary)) if boundary[a][0] != "periodic"]
    middle = (len(boundary) - 1) // 2
    return min(axes, key=lambda a: (not transforms[a].slow, transforms[a].slow and a != middle, a), default=None)


def _outer_sum(tables):
    """All sums of one entry of each table, flattened in C order."""
    total = np.zeros(1)
    for table in tables:
        total = np.add.outer(total, table).ravel()
    return total


def _check_coefficient(coefficient, ndim):
    values = np.asarray(coefficient, dtype=np.float64)
    if values.shape not in ((), (ndim,)) or not np.all(np.isfinite(values) & (values > 0)):
        raise ValueError(f"coefficient is {coefficient!r}; give a positive number, or one per axis ({ndim} of them)")
    return tuple(float(v) for v in np.broadcast_to(values, ndim))
