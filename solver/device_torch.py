"""PoissonSolver's work on a torch device: the forms a vector may come in, and where it comes from and goes to."""

import time
import warnings
from functools import wraps
from math import prod

import numpy as np
import torch

from deconjugate.operators.memory_torch import is_full
from deconjugate.operators.precision_torch import plain_arithmetic
from deconjugate.solver.grid_solver_torch import DeviceGridSolver
from deconjugate.solver.result import collect
from deconjugate.solver.solve import check_limits


def _plainly(method):
    """The method of a solver in plain arithmetic, on its device."""

    @wraps(method)
    def run(self, *arguments, **options):
        with plain_arithmetic(self.device):
            return method(self, *arguments, **options)

    return run


class DeviceSolver:
    """Systems of one Poisson operator, or of several of one shape, solved on a torch device.

    Parameters
    ----------
    operators : PoissonOperator, or a list of them
        Of one shape, boundary and spacing; several take one right-hand side each.
    method : str
        See :func:`deconjugate.solver.solve`.
    device : torch.device

    Raises
    ------
    torch.cuda.OutOfMemoryError
        The device has no room for the operators, or, while solving, for one system or for domains that go together:
        right-hand sides of one operator are taken in halves before that, and a warning says so.

    Example
    -------
    >>> import numpy as np, torch
    >>> from deconjugate.solver import PoissonOperator
    >>> A = PoissonOperator(np.ones((12, 9), bool), boundary="dirichlet")
    >>> result = DeviceSolver(A, "auto", torch.device("cpu")).solve(torch.ones(2, 12, 9))
    >>> result.converged.tolist(), tuple(result.x.shape)
    ([True, True], (2, 12, 9))
    """

    def __init__(self, operators, method, device):
        start = time.perf_counter()
        self.several, self.device = isinstance(operators, list | tuple), device
        self._at_once = None
        self._set_up(operators, method)
        self.method = self.grid.method
        self.name = "torch:cpu" if device.type == "cpu" else str(device)
        self.setup_seconds = time.perf_counter() - start

    @_plainly
    def _set_up(self, operators, method):
        first = operators[0] if self.several and operators else operators
        try:
            self.grid = DeviceGridSolver(operators, method, self.device)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        except RuntimeError as error:
            if not is_full(error):
                raise
            raise _full(self.device, f"the set-up of grids of {first.grid_shape}", error) from error

    @_plainly
    def solve(self, b, *, x0=None, rtol=1e-6, atol=0.0, maxiter=None, callback=None):
        """Solve A x = b; as :meth:`deconjugate.solver.PoissonSolver.solve`, x an array or a tensor as b is."""
        check_limits(rtol, atol, maxiter)
        start = time.perf_counter()
        form = DeviceForm(self.grid.operator, b, self.several)
        if x0 is not None and tuple(np.shape(x0)) != tuple(np.shape(b)):
            raise ValueError(f"x0 has shape {tuple(np.shape(x0))}; it must be that of b, {tuple(np.shape(b))}")
        watch = None
        if callback is not None:

            def watch(k, x):
                x = x.reshape(self.grid.operator.grid_shape).clone()
                callback(x.cpu().numpy() if form.numpy else x)

        parts, answers, first, count = [], [], 0, max(1, prod(form.batch))
        step = min(self._at_once or count, count)
        while first < count:
            some, full = slice(first, min(first + step, count)), None
            try:
                starts = None if x0 is None else form.read(x0, "x0", some)
                x, more = self.grid.solve(form.read(b, "b", some), starts, rtol, atol, maxiter, watch)
                parts.append(form.write(x))
                answers += more
                first = some.stop
            except RuntimeError as error:
                if not is_full(error):
                    raise
                if step == 1 or self.several:
                    what = f"{some.stop - some.start} systems of {self.grid.operator.grid_shape}"
                    raise _full(self.device, what, error) from error
                full = str(error)
            if full is not None:
                # Out of the clause above, whose error keeps what was made.
                step = self._at_once = -(-step // 2)
                self.grid.release()
                message = f"the memory of {self.device} is full: right-hand sides are solved {step} at a time"
                warnings.warn(message, RuntimeWarning, stacklevel=4)
        x = form.join(parts)
        seconds = time.perf_counter() - start
        return collect(answers, x, form.batch, self.setup_seconds, seconds, self.name)

    @_plainly
    def project(self, v):
        """Systems (batch, *grid), zero outside the unknowns and less their parts in the null space."""
        v = torch.where(self.grid.operator.unknowns, v.reshape(-1, *self.grid.operator.shape), 0.0)
        self.grid.null_space.project(v)
        return v

    @_plainly
    def cycle(self, r):
        """One multigrid cycle of a float64 array of all cells, scaled to a largest entry of 1 in single precision."""
        scale = float(np.abs(r).max()) or 1.0
        single = torch.from_numpy((r / scale).astype(np.float32)).to(self.device).reshape(1, *self.grid.operator.shape)
        found = self.grid.cycle().apply(single).double().cpu().numpy().reshape(-1)
        return scale * np.ldexp(found, -self.grid.power)


def _full(device, what, error):
    return torch.cuda.OutOfMemoryError(
        f"the memory of {device} has no room for {what}: give fewer systems at a time, a smaller grid, or leave device "
        f"out, for the processor ({str(error).splitlines()[0] if str(error) else 'out of memory'})"
    )


class DeviceForm:
    """How b came in: array or tensor; on the grid, every cell flat, or the unknowns flat; and its batch axes.

    Raises
    ------
    TypeError, ValueError
        The argument is named, with what was found and the remedy.
    """

    def __init__(self, operator, b, several=False):
        shape, self.operator = operator.grid_shape, operator
        self.numpy = not isinstance(b, torch.Tensor)
        b = np.asarray(b) if self.numpy else b
        self.device = None if self.numpy else b.device
        count = None if several else int(operator.unknowns.sum())
        size, found = prod(shape), tuple(b.shape)
        self.compressed = False
        if found[-len(shape) :] == shape:
            self.tail = shape
        elif found and found[-1] == size:
            self.tail = (size,)
        elif found and found[-1] == count:
            self.tail, self.compressed = (count,), True
        else:
            raise ValueError(
                f"b has shape {found}; its last axes must be the grid's {shape}, or one axis of {size} cells"
                + ("" if several else f" or {count} unknowns")
            )
        self.batch = found[: len(found) - len(self.tail)]
        if several and prod(self.batch) != operator.domains:
            raise ValueError(f"b has {prod(self.batch)} systems; {operator.domains} operators take one each")

    def read(self, b, name, some=slice(None)):
        """Some systems (systems, n0, n1, n2) in float64 on the operator's device, zero outside the unknowns.

        C-contiguous, as kernels need them, whatever b is; memory of its own.
        """
        op = self.operator
        b = real_tensor(b, name)
        if tuple(b.shape[b.dim() - len(self.tail) :]) != self.tail:
            raise ValueError(f"{name} has shape {tuple(b.shape)}; its last axes must be {self.tail}")
        flat = b.reshape(-1, *self.tail)[some].to(op.device).contiguous()
        if self.compressed:
            full = torch.zeros(len(flat), *op.shape, dtype=torch.float64, device=op.device)
            full[:, op.unknowns[0]] = flat.double()
        else:
            full = torch.where(op.unknowns, flat.reshape(-1, *op.shape), 0).double()
        bad = int((~torch.isfinite(full)).sum())
        if bad:
            raise ValueError(f"{name} has {bad} entries that are NaN or infinite; remove them before solving")
        return full

    def write(self, x):
        """Solutions of some systems where b came from."""
        if self.compressed:
            x = x[:, self.operator.unknowns[0]]
        return x.cpu() if self.numpy else x.to(self.device)

    def join(self, parts):
        """Solutions of all systems in the form b came in."""
        x = parts[0] if len(parts) == 1 else torch.cat(parts)
        x = x.reshape(*self.batch, *self.tail)
        return x.numpy() if self.numpy else x


def real_tensor(b, name):
    """The values of an array or a tensor, without its gradients.

    Raises
    ------
    TypeError, ValueError
        It is complex, sparse or without values.
    """
    if not isinstance(b, torch.Tensor):
        b = np.asarray(b)
        if b.dtype.kind not in "fiub":
            raise TypeError(f"{name} has dtype {b.dtype}; give a real numeric array")
        return torch.from_numpy(np.ascontiguousarray(b))
    if b.is_complex():
        raise TypeError(f"{name} has dtype {b.dtype}; give a real tensor")
    if b.layout is not torch.strided:
        raise TypeError(f"{name} has layout {b.layout}; give a dense tensor, {name}.to_dense()")
    if b.device.type == "meta":
        raise ValueError(f"{name} is on device meta, which holds no values; give a tensor of the CPU or a GPU")
    return b.detach()
