"""What a solve returns."""

from dataclasses import dataclass
from enum import Enum

import numpy as np


class SolveStatus(Enum):
    """How a solve ended; the value is the message."""

    CONVERGED = "the true residual is within the tolerance"
    MAXITER = "the iteration limit was reached before the tolerance"
    INCOMPATIBLE = (
        "b has a part in the null space of A (its sum over a component without given values is not zero): "
        "x solves the system without that part"
    )
    ATTAINABLE_ACCURACY = "the residual is at rounding level and cannot get smaller in float64"
    STAGNATED = "the residual stopped decreasing"
    INDEFINITE = "a direction with p.Ap <= 0 was met: A is not positive definite"
    NON_FINITE = "the iteration produced values that are not finite"


@dataclass(frozen=True)
class SolveResult:
    """Solution of A x = b with the numbers that prove it.

    Where b has leading batch axes, every field but the times, the method and the device has them too: arrays of
    statuses, of iteration counts and so on, and ``residual_norms`` a list in C order of the batch.

    Attributes
    ----------
    x : array
        In the form b came in.
    converged : bool
        ||b - A x||_2 <= max(rtol ||b||_2, atol), of the true residual in float64.
    status : SolveStatus
    iterations : int
    residual_norms : list of float
        ||b - A x|| at the start and after each iteration: the recursion's, replaced by the true one wherever it
        was computed; the last entry always is.
    relative_residual : float
        ||b - A x|| / ||b||, true, in float64 (0 where b = 0).
    backward_error : float
        ||b - A x|| / (||A|| ||x|| + ||b||).
    removed_norm : float
        Norm of the part of b in the null space of A, which no x can produce.
    setup_seconds, solve_seconds : float
    method, device : str
        What was used, fallbacks included: "multigrid", "dct + multigrid", ...
    """

    x: np.ndarray
    converged: bool
    status: SolveStatus
    iterations: int
    residual_norms: list
    relative_residual: float
    backward_error: float
    removed_norm: float
    setup_seconds: float
    solve_seconds: float
    method: str
    device: str

    def __str__(self):
        if isinstance(self.status, SolveStatus):
            return (
                f"{self.method}: {self.status.value}; {self.iterations} iterations, relative residual "
                f"{self.relative_residual:.2e}, {self.setup_seconds + self.solve_seconds:.3g} s"
            )
        return (
            f"{self.method}: {np.count_nonzero(self.converged)} of {np.size(self.converged)} systems converged, "
            f"largest relative residual {np.max(self.relative_residual):.2e}, "
            f"{self.setup_seconds + self.solve_seconds:.3g} s"
        )
