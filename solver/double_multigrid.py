"""Multigrid and its conjugate gradients in double precision: the last resort where single precision stagnates."""

import numpy as np

from deconjugate.solver.conjugate import conjugate_gradient
from deconjugate.solver.result import SolveStatus
from deconjugate.solver.vectors import norm


class DoubleMultigrid:
    """A multigrid cycle between vectors in double precision, symmetric positive (semi)definite as the cycle is.

    Parameters
    ----------
    multigrid : Multigrid or LearnedMultigrid
        Its own arrays stay float32; the residual is scaled to a largest entry of 1 before it is rounded to them.
    operator : deconjugate.operators.PoissonOperator
    power : int
        The cycle is of an operator that is 2^power times smaller than the one to be inverted.
    """

    def __init__(self, multigrid, operator, power=0):
        self.multigrid, self.shape, self._unit = multigrid, operator.grid_shape, 2.0**-power

    def apply(self, r):
        scale = float(np.abs(r).max()) or 1.0
        single = (r / scale).astype(np.float32).reshape(-1)
        scale *= self._unit
        return scale * self.multigrid.apply(single, np.empty_like(single)).astype(np.float64).reshape(self.shape)


def solve_in_stages(operator, preconditioner, b, x, target, maxiter, callback=None):
    """Improve x in place by conjugate gradients in double precision, a factor of 1000 at a time.

    Asked at once for what rounding forbids, the iteration loses what it had; each stage starts from the true
    residual, and the last one that helped is kept.

    Parameters
    ----------
    operator : deconjugate.operators.PoissonOperator
    preconditioner : object with apply(r), such as DoubleMultigrid
    b, x : float64 arrays of the grid
    target : float
        Norm of b - A x to reach.
    maxiter : int
    callback : callable, optional

    Returns
    -------
    (SolveStatus, list of float)
        Residual norms at the start and after each iteration that was kept.
    """
    norms = [norm(b - operator.apply(x))]
    while True:
        goal = max(target, 1e-3 * norms[-1])
        limit = maxiter - len(norms) + 1
        better, status, more = conjugate_gradient(
            operator, b, x0=x.copy(), M=preconditioner, rtol=0.0, atol=goal, maxiter=limit, callback=callback
        )
        helped = more[-1] <= 0.5 * norms[-1]
        if more[-1] < norms[-1]:
            x[:] = better
            norms += more[1:]
        if not helped and norms[-1] > target and len(norms) <= maxiter:
            # The norm of the residual may rise for hundreds of iterations before it falls: only rounding is the end.
            return SolveStatus.MAXITER if status is SolveStatus.MAXITER else SolveStatus.STAGNATED, norms
        if norms[-1] <= target or len(norms) > maxiter:
            return status, norms
