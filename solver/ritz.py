"""Right-hand sides from Ritz vectors: the training data of the deep conjugate direction method."""

import numpy as np

# Ritz values below this belong to the null space.
_NULL = 1e-8
# Rows of the basis in one product, so that a basis in a file passes through memory piece by piece.
_ROWS = 256


class RitzBasis:
    """Approximate eigenvectors of a symmetric operator from Lanczos vectors, and random mixtures of them.

    .. math:: A V = V T + \\beta v e_m^T, \\quad T y_i = \\theta_i y_i, \\quad A (V y_i) \\approx \\theta_i V y_i

    The Ritz vectors V y_i are never formed: a mixture is V (Y c), so what is kept is V in single precision alone,
    10.5 GB for 10,000 vectors at 64^3, or a file of that size.

    Parameters
    ----------
    apply : callable
        A of a float64 vector; symmetric positive semidefinite.
    size : int
        Length of the vectors.
    count : int
        Lanczos vectors; fewer come out where the Krylov space ends before.
    seed : int
        Of the start A z, z normal: no part in the null space.
    storage : path, optional
        A file for V in place of memory.

    Attributes
    ----------
    values : (m,) float64, ascending, those below 1e-8 left out

    Raises
    ------
    ValueError
        For a count below 2, or more vectors than unknowns can give.

    Source: Lanczos, J. Res. Natl. Bur. Stand. 45, 255 (1950), with full re-orthogonalisation; the mixture of Kaneda et
    al., ICML 2023.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver.ritz import RitzBasis
    >>> A = np.diag(np.arange(1.0, 8.0))
    >>> basis = RitzBasis(lambda u: A @ u, 7, 7)
    >>> np.round(basis.values, 4)
    array([1., 2., 3., 4., 5., 6., 7.])
    """

    def __init__(self, apply, size, count, *, seed=0, storage=None):
        from scipy.linalg import eigh_tridiagonal

        if not 2 <= count <= size:
            raise ValueError(f"count is {count}; give at least 2 Lanczos vectors and at most the {size} entries")
        if storage is None:
            V = np.empty((count, size), np.float32)
        else:
            V = np.memmap(storage, np.float32, "w+", shape=(count, size))
        v = apply(np.random.default_rng(seed).standard_normal(size))
        diagonal, off, w_norm = [], [], float(np.linalg.norm(v))
        scale = 0.0
        for k in range(count):
            v = v / w_norm
            V[k] = v
            w = apply(v)
            diagonal.append(float(v @ w))
            scale = max(scale, abs(diagonal[-1]))
            for _ in range(2):  # twice is enough, as Kahan and Parlett say
                for start in range(0, k + 1, _ROWS):
                    rows = V[start : min(start + _ROWS, k + 1)]
                    w -= (rows @ w.astype(np.float32)) @ rows
            w_norm = float(np.linalg.norm(w))
            # Single-precision rows leave so much of an exhausted Krylov space.
            if w_norm < 1e-5 * scale:
                break
            off.append(w_norm)
            v = w
        m = len(diagonal)
        values, Y = eigh_tridiagonal(np.array(diagonal), np.array(off[: m - 1]))
        kept = values > _NULL
        self._V, self._Y, self.values = V[:m], Y[:, kept], values[kept]

    def combine(self, coefficients):
        """Linear combinations of Ritz vectors: (k, m) coefficients to (k, size) vectors in single precision."""
        lanczos = (np.atleast_2d(coefficients) @ self._Y.T).astype(np.float32)
        out = np.zeros((len(lanczos), self._V.shape[1]), np.float32)
        for start in range(0, len(self._V), _ROWS):
            out += lanczos[:, start : start + _ROWS] @ self._V[start : start + _ROWS]
        return out

    def mixtures(self, count, rng, *, emphasis=9.0, lowest=None):
        """Normal mixtures of all Ritz vectors, the lowest ones enhanced, of unit norm: (count, size).

        Parameters
        ----------
        count : int
        rng : numpy.random.Generator
        emphasis : float
            Factor on the coefficients of the lowest Ritz values.
        lowest : int, optional
            How many those are: m/2 + 500 as in the paper, or half of a basis of fewer than 1000.
        """
        m = self.values.size
        if lowest is None:
            lowest = m // 2 + (500 if m >= 1000 else 0)
        coefficients = rng.standard_normal((count, m))
        coefficients[:, :lowest] *= emphasis
        mixtures = self.combine(coefficients)
        return mixtures / np.linalg.norm(mixtures, axis=1, keepdims=True)
