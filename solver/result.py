"""What a solve returns."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from deconjugate.solver.vectors import norm


class SolveStatus(Enum):
    """How a solve ended; the value is the message.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import PoissonOperator, solve
    >>> A = PoissonOperator(np.ones((6, 9), bool))  # closed: sources have to sum to zero
    >>> result = solve(A, np.ones((6, 9)))
    >>> result.status is SolveStatus.INCOMPATIBLE, result.converged
    (True, False)
    >>> result.status.value[:38]
    'b has a part in the null space of A (i'
    """

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

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import PoissonOperator, solve
    >>> A = PoissonOperator(np.ones((6, 9), bool), boundary="dirichlet")
    >>> result = solve(A, np.ones((6, 9)), rtol=1e-8)
    >>> result.converged, result.status.name, result.x.shape, result.relative_residual <= 1e-8
    (True, 'CONVERGED', (6, 9), True)
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
            f"largest relative residual {np.max(self.relative_residual, initial=0.0):.2e}, "
            f"{self.setup_seconds + self.solve_seconds:.3g} s"
        )


def answer(x, status, norms, norm_A, norm_b, removed, method):
    """The result of one system; what belongs to the whole batch comes later."""
    scale = norm_A * norm(x) + norm_b
    return SolveResult(
        x=x,
        converged=status is SolveStatus.CONVERGED,
        status=status,
        iterations=len(norms) - 1,
        residual_norms=norms,
        relative_residual=norms[-1] / norm_b if norm_b else norms[-1],
        backward_error=norms[-1] / scale if scale else 0.0,
        removed_norm=removed,
        setup_seconds=0.0,
        solve_seconds=0.0,
        method=method,
        device="cpu",
    )


def collect(answers, x, batch, setup, seconds, device):
    """One result of the batch's; plain values where there is no batch."""
    fields = {}
    for name in ("converged", "status", "iterations", "relative_residual", "backward_error", "removed_norm"):
        values = [getattr(answer, name) for answer in answers]
        if batch:
            dtype = object if name == "status" else None
            fields[name] = np.array(values, dtype=dtype).reshape(batch)
        else:
            fields[name] = values[0]
    norms = [answer.residual_norms for answer in answers]
    methods = list(dict.fromkeys(answer.method for answer in answers))
    return SolveResult(
        x=x,
        residual_norms=norms if batch else norms[0],
        setup_seconds=setup,
        solve_seconds=seconds,
        method=", ".join(methods),
        device=device,
        **fields,
    )
