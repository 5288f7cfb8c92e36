"""Poisson operators on a torch device: one, or several on grids of one shape."""

import numpy as np
import torch

from deconjugate.operators.components_torch import components
from deconjugate.operators.poisson import Cell, PoissonOperator, _pad_axis

# Bits of a cell's byte, as in _poisson_numba.py: low and high face of axis 0, 1, 2 open; unknown; beside a given value.
UNKNOWN, GIVEN = 64, 128


class TorchPoisson:
    """-div(beta grad u) of one or several domains, on vectors (batch, n0, n1, n2) of a torch device.

    .. math:: (A u)_i = \\sum_{faces (i, j)} t_f (u_i - u_j) + g_i u_i

    t are the transmissibilities beta / h^2 of the faces between unknowns, g_i the sum of those towards given values.
    A face is kept by the cell above it: ``faces[a]`` has the grid's shape, and its first slice along a is the face to
    the far end of a periodic axis. A 2-D grid is (n0, 1, n1). One domain serves any batch; of several, each serves
    the system of its place. Made on the device from the cells alone.

    Parameters
    ----------
    operators : PoissonOperator, or a sequence of them
        Of one shape, boundary and spacing.
    device : str or torch.device

    Attributes
    ----------
    shape : tuple of three
    domains : int
    code : uint8 tensor (domains, n0, n1, n2)
        The byte of every cell.
    uniform : bool
        One weight an axis serves all faces that the bytes call open; ``weights`` has them.
    norm : list of float
        An upper bound of ||A||_2 for each domain, by Gershgorin.

    Raises
    ------
    TypeError, ValueError
        operators holds something else, nothing, or grids that differ.

    Source: the discretisation of :class:`deconjugate.operators.PoissonOperator`.

    Example
    -------
    >>> import numpy as np, torch
    >>> from deconjugate.operators import PoissonOperator
    >>> A = TorchPoisson(PoissonOperator(np.ones((4, 5), bool), boundary="dirichlet"))
    >>> A.apply(torch.ones(1, 4, 1, 5, dtype=torch.float64))[0, 0, 0]
    tensor([2., 1., 1., 1., 2.], dtype=torch.float64)
    """

    def __init__(self, operators, device="cpu"):
        operators = _check(operators)
        first = operators[0]
        self.device = torch.device(device)
        self.grid_shape, self.shape = first.grid_shape, first._shape3
        self.spacing, self.boundary, self.periodic = first.spacing, first.boundary, first._periodic
        self.spacing3 = tuple(_pad_axis(first.spacing, 1.0))
        self.domains = len(operators)
        sides = _pad_axis(first.boundary, ("neumann",) * 2)
        cells = torch.stack([_tensor(op.cells, self.device) for op in operators]).reshape(-1, *self.shape)
        self.unknowns = cells == Cell.INTERIOR
        around = [[_behind(cells, axis, side, sides[axis]) for side in (0, 1)] for axis in range(3)]
        self.weights = [tuple(op._weights) for op in operators]
        self.uniform = all(op._is_uniform for op in operators) and len(set(self.weights)) == 1
        self._faces, self._weights, self._t, self._runs = {}, {}, None, None
        self.code = self._bytes(around) if self.uniform else self._with_faces(operators, around)

    def _bytes(self, around, transmissibility=None):
        """The byte of every cell; a face without transmissibility is closed."""
        code = torch.full(self.unknowns.shape, UNKNOWN, dtype=torch.uint8, device=self.device)
        for axis in range(3):
            for side, behind in enumerate(around[axis]):
                is_open = behind > 0
                if transmissibility is not None:
                    is_open = is_open & (transmissibility[axis][side] > 0)
                code |= is_open.to(torch.uint8) << (2 * axis + side)
                code |= (is_open & (behind == Cell.DIRICHLET)).to(torch.uint8) << 7
        return code * self.unknowns

    def _with_faces(self, operators, around):
        given = torch.zeros(self.unknowns.shape, dtype=torch.float64, device=self.device)
        each = [_transmissibilities(op, self.device) for op in operators]
        both, low, largest = [], [], []
        for axis in range(3):
            t = torch.stack([one[axis] for one in each])
            n = self.shape[axis]
            pair = [torch.where(self.unknowns, t.narrow(axis + 1, side, n), 0.0) for side in (0, 1)]
            pair = [torch.where(behind > 0, one, 0.0) for one, behind in zip(pair, around[axis])]
            for one, behind in zip(pair, around[axis]):
                given += torch.where(behind == Cell.DIRICHLET, one, 0.0)
            low.append(torch.where(around[axis][0] == Cell.INTERIOR, pair[0], 0.0))
            largest.append(torch.maximum(pair[0], pair[1]).flatten(1).amax(1))
            both.append(pair)
        self._faces[torch.float64] = low, given
        self._t = sum(largest)
        return self._bytes(around, both)

    def faces(self, dtype=torch.float64):
        """([the low faces of every cell, for each axis], given) in a precision."""
        if dtype not in self._faces:
            if self.uniform:
                self._faces[dtype] = self._uniform_faces(dtype)
            else:
                low, given = self._faces[torch.float64]
                self._faces[dtype] = [t.to(dtype) for t in low], given.to(dtype)
        return self._faces[dtype]

    def _uniform_faces(self, dtype):
        opens = [self.opens(axis) for axis in range(3)]
        return [one.to(dtype) * w for one, w in zip(opens, self.weights[0])], self.given(dtype, opens)

    def weights_in(self, dtype):
        """The weights of the three axes of a uniform coefficient as a tensor."""
        if dtype not in self._weights:
            self._weights[dtype] = torch.tensor(self.weights[0], dtype=dtype, device=self.device)
        return self._weights[dtype]

    def opens(self, axis):
        """Whether the low face of each cell is open and leads to an unknown."""
        there = torch.roll(self.unknowns, 1, axis + 1)
        there &= ((self.code >> (2 * axis)) & 1).bool()
        if not self.periodic[axis] or self.shape[axis] == 1:
            there.narrow(axis + 1, 0, 1).fill_(False)
        return there

    def given(self, dtype, opens=None):
        """The transmissibility towards given values; of a uniform coefficient counted from the bytes."""
        if not self.uniform:
            return self.faces(dtype)[1]
        total = torch.zeros(self.code.shape, dtype=dtype, device=self.device)
        for axis, w in enumerate(self.weights[0]):
            count = ((self.code >> (2 * axis)) & 1) + ((self.code >> (2 * axis + 1)) & 1)
            inner = (self.opens(axis) if opens is None else opens[axis]).to(torch.uint8)
            count = count - inner - torch.roll(inner, -1, axis + 1)
            total += w * count.to(dtype)
        return total

    @property
    def norm(self):
        if self.uniform:
            bound = 4.0 * sum(w for w, n in zip(self.weights[0], self.shape) if n > 1)
            return [bound] * self.domains
        return (4.0 * self._t).tolist()

    @property
    def components(self):
        """Labels of the connected components and which of them have no given value; see ``components_torch``."""
        if self._runs is None:
            self._runs = components(self.code, self.periodic)
        return self._runs

    def apply(self, u):
        """A u for u (batch, n0, n1, n2), zero outside the unknowns, in its precision."""
        low, given = self.faces(u.dtype)
        out = given * u
        for axis, t in enumerate(low, start=1):
            if u.shape[axis] > 1:
                flux = t * (u - torch.roll(u, 1, axis))
                out += flux
                out -= torch.roll(flux, -1, axis)
        return out


def _check(operators):
    operators = [operators] if isinstance(operators, PoissonOperator) else list(operators)
    if not operators:
        raise ValueError("operators is empty; give one PoissonOperator or more")
    for operator in operators:
        if not isinstance(operator, PoissonOperator):
            raise TypeError(f"operators holds a {type(operator).__name__}; give PoissonOperators")
        for name in ("grid_shape", "boundary", "spacing"):
            one, other = getattr(operators[0], name), getattr(operator, name)
            if one != other:
                raise ValueError(f"operators differ in {name}: {one} and {other}; a batch has one")
    return operators


def _tensor(array, device):
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def _behind(cells, axis, side, pair):
    """The kind of cell behind the low (0) or high (1) face of each cell along an axis."""
    axis += 1
    n, kind = cells.shape[axis], pair[side]
    out = torch.roll(cells, 1 - 2 * side, axis)
    if kind != "periodic" or n == 1:
        outer = Cell.DIRICHLET if kind == "dirichlet" else Cell.WALL
        out.narrow(axis, (n - 1) * side, 1).fill_(int(outer))
    return out


def _transmissibilities(operator, device):
    """beta / h^2 on all faces, n + 1 along each of three axes."""
    n0, n1, n2 = operator._shape3
    beta = operator.coefficient
    if isinstance(beta, tuple):
        faces = [_tensor(face, device) for face in beta]
    else:
        beta = 1.0 if beta is None else beta
        cells = torch.as_tensor(beta, dtype=torch.float64, device=device).expand(operator.grid_shape)
        faces = [harmonic(cells, a, pair[0] == "periodic") for a, pair in enumerate(operator.boundary)]
    faces = [face * (1.0 / h**2) for face, h in zip(faces, operator.spacing)]
    if len(faces) == 2:
        faces = [faces[0], faces[0].new_zeros(n0, 2, n2), faces[1]]
    return [f.reshape(s) for f, s in zip(faces, ((n0 + 1, n1, n2), (n0, n1 + 1, n2), (n0, n1, n2 + 1)))]


def harmonic(beta, axis, periodic):
    """beta on the faces of an axis from its cells: the harmonic mean inside, the cell's own on outer sides."""
    n = beta.shape[axis]
    low, high = beta.narrow(axis, 0, 1), beta.narrow(axis, n - 1, 1)
    below = torch.cat([high if periodic else low, beta], axis)
    above = torch.cat([beta, low if periodic else high], axis)
    return 2.0 * below * above / (below + above)
