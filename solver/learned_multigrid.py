"""Geometric multigrid whose coarse faces and relaxation were learned."""

from functools import lru_cache
from pathlib import Path

from deconjugate.operators.learned import weights as weight_files
from deconjugate.solver.cut_cells import CutCells
from deconjugate.solver.multigrid import Multigrid

WEIGHTS = Path(__file__).parent / "weights" / "multigrid.safetensors"


class LearnedMultigrid(Multigrid):
    """One learned multigrid cycle z = M r: linear, symmetric, positive definite off the null space of A.

    The cycle is :class:`Multigrid`'s, and so are its kernels. Learned are the factors of the coarse faces, from ratios
    seen in the two blocks beside each (``CutCells``), and the weight of every half-sweep: what no rule of thumb
    says about blocks cut by walls, gaps, jumps and free surfaces. Nothing depends on the size of A or of the grid;
    the set-up looks once at each block of the coarser levels, which costs little beside the plain hierarchy's.

    M is symmetric positive definite whatever the weights. On each level, with S the error operator of the half-sweeps
    before the coarse correction, S* its adjoint in the inner product <u, v>_A = u^T A v (the same half-sweeps in
    reverse order), P the prolongation, and B the next level's M,

    .. math:: I - M A = S^* (I - P B P^T A) S

    which is self-adjoint in <., .>_A where B is symmetric, so M is symmetric. A half-sweep with weight
    0 < w < 2 never increases <e, e>_A, and leaves it alone only where A e vanishes on the cells it visits; the
    first two half-sweeps visit all cells, so <S e, S e>_A < <e, e>_A unless A e = 0. With B positive semidefinite

    .. math:: <M A e, e>_A = <e, e>_A - <S e, S e>_A + (P^T A S e)^T B (P^T A S e) > 0

    B is so on every level by the same argument, since learned factors are positive and the coarse operator stays a
    weighted graph Laplacian, and on the last because it is solved by Cholesky's factor. Sigmoids keep the weights
    inside (0, 2) and exponentials the factors positive: no training can break it.

    Parameters
    ----------
    operator : deconjugate.operators.PoissonOperator
    weights : path of a .safetensors file, or CutCells, optional
        By default those of the package.

    Raises
    ------
    deconjugate.operators.learned.weights.WeightsError
        Where the file is absent, damaged, or of another architecture.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import PoissonOperator
    >>> from deconjugate.solver.learned_multigrid import LearnedMultigrid
    >>> M = LearnedMultigrid(PoissonOperator(np.ones((32, 32), bool), boundary="dirichlet"))
    >>> r = np.ones(32 * 32, np.float32)
    >>> z = M.apply(r, np.empty_like(r))
    >>> bool(r @ z > 0)
    True
    """

    def __init__(self, operator, *, weights=None):
        super().__init__(operator, weights=weights if isinstance(weights, CutCells) else load(weights or WEIGHTS))


@lru_cache(maxsize=4)
def load(path):
    """CutCells from a weights file and its card."""
    tensors, _ = weight_files.load(path, architecture="LearnedMultigrid")
    return CutCells(tensors)
