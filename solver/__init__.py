"""Large Poisson systems A x = b, certified by the true residual."""

from deconjugate.operators.poisson import Cell, PoissonOperator
from deconjugate.solver.advection import advect
from deconjugate.solver.conjugate import conjugate_gradient, deep_conjugate_directions
from deconjugate.solver.fast_poisson import BoxPoisson
from deconjugate.solver.multigrid import Multigrid
from deconjugate.solver.projection import divergence, subtract_gradient
from deconjugate.solver.result import SolveResult, SolveStatus
from deconjugate.solver.solve import PoissonSolver, solve

__all__ = [
    "BoxPoisson",
    "Cell",
    "Multigrid",
    "PoissonOperator",
    "PoissonSolver",
    "SolveResult",
    "SolveStatus",
    "advect",
    "conjugate_gradient",
    "deep_conjugate_directions",
    "divergence",
    "solve",
    "subtract_gradient",
]
