"""Geometric multigrid on the cells: a symmetric positive (semi)definite preconditioner."""

import numba
import numpy as np

from deconjugate.solver import _aggregate_numba as aggregates
from deconjugate.solver import _coarsen_numba as coarsen
from deconjugate.solver import _multigrid_numba as kernels
from deconjugate.solver.coarsest import Coarsest
from deconjugate.solver.memory import empty

# A coarsest grid of at most this many cells is solved by its inverse: it should have more cells than there are
# regions that gaps or jumps set apart.
_COARSEST = 600
# An axis is coarsened while its coupling is at least this fraction of the strongest axis'.
_STRONG = 0.4
# Levels of at most this many cells are worked on by one thread: waking the others costs more.
_SERIAL = 8192
_NONE = np.zeros(0, np.float32)


class Multigrid:
    """One multigrid cycle z = M r, M an approximate inverse of A, in single precision.

    Blocks of 2 x 2 (x 2) cells form a coarse cell; restriction is the sum over a block, prolongation its transpose.
    The coarse face takes the sum of the fine faces it covers, divided by two along an axis that was coarsened
    because the distance doubles: the Galerkin operator of piecewise constants, over-corrected to the right energy.
    Faces towards given values are kept apart and scaled by their own distance, (2^l + 1) / (2^(l+1) + 1) at level l.
    Where a wall or a jump cuts a block in two, the weaker part joins the neighbour it is coupled to instead.
    An axis whose coupling is weak (large spacing) is coarsened only once the others have caught up.

    Smoothing is red-black Gauss-Seidel with over-relaxation; the post-smoother visits the colours in reverse order,
    which makes M symmetric, and positive definite for 0 < omega < 2 off the null space of A. The defaults were the
    fastest of six settings tried over a suite of problems; ``benchmarks/bench_poisson.py --only grid`` tries a hundred.

    Parameters
    ----------
    operator : deconjugate.operators.PoissonOperator
    sweeps : float, a multiple of 1/2, >= 1/2
        Red-black sweeps before and after the coarse correction; more cost more and converge faster. Half a sweep is one
        colour.
    coarse_sweeps : float, a multiple of 1/2, >= 1/2
        The same on the coarser levels; 4 help thin gaps and jumps. (A second visit to a coarser level would help too,
        but over-correction makes a W-cycle indefinite.)
    omega : float, in (0, 2)
        Over-relaxation.
    relaxation : sequence of arrays, optional
        In place of these three: the weights of the half-sweeps, in (0, 2), for each level, the last for all coarser.
    weights : CutCells, optional
        In place of all these: learned weights, which correct the coarse faces too; see LearnedMultigrid.
    coarsest : int
        Cells of the level that is solved exactly, at most.

    Source: Brandt and Livne, Multigrid Techniques (2011); over-correction: Braess, Computing 55, 379 (1995).

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import PoissonOperator
    >>> A = PoissonOperator(np.ones((20, 13), bool), boundary="dirichlet")
    >>> b = np.ones((20, 13))
    >>> M, x = Multigrid(A), np.zeros((20, 13))
    >>> for _ in range(8):
    ...     r = (b - A.apply(x)).astype(np.float32)
    ...     x += M.apply(r.ravel(), np.empty(r.size, np.float32)).reshape(b.shape)
    >>> bool(np.linalg.norm(b - A.apply(x)) < 1e-2 * np.linalg.norm(b))
    True
    """

    def __init__(
        self, operator, *, sweeps=2, coarse_sweeps=2, omega=1.15, relaxation=None, weights=None, coarsest=_COARSEST
    ):
        if relaxation is None:
            relaxation = [np.full(round(2 * count), omega) for count in (sweeps, coarse_sweeps)]
        self.relaxation = [np.asarray(weights, np.float32) for weights in relaxation]
        self._weights = weights
        self.operator = operator
        self.periodic = operator._periodic
        self._threads = numba.get_num_threads()
        self.levels = [self._finest()]
        spacing = [
            operator.spacing[0],
            operator.spacing[1] if len(operator.spacing) == 3 else 1.0,
            operator.spacing[-1],
        ]
        self.levels[0].anisotropy = _anisotropy(_strength(spacing, self.levels[0].shape))
        while self.levels[-1].size > coarsest:
            level = self.levels[-1]
            strength = _strength(spacing, level.shape)
            factors = tuple(2 if s >= _STRONG * max(strength) > 0 else 1 for s in strength)
            self.levels.append(self._coarsen(level, factors, len(self.levels) - 1))
            spacing = [h * c for h, c in zip(spacing, factors)]
            self.levels[-1].anisotropy = _anisotropy(_strength(spacing, self.levels[-1].shape))
        if weights is not None:
            self.relaxation = [np.asarray(row, np.float32) for row in weights.relaxation(self)]
        self._coarsest = Coarsest(self.levels[-1], self.periodic)
        self._spare = []  # arrays of the coarser levels that no cycle is using: others may, in other threads

    def _finest(self):
        op = self.operator
        shape = op._shape3
        code = op._code.reshape(-1)
        dinv = empty(code.size)
        if op._faces is None:
            weights = op._weights.astype(np.float32)
            given = empty(code.size if any(op._runs[-1]) else 0)
            coarsen.uniform_diagonal(code, weights, shape, self.periodic, dinv, given)
            return _Level(shape, dinv, (_NONE, _NONE, _NONE, weights, True), given)
        faces, given = _allocate(shape)
        coarsen.split_faces(op._code, *op._faces, self.periodic, *faces, given)
        coarsen.close_level(*faces, self.periodic, given, dinv.reshape(shape))
        return _Level(shape, dinv, (*(f.reshape(-1) for f in faces), np.ones(3, np.float32), False), given.reshape(-1))

    def _coarsen(self, level, factors, depth):
        target, left = level.aggregate(factors)
        shape = tuple(-(-n // c) for n, c in zip(level.shape, factors))
        faces, given = _allocate(shape)
        # Learned factors that are the same for all faces cost nothing; those that are not, one look at every block.
        factor, known = self._weights.plain(self) if self._weights is not None and depth == 0 else (1.0, 1.0)
        scale = np.float32(factor), np.float32(known * (2**depth + 1) / (2 ** (depth + 1) + 1))
        if level.uniform:
            code, weights = self.operator._code.reshape(-1), scale[0] * level.arrays[3]
            coarsen.coarsen_code(
                code, weights, level.shape, self.periodic, factors, level.given, *faces, given, scale[1]
            )
        else:
            fine = *level.faces, level.given.reshape(level.shape), target
            coarsen.coarsen_faces(*fine, left, factors, *faces, given, *scale)
            aggregates.add_moved(level.moved[0], *fine, factors, self.periodic, *faces, given, *scale)
        dinv = empty(shape)
        coarsen.close_level(*faces, self.periodic, given, dinv)
        if self._weights is not None and depth > 0:
            plain = faces, given, dinv
            faces, given = _allocate(shape)
            self._weights.adjust(self, *plain, faces, given)
            coarsen.close_level(*faces, self.periodic, given, dinv)
        flat = (*(f.reshape(-1) for f in faces), np.ones(3, np.float32), False)
        return _Level(shape, dinv.reshape(-1), flat, given.reshape(-1))

    def apply(self, r, out):
        """out = M r; both flat float32 arrays of the grid."""
        return self._cycle(r, out, False)

    def apply_light(self, r, out):
        """The same with the first half of the half-sweeps on the finest level, both colours at least."""
        return self._cycle(r, out, True)

    def _cycle(self, r, out, light):
        try:
            work = self._spare.pop()
        except IndexError:
            work = [(empty(level.size), empty(level.size)) for level in self.levels[1:]]
        try:
            self._visit(0, r, out, work, light)
        finally:
            self._spare.append(work)
        return out

    def _visit(self, depth, b, x, work, light=False):
        level = self.levels[depth]
        if depth == len(self.levels) - 1:
            self._coarsest.solve(b, x)
            return
        coarse_x, coarse_b = work[depth]
        weights = self.relaxation[min(depth, len(self.relaxation) - 1)]
        if light:
            weights = weights[: max(2, weights.size // 2)]
        self._smooth(level, x, b, weights, False, coarse_x)
        kernels.restrict_residual(
            x, b, level.dinv, level.runs, level.shape, self.periodic, level.factors, level.moved,
            coarse_b, self._chunks(level),
        )  # fmt: skip
        self._visit(depth + 1, coarse_b, coarse_x, work)
        self._smooth(level, x, b, weights, True, coarse_x)

    def _smooth(self, level, x, b, weights, after, coarse_x):
        kernels.smooth(
            x, b, level.dinv, level.runs, level.shape, self.periodic, weights, after,
            coarse_x, level.factors, level.moved, self._slabs(level, weights.size),
        )  # fmt: skip

    def _slabs(self, level, stages):
        n0, longest = level.shape[0], 2 * stages + 4
        odd = any(p and n % 2 and n > 1 for p, n in zip(self.periodic, level.shape))
        if odd or (self.periodic[0] and n0 < longest):
            return 0
        return max(1, min(max(2, self._threads), n0 // longest)) if level.size > _SERIAL else 1

    def _chunks(self, level):
        return max(1, min(level.shape[0] // level.factors[0], 4 * self._threads)) if level.size > _SERIAL else 1


class _Level:
    """Arrays of one level, those of its faces once more for runs of rows, and which of its cells left their blocks."""

    def __init__(self, shape, dinv, arrays, given):
        self.shape, self.dinv, self.arrays, self.given = shape, dinv, arrays, given
        self.size = dinv.size
        self.uniform = arrays[4]
        self.runs = arrays if self.uniform else (*arrays[:2], _low_faces(self.faces[2]), *arrays[3:])
        self.factors = self.moved = None
        self.anisotropy = 0.0

    @property
    def faces(self):
        return _face_views(self.arrays, self.shape)

    def aggregate(self, factors):
        """Choose the coarse cell of every cell: its block's, or for the cells in ``moved`` a neighbouring block's.

        Returns the moved cells' coarse cells as an array of the level's shape, -1 elsewhere, empty if none moved; and
        for each row of cells whether some of them moved.
        """
        self.factors = factors
        coarse = [-(-n // c) for n, c in zip(self.shape, factors)]
        target = np.zeros((0, 0, 0), np.int32)
        cells = np.zeros(0, np.int64)
        if not self.uniform:
            part = np.zeros(self.shape, np.uint8)
            several = aggregates.find_parts(*self.faces, self.dinv.reshape(self.shape), factors, part)
            if several.any():
                # A round reads the round before, never what its other threads are writing.
                settled = np.full(self.shape, -1, np.int32)
                target = settled.copy()
                aggregates.move_parts(*self.faces, factors, several, part, target, settled)
                settled[...] = target
                aggregates.move_parts(*self.faces, factors, several, part, target, settled)
                cells = np.flatnonzero(target.reshape(-1) >= 0)
        blocks = [index // c for index, c in zip(np.unravel_index(cells, self.shape), factors)]
        own = np.ravel_multi_index(blocks, coarse)
        first = np.searchsorted(cells, np.arange(self.shape[0] + 1) * (self.shape[1] * self.shape[2]))
        self.moved = cells, own, target.reshape(-1)[cells].astype(np.int64), first
        left = np.zeros(self.shape[:2], bool)
        left.reshape(-1)[cells // self.shape[2]] = True
        return target, left


def _strength(spacing, shape):
    """Coupling along each axis, per volume; zero along an axis of one cell."""
    return [1.0 / h**2 if n > 1 else 0.0 for h, n in zip(spacing, shape)]


def _anisotropy(strength):
    """0 where the axes are coupled alike, towards 1 - 1 / axes where one dominates."""
    active = np.array([s for s in strength if s > 0])
    return float(1 - active.sum() ** 2 / (active.size * (active**2).sum())) if active.size else 0.0


def _face_views(arrays, shape):
    return [arrays[a].reshape([n + (a == b) for b, n in enumerate(shape)]) for a in range(3)]


def _low_faces(faces):
    """The low face along the last axis of every cell, and a zero: rows of faces no longer than rows of cells."""
    low = empty(faces[..., :-1].size + 1)
    low[:-1].reshape(faces[..., :-1].shape)[...] = faces[..., :-1]
    low[-1] = 0
    return low


def _allocate(shape):
    return _face_views([empty(n) for n in _face_sizes(shape)], shape), empty(shape)


def _face_sizes(shape):
    n0, n1, n2 = shape
    return (n0 + 1) * n1 * n2, n0 * (n1 + 1) * n2, n0 * n1 * (n2 + 1)
