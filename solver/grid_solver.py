"""One system on a grid: the methods, what each of them needs, and what to do where one fails."""

import numpy as np

from deconjugate.operators import _poisson_numba as kernels
from deconjugate.operators.learned.weights import WeightsError
from deconjugate.operators.poisson import Cell
from deconjugate.solver.certified import CertifiedConjugateGradient
from deconjugate.solver.conjugate import conjugate_gradient
from deconjugate.solver.double_multigrid import DoubleMultigrid, solve_in_stages
from deconjugate.solver.fast_poisson import BoxPoisson
from deconjugate.solver.memory import empty
from deconjugate.solver.multigrid import Multigrid
from deconjugate.solver.null_space import NullSpace
from deconjugate.solver.result import SolveStatus, answer
from deconjugate.solver.units import exponent_of, in_range, solve_in_units
from deconjugate.solver.vectors import norm

_EPSILON = np.finfo(np.float64).eps
# A start whose rounding alone, magnified by A, is as large as b holds nothing.
_USELESS = 1 / _EPSILON
# A backward error of so many units of rounding is the best float64 can be asked for.
_ROUNDING = 32
_CERTIFIED = ("learned", "multigrid")
# What each method falls back on when it stagnates or breaks down.
_DOUBLE = "multigrid in double precision"
_FALLBACK = {"dct": "multigrid", "dcdm": "multigrid", "learned": "multigrid", "multigrid": _DOUBLE}


class GridSolver:
    """Solves the systems of a Poisson operator, one at a time, and keeps what it set up for the next.

    Parameters
    ----------
    operator : deconjugate.operators.PoissonOperator
        With at least one unknown.
    method : str
        See :func:`deconjugate.solver.solve`.

    Attributes
    ----------
    method : str
        The one in use: "auto" has become another.
    null_space : NullSpace
    """

    def __init__(self, operator, method):
        (self.operator,), self._power = in_range(operator)
        self._parts = {}
        self.null_space = NullSpace(self.operator)
        exact = _is_plain_box(self.operator)
        self.method = self._best(exact) if method == "auto" else method
        if self.method == "learned":
            self._learned()
        if self.method == "dct":
            self._box()
        if self.method == "dcdm":
            self._dcdm()
        if self.method == "multigrid" or (self.method == "dct" and not exact):
            self._multigrid()

    def solve(self, b, x0, x, rtol, atol, maxiter, callback):
        """Solve A x = b for b of the grid, whose memory is used, into x, which is zero at first; a SolveResult."""
        norm_b = norm(b)
        exponent = exponent_of(b, norm_b)
        if exponent or self._power:
            options = x0, x, rtol, atol, maxiter, callback
            return solve_in_units(self._solve, self.operator.apply, self._power, exponent, b, *options)
        return self._solve(b, norm_b, x0, x, rtol, atol, maxiter, callback)

    def _solve(self, b, norm_b, x0, x, rtol, atol, maxiter, callback):
        """The same for numbers that can be squared."""
        operator = self.operator
        target = max(rtol * norm_b, atol)
        removed = self.null_space.project(b)
        # What cannot be solved is part of the residual too; a tenth of the tolerance is always left to the iteration.
        least = 0.1 * target
        inner = np.sqrt(max(target * target - removed * removed, least * least)) if removed else target
        if x0 is not None and self._norm * norm(x0) <= _USELESS * norm_b:
            np.multiply(x0, operator.unknowns, out=x)
        else:
            x0 = None
        norms, tried, method, reached = [], [], self.method, None
        while True:
            best, start = x.copy() if tried else None, norms[-1] if norms else np.inf
            blank = x0 is None and not tried
            tried.append(method)
            status, more = self._run(method, b, x, inner, maxiter, callback, len(norms), blank)
            tried += self._dcdm().fallbacks if method == "dcdm" else []
            norms = norms[:-1] + more
            if not norms[-1] <= start:
                x[:], norms[-1] = best, start
            if status in (SolveStatus.CONVERGED, SolveStatus.MAXITER):
                break
            if x0 is not None and not norms[0] <= norm_b:
                # A start that is farther off than none may have cost the digits that are missing.
                reached = norms[-1], x.copy()
                x[:], x0, tried, norms[-1], method = 0.0, None, [], norm(b), self.method
            elif method not in _FALLBACK or self._at_rounding(x, norms[-1], norm_b):
                break
            else:
                method = _FALLBACK[method]
        if reached and reached[0] < norms[-1]:
            norms[-1], x[:] = reached
        if self.null_space.labels:
            # What CertifiedConjugateGradient has improved until it was good enough is centred, and measured so.
            if not (method in _CERTIFIED and status is SolveStatus.CONVERGED and len(more) > 1):
                self.null_space.center(x)
                residual = operator.apply_to(x, empty(operator.grid_shape, np.float64))
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
        return answer(x, status, norms, self._norm, norm_b, removed, " + ".join(tried))

    def cycle(self):
        """One cycle of the hierarchy at hand, between arrays in double precision: apply(r)."""
        hierarchy = self._learned() if self.method == "learned" else self._multigrid()
        return DoubleMultigrid(hierarchy, self.operator, self._power)

    def _part(self, name, make):
        if name not in self._parts:
            self._parts[name] = make()
        return self._parts[name]

    def _box(self):
        return self._part("box", lambda: BoxPoisson.of(self.operator))

    def _best(self, exact):
        """The rule of method="auto"; ``benchmarks/bench_poisson.py --only suite suite_large`` is what it rests on.

        Exact on plain boxes; elsewhere the learned cycle, and plain multigrid where there are no weights.
        """
        if exact:
            return "dct"
        try:
            self._learned()
        except WeightsError:
            return "multigrid"
        return "learned"

    def _learned(self):
        from deconjugate.solver.learned_multigrid import LearnedMultigrid

        return self._part("learned", lambda: LearnedMultigrid(self.operator))

    def _multigrid(self):
        return self._part("multigrid", lambda: Multigrid(self.operator))

    def _dcdm(self):
        from deconjugate.solver.dcdm_solver import DcdmSolver

        def cycle(r):
            return DoubleMultigrid(self._multigrid(), self.operator).apply(r)

        return self._part("dcdm", lambda: DcdmSolver(self.operator, self.null_space, cycle))

    @property
    def _norm(self):
        """An upper bound of ||A||_2, by Gershgorin."""
        operator = self.operator
        if operator._faces is None:
            coupled = (operator._sides == kernels.DIRICHLET).any(axis=1) | (np.array(operator._shape3) > 1)
            return float(4.0 * operator._weights[coupled].sum())
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
                lambda p: self.operator.apply_to(p, np.empty_like(p)),
                b,
                x0=x.copy(),
                rtol=0.0,
                atol=target,
                maxiter=limit,
                callback=callback,
            )
            return status, norms
        if method == _DOUBLE:
            cycle = DoubleMultigrid(self._multigrid(), self.operator)
            return solve_in_stages(self.operator, cycle, b, x, target, left, callback)
        cycle = self._learned() if method == "learned" else self._multigrid()
        inverse = _BoxOnDomain(self._box(), self.operator) if method == "dct" else cycle
        light = None if method == "dct" else cycle.apply_light
        loop = self._part(
            f"{method} loop",
            lambda: CertifiedConjugateGradient(self.operator, inverse, cycle.levels[0], self.null_space, light),
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
                callback(x.copy())
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


def _is_plain_box(operator):
    return operator._is_uniform and bool(operator.cells.min() == operator.cells.max() == Cell.INTERIOR)
