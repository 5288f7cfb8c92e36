"""Conjugate gradients in single precision, certified in double."""

import numba
import numpy as np

from deconjugate.solver import _conjugate_numba as kernels
from deconjugate.solver.result import SolveStatus

# The single-precision recursion is trusted for this factor of decrease before x is summed in double precision and
# the true residual takes the recursion's place.
_TRUST = 1e-5
# A true residual that falls by less than this between two such replacements is stagnation.
_PROGRESS = 0.5


class CertifiedConjugateGradient:
    """Preconditioned conjugate gradients for a Poisson operator: single precision inside, double outside.

    Directions, residuals and products are float32. The correction they build up is added to x in float64 and
    the residual recomputed there ("reliable updates") whenever it has fallen by 1e5 or seems to be within the
    tolerance; the direction is kept, so nothing of the convergence is lost. Convergence is declared on that
    residual only.

    Parameters
    ----------
    operator : deconjugate.operators.PoissonOperator
    preconditioner : object with apply(r, out), flat float32 arrays, symmetric positive (semi)definite
    finest : level of a Multigrid
        The operator's arrays in single precision.

    Source: van der Vorst and Ye, SIAM J. Sci. Comput. 22, 835 (2000); Clark et al., Comput. Phys. Commun. 181,
    1517 (2010).
    """

    def __init__(self, operator, preconditioner, finest):
        self.operator, self.preconditioner, self.finest = operator, preconditioner, finest
        self._work = None

    def solve(self, b, x, target, maxiter, callback=None):
        """Improve x in place until ||b - A x|| <= target; b, x float64 arrays of the grid.

        Returns
        -------
        (SolveStatus, list of float)
            Residual norms at the start and after each iteration.
        """
        op, level = self.operator, self.finest
        shape, n, size = level.shape, level.shape[2], level.size
        threads = numba.get_num_threads()
        slabs, chunks = max(1, min(threads, shape[0] // 4)), max(1, min(4 * threads, size // n))
        if self._work is None:
            self._work = [np.empty(size, np.float32) for _ in range(5)]
        p, q, r, z, d = self._work
        p[:] = 0
        q[:] = 0
        residual, norm = self._true_residual(b, x, chunks)
        norms = [norm]
        curvature, stagnant = 1.0, 0
        while norm > target and len(norms) <= maxiter and stagnant < 2:
            if not np.isfinite(norm):
                return SolveStatus.NON_FINITE, norms
            kernels.narrow(residual.reshape(-1), 1.0 / norm, r)
            d[:] = 0
            scale = before = norm  # what the single-precision residual is in units of
            floor = max(target, _TRUST * norm)
            while norm > floor and len(norms) <= maxiter:
                self.preconditioner.apply(r, z)
                rz, zq = kernels.products(z, r, q, n, chunks)
                # Conjugate to the last direction by definition, not by the recursion's <r, z>: rounding in z and the
                # replaced residual do no harm, and p may be in another unit than z.
                beta = np.float32(-zq / curvature)
                code = op._code.reshape(-1)
                curvature = kernels.advance(z, p, q, beta, code, level.given, level.arrays, shape, op._periodic, slabs)
                if not (np.isfinite(curvature) and np.isfinite(rz)):
                    return SolveStatus.NON_FINITE, norms
                if curvature <= 0.0 or rz <= 0.0:
                    kernels.add_scaled(x.reshape(-1), d, scale)
                    return SolveStatus.INDEFINITE, norms
                norm = scale * np.sqrt(kernels.step(d, p, r, q, np.float32(rz / curvature), n, chunks))
                norms.append(float(norm))
                if callback is not None:
                    callback(x + scale * d.reshape(x.shape).astype(np.float64))
            kernels.add_scaled(x.reshape(-1), d, scale)
            residual, norm = self._true_residual(b, x, chunks)
            norms[-1] = norm
            stagnant = stagnant + 1 if norm > _PROGRESS * before else 0
        if norm <= target:
            return SolveStatus.CONVERGED, norms
        return (SolveStatus.STAGNATED if stagnant >= 2 else SolveStatus.MAXITER), norms

    def _true_residual(self, b, x, chunks):
        residual = self.operator.apply(x)
        square = kernels.squared_difference(b.reshape(-1), residual.reshape(-1), chunks)
        return residual, float(np.sqrt(square))
