"""Poisson systems of torch tensors: x on b's device, with gradients in b and in the coefficient.

    x = solve(A, b).x                         # b a tensor: x is one, on the same device, in float64
    x = solve(A, b, coefficient=beta).x       # the operator's cells, spacing and boundary with the tensor beta

The gradient is that of the exact solution, by the implicit function theorem, and costs one more solve::

    A(beta) x = b,  g = dL/dx:    A lambda = g,   dL/db = lambda,
                                  dL/dbeta_f = -(lambda_i - lambda_j) (x_i - x_j) / h^2  for the face f = (i, j)

Nothing of the iteration is recorded. Where A has a null space x = A^+ b, the solution of zero mean, and the same
equations hold with g less its mean on each closed component. beta is a number, a cell array, whose harmonic means are
the faces', or one face array per axis. Faces closed by walls, by the boundary or by a zero have no gradient. Behind a
given value x_j and lambda_j are zero: given values other than zero are a part of b, with beta for a factor, and
:func:`rhs` makes a b that knows.

The backward solve has the tolerance ``rtol`` of the forward one (1e-6 if that is zero) and can be differentiated again;
one that ends above its tolerance is a RuntimeWarning. Import of this module imports torch: the front door does so only
when it is given a tensor.

Source: the adjoint state method; O. Pironneau, J. Fluid Mech. 64, 97 (1974).

Example
-------
>>> import torch
>>> from deconjugate.solver import PoissonOperator, solve
>>> A = PoissonOperator([[True] * 6] * 5, boundary="dirichlet")
>>> beta = torch.full((5, 6), 2.0, requires_grad=True)
>>> x = solve(A, torch.ones(5, 6), coefficient=beta, rtol=1e-10).x
>>> x.sum().backward()
>>> bool((beta.grad < 0).all())  # the better it conducts, the lower the temperature
True
"""

import copy
import warnings
from dataclasses import replace

import numpy as np
import torch

from deconjugate.operators.poisson import Cell, _boundary_data
from deconjugate.operators.poisson_torch import harmonic
from deconjugate.solver.device_torch import DeviceForm, real_tensor
from deconjugate.solver.result import SolveStatus
from deconjugate.solver.solve import PoissonSolver, with_coefficient
from deconjugate.solver.vectors import VectorForm, is_tensor


def solve_with_coefficient(A, b, coefficient, options, **how):
    """``solve(A, b, coefficient=...)`` for a tensor b; the coefficient in tensors, arrays or numbers.

    Parameters
    ----------
    A : PoissonOperator
        Its own coefficient is not used.
    b : tensor
    coefficient : number, cell array, or one face array per axis
    options : dict
        Keywords of :meth:`PoissonSolver.solve`.
    how : method, device

    Raises
    ------
    TypeError, ValueError
        A has no grid; a tensor is complex, sparse, without values, or not on b's device.
    """
    operator, faces = _with_faces(A, coefficient, b, "b")
    return solve_tensor(PoissonSolver(operator, **how), b, options, faces)


def rhs(A, source, *, coefficient, dirichlet=0.0, flux=None):
    """``A.rhs(source, ...)`` as a tensor, differentiable in the source and in the coefficient.

    Where values are given behind Dirichlet faces, b_i = source_i + sum of beta_f value_f / h^2 over them: an unknown
    coefficient is in b as well as in A, and its gradient is wrong unless both know it.

    Parameters
    ----------
    A : PoissonOperator
        Its own coefficient is not used.
    source : tensor of the grid's shape, or of one that broadcasts to it
    coefficient : as for :func:`deconjugate.solver.solve`
    dirichlet, flux : as for ``PoissonOperator.rhs``; constants, no tensors

    Returns
    -------
    tensor of the grid's shape, float64, on the source's device

    Raises
    ------
    TypeError, ValueError
        As for :func:`solve_with_coefficient`; source is no tensor.

    Example
    -------
    >>> import torch
    >>> from deconjugate.solver import PoissonOperator, solve
    >>> from deconjugate.solver.differentiable import rhs
    >>> rod = PoissonOperator([[True] * 6] * 3, boundary=["neumann", "dirichlet"])
    >>> beta = torch.ones(3, 6, requires_grad=True)
    >>> b = rhs(rod, torch.zeros(3, 6), coefficient=beta, dirichlet={(1, "low"): 1.0, (1, "high"): 0.0})
    >>> temperature = solve(rod, b, coefficient=beta, rtol=1e-10).x  # falls from 1 to 0, whatever the one number beta
    >>> temperature.sum().backward()
    >>> bool(abs(beta.grad.sum()) < 1e-6)
    True
    """
    if not is_tensor(source):
        raise TypeError(f"source is a {type(source).__name__}; give a tensor, or take A.rhs for arrays")
    operator, faces = _with_faces(A, coefficient, source, "source")
    b = source.to(torch.float64).expand(operator.grid_shape)
    for axis, (beta, face) in enumerate(zip(faces, operator._face_arrays())):
        # A.rhs is linear in the coefficient of each axis: what one unit of it brings, given on its two sides.
        for side, given in enumerate(_given_behind(operator, axis, dirichlet)):
            n = operator.grid_shape[axis]
            is_open = np.take(face, np.arange(n) + side, axis) != 0
            unit = np.where(is_open & operator.unknowns, given, 0.0) / operator.spacing[axis] ** 2
            b = b + beta.narrow(axis, side, n) * torch.as_tensor(unit, device=b.device)
    fluxes = operator.rhs(0.0, flux=flux)
    unknowns = torch.as_tensor(operator.unknowns, device=b.device)
    return torch.where(unknowns, b + torch.as_tensor(fluxes, device=b.device), torch.zeros_like(b))


def solve_tensor(solver, b, options, faces=()):
    """``solver.solve(b)`` for a tensor b; ``faces``, if given, are the solver's coefficient, which get gradients."""
    system = _System(solver, options, b)
    x = system.write(_Solve.apply(system, system.read(b), *faces))
    return replace(system.result, x=x)


class _System:
    """One call of a solver, as it was then: what the forward and the backward pass share."""

    def __init__(self, solver, options, b):
        # update() gives the solver new parts: a shallow copy keeps the present ones for the backward pass.
        self.solver, self.options = copy.copy(solver), dict(options)
        self.operator = solver.operator
        self.unknowns = None
        self.result = None
        if solver._on_device is not None:
            self._keep_on_device(b)
            return
        if is_tensor(options["x0"]):
            self.options["x0"] = _to_numpy(options["x0"], "x0")
        self.values = _to_numpy(b, "b")
        self.form = VectorForm.flat(solver._general.size) if self.operator is None else None
        if self.form is None:
            self.form = VectorForm.of(self.operator, self.values)
        self.form.read(self.values, "b")
        self.shape = self.form.tail if self.operator is None else self.operator.grid_shape
        if self.operator is not None and self.form.tail not in (self.shape, (self.operator.cells.size,)):
            self.unknowns = torch.as_tensor(self.operator.unknowns, device=b.device)

    def _keep_on_device(self, b):
        """The same for a solver on a device: values stay tensors."""
        grid, several = self.solver._on_device.grid.operator, isinstance(self.operator, list | tuple)
        self.form, self.values = DeviceForm(grid, b, several), real_tensor(b, "b")
        self.shape = grid.grid_shape
        if self.form.compressed:
            self.unknowns = grid.unknowns[0].reshape(self.shape).to(b.device)

    def read(self, b):
        """(systems, *grid) in float64 from the form b came in, by differentiable operations."""
        b = b.to(torch.float64)
        if self.unknowns is None:
            return b.reshape(-1, *self.shape)
        flat = b.reshape(-1, *self.form.tail)
        return b.new_zeros(len(flat), *self.shape).masked_scatter(self.unknowns, flat)

    def write(self, x):
        """The form b came in, from (systems, *grid)."""
        if self.unknowns is not None:
            x = x[:, self.unknowns]
        return x.reshape(*self.form.batch, *self.form.tail)

    def forward(self, b):
        solve = (self.solver._on_device or self.solver).solve
        self.result = solve(self.values, **self.options)
        if self.solver._on_device is not None:
            return self.form.read(self.result.x, "x").reshape(-1, *self.shape).to(self.result.x.device)
        return self.form.read(self.result.x, "x")

    def adjoint(self):
        return _Adjoint(self)


class _Adjoint:
    """The same system for the gradient that arrives at x, less its part in the null space; from zero, to rtol alone."""

    def __init__(self, system):
        self.solver, self.operator, self.shape = system.solver, system.operator, system.shape
        self.options = {"rtol": system.options["rtol"] or 1e-6, "maxiter": system.options["maxiter"]}

    def forward(self, gradient):
        if self.solver._on_device is not None:
            values = self.solver._on_device.project(gradient.detach().to(self.solver._on_device.device, torch.float64))
            result = self.solver._on_device.solve(values.reshape(-1, *self.shape), **self.options)
            _warn_of(result)
            return result.x.to(gradient.device)
        values = _to_numpy(gradient, "the gradient of x").copy()
        if self.operator is not None:
            values[:, ~self.operator.unknowns] = 0.0
            for one in values:
                self.solver._grid.null_space.project(self.solver._crop.inside(one))
        result = self.solver.solve(values, **self.options)
        _warn_of(result)
        return result.x

    def adjoint(self):
        return self


def _warn_of(result):
    for status in np.unique([status.name for status in result.status]):
        if SolveStatus[status] not in (SolveStatus.CONVERGED, SolveStatus.ATTAINABLE_ACCURACY):
            message = f"the gradient is inexact: in the backward solve {SolveStatus[status].value}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)


class _Solve(torch.autograd.Function):
    """x = A^+ b for b (systems, *grid); the backward pass is this function again."""

    @staticmethod
    def forward(ctx, system, b, *faces):
        x = torch.as_tensor(system.forward(b), device=b.device)
        ctx.system = system
        ctx.save_for_backward(x, *faces)
        return x

    @staticmethod
    def backward(ctx, gradient):
        x, *faces = ctx.saved_tensors
        adjoint = _Solve.apply(ctx.system.adjoint(), gradient, *faces)
        gradients = [None] * len(faces)
        for axis in range(len(faces)):
            if ctx.needs_input_grad[2 + axis]:
                gradients[axis] = _face_gradient(ctx.system.operator, axis, adjoint, x)
        return None, adjoint, *gradients


def _face_gradient(operator, axis, adjoint, x):
    """-(lambda_i - lambda_j) (x_i - x_j) / h^2 on the faces of an axis, summed over the systems."""
    n = operator.grid_shape[axis]
    periodic = operator.boundary[axis][0] == "periodic"

    def difference(u):
        low, high = u.narrow(axis + 1, 0, 1), u.narrow(axis + 1, n - 1, 1)
        before, after = (high, low) if periodic else (torch.zeros_like(low), torch.zeros_like(high))
        return torch.diff(u, dim=axis + 1, prepend=before, append=after)

    is_open = torch.as_tensor(operator._face_arrays()[axis] != 0, device=x.device)
    total = -(difference(adjoint) * difference(x)).sum(0) * is_open / operator.spacing[axis] ** 2
    if periodic:
        # Both entries stand for the one outer face: each gets half of its gradient.
        shares = total.new_ones(n + 1)
        shares[0] = shares[n] = 0.5
        total = total * shares.reshape([-1 if a == axis else 1 for a in range(total.ndim)])
    return total


def _with_faces(A, coefficient, b, name):
    """The operator with the coefficient's values, and the coefficient of its faces as tensors on b's device."""
    several = isinstance(coefficient, tuple | list)
    parts = list(coefficient) if several else [coefficient]
    for part in parts:
        if is_tensor(part) and part.device != b.device:
            raise ValueError(f"coefficient is on device {part.device} and {name} on {b.device}; move one of them")
    values = [_to_numpy(part, "coefficient") if is_tensor(part) else part for part in parts]
    operator = with_coefficient(A, values if several else values[0])
    if several:
        return operator, [torch.as_tensor(part, dtype=torch.float64, device=b.device) for part in parts]
    beta = torch.as_tensor(parts[0], dtype=torch.float64, device=b.device).expand(operator.grid_shape)
    periodic = [low == "periodic" for low, _ in operator.boundary]
    return operator, [harmonic(beta, axis, periodic[axis]) for axis in range(beta.ndim)]


def _given_behind(operator, axis, dirichlet):
    """The value given behind the low, then the high face of every cell along an axis; zero behind an unknown."""
    data = _boundary_data(dirichlet, "dirichlet", operator.grid_shape)
    given = np.where(operator.cells == Cell.DIRICHLET, data["cells"], 0.0)
    for side in (0, 1):
        behind = np.moveaxis(np.roll(given, 1 - 2 * side, axis), axis, 0)
        if operator.boundary[axis][0] != "periodic":
            behind[-side] = data[axis, side] if operator.boundary[axis][side] == "dirichlet" else 0.0
        yield np.moveaxis(behind, 0, axis)


def _to_numpy(tensor, name):
    """A tensor's values in float64 on the CPU."""
    return real_tensor(tensor, name).to("cpu", torch.float64).numpy()
