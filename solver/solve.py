"""The front door: solve() and PoissonSolver."""

import time

import numpy as np

from deconjugate.operators.learned.weights import WeightsError
from deconjugate.operators.poisson import PoissonOperator
from deconjugate.solver.certified import CertifiedConjugateGradient
from deconjugate.solver.conjugate import conjugate_gradient
from deconjugate.solver.double_multigrid import DoubleMultigrid, solve_in_stages
from deconjugate.solver.fast_poisson import BoxPoisson
from deconjugate.solver.multigrid import Multigrid
from deconjugate.solver.null_space import NullSpace
from deconjugate.solver.result import SolveResult, SolveStatus
from deconjugate.solver.unstructured import UnstructuredSolver
from deconjugate.solver.vectors import VectorForm, has_tensor, is_tensor, norm

METHODS = ("auto", "learned", "multigrid", "dct", "dcdm", "cg")
_EPSILON = np.finfo(np.float64).eps
# A backward error of so many units of rounding is the best float64 can be asked for.
_ROUNDING = 32
_CERTIFIED = ("learned", "multigrid")
# What each method falls back on when it stagnates or breaks down.
_DOUBLE = "multigrid in double precision"
_FALLBACK = {"dct": "multigrid", "dcdm": "multigrid", "learned": "multigrid", "multigrid": _DOUBLE}


def solve(
    A, b, *, x0=None, rtol=1e-6, atol=0.0, maxiter=None, method="auto", callback=None, device="auto", coefficient=None
):
    """Solve A x = b and say how well.

    .. math:: ||b - A x||_2 \\le \\max(rtol ||b||_2, atol)

    of the true residual in float64 is what ``converged`` means, whatever the precision inside.

    Parameters
    ----------
    A : PoissonOperator, scipy sparse matrix, or linear operator; symmetric positive (semi)definite
    b : array
        For a PoissonOperator: the grid's shape, or flat (every cell, or the unknowns only), with any leading batch
        axes. x comes back in the same form, in float64 whatever b was: a rounded x would not have the residual that
        was certified. What b holds outside the unknowns is no part of the system. A torch tensor gives a tensor on
        its own device, differentiable: see :mod:`deconjugate.solver.differentiable`.
    x0 : array of b's form, optional
        Start.
    rtol, atol : float, >= 0
        Smaller costs more; see ``SolveStatus.ATTAINABLE_ACCURACY`` for where float64 ends.
    maxiter : int, optional
        500 iterations by default; 10 times the unknowns for ``method="cg"``.
    method : "auto", "learned", "multigrid", "dct", "dcdm" or "cg"
        "auto" is "dct" on a box without obstacles of constant coefficient, where that is exact; elsewhere "learned" in
        two dimensions and where the spacings differ, "multigrid" otherwise and where the weights are absent or damaged;
        for matrices algebraic multigrid when PyAMG is installed, else Jacobi. "learned" is multigrid corrected by
        trained weights: fewer iterations, a longer set-up. "dcdm" takes its directions from the network of Kaneda et
        al.: few iterations, each dearer than a whole multigrid solve.
    callback : callable, optional
        Called as callback(x) after each iteration, x a grid array; slows the loop.
    device : "auto" or "cpu"
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
        if device not in ("auto", "cpu"):
            raise ValueError(f"device is {device!r}; this version runs on 'cpu' (or 'auto')")
        self._asked = method
        self.device = "cpu"
        start = time.perf_counter()
        if isinstance(A, PoissonOperator):
            self._set_operator(A)
        else:
            if method not in ("auto", "cg"):
                raise ValueError(f"method {method!r} needs a PoissonOperator; for a matrix choose 'auto' or 'cg'")
            self._general = UnstructuredSolver(A, algebraic=method == "auto")
            self.operator, self.method = None, self._general.method
        self.setup_seconds = time.perf_counter() - start

    def _set_operator(self, operator):
        if not operator.unknowns.any():
            raise ValueError("cells has no unknowns: none of them is INTERIOR")
        self._general = None
        self.operator = operator
        exact = _is_plain_box(operator)
        self._parts = {}
        self._null = NullSpace(operator)
        self.method = self._best(exact) if self._asked == "auto" else self._asked
        if self.method == "learned":
            self._learned()
        if self.method == "dct":
            self._box()
        if self.method == "dcdm":
            self._dcdm()
        if self.method == "multigrid" or (self.method == "dct" and not exact):
            self._multigrid()

    def update(self, *, cells=None, coefficient=None):
        """The same solver on other cells or another coefficient (None keeps the present one).

        Spacing and boundary stay. The hierarchy is made anew, which costs about as much as an iteration.
        """
        if self.operator is None:
            raise TypeError("update() needs a solver of a PoissonOperator")
        if has_tensor(coefficient):
            raise TypeError("coefficient is a torch tensor; give it to solve(A, b, coefficient=), or as an array")
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
        for name, value in (("rtol", rtol), ("atol", atol)):
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be finite and not negative")
        if maxiter is not None and maxiter < 0:
            raise ValueError(f"maxiter is {maxiter}; it must not be negative")
        start = time.perf_counter()
        if self._general is not None:
            form = VectorForm.flat(self._general.size)
        else:
            form = VectorForm.of(self.operator, b)
        systems = form.read_each(b, "b")
        starts = None if x0 is None else form.read(x0, "x0")
        if starts is not None and np.shape(x0) != np.shape(b):
            raise ValueError(f"x0 has shape {np.shape(x0)}; it must be that of b, {np.shape(b)}")
        one = self._solve_general if self._general is not None else self._solve_grid
        x = form.zeros()  # each system fills its part in place: memory is dear at its first touch
        answers = [
            one(system, None if starts is None else starts[k], x[k], rtol, atol, maxiter, callback)
            for k, system in enumerate(systems)
        ]
        seconds = time.perf_counter() - start
        return _collect(answers, form.write(x), form.batch, self.setup_seconds, seconds, self.device)

    def as_preconditioner(self):
        """One multigrid cycle as a SciPy linear operator on the unknowns, symmetric positive (semi)definite.

        For matrices ``A.to_sparse()``: as M in ``scipy.sparse.linalg.cg`` and ``pyamg.krylov.cg``. Not a smoother by
        itself: eigenvalues of M A exceed 2 where gaps are thin, which conjugate gradients put right.
        """
        from scipy.sparse.linalg import LinearOperator

        if self.operator is None:
            raise TypeError("as_preconditioner() needs a solver of a PoissonOperator")
        unknowns = self.operator.unknowns.ravel()
        size = int(np.count_nonzero(unknowns))
        cycle = DoubleMultigrid(self._cycle(), self.operator)

        def matvec(r):
            full = np.zeros(unknowns.size)
            full[unknowns] = np.reshape(r, -1)
            return cycle.apply(full).reshape(-1)[unknowns]

        return LinearOperator((size, size), matvec=matvec, rmatvec=matvec, dtype=np.float64)

    def _part(self, name, make):
        if name not in self._parts:
            self._parts[name] = make()
        return self._parts[name]

    def _box(self):
        return self._part("box", lambda: BoxPoisson.of(self.operator))

    def _best(self, exact):
        """The rule of method="auto"; ``benchmarks/bench_poisson.py --only suite suite_large`` is what it rests on.

        Exact on plain boxes; the learned cycle in two dimensions and where spacings differ, where it is faster; plain
        multigrid elsewhere, where fewer iterations do not pay for a longer set-up, and where there are no weights.
        """
        if exact:
            return "dct"
        if len(self.operator.grid_shape) == 3 and len(set(self.operator.spacing)) == 1:
            return "multigrid"
        try:
            self._learned()
        except WeightsError:
            return "multigrid"
        return "learned"

    def _learned(self):
        from deconjugate.solver.learned_multigrid import LearnedMultigrid

        return self._part("learned", lambda: LearnedMultigrid(self.operator))

    def _cycle(self):
        """The hierarchy at hand."""
        return self._learned() if self.method == "learned" else self._multigrid()

    def _multigrid(self):
        return self._part("multigrid", lambda: Multigrid(self.operator))

    def _dcdm(self):
        from deconjugate.solver.dcdm_solver import DcdmSolver

        def cycle(r):
            return DoubleMultigrid(self._multigrid(), self.operator).apply(r)

        return self._part("dcdm", lambda: DcdmSolver(self.operator, self._null, cycle))

    def _solve_general(self, b, x0, x, rtol, atol, maxiter, callback):
        x[:], status, norms = self._general.solve(b, x0, rtol, atol, maxiter, callback)
        return _answer(x, status, norms, self._general.norm, norm(b), 0.0, self.method)

    def _solve_grid(self, b, x0, x, rtol, atol, maxiter, callback):
        operator = self.operator
        norm_b = norm(b)
        target = max(rtol * norm_b, atol)
        removed = self._null.project(b)
        # What cannot be solved is part of the residual too; a tenth of the tolerance is always left to the iteration.
        inner = np.sqrt(max(target**2 - removed**2, (0.1 * target) ** 2))
        if x0 is not None:
            np.multiply(x0, operator.unknowns, out=x)
        norms, tried, method = [], [], self.method
        while True:
            tried.append(method)
            best, start = x.copy() if tried[1:] else None, norms[-1] if norms else np.inf
            blank = x0 is None and not norms
            status, more = self._run(method, b, x, inner, maxiter, callback, len(norms), blank)
            tried += self._dcdm().fallbacks if method == "dcdm" else []
            norms = norms[:-1] + more
            if not norms[-1] <= start:
                x[:], norms[-1] = best, start
            if status in (SolveStatus.CONVERGED, SolveStatus.MAXITER) or method not in _FALLBACK:
                break
            if self._at_rounding(x, norms[-1], norm_b):
                break
            method = _FALLBACK[method]
        if self._null.labels:
            # What CertifiedConjugateGradient has improved until it was good enough is centred, and measured so.
            if not (method in _CERTIFIED and status is SolveStatus.CONVERGED and len(more) > 1):
                self._null.center(x)
                residual = operator.apply_to(x, self._part("residual", lambda: np.empty(operator.grid_shape)))
                norms[-1] = norm(np.subtract(b, residual, out=residual))
            norms[-1] = float(np.hypot(norms[-1], removed))
        if removed > max(target, _ROUNDING * _EPSILON * norm_b):
            status = SolveStatus.INCOMPATIBLE
        elif norms[-1] <= target:
            status = SolveStatus.CONVERGED
        elif self._at_rounding(x, norms[-1], norm_b):
            status = SolveStatus.ATTAINABLE_ACCURACY
        elif status is SolveStatus.CONVERGED:
            status = SolveStatus.STAGNATED
        return _answer(x, status, norms, self._norm, norm_b, removed, " + ".join(tried))

    @property
    def _norm(self):
        """An upper bound of ||A||_2, by Gershgorin."""
        operator = self.operator
        if operator._faces is None:
            return float(4.0 * operator._weights[[n > 1 for n in operator._shape3]].sum())
        return self._part("norm", lambda: 4.0 * sum(float(face.max()) for face in operator._faces))

    def _at_rounding(self, x, residual, norm_b):
        return residual <= _ROUNDING * _EPSILON * (self._norm * norm(x) + norm_b)

    def _run(self, method, b, x, target, maxiter, callback, done, blank):
        """Improve x, blank where it is all zero, in place; (status, residual norms)."""
        left = (500 if maxiter is None else maxiter) - max(done - 1, 0)
        if method == "dct" and _is_plain_box(self.operator):
            return self._exact(b, x, target, left, callback)
        if method == "dcdm":
            return self._dcdm().solve(b, x, target, left, callback)
        if method == "cg":
            limit = None if maxiter is None else left
            x[:], status, norms = conjugate_gradient(
                self.operator, b, x0=x.copy(), rtol=0.0, atol=target, maxiter=limit, callback=callback
            )
            return status, norms
        if method == _DOUBLE:
            cycle = DoubleMultigrid(self._multigrid(), self.operator)
            return solve_in_stages(self.operator, cycle, b, x, target, left, callback)
        cycle = self._learned() if method == "learned" else self._multigrid()
        inverse = _BoxOnDomain(self._box(), self.operator) if method == "dct" else cycle
        loop = self._part(
            f"{method} loop",
            lambda: CertifiedConjugateGradient(self.operator, inverse, cycle.levels[0], self._null),
        )
        return loop.solve(b, x, target, left, callback, blank=blank)

    def _exact(self, b, x, target, maxiter, callback):
        """The box solver and as many corrections by itself as rounding asks for."""
        residual = b - self.operator.apply(x) if x.any() else b.copy()
        norms = [norm(residual)]
        while norms[-1] > target and len(norms) <= maxiter:
            x += self._box().solve(residual, overwrite=True)
            residual = b - self.operator.apply(x)
            norms.append(norm(residual))
            if callback is not None:
                callback(x)
            if not np.isfinite(norms[-1]):
                return SolveStatus.NON_FINITE, norms
            if norms[-1] > 0.5 * norms[-2]:
                break
        if norms[-1] <= target:
            return SolveStatus.CONVERGED, norms
        return (SolveStatus.MAXITER if len(norms) > maxiter else SolveStatus.STAGNATED), norms


class _BoxOnDomain:
    """The box solver between embedding in the box and restriction to the unknowns."""

    def __init__(self, box, operator):
        self.box, self.unknowns, self.shape = box, operator.unknowns, operator.grid_shape

    def apply(self, r, out):
        np.multiply(self.box.solve(r.reshape(self.shape)), self.unknowns, out=out.reshape(self.shape))
        return out


def with_coefficient(A, coefficient):
    """The PoissonOperator A with another coefficient, given in arrays."""
    if not isinstance(A, PoissonOperator):
        raise TypeError(f"coefficient belongs to a PoissonOperator, and A is a {type(A).__name__}; leave it out")
    if has_tensor(coefficient):
        raise TypeError("coefficient is a torch tensor and b is not; give both as tensors, or coefficient.numpy()")
    return PoissonOperator(A.cells, spacing=A.spacing, boundary=A.boundary, coefficient=coefficient)


def _is_plain_box(operator):
    return operator._faces is None and bool(operator.unknowns.all())


def _answer(x, status, norms, norm_A, norm_b, removed, method):
    """The result of one system; what belongs to the whole batch comes later."""
    return SolveResult(
        x=x,
        converged=status is SolveStatus.CONVERGED,
        status=status,
        iterations=len(norms) - 1,
        residual_norms=norms,
        relative_residual=norms[-1] / norm_b if norm_b else norms[-1],
        backward_error=_ratio(norms[-1], norm_A * norm(x) + norm_b),
        removed_norm=removed,
        setup_seconds=0.0,
        solve_seconds=0.0,
        method=method,
        device="cpu",
    )


def _ratio(a, b):
    return a / b if b else 0.0


def _collect(answers, x, batch, setup, seconds, device):
    """One result of the batch's; plain values where there is no batch."""
    fields = {}
    for name in ("converged", "status", "iterations", "relative_residual", "backward_error", "removed_norm"):
        values = [getattr(answer, name) for answer in answers]
        if batch:
            dtype = object if name == "status" else None
            fields[name] = np.array(values, dtype=dtype).reshape(batch)
        else:
            fields[name] = values[0]
    norms = [answer.residual_norms for answer in answers]
    methods = list(dict.fromkeys(answer.method for answer in answers))
    return SolveResult(
        x=x,
        residual_norms=norms if batch else norms[0],
        setup_seconds=setup,
        solve_seconds=seconds,
        method=", ".join(methods),
        device=device,
        **fields,
    )
