"""The front door: solve() and PoissonSolver."""

import time

import numpy as np

from deconjugate.operators.poisson import PoissonOperator
from deconjugate.solver.crop import Crop
from deconjugate.solver.grid_solver import GridSolver
from deconjugate.solver.result import answer, collect
from deconjugate.solver.units import exponent_of, solve_in_units
from deconjugate.solver.unstructured import UnstructuredSolver
from deconjugate.solver.vectors import VectorForm, has_tensor, is_tensor, norm

METHODS = ("auto", "learned", "multigrid", "dct", "dcdm", "cg")


def solve(
    A, b, *, x0=None, rtol=1e-6, atol=0.0, maxiter=None, method="auto", callback=None, device="auto", coefficient=None
):
    """Solve A x = b and say how well.

    .. math:: ||b - A x||_2 \\le \\max(rtol ||b||_2, atol)

    of the true residual in float64 is what ``converged`` means, whatever the precision inside.

    Parameters
    ----------
    A : PoissonOperator, scipy sparse matrix, or linear operator; symmetric positive (semi)definite
        On a device also a list of PoissonOperators of one shape, boundary and spacing, for a b of one system each.
    b : array
        For a PoissonOperator: the grid's shape, or flat (every cell, or the unknowns only), with any leading batch
        axes. x comes back in the same form, in float64 whatever b was: a rounded x would not have the residual that
        was certified. What b holds outside the unknowns is no part of the system. A torch tensor gives a tensor on
        its own device, differentiable: see :mod:`deconjugate.solver.differentiable`.
    x0 : array of b's form, optional
        Start. One so far off that rounding in it alone outweighs b is left out.
    rtol, atol : float, >= 0
        Smaller costs more; see ``SolveStatus.ATTAINABLE_ACCURACY`` for where float64 ends.
    maxiter : int, optional
        500 iterations by default; 10 times the unknowns for ``method="cg"``.
    method : "auto", "learned", "multigrid", "dct", "dcdm" or "cg"
        "auto" is "dct" on a box without obstacles of constant coefficient, where that is exact; elsewhere "learned",
        and "multigrid" where its weights are absent or damaged; for matrices algebraic multigrid when PyAMG is
        installed, else Jacobi. "learned" is multigrid corrected by trained weights: fewer iterations, a longer set-up.
        "dcdm" takes its directions from the network of Kaneda et al.: few iterations, each dearer than a whole
        multigrid solve.
    callback : callable, optional
        Called as callback(x) after each iteration, x a grid array; slows the loop.
    device : "auto", "cpu", "cuda", "cuda:1" ... or "torch:cpu"
        "auto" is the device of a tensor b that is on one, else the processor. "torch:cpu" is what a CUDA device does,
        on the processor: slower than "cpu", for tests. Devices were tested on tensors of the processor only: no card
        has been timed yet.
    coefficient : as for PoissonOperator, optional
        Takes the place of A's; torch tensors, with a tensor b, get gradients.

    Returns
    -------
    SolveResult

    Raises
    ------
    TypeError, ValueError
        For input that no method could solve: the argument is named. What goes wrong during the iteration is a status.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import PoissonOperator, solve
    >>> A = PoissonOperator(np.ones((16, 16), bool), boundary="dirichlet")
    >>> result = solve(A, np.ones((16, 16)))
    >>> result.converged, result.relative_residual < 1e-6
    (True, True)
    """
    options = {"x0": x0, "rtol": rtol, "atol": atol, "maxiter": maxiter, "callback": callback}
    if device == "auto" and is_tensor(b) and b.is_cuda:
        device = str(b.device)
    if coefficient is not None and is_tensor(b):
        from deconjugate.solver.differentiable import solve_with_coefficient

        return solve_with_coefficient(A, b, coefficient, options, method=method, device=device)
    if coefficient is not None:
        A = with_coefficient(A, coefficient)
    return PoissonSolver(A, method=method, device=device).solve(b, **options)


class PoissonSolver:
    """A solver that keeps what it set up, for many right-hand sides and for domains that change.

    Parameters
    ----------
    A, method, device
        As for :func:`solve`.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import PoissonOperator, PoissonSolver
    >>> cells = np.ones((16, 16), bool)
    >>> solver = PoissonSolver(PoissonOperator(cells, boundary="dirichlet"))
    >>> first = solver.solve(np.ones((16, 16)))
    >>> cells[4:8, 4:8] = False
    >>> solver.update(cells=cells).solve(np.ones((16, 16)), x0=first.x).converged
    True
    """

    def __init__(self, A, *, method="auto", device="auto"):
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; choose from {', '.join(METHODS)}")
        self._asked, self._place = method, _place(device)
        self._on_device = None
        start = time.perf_counter()
        if isinstance(A, PoissonOperator) or (self._place is not None and isinstance(A, list | tuple)):
            self._set_operator(A)
        elif self._place is not None or isinstance(A, list | tuple):
            kind = type(A).__name__
            raise TypeError(f"A is a {kind}; a device takes a PoissonOperator, or a list of them, the processor one A")
        else:
            if method not in ("auto", "cg"):
                raise ValueError(f"method {method!r} needs a PoissonOperator; for a matrix choose 'auto' or 'cg'")
            self.device = "cpu"
            self._general = UnstructuredSolver(A, algebraic=method == "auto")
            self.operator, self.method = None, self._general.method
        self.setup_seconds = time.perf_counter() - start

    def _set_operator(self, operator):
        if self._place is not None:
            from deconjugate.solver.device_torch import DeviceSolver

            self._on_device = DeviceSolver(operator, self._asked, self._place)
            self.method, self.device = self._on_device.method, self._on_device.name
        else:
            crop = Crop(operator)
            grid = GridSolver(crop.operator, self._asked)  # what it refuses leaves the solver as it was
            self._crop, self._grid, self.method, self.device = crop, grid, grid.method, "cpu"
        self._general, self.operator = None, operator

    def update(self, *, cells=None, coefficient=None):
        """The same solver on other cells or another coefficient (None keeps the present one).

        Spacing and boundary stay. The hierarchy is made anew, which costs about as much as an iteration.
        """
        if self.operator is None:
            raise TypeError("update() needs a solver of a PoissonOperator")
        if has_tensor(coefficient):
            raise TypeError("coefficient is a torch tensor; give it to solve(A, b, coefficient=), or as an array")
        if isinstance(self.operator, list | tuple):
            raise TypeError("update() changes one operator; make a new solver of the list")
        old = self.operator
        start = time.perf_counter()
        self._set_operator(
            PoissonOperator(
                old.cells if cells is None else cells,
                spacing=old.spacing,
                boundary=old.boundary,
                coefficient=old.coefficient if coefficient is None else coefficient,
            )
        )
        self.setup_seconds = time.perf_counter() - start
        return self

    def solve(self, b, *, x0=None, rtol=1e-6, atol=0.0, maxiter=None, callback=None):
        """Solve A x = b; arguments and result as for :func:`solve`."""
        if is_tensor(b):
            from deconjugate.solver.differentiable import solve_tensor

            options = {"x0": x0, "rtol": rtol, "atol": atol, "maxiter": maxiter, "callback": callback}
            return solve_tensor(self, b, options)
        check_limits(rtol, atol, maxiter)
        if self._on_device is not None:
            return self._on_device.solve(b, x0=x0, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback)
        start = time.perf_counter()
        if self._general is not None:
            form = VectorForm.flat(self._general.size)
        else:
            form = VectorForm.of(self.operator, b, self._crop)
        systems = form.read_each(b, "b")
        starts = None if x0 is None else form.read(x0, "x0")
        if starts is not None and np.shape(x0) != np.shape(b):
            raise ValueError(f"x0 has shape {np.shape(x0)}; it must be that of b, {np.shape(b)}")
        one = self._solve_general if self._general is not None else self._grid.solve
        if callback is not None and self._general is None:
            callback = _on_whole_grid(callback, self._crop)
        x = form.zeros()  # each system fills its part in place: memory is dear at its first touch
        answers = [
            one(system, None if starts is None else starts[k], x[k], rtol, atol, maxiter, callback)
            for k, system in enumerate(systems)
        ]
        seconds = time.perf_counter() - start
        return collect(answers, form.write(x), form.batch, self.setup_seconds, seconds, self.device)

    def as_preconditioner(self):
        """One multigrid cycle as a SciPy linear operator on the unknowns, symmetric positive (semi)definite.

        For matrices ``A.to_sparse()``: as M in ``scipy.sparse.linalg.cg`` and ``pyamg.krylov.cg``. Not a smoother by
        itself: eigenvalues of M A exceed 2 where gaps are thin, which conjugate gradients put right.
        """
        from scipy.sparse.linalg import LinearOperator

        if not isinstance(self.operator, PoissonOperator):
            raise TypeError("as_preconditioner() needs a solver of a PoissonOperator")
        operator = self.operator if self._on_device is not None else self._crop.operator
        cycle = self._on_device.cycle if self._on_device is not None else self._grid.cycle().apply
        unknowns = operator.unknowns.ravel()
        size = int(np.count_nonzero(unknowns))

        def matvec(r):
            full = np.zeros(unknowns.size)
            full[unknowns] = np.reshape(r, -1)
            return cycle(full).reshape(-1)[unknowns]

        return LinearOperator((size, size), matvec=matvec, rmatvec=matvec, dtype=np.float64)

    def _solve_general(self, b, x0, x, rtol, atol, maxiter, callback):
        norm_b, options = norm(b), (x0, x, rtol, atol, maxiter, callback)
        exponent = exponent_of(b, norm_b)
        if exponent:
            return solve_in_units(self._solve_matrix, self._general.apply, 0, exponent, b, *options)
        return self._solve_matrix(b, norm_b, *options)

    def _solve_matrix(self, b, norm_b, x0, x, rtol, atol, maxiter, callback):
        x[:], status, norms = self._general.solve(b, x0, rtol, atol, maxiter, callback)
        return answer(x, status, norms, self._general.norm, norm_b, 0.0, self.method)


def check_limits(rtol, atol, maxiter):
    """Refuse tolerances and limits that mean nothing."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {value}; it must be finite and not negative")
    if maxiter is not None and maxiter < 0:
        raise ValueError(f"maxiter is {maxiter}; it must not be negative")


def _place(device):
    """None for the processor and its kernels, else the torch device."""
    name = str(device)
    if name in ("auto", "cpu"):
        return None
    if name != "torch:cpu" and name.split(":")[0] != "cuda":
        raise ValueError(f"device is {device!r}; choose from auto, cpu, cuda, cuda:0 ... and torch:cpu")
    from deconjugate.operators.learned.device import choose

    return choose("cpu" if name == "torch:cpu" else name)


def with_coefficient(A, coefficient):
    """The PoissonOperator A with another coefficient, given in arrays."""
    if not isinstance(A, PoissonOperator):
        raise TypeError(f"coefficient belongs to a PoissonOperator, and A is a {type(A).__name__}; leave it out")
    if has_tensor(coefficient):
        raise TypeError("coefficient is a torch tensor and b is not; give both as tensors, or coefficient.numpy()")
    return PoissonOperator(A.cells, spacing=A.spacing, boundary=A.boundary, coefficient=coefficient)


def _on_whole_grid(callback, crop):
    def watch(x):
        callback(crop.embed(x))

    return watch
