"""The learned multigrid cycle in torch: what it is trained with, on any device; the oracle of the numba kernels."""

import numpy as np
import torch

from deconjugate.solver.coarsest import loose_cells
from deconjugate.solver.cut_cells import FACTOR_BOUND, kind_of


class TorchMultigrid:
    """The cycle of a hierarchy as differentiable torch operations.

    The geometry (shapes, blocks, which cells moved, which value at the coarsest level is fixed) is that of a
    Multigrid made by numba; transmissibilities, weights and vectors are tensors. Faces are held by the cell above
    them: t[a] has the grid's shape, and its first slice along a is the face to the far end of a periodic axis, zero
    elsewhere.

    Parameters
    ----------
    hierarchy : deconjugate.solver.multigrid.Multigrid
    dtype, device : of all tensors
    """

    def __init__(self, hierarchy, dtype=torch.float64, device="cpu"):
        self.dtype, self.device = dtype, device
        self.axes = [a for a, n in enumerate(hierarchy.levels[0].shape) if n > 1]
        self.kinds = [kind_of(hierarchy, depth) for depth in range(len(hierarchy.levels))]
        self.anisotropy = [level.anisotropy for level in hierarchy.levels]
        self.levels = [_Blocks(level, hierarchy.periodic, self._tensor) for level in hierarchy.levels]
        for fine, coarse in zip(self.levels, self.levels[1:]):
            fine.meet(coarse, hierarchy.periodic)
        self.loose = self._tensor(loose_cells(hierarchy.levels[-1], hierarchy.periodic).astype(float))
        self.fine_faces, self.fine_given = _finest_faces(hierarchy, self._tensor)
        self.faces = self.given = self.dinv = self.diagonal = self.factor = None

    def _tensor(self, array):
        array = np.ascontiguousarray(array)
        if array.dtype.kind == "f":
            return torch.tensor(array, dtype=self.dtype, device=self.device)
        return torch.tensor(array, device=self.device)

    def set_up(self, model=None):
        """Coarse faces under the weights of a CutCells model (None: plain), and the coarsest level's factor."""
        self.faces, self.given = [self.fine_faces], [self.fine_given]
        self.diagonal, self.dinv = [_diagonal(self.fine_faces, self.fine_given)], []
        for depth, fine in enumerate(self.levels[:-1], start=1):
            t, g = fine.coarsen(self.faces[-1], self.given[-1], depth)
            kind = self.kinds[depth - 1]
            if model is not None and depth == 1:
                face, known = model.plain(kind)
                t, g = [x * torch.exp(FACTOR_BOUND * soft(face)) for x in t], g * torch.exp(FACTOR_BOUND * soft(known))
            elif model is not None:
                edges, sources = fine.features(self.faces[-1], t, g, self.axes)
                t = [face * torch.exp(FACTOR_BOUND * soft(model.face(*edge, kind))) for face, edge in zip(t, edges)]
                g = g * torch.exp(FACTOR_BOUND * soft(model.given(sources, kind)))
            self.faces.append(t)
            self.given.append(g)
            self.diagonal.append(_diagonal(t, g))
        for d in self.diagonal:
            self.dinv.append(torch.where(d > 0, 1 / torch.where(d > 0, d, torch.ones_like(d)), torch.zeros_like(d)))
        self._factorise()
        return self

    def _factorise(self):
        d = self.diagonal[-1].reshape(-1)
        unit = torch.eye(d.numel(), dtype=self.dtype, device=self.device).reshape(-1, *self.diagonal[-1].shape)
        A = torch.diag(torch.where(d > 0, d, torch.ones_like(d)))
        A = A - _neighbours(self.faces[-1], unit).reshape(d.numel(), -1)
        # A component without given values has one fixed, as in Coarsest: it sets the level of x and nothing else.
        self.factor = torch.linalg.cholesky(A + torch.diag(d * self.loose))

    def product(self, x):
        """A x on the finest level."""
        return self.diagonal[0] * x - _neighbours(self.faces[0], x)

    def apply(self, r, relaxation):
        """M r; relaxation holds the weights of the half-sweeps for each level."""
        return self._visit(0, r, relaxation)

    def _visit(self, depth, b, relaxation):
        level, dinv = self.levels[depth], self.dinv[depth]
        if depth == len(self.levels) - 1:
            x = torch.cholesky_solve(torch.where(dinv > 0, b, 0).reshape(-1, 1), self.factor).reshape(b.shape)
            return torch.where(dinv > 0, x, 0)
        faces, d = self.faces[depth], self.diagonal[depth]
        weights = relaxation[depth]
        x = weights[0] * level.colour[0] * dinv * b
        for stage, weight in enumerate(weights[1:], start=1):
            x = x + weight * level.colour[stage % 2] * (dinv * (b + _neighbours(faces, x)) - x)
        r = b - (d * x - _neighbours(faces, x))
        size, shape = level.coarse_size, level.coarse_shape
        down = torch.zeros(size, dtype=self.dtype, device=self.device).index_add(0, level.target, r.reshape(-1))
        up = self._visit(depth + 1, down.reshape(shape), relaxation)
        x = x + up.reshape(-1)[level.target].reshape(b.shape) * (dinv > 0)
        for stage in range(len(weights) - 1, -1, -1):
            x = x + weights[stage] * level.colour[stage % 2] * (dinv * (b + _neighbours(faces, x)) - x)
        return x

    def conjugate_gradients(self, b, relaxation, iterations):
        """log(||r_k|| / ||b||) after each of so many preconditioned iterations from zero, differentiable."""
        r, p, before, norms = b, None, None, []
        for _ in range(iterations):
            z = self.apply(r, relaxation)
            rz = (r * z).sum()
            p = z if p is None else z + (rz / before) * p
            before, q = rz, self.product(p)
            r = r - (rz / (p * q).sum()) * q
            norms.append(torch.log(r.norm() / b.norm()))
        return torch.stack(norms)


class _Blocks:
    """Index maps from one level to the next."""

    def __init__(self, level, periodic, tensor):
        self.shape, self.factors, self._tensor = level.shape, level.factors, tensor
        parity = np.indices(level.shape).sum(0) % 2
        active = (level.dinv > 0).reshape(level.shape)
        self.active = tensor(active.astype(float))
        self.colour = tensor(((parity == 0) & active).astype(float)), tensor(((parity == 1) & active).astype(float))
        self.moved = level.moved

    def meet(self, coarse, periodic):
        shape, factors, m = self.shape, self.factors, coarse.shape
        self.coarse_shape, self.coarse_size = m, int(np.prod(m))
        at = np.unravel_index(np.arange(int(np.prod(shape))), shape)
        own = np.ravel_multi_index([x // c for x, c in zip(at, factors)], m)
        target = own.copy()
        target[self.moved[0]] = self.moved[2]
        self.own, self.target = self._tensor(own), self._tensor(target)
        # Where the low face of each cell ends up: (axis, coarse cell) as one number, past the end for nowhere.
        size, where = self.coarse_size, np.array(np.unravel_index(target.reshape(shape), m))
        self.destination, self.is_inner = [], []
        for axis in range(3):
            there = np.roll(where, 1, axis + 1)
            apart = (where != there).sum(0)
            along = np.argmax(where != there, 0)
            mine = np.take_along_axis(where, along[None], 0)[0]
            yours = np.take_along_axis(there, along[None], 0)[0]
            length = np.array(m)[along]
            low, high = np.minimum(mine, yours), np.maximum(mine, yours)
            wraps = np.array(periodic)[along] & (high - low == length - 1) & (length > 2)
            joined = (apart == 1) & ((high - low == 1) | wraps)
            position = where.copy()
            np.put_along_axis(position, along[None], np.where(wraps, 0, high)[None], 0)
            flat = np.ravel_multi_index(tuple(position), m)
            self.destination.append(self._tensor(np.where(joined, along * size + flat, 3 * size).reshape(-1)))
            self.is_inner.append(self._tensor((at[axis] % factors[axis] != 0).astype(float)))
        counts = np.bincount(own, minlength=size).reshape(m)
        self.count = self._tensor(counts.astype(float))
        self.span = [
            self._tensor(
                counts
                / np.bincount(np.arange(shape[a]) // factors[a], minlength=m[a]).reshape(
                    [-1 if a == b else 1 for b in range(3)]
                )
            )
            for a in range(3)
        ]  # fine faces a coarse one covers

    def coarsen(self, faces, given, depth):
        size = self.coarse_size
        total = torch.zeros(3 * size + 1, dtype=given.dtype, device=given.device)
        for axis, t in enumerate(faces):
            total = total.index_add(0, self.destination[axis], t.reshape(-1) / self.factors[axis])
        g = torch.zeros(size, dtype=given.dtype, device=given.device).index_add(0, self.target, given.reshape(-1))
        level = depth - 1
        scale = (2**level + 1) / (2 ** (level + 1) + 1)
        return [total[a * size : (a + 1) * size].reshape(self.coarse_shape) for a in range(3)], (
            scale * g.reshape(self.coarse_shape)
        )

    def _per_block(self, values):
        zero = torch.zeros(self.coarse_size, dtype=values.dtype, device=values.device)
        return zero.index_add(0, self.own, values.reshape(-1)).reshape(self.coarse_shape)

    def features(self, faces, coarse, given, axes):
        """What the model sees of each coarse face (low end, high end, the face) and of each coarse cell."""
        filled = self._per_block(self.active) / self.count
        inner = [self._per_block(t.reshape(-1) * i / c) for t, i, c in zip(faces, self.is_inner, self.factors)]
        d = _diagonal(coarse, given)
        share = given / torch.where(d > 0, d, torch.ones_like(d))
        both = [t + torch.roll(t, -1, a) for a, t in enumerate(coarse)]
        halved = [a for a in axes if self.factors[a] == 2]
        edges = []
        for axis, t in enumerate(coarse):
            others, held = [a for a in axes if a != axis], [a for a in halved if a != axis]
            around, within = sum(both[a] for a in others), sum(inner[a] for a in held)
            cross = self._per_block(faces[axis].reshape(-1) * (1 - self.is_inner[axis]) / self.factors[axis])
            squares = self._per_block((faces[axis].reshape(-1) * (1 - self.is_inner[axis]) / self.factors[axis]) ** 2)
            evenness = torch.where(squares > 0, cross**2 / (self.span[axis] * torch.where(squares > 0, squares, 1)), 1)
            ends = []
            for side in (1, 0):  # the cell below the face, then the one above it

                def end(x, side=side, axis=axis):
                    return torch.roll(x, 1, axis) if side else x

                far = torch.roll(t, 1, axis) if side else torch.roll(t, -1, axis)
                ends.append(
                    torch.stack(
                        [
                            _balance(end(inner[axis]), t, 1) if self.factors[axis] == 2 else torch.zeros_like(t),
                            1 - end(filled),
                            end(share),
                            _balance(end(around), t, 2 * len(others)) if others else torch.zeros_like(t),
                            _balance(far, t, 1),
                            _balance(end(within), t, len(held)) if held else torch.zeros_like(t),
                        ]
                    )
                )
            edges.append((ends[0], ends[1], 1 - evenness))
        stiffness = sum(inner[a] for a in halved) if halved else torch.zeros_like(d)
        sources = torch.stack([1 - filled, share, stiffness / (stiffness + torch.where(d > 0, d, torch.ones_like(d)))])
        return edges, sources


def soft(x):
    """x / (1 + |x|)."""
    return x / (1 + x.abs())


def _balance(a, b, times):
    """(a - times b) / (a + times b), zero where both are."""
    total = a + times * b
    return torch.where(total > 0, (a - times * b) / torch.where(total > 0, total, torch.ones_like(total)), 0)


def _neighbours(faces, x):
    """Sum of transmissibility times neighbour; x with any leading axes."""
    y = 0
    for axis, t in enumerate(faces):
        if t.shape[axis] > 1:
            at = x.dim() - 3 + axis
            y = y + t * torch.roll(x, 1, at) + torch.roll(t, -1, axis) * torch.roll(x, -1, at)
    return y


def _diagonal(faces, given):
    return given + sum(t + torch.roll(t, -1, axis) for axis, t in enumerate(faces) if t.shape[axis] > 1)


def _finest_faces(hierarchy, tensor):
    level = hierarchy.levels[0]
    if not level.uniform:
        low = [np.take(t, range(level.shape[a]), a).astype(float) for a, t in enumerate(level.faces)]
        return [tensor(t) for t in low], tensor(level.given.reshape(level.shape).astype(float))
    known, low = (level.dinv > 0).reshape(level.shape), []
    code = hierarchy.operator._code.reshape(level.shape)
    for axis in range(3):
        t = known & np.roll(known, 1, axis) & ((code >> (2 * axis)) & 1).astype(bool)
        if not hierarchy.periodic[axis]:
            np.moveaxis(t, axis, 0)[0] = False
        low.append(tensor(t * float(level.arrays[3][axis])))
    given = level.given if level.given.size else np.zeros(level.size)
    return low, tensor(given.reshape(level.shape).astype(float))
