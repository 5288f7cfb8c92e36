"""Conjugate gradients in single precision, certified in double."""

import numba
import numpy as np

from deconjugate.solver import _conjugate_numba as kernels
from deconjugate.solver.memory import empty
from deconjugate.solver.result import SolveStatus

# The single-precision recursion is trusted for this factor of decrease before the true residual takes its place, and
# for the second where that ends the solve and no jumps of the coefficient magnify rounding.
_TRUST, _LAST = 1e-5, 5e-7
# A true residual that falls by less than this between two such replacements is stagnation.
_PROGRESS = 0.5
# A recursion that has grown by this factor has lost its way.
_ASTRAY = 100.0
# At most so many iterations before the true residual replaces the recursion's.
_LONGEST = 30
# The last iteration gets the light cycle where it has to gain no more than this power of what an iteration has gained.
# Beside jumps of the coefficient it gains less than that, and may cost three iterations.
_LIGHT = 0.3
# Grids of at most this many cells are worked on by one thread: waking the others costs more.
_SERIAL = 8192
# Chunks of larger ones for the threads to share, as many whatever their number: the same sums, to the last bit.
_CHUNKS = 16


class CertifiedConjugateGradient:
    """Preconditioned conjugate gradients for a Poisson operator: single precision inside, double outside.

    Directions, residuals and products are float32, x is float64. The residual is recomputed in float64 ("reliable
    updates") whenever it has fallen by 1e5 or seems to be within the tolerance; the direction is kept, so nothing of
    the convergence is lost. Convergence is declared on that residual only.

    Parameters
    ----------
    operator : deconjugate.operators.PoissonOperator
    preconditioner : object with apply(r, out), flat float32 arrays, symmetric positive (semi)definite
    finest : level of a Multigrid
        The operator's arrays in single precision.
    null_space : NullSpace
    light : callable like preconditioner.apply, optional
        A cheaper one, symmetric positive (semi)definite too, for a last iteration that has little left to gain.

    Source: van der Vorst and Ye, SIAM J. Sci. Comput. 22, 835 (2000); Clark et al., Comput. Phys. Commun. 181,
    1517 (2010).
    """

    def __init__(self, operator, preconditioner, finest, null_space, light=None):
        self.operator, self.preconditioner = operator, preconditioner
        self.finest, self.null_space = finest, null_space
        self._light = preconditioner.apply if light is None else light
        self._spare = []  # work arrays that no solve is using: others may, in threads and callbacks

    def solve(self, b, x, target, maxiter, callback=None, *, blank=False):
        """Improve x in place until ||b - A x|| <= target; b, x float64 arrays of the grid.

        blank says that x is all zero, which spares a product. An x that was improved until it converged
        has no part in the null space.

        Returns
        -------
        (SolveStatus, list of float)
            Residual norms at the start and after each iteration.
        """
        try:
            work = self._spare.pop()
        except IndexError:
            # Kept from solve to solve: the first touch of new memory costs as much as a cycle.
            work = *(empty(self.finest.size) for _ in range(4)), empty(x.shape, np.float64)
        try:
            return self._solve(work, b, x, target, maxiter, callback, blank)
        finally:
            self._spare.append(work)

    def _solve(self, work, b, x, target, maxiter, callback, blank):
        op, level = self.operator, self.finest
        shape, n, size = level.shape, level.shape[2], level.size
        threads = numba.get_num_threads()
        slabs = max(1, min(threads, shape[0] // 4)) if size > _SERIAL else 1
        chunks = max(1, min(_CHUNKS, size // n)) if size > _SERIAL else 1
        p, q, r, z, room = work
        p[:] = 0
        q[:] = 0
        if blank:
            residual, norm = b, float(np.sqrt(kernels.squared_norm(b.reshape(-1), chunks)))
        else:
            residual, norm = self._true_residual(b, x, chunks, room)
        norms = [norm]
        if not np.isfinite(norm):
            return SolveStatus.NON_FINITE, norms
        curvature, failures = 1.0, 0
        while norm > target and len(norms) <= maxiter and failures < 2:
            scale = before = lowest = norm  # scale: what the single-precision residual is in units of
            if norm < _TRUST * norms[0]:
                # By now the products' rounding may have left as much in the null space, where no x can follow.
                self.null_space.center(residual)
            kernels.narrow(residual.reshape(-1), 1.0 / scale, r, chunks)
            ends = target >= (_LAST if level.uniform else _TRUST) * scale
            goal = target if ends else _TRUST * scale
            start = None if blank else x.copy()
            status = None
            for _ in range(_LONGEST):
                if norm <= goal or norm > _ASTRAY * lowest or len(norms) > maxiter:
                    break
                lowest = min(lowest, norm)
                gained = (norms[0] / norm) ** (_LIGHT / max(len(norms) - 1, 1))
                enough = ends and level.uniform and len(norms) > 1 and norm <= gained * goal
                (self._light if enough else self.preconditioner.apply)(r, z)
                zr, zq, rp = kernels.products(z, r, p, q, n, chunks)
                # Conjugate to the last direction and exact along the new one by definition, not by the recursion's
                # <r, z>: rounding in z and the replaced residual do no harm, and p may be in another unit than z.
                beta = -zq / curvature
                step = zr + beta * rp
                curvature = kernels.advance(
                    z,
                    p,
                    q,
                    np.float32(beta),
                    op._code.reshape(-1),
                    level.given,
                    level.arrays,
                    shape,
                    op._periodic,
                    slabs,
                )
                if not (np.isfinite(curvature) and np.isfinite(step)):
                    status = SolveStatus.NON_FINITE
                elif curvature <= 0.0 or zr <= 0.0:
                    status = SolveStatus.INDEFINITE
                if status:
                    break
                alpha = step / curvature
                norm = scale * np.sqrt(
                    kernels.step(x.reshape(-1), p, r, q, scale * alpha, np.float32(alpha), n, chunks)
                )
                norms.append(float(norm))
                if callback is not None:
                    callback(x.copy())
            if status is None or np.isfinite(x).all():
                # The answer is centred; before that, it would cost strong jumps more rounding than the step gains.
                centred = norm <= target
                if centred:
                    self.null_space.center(x)
                residual, norm = self._true_residual(b, x, chunks, room)
                if norm <= target and not centred:
                    self.null_space.center(x)
                    residual, norm = self._true_residual(b, x, chunks, room)
                if not norm < before:
                    # Rounding made it worse: undo the correction and start the directions anew.
                    x[...] = 0 if blank else start
                    residual, norm = (b, before) if blank else self._true_residual(b, x, chunks, room)
                    p[:] = 0
                    q[:] = 0
                    curvature = 1.0
                else:
                    blank = False
            else:
                x[...] = 0 if blank else start
                norm = before
            norms[-1] = norm
            failures = failures + 1 if norm > _PROGRESS * before else 0
            if status:
                return status, norms
        if norm <= target:
            return SolveStatus.CONVERGED, norms
        return (SolveStatus.STAGNATED if failures >= 2 else SolveStatus.MAXITER), norms

    def _true_residual(self, b, x, chunks, room):
        residual = self.operator.apply_to(x, room)
        square = kernels.squared_difference(b.reshape(-1), residual.reshape(-1), chunks)
        return residual, float(np.sqrt(square))
