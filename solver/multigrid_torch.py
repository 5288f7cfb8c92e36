"""The multigrid cycle of ``multigrid.py`` and its learned form, on a torch device, for batches."""

import torch

from deconjugate.operators.learned import weights as weight_files
from deconjugate.solver import _multigrid_torch as plain
from deconjugate.solver.aggregate_torch import block_of, faces_at, moved_cells, neighbours_of
from deconjugate.solver.coarsen_torch import coarsen, diagonal
from deconjugate.solver.coarsest_torch import TorchCoarsest
from deconjugate.solver.cut_cells_torch import TorchCutCells
from deconjugate.solver.learned_multigrid import WEIGHTS

# As in multigrid.py: cells of the level solved exactly, and the coupling from which an axis is coarsened.
_COARSEST, _STRONG = 600, 0.4
_SWEEPS, _OMEGA = 2, 1.15


class DeviceMultigrid:
    """One multigrid cycle z = M r for a batch of systems; M as :class:`deconjugate.solver.Multigrid` has it.

    Blocks, moved cells, coarse faces, learned factors, relaxation and the coarsest level are those of the numba cycle,
    and so is z up to rounding. One thing differs: along a periodic axis of odd size two cells of one colour meet, which
    numba visits one after the other. Here a colour is relaxed at once; the diagonals of these cells are raised
    by the face between them, so that a half-sweep still never raises the energy of the error. M is symmetric and
    positive definite off the null space of A as there.

    Parameters
    ----------
    operator : deconjugate.operators.poisson_torch.TorchPoisson
    weights : path of a .safetensors file, dict of arrays, or None
        None is plain multigrid; "learned" the weights of the package.
    dtype : torch.float32 or torch.float64
    coarsest : int
        Cells of the level that is solved exactly, at most.
    kernels : module, optional
        What works on the levels: ``_multigrid_torch`` or ``_multigrid_triton``.

    Raises
    ------
    deconjugate.operators.learned.weights.WeightsError
        Where the weights are absent, damaged or of another architecture.

    Example
    -------
    >>> import numpy as np, torch
    >>> from deconjugate.operators import PoissonOperator
    >>> from deconjugate.operators.poisson_torch import TorchPoisson
    >>> A = TorchPoisson(PoissonOperator(np.ones((20, 13), bool), boundary="dirichlet"))
    >>> M, r = DeviceMultigrid(A, weights="learned"), torch.ones(1, *A.shape)
    >>> bool((r * M.apply(r)).sum() > 0)
    True
    """

    def __init__(self, operator, *, weights=None, dtype=torch.float32, coarsest=_COARSEST, kernels=plain):
        self.operator, self.dtype, self.periodic, self.kernels = operator, dtype, operator.periodic, kernels
        if weights is not None and not isinstance(weights, dict):
            weights, _ = weight_files.load(
                WEIGHTS if weights == "learned" else weights, architecture="LearnedMultigrid"
            )
        self._weights = None if weights is None else TorchCutCells(weights, dtype, operator.device)
        self._axes = [a for a, n in enumerate(operator.shape) if n > 1]
        self._buffers = {}
        spacing = list(operator.spacing3)
        self.levels = [self._finest()]
        anisotropy = [_anisotropy(_strength(spacing, operator.shape))]
        while self.levels[-1].size > coarsest:
            level = self.levels[-1]
            strength = _strength(spacing, level.shape)
            level.factors = tuple(2 if s >= _STRONG * max(strength) > 0 else 1 for s in strength)
            self.levels.append(self._coarser(level, len(self.levels) - 1))
            spacing = [h * c for h, c in zip(spacing, level.factors)]
            anisotropy.append(_anisotropy(_strength(spacing, self.levels[-1].shape)))
        for depth, level in enumerate(self.levels[:-1]):
            if self._weights is None:
                level.relaxation = [_OMEGA] * (2 * _SWEEPS)
            else:
                level.relaxation = self._weights.relaxation(self._kind(depth), anisotropy[depth])
        last = self.levels[-1]
        self._coarsest = TorchCoarsest(*last.faces, last.diagonal, self.periodic)

    def _kind(self, depth):
        return TorchCutCells.kind(len(self._axes) < 3, not self.operator.uniform, depth)

    def _finest(self):
        op = self.operator
        none = (torch.zeros(0, dtype=torch.int64, device=op.device),) * 3
        return Level(op.shape, *op.faces(self.dtype), self.periodic, none, op if op.uniform else None)

    def _coarser(self, level, depth):
        factor, known = (1.0, 1.0) if self._weights is None or depth else self._weights.plain(self._kind(0))
        known *= (2**depth + 1) / (2 ** (depth + 1) + 1)
        faces, given = level.faces
        if level.uniform is None:
            single = [t.float() for t in faces]
            level.moved = moved_cells(single, level.dinv.float(), self.periodic, level.factors)
        coarse, extra = coarsen(faces, given, level.moved, self.periodic, level.factors, factor, known)
        if self._weights is not None and depth > 0:
            kind = self._kind(depth)
            coarse, extra = self._weights.adjust(kind, self._axes, level.factors, faces, level.dinv, coarse, extra)
        shape = tuple(extra.shape[1:])
        none = (torch.zeros(0, dtype=torch.int64, device=extra.device),) * 3
        return Level(shape, coarse, extra, self.periodic, none)

    def apply(self, r, *, light=None, on=None):
        """z = M r for r (batch, n0, n1, n2), zero outside the unknowns.

        Parameters
        ----------
        r : tensor of the hierarchy's precision
        light : bool tensor (batch,), optional
            Systems for which the half-sweeps of the finest level but the first half (two at least) are left out.
        on : bool tensor (batch,), optional
            Systems that are wanted; z of the others may be anything.
        """
        return self._visit(0, r, light, on)

    def _visit(self, depth, b, light=None, on=None):
        level = self.levels[depth]
        if depth == len(self.levels) - 1:
            return self._coarsest.solve(b)
        weights = level.weights(len(b), b.dtype, b.device)
        if light is not None:
            kept = torch.arange(len(weights), device=b.device) < max(2, len(weights) // 2)
            weights = torch.where(kept[:, None] | ~light, weights, 0)
        x = self.kernels.smooth(level, b, weights, on)
        down = self.kernels.restrict_residual(level, x, b, on)
        e = self._visit(depth + 1, down, None, on)
        return self.kernels.correct_and_smooth(level, x, b, e, weights, on)


class Level:
    """Tensors of one level of a hierarchy.

    Attributes
    ----------
    shape, size : of one domain
    faces : ([low faces, for each axis], given)
    known : uint8 tensor
        Positive at unknowns; of a uniform level the cells' bytes.
    diagonal, dinv : of A; dinv zero where there is no unknown
    relaxed, raised : tensors
        The inverse diagonal that relaxation takes, dinv but for odd periodic axes, and what these add to the diagonal.
    factors : three
        Cells of a block; set when the next level is made, as is ``moved``: (cells, blocks left, blocks joined).
    uniform : TorchPoisson or None
        Where one byte a cell says all.
    kind : tuple or None
        What Triton's kernels are compiled for, once ``checked_torch.py`` has asked.
    """

    def __init__(self, shape, faces, given, periodic, moved, uniform=None):
        self.shape, self.size = shape, shape[0] * shape[1] * shape[2]
        self.faces, self.periodic, self.moved, self.uniform = (faces, given), periodic, moved, uniform
        self.factors, self.relaxation, self._weights = None, None, {}
        self._map = self._around = self.kind = None
        self._places = {}
        self.diagonal = diagonal(faces, given)
        self.dinv = _inverse(self.diagonal)
        self.relaxed, self.raised = self.dinv, None
        self.odd = [a for a, n in enumerate(shape) if periodic[a] and n % 2 and n > 1]
        self.known = uniform.code if uniform is not None else (self.dinv > 0).to(torch.uint8)
        if self.odd:
            self.raised = torch.zeros_like(given)
            for axis in self.odd:
                face = faces[axis].narrow(axis + 1, 0, 1)
                self.raised.narrow(axis + 1, 0, 1).add_(face)
                self.raised.narrow(axis + 1, shape[axis] - 1, 1).add_(face)
            self.relaxed = _inverse(self.diagonal + self.raised)
        self._colours = None

    @property
    def colours(self):
        """1 at the cells of each of the two colours, 0 at the others; made where plain torch asks for it."""
        if self._colours is None:
            given = self.faces[1]
            i, j, k = (torch.arange(n, device=given.device) for n in self.shape)
            odd = (i[:, None, None] + j[:, None] + k) % 2
            self._colours = (odd == 0).to(given.dtype), (odd == 1).to(given.dtype)
        return self._colours

    @property
    def coarse_shape(self):
        return tuple(-(-n // c) for n, c in zip(self.shape, self.factors))

    def block_map(self):
        """The coarse cell of every cell, int32 (domains, size); None where no cell left its block."""
        cells, _, target = self.moved
        if not len(cells):
            return None
        if self._map is None:
            m = self.coarse_shape
            every = torch.arange(len(self.known) * self.size, device=self.known.device)
            blocks = block_of(every, self.shape, m, self.factors)
            blocks[cells] = target
            self._map = (blocks % (m[0] * m[1] * m[2])).to(torch.int32).reshape(-1, self.size)
        return self._map

    def around_moved(self):
        """The cells behind the six faces of the moved ones, flat through all domains, and the transmissibilities."""
        if self._around is None:
            near = neighbours_of(self.moved[0], self.shape)
            self._around = near, faces_at(torch.stack(self.faces[0]).reshape(3, -1), self.moved[0], near)
        return self._around

    def places(self, batch):
        """Where the moved cells of so many systems are, and the blocks that they left, then those that they joined.

        The numbers of systems and the places in each, for its own domain or for the one of all; of the blocks flat
        through all systems.
        """
        if batch not in self._places:
            cells, own, target = self.moved
            blocks = self.coarse_shape[0] * self.coarse_shape[1] * self.coarse_shape[2]
            both = torch.stack([own, target])
            if len(self.known) == 1:
                system, cell = torch.arange(batch, device=cells.device)[:, None], cells[None]
                both = both[:, None] + blocks * system
            else:
                system, cell = cells // self.size, cells % self.size
            self._places[batch] = system, cell, both
        return self._places[batch]

    def weights(self, batch, dtype, device):
        """The weights of the half-sweeps for each system, (half-sweeps, batch)."""
        if batch not in self._weights:
            one = torch.tensor(self.relaxation, dtype=torch.float32, device=device).to(dtype)
            self._weights[batch] = one[:, None].expand(-1, batch).contiguous()
        return self._weights[batch]


def _inverse(d):
    return torch.where(d > 0, 1 / torch.where(d > 0, d, 1), 0)


def _strength(spacing, shape):
    return [1.0 / h**2 if n > 1 else 0.0 for h, n in zip(spacing, shape)]


def _anisotropy(strength):
    """0 where the axes are coupled alike, towards 1 - 1 / axes where one dominates."""
    active = [s for s in strength if s > 0]
    return 1 - sum(active) ** 2 / (len(active) * sum(s * s for s in active)) if active else 0.0
