"""Systems on grids on a torch device: the methods, what each of them needs, and what to do where one fails."""

import numpy as np
import torch

from deconjugate.operators.learned.weights import WeightsError
from deconjugate.operators.poisson_torch import TorchPoisson
from deconjugate.solver.certified_torch import DeviceConjugateGradient
from deconjugate.solver.conjugate_torch import deep_conjugate_directions
from deconjugate.solver.dcdm import propose
from deconjugate.solver.dcdm_solver import _PATIENCE, load_network, shipped_weights
from deconjugate.solver.fast_poisson_torch import TorchBox
from deconjugate.solver.kernels_torch import kernels_for
from deconjugate.solver.multigrid_torch import DeviceMultigrid
from deconjugate.solver.null_space_torch import DeviceNullSpace
from deconjugate.solver.result import SolveResult, SolveStatus
from deconjugate.solver.units import in_range
from deconjugate.solver.units_torch import exponents_of, solve_in_units

_EPSILON = np.finfo(np.float64).eps
# A backward error of so many units of rounding is the best float64 can be asked for.
_ROUNDING = 32
_DOUBLE = "multigrid in double precision"
_FALLBACK = {"dct": "multigrid", "dcdm": "multigrid", "learned": "multigrid", "multigrid": _DOUBLE}
# Of a recursion: the decrease for which it is trusted, for which where that ends the solve, its longest, and the growth
# that is too much; in single precision, with a variable coefficient, in double precision, and without preconditioner.
_UNIFORM, _VARIES = (1e-5, 5e-7, 30, 100.0), (1e-5, 1e-5, 30, 100.0)
_IN_DOUBLE, _PLAIN = (1e-8, 1e-8, 100, 100.0), (1e-8, 1e-8, 1000, np.inf)


class DeviceGridSolver:
    """Solves batches of systems of one Poisson operator, or of several of one shape, on a torch device.

    The rules are those of :class:`deconjugate.solver.grid_solver.GridSolver`: the same methods, the same certificate,
    the same fallbacks for each system that needs one, the same statuses. What was set up is kept.

    Parameters
    ----------
    operators : PoissonOperator, or a sequence of them
        Of one shape, boundary and spacing; several serve one system each.
    method : str
        See :func:`deconjugate.solver.solve`.
    device : torch.device

    Attributes
    ----------
    power : int
        What is set up is A / 2^power: see :mod:`deconjugate.solver.units`.

    Raises
    ------
    ValueError
        A domain without unknowns.
    """

    def __init__(self, operators, method, device):
        several = isinstance(operators, list | tuple)
        moderate, self.power = in_range(*(operators if several else [operators]))
        self._first = next(iter(moderate), None)
        self.operator = TorchPoisson(list(moderate) if several else moderate[0], device)
        if not bool(self.operator.unknowns.flatten(1).any(1).all()):
            raise ValueError("cells has no unknowns: none of them is INTERIOR")
        self.null_space = DeviceNullSpace(self.operator)
        self.kernels = kernels_for(device)
        self._parts, self._loops = {}, {}
        exact = self.operator.uniform and bool(self.operator.unknowns.all())
        self._exact = exact
        self.method = self._best() if method == "auto" else method
        if self.method in ("learned", "multigrid"):
            self._cycle(self.method)
        if self.method == "dct":
            self._box()
        if self.method == "dcdm":
            self._network()

    def _best(self):
        if self._exact:
            return "dct"
        try:
            self._cycle("learned")
        except WeightsError:
            return "multigrid"
        return "learned"

    def _part(self, name, make):
        if name not in self._parts:
            self._parts[name] = make()
        return self._parts[name]

    def _cycle(self, method):
        weights = "learned" if method == "learned" else None
        return self._part(
            method, lambda: DeviceMultigrid(self.operator, weights=weights, kernels=self.kernels.multigrid)
        )

    def cycle(self):
        """One cycle of the hierarchy at hand, on tensors in single precision."""
        return self._cycle("learned" if self.method == "learned" else "multigrid")

    def _box(self):
        return self._part("box", lambda: TorchBox(self._first, self.operator.device))

    def _network(self):
        ndim = len(self.operator.grid_shape)
        return self._part("network", lambda: load_network(shipped_weights(ndim), ndim, self.operator.device)[0])

    def solve(self, b, x0, rtol, atol, maxiter, callback):
        """Solve A x = b for float64 tensors (batch, n0, n1, n2), b zero outside the unknowns and used as memory.

        Returns
        -------
        (x, list of SolveResult)
            Each result without its x.
        """
        exponents = exponents_of(b)
        if exponents.any() or self.power:
            options = x0, rtol, atol, maxiter, callback
            return solve_in_units(self._solve, self.operator.apply, self.power, exponents, b, *options)
        return self._solve(b, x0, rtol, atol, maxiter, callback)

    def _solve(self, b, x0, rtol, atol, maxiter, callback):
        """The same for numbers that can be squared; atol may be one for each system."""
        op, batch = self.operator, len(b)
        norm_b = _norms(b)
        target = np.maximum(rtol * norm_b, atol)
        removed = self.null_space.project(b).cpu().numpy()
        # What cannot be solved is part of the residual too; a tenth of the tolerance is always left to the iteration.
        inner = np.sqrt(np.maximum(target**2 - removed**2, (0.1 * target) ** 2))
        x = torch.zeros_like(b) if x0 is None else x0 * op.unknowns
        norm_A = np.broadcast_to(op.norm, (batch,))
        norms, tried = [[] for _ in range(batch)], [[] for _ in range(batch)]
        status = np.full(batch, None, object)
        todo, method = np.ones(batch, bool), self.method
        while True:
            self._run(method, b, x, inner, maxiter, callback, todo, norms, tried, status, x0 is None)
            rounded = self._at_rounding(x, np.array([n[-1] for n in norms]), norm_A, norm_b)
            ended = [s in (SolveStatus.CONVERGED, SolveStatus.MAXITER) for s in status]
            todo = todo & ~np.array(ended) & ~rounded
            if not todo.any() or method not in _FALLBACK:
                break
            method = _FALLBACK[method]
        self.null_space.project(x)
        last = _norms(b - op.apply(x))
        last = np.hypot(last, removed)
        rounded = self._at_rounding(x, last, norm_A, norm_b)
        answers = []
        for k in range(batch):
            norms[k][-1] = float(last[k])
            if removed[k] > max(target[k], _ROUNDING * _EPSILON * norm_b[k]):
                status[k] = SolveStatus.INCOMPATIBLE
            elif last[k] <= target[k]:
                status[k] = SolveStatus.CONVERGED
            elif rounded[k]:
                status[k] = SolveStatus.ATTAINABLE_ACCURACY
            elif status[k] is SolveStatus.CONVERGED:
                status[k] = SolveStatus.STAGNATED
        size = norm_A * _norms(x) + norm_b
        for k in range(batch):
            answers.append(
                SolveResult(
                    x=None,
                    converged=status[k] is SolveStatus.CONVERGED,
                    status=status[k],
                    iterations=len(norms[k]) - 1,
                    residual_norms=norms[k],
                    relative_residual=norms[k][-1] / norm_b[k] if norm_b[k] else norms[k][-1],
                    backward_error=norms[k][-1] / size[k] if size[k] else 0.0,
                    removed_norm=float(removed[k]),
                    setup_seconds=0.0,
                    solve_seconds=0.0,
                    method=" + ".join(tried[k]),
                    device=str(op.device),
                )
            )
        return x, answers

    def _at_rounding(self, x, residual, norm_A, norm_b):
        return residual <= _ROUNDING * _EPSILON * (norm_A * _norms(x) + norm_b)

    def _run(self, method, b, x, target, maxiter, callback, todo, norms, tried, status, blank):
        """Improve the systems to do, in place, by one method; their statuses and norms are added."""
        first = not any(norms)
        done = np.array([max(len(n) - 1, 0) for n in norms])
        most = maxiter
        if maxiter is None:
            most = 10 * self.operator.code[0].numel() if method == "cg" else 500
        left = np.maximum(most - done, 0)
        best = None if first else x.clone()
        before = np.array([n[-1] if n else np.inf for n in norms])
        if method == "dct" and self._exact:
            new, more = self._by_box(b, x, target, left, todo, callback)
        elif method == "dcdm":
            new, more, taken = self._by_network(b, x, target, int(left[todo].min()), todo, callback)
        else:
            loop = self._loop(method, len(b))
            new, more = loop.solve(b, x, target, left, todo=todo, blank=blank and first, callback=callback)
        for k in np.flatnonzero(todo):
            tried[k].append(method)
            if method == "dcdm":
                tried[k] += [name for name, used in zip(("multigrid", "steepest descent"), taken[k, 1:]) if used]
            status[k] = new[k]
            norms[k] = norms[k][:-1] + more[k]
            if best is not None and not norms[k][-1] <= before[k]:
                x[k], norms[k][-1] = best[k], float(before[k])

    def _loop(self, method, batch):
        op = self.operator
        settings, dtype = (_UNIFORM if op.uniform else _VARIES), torch.float32
        if method == "cg":
            settings, dtype = _PLAIN, torch.float64

            def precondition(r, light, on):
                return r

        elif method == "dct":

            def precondition(r, light, on):
                return self._box().solve(r) * op.unknowns

        elif method == _DOUBLE:
            settings, dtype, cycle = _IN_DOUBLE, torch.float64, self._cycle("multigrid")

            def precondition(r, light, on):
                return cycle.apply(r.float(), on=on).double()

        else:
            cycle = self._cycle(method)

            def precondition(r, light, on):
                return cycle.apply(r, light=light if op.uniform else None, on=on)

        how = dict(zip(("trust", "last", "longest", "astray"), settings), dtype=dtype, kernels=self.kernels.conjugate)
        kept = self._loops.get(method)
        if kept is None or len(kept.at_work) != batch:
            self._loops[method] = None  # its vectors and its graph make room first
            self._loops[method] = DeviceConjugateGradient(op, precondition, self.null_space, batch, **how)
        return self._loops[method]

    def release(self):
        """Give back the vectors and graphs of the loops, which the next solve makes anew."""
        self._loops.clear()
        if self.operator.device.type == "cuda":
            torch.cuda.empty_cache()

    def _by_network(self, b, x, target, left, todo, callback):
        """Directions of the network, a multigrid cycle's where they fail; all but them in double precision."""
        op, cycle, network = self.operator, self._cycle("multigrid"), self._network()

        def among_all(work, v, here):
            """One operator serves any batch; several work at the places of their systems, which costs little."""
            if op.domains == 1 or len(here) == len(b):
                return work(v)
            return work(torch.zeros(b.shape, dtype=v.dtype, device=b.device).index_copy_(0, here, v))[here]

        def admissible(q):
            q = q.double() * op.unknowns
            self.null_space.project(q)
            return q

        def from_network(r, here):
            q = propose(network, r.float().reshape(-1, *op.grid_shape)).reshape(r.shape)
            return among_all(admissible, q, here)

        def from_cycle(r, here):
            return among_all(lambda all_r: admissible(cycle.apply(all_r)), r.float(), here)

        def A(u, here):
            return among_all(op.apply, u, here)

        directions = [from_network, from_cycle]
        return deep_conjugate_directions(
            A, b, x, directions, target, maxiter=left, patience=_PATIENCE, todo=todo, callback=callback
        )

    def _by_box(self, b, x, target, left, todo, callback):
        """The box solver and as many corrections by itself as rounding asks for."""
        op = self.operator
        residual = b - op.apply(x)
        norm = _norms(residual)
        norms = [[n] if t else [] for n, t in zip(norm.tolist(), todo)]
        live = todo & (norm > target) & (left > 0)
        stuck = np.zeros(len(b), bool)
        while live.any():
            here = torch.from_numpy(live).to(b.device)[:, None, None, None]
            x += torch.where(here, self._box().solve(residual), 0.0)
            residual = b - op.apply(x)
            before, norm = norm, _norms(residual)
            for k in np.flatnonzero(live):
                norms[k].append(float(norm[k]))
                left[k] -= 1
                if callback is not None:
                    callback(k, x[k])
            stuck |= live & ~(norm <= 0.5 * before)
            live &= (norm > target) & (left > 0) & ~stuck
        status = [None] * len(b)
        for k in np.flatnonzero(todo):
            if norm[k] <= target[k]:
                status[k] = SolveStatus.CONVERGED
            elif not np.isfinite(norm[k]):
                status[k] = SolveStatus.NON_FINITE
            else:
                status[k] = SolveStatus.STAGNATED if stuck[k] else SolveStatus.MAXITER
        return status, norms


def _norms(v):
    return v.flatten(1).norm(dim=1).cpu().numpy()
