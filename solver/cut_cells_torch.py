"""Learned factors of coarse faces and relaxation weights on a torch device; see ``cut_cells.py`` for what they are."""

import math

import torch

from deconjugate.solver.coarsen_torch import block_sum, diagonal, low_faces
from deconjugate.solver.cut_cells import DEPTHS, FACTOR_BOUND

# The weights' columns for what is seen: inner, around, within, far faces; share of no unknowns, of given values.
_ORDER = [0, 3, 5, 4, 1, 2]


class TorchCutCells:
    """The weights of a LearnedMultigrid as tensors.

    Parameters
    ----------
    arrays : dict of arrays
        The weights by name, as in the weights file.
    dtype, device : of torch
    """

    def __init__(self, arrays, dtype=torch.float32, device="cpu"):
        self.w = {name: torch.as_tensor(array, device=device, dtype=dtype) for name, array in arrays.items()}
        self._host = {name: self.w[name].double().cpu().numpy() for name in ("out_bias", "given_out_bias")}
        logits = ("relaxation_logit", "relaxation_slope")
        self._host |= {name: torch.as_tensor(arrays[name], dtype=torch.float64, device="cpu") for name in logits}

    @staticmethod
    def kind(flat, varies, depth):
        """Which row of the weights a level takes."""
        return DEPTHS * (2 * flat + varies) + min(depth, DEPTHS - 1)

    def relaxation(self, kind, anisotropy):
        """Weights of the half-sweeps of a level, in (0, 2)."""
        logit, slope = self._host["relaxation_logit"][kind], self._host["relaxation_slope"][kind]
        return (2 * torch.sigmoid(logit + slope * anisotropy)).tolist()

    def plain(self, kind):
        """Factors of all faces and given parts below the finest level."""
        logs = (float(self._host[name][kind]) for name in ("out_bias", "given_out_bias"))
        return tuple(math.exp(FACTOR_BOUND * x / (1 + abs(x))) for x in logs)

    def adjust(self, kind, axes, factors, faces, dinv, coarse, given):
        """(faces, given) of a coarse level times their factors.

        Parameters
        ----------
        kind : int
        axes : list of the axes with more than one cell
        factors : three
        faces, dinv : of the finer level
        coarse, given : plain faces and parts towards given values of the coarse level
        """
        seen = _Seen(axes, factors, faces, dinv, coarse, given)
        adjusted = []
        for axis, t in enumerate(coarse):
            adjusted.append(t * self._factor(self._face(*seen.face(axis), kind)) if axis in axes else t)
        return adjusted, given * self._factor(self._given(seen.sources(), kind))

    @staticmethod
    def _factor(x):
        return torch.exp(FACTOR_BOUND * _soft(x))

    def _face(self, ends, uneven, kind):
        w = self.w
        shift = torch.tensordot(w["edge_weight"][:, None], uneven[None], 1) + _over(w["hidden_bias"][kind], uneven)
        hidden = _soft(torch.tensordot(w["end_weight"][:, _ORDER], ends, ([1], [1])) + shift[:, None]).sum(1)
        return torch.tensordot(w["out_weight"], hidden, 1) + w["out_bias"][kind]

    def _given(self, sources, kind):
        w = self.w
        x = torch.tensordot(w["given_weight"], torch.stack(sources), 1) + _over(w["given_bias"][kind], sources[0])
        return torch.tensordot(w["given_out_weight"], _soft(x), 1) + w["given_out_bias"][kind]


class _Seen:
    """The ratios that are seen of the blocks beside coarse faces; those of ``learned_torch.py``, by sums of slices."""

    def __init__(self, axes, factors, faces, dinv, coarse, given):
        self.axes, self.factors, self.faces, self.coarse = axes, factors, faces, coarse
        shape = dinv.shape[1:]
        sizes = [_sizes(n, c, dinv) for n, c in zip(shape, factors)]
        self.count = sizes[0][:, None, None] * sizes[1][:, None] * sizes[2]
        self.sizes = sizes
        self.halved = [a for a in axes if factors[a] == 2]
        self.inner, self.empty = self._within(dinv)
        d = diagonal(coarse, given)
        self.d = torch.where(d > 0, d, torch.ones_like(d))
        self.share = given / self.d
        self.both = [t + torch.roll(t, -1, a) for a, t in enumerate(coarse, start=1)]

    def _within(self, dinv):
        """Faces inside each block along every axis, halved, and its share of no unknowns: all summed at once."""
        domains = len(dinv)
        each = dinv.new_zeros(len(self.halved) + 1, *dinv.shape)
        for axis, odd in zip(self.halved, each):
            second = (slice(None),) * (axis + 1) + (slice(1, None, 2),)
            odd[second] = self.faces[axis][second]
        torch.gt(dinv, 0, out=each[-1])
        sums = block_sum(each.flatten(0, 1), self.factors).unflatten(0, (-1, domains))
        inner = [torch.zeros_like(sums[0])] * 3
        for axis, half in zip(self.halved, sums / 2):
            inner[axis] = half
        return inner, 1 - sums[-1] / self.count

    def face(self, axis):
        """(six ratios of the cells below and above each face, shape (2, 6, ...), unevenness); _ORDER says which."""
        t, c = self.coarse[axis], self.factors[axis]
        others, held = [a for a in self.axes if a != axis], [a for a in self.halved if a != axis]
        zero = torch.zeros_like(t)
        around, within = sum((self.both[a] for a in others), zero), sum((self.inner[a] for a in held), zero)
        seen = torch.stack([self.inner[axis], around, within, self.empty, self.share])
        low = torch.roll(seen, 1, axis + 2)
        far = torch.stack([torch.roll(t, 1, axis + 1), torch.roll(t, -1, axis + 1)])
        against = torch.cat([torch.stack([low[:3], seen[:3]]), far[:, None]], 1)
        # What is compared with none of t is zero itself.
        times = [float(c == 2), 2.0 * len(others), float(len(held)), 1.0]
        times = torch.tensor(times, dtype=t.dtype, device=t.device).reshape(4, 1, 1, 1, 1)
        ratios = _balance(against, times * t)
        ends = torch.cat([ratios, torch.stack([low[3:], seen[3:]])], 1)
        fine = self.faces[axis][(slice(None),) * (axis + 1) + (slice(None, None, c),)]
        both = low_faces(torch.cat([fine, (fine / c) ** 2]), axis, self.factors, 1)
        cross, squares = both[: len(fine)] / c, both[len(fine) :]
        span = self.count / self.sizes[axis].reshape([-1 if a == axis else 1 for a in range(3)])
        q = span * squares
        uneven = torch.where(q > 0, 1 - cross**2 / torch.where(q > 0, q, torch.ones_like(q)), torch.zeros_like(q))

        return ends, uneven

    def sources(self):
        stiffness = sum(self.inner[a] for a in self.halved) if self.halved else torch.zeros_like(self.d)
        return self.empty, self.share, stiffness / (stiffness + self.d)


def _sizes(n, c, like):
    """Cells of each block along an axis."""
    sizes = torch.full((-(-n // c),), float(c), dtype=like.dtype, device=like.device)
    sizes[-1] = n - c * (len(sizes) - 1)
    return sizes


def _over(bias, like):
    return bias.reshape([-1] + [1] * like.dim())


def _soft(x):
    return x / (1 + x.abs())


def _balance(a, b):
    """(a - b) / (a + b), zero where both are."""
    total = a + b
    return torch.where(total > 0, (a - b) / torch.where(total > 0, total, 1), 0)
