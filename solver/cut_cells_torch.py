"""Learned factors of coarse faces and relaxation weights on a torch device; see ``cut_cells.py`` for what they are."""

import math

import torch

from deconjugate.solver.coarsen_torch import block_sum, diagonal, low_faces
from deconjugate.solver.cut_cells import DEPTHS, FACTOR_BOUND


class TorchCutCells:
    """The weights of a LearnedMultigrid as tensors.

    Parameters
    ----------
    arrays : dict of arrays
        The weights by name, as in the weights file.
    dtype, device : of torch
    """

    def __init__(self, arrays, dtype=torch.float32, device="cpu"):
        self.w = {name: torch.as_tensor(array).to(device=device, dtype=dtype) for name, array in arrays.items()}
        self._host = {name: self.w[name].double().cpu().numpy() for name in ("out_bias", "given_out_bias")}
        logits = ("relaxation_logit", "relaxation_slope")
        self._host |= {name: torch.as_tensor(arrays[name]).double().cpu() for name in logits}

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

    def _face(self, low, high, uneven, kind):
        w = self.w
        shift = torch.tensordot(w["edge_weight"][:, None], uneven[None], 1) + _over(w["hidden_bias"][kind], uneven)
        hidden = sum(_soft(torch.tensordot(w["end_weight"], torch.stack(end), 1) + shift) for end in (low, high))
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
        self.empty = 1 - block_sum((dinv > 0).to(dinv.dtype), factors) / self.count
        self.halved = [a for a in axes if factors[a] == 2]
        self.inner = [self._inner(axis) for axis in range(3)]
        d = diagonal(coarse, given)
        self.d = torch.where(d > 0, d, torch.ones_like(d))
        self.share = given / self.d
        self.both = [t + torch.roll(t, -1, a) for a, t in enumerate(coarse, start=1)]

    def _inner(self, axis):
        """Faces inside each block along an axis, halved."""
        t = self.faces[axis]
        if self.factors[axis] != 2:
            return torch.zeros_like(self.empty)
        odd = torch.zeros_like(t)
        second = (slice(None),) * (axis + 1) + (slice(1, None, 2),)
        odd[second] = t[second]
        return block_sum(odd, self.factors) / 2

    def face(self, axis):
        """(six ratios of the cell below each face, six of the one above, unevenness)."""
        t, c = self.coarse[axis], self.factors[axis]
        others, held = [a for a in self.axes if a != axis], [a for a in self.halved if a != axis]
        zero = torch.zeros_like(t)
        around, within = sum((self.both[a] for a in others), zero), sum((self.inner[a] for a in held), zero)
        cross = low_faces(self.faces[axis], axis, self.factors) / c
        squares = low_faces((self.faces[axis] / c) ** 2, axis, self.factors)
        span = self.count / self.sizes[axis].reshape([-1 if a == axis else 1 for a in range(3)])
        q = span * squares
        uneven = torch.where(q > 0, 1 - cross**2 / torch.where(q > 0, q, torch.ones_like(q)), torch.zeros_like(q))

        def ends(side):
            def end(x):
                return torch.roll(x, 1, axis + 1) if side else x

            far = torch.roll(t, 1, axis + 1) if side else torch.roll(t, -1, axis + 1)
            return (
                _balance(end(self.inner[axis]), t, 1) if c == 2 else zero,
                end(self.empty),
                end(self.share),
                _balance(end(around), t, 2 * len(others)) if others else zero,
                _balance(far, t, 1),
                _balance(end(within), t, len(held)) if held else zero,
            )

        return ends(1), ends(0), uneven

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


def _balance(a, b, times):
    """(a - times b) / (a + times b), zero where both are."""
    total = a + times * b
    return torch.where(total > 0, (a - times * b) / torch.where(total > 0, total, torch.ones_like(total)), 0)
