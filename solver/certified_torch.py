"""Conjugate gradients for batches on a torch device: single precision inside, certified in double."""

import numpy as np
import torch

from deconjugate.solver import _conjugate_torch as plain
from deconjugate.solver.graph_torch import Replayed
from deconjugate.solver.result import SolveStatus

# As in certified.py: the power of an iteration's gain up to which the light cycle will do, progress between two true
# residuals that is not stagnation.
_LIGHT, _PROGRESS = 0.3, 0.5
# The host asks whether any system goes on after so many iterations.
_CHECK = 2
_RUNNING, _NON_FINITE, _INDEFINITE = 0, 1, 2
_STATUS = {_NON_FINITE: SolveStatus.NON_FINITE, _INDEFINITE: SolveStatus.INDEFINITE}


class DeviceConjugateGradient:
    """Preconditioned conjugate gradients for a batch of systems, each with its own stopping.

    The iteration is that of :class:`deconjugate.solver.certified.CertifiedConjugateGradient`: directions, residuals and
    products in one precision, x in double; after every so many decades the true residual, in double precision, takes
    the recursion's place, and on that alone convergence is declared. A system that has ended is masked.

    Norms, factors and the decision which systems go on stay on the device; the host asks every second iteration whether
    any does. All vectors are made once. On a CUDA device two iterations are captured as a graph and replayed.

    Parameters
    ----------
    operator : deconjugate.operators.poisson_torch.TorchPoisson
    precondition : callable (r, light) -> z
        Symmetric positive (semi)definite; ``light`` is a bool tensor (batch,), the systems for which a cheaper one will
        do.
    null_space : DeviceNullSpace
    batch : int
    dtype : torch.float32 or torch.float64
        Of directions and residuals.
    trust, last : float
        The decrease for which the recursion is trusted, and for which where that ends the solve.
    longest : int
        Iterations after which the true residual is computed at the latest.
    astray : float
        A recursion that has grown by this factor has lost its way.
    kernels : module, optional
        ``_conjugate_torch`` or ``_conjugate_triton``.

    Source: van der Vorst and Ye, SIAM J. Sci. Comput. 22, 835 (2000).
    """

    def __init__(
        self, operator, precondition, null_space, batch, *, dtype=torch.float32, trust=1e-5, last=1e-5, longest=30,
        astray=100.0, kernels=plain,
    ):  # fmt: skip
        self.operator, self.precondition, self.null_space = operator, precondition, null_space
        self.trust, self.last, self.longest, self.astray, self.kernels = trust, last, longest, astray, kernels
        shape, device = (batch, *operator.shape), operator.device
        self._p, self._q, self._r = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(3))
        self._x, self._residual = (torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(2))
        names = ("scale", "norm", "norm0", "lowest", "goal", "curvature", "count", "total", "limit")
        self._s = {name: torch.zeros(batch, dtype=torch.float64, device=device) for name in names}
        self.at_work, self._ends = (torch.zeros(batch, dtype=torch.bool, device=device) for _ in range(2))
        self._code = torch.zeros(batch, dtype=torch.int64, device=device)
        # One row more, where the norms of systems that have ended go.
        self._history = torch.zeros(longest + 1, batch, dtype=torch.float64, device=device)
        self._several = Replayed(self._iterations, self._state, device)

    def solve(self, b, x, target, maxiter, *, todo=None, blank=False, callback=None):
        """Improve x in place until ||b - A x|| <= target, system by system.

        Parameters
        ----------
        b, x : float64 tensors (batch, n0, n1, n2)
        target : array (batch,)
        maxiter : array (batch,) of int
        todo : bool array (batch,), optional
            The systems to improve.
        blank : bool
            x is all zero.
        callback : callable, optional
            Called as callback(k, x_k) for each system k after each of its iterations.

        Returns
        -------
        (list of SolveStatus or None, list of lists of residual norms)
            None and no norms for a system that was not to do.
        """
        batch, k = len(b), self.kernels
        todo = np.ones(batch, bool) if todo is None else np.asarray(todo)
        target, maxiter = np.asarray(target, float), np.asarray(maxiter)
        self._x.copy_(x)
        self._p.zero_(), self._q.zero_(), self._s["curvature"].fill_(1.0)
        if blank:
            self._residual.copy_(b)
            norm = b.flatten(1).norm(dim=1)
        else:
            norm = k.residual(self.operator, b, self._x, self._residual)
        norm = norm.cpu().numpy()
        norms = [[n] if t else [] for n, t in zip(norm.tolist(), todo)]
        norm0, failures = norm.copy(), np.zeros(batch, int)
        status = np.full(batch, None, object)
        done = np.zeros(batch, int)
        live = todo & (norm > target) & (done < maxiter)
        while live.any():
            before = norm.copy()
            far = live & (norm < self.trust * norm0)
            if far.any():
                # Products' rounding may have left as much in the null space by now, where no x can follow.
                self.null_space.project(self._residual, self._tensor(far))
            start = None if blank else self._x.clone()
            code = self._stage(norm, norm0, target, done, maxiter, live, callback)
            history, count = self._history.cpu().numpy(), self._s["count"].cpu().numpy().astype(int)
            for one in np.flatnonzero(live):
                norms[one] += history[: count[one], one].tolist()
                status[one] = _STATUS.get(int(code[one]))
            done += np.where(live, count, 0)
            norm = self._certify(b, start, before, target, norms, status, live)
            for one in np.flatnonzero(live):
                norms[one][-1] = float(norm[one])
            failures = np.where(norm > _PROGRESS * before, failures + 1, 0)
            broken = np.array([s is not None for s in status])
            live &= (norm > target) & (done < maxiter) & (failures < 2) & ~broken
            blank = False
        x.copy_(torch.where(self._tensor(todo)[:, None, None, None], self._x, x))
        for one in np.flatnonzero(todo):
            if status[one] is None:
                ended = SolveStatus.STAGNATED if failures[one] >= 2 else SolveStatus.MAXITER
                status[one] = SolveStatus.CONVERGED if norm[one] <= target[one] else ended
        return list(status), norms

    def _certify(self, b, start, before, target, norms, status, live):
        """The true residuals after a stage; what became worse is undone."""
        recursion = np.array([one[-1] if one else 0.0 for one in norms])
        centred = live & (recursion <= target)
        self.null_space.project(self._x, self._tensor(centred))
        norm = self._true_norms(b)
        late = live & (norm <= target) & ~centred
        if late.any() and not self.null_space.empty:
            self.null_space.project(self._x, self._tensor(late))
            norm = self._true_norms(b)
        worse = live & ~(norm < before)
        if worse.any():
            here = self._tensor(worse)[:, None, None, None]
            self._x.copy_(torch.where(here, torch.zeros_like(self._x) if start is None else start, self._x))
            self._p.masked_fill_(here, 0.0), self._q.masked_fill_(here, 0.0)
            self._s["curvature"].masked_fill_(here[:, 0, 0, 0], 1.0)
            again = self._true_norms(b)
            norm = np.where(worse, before, again)
        return norm

    def _true_norms(self, b):
        return self.kernels.residual(self.operator, b, self._x, self._residual).cpu().numpy()

    def _stage(self, norm, norm0, target, done, maxiter, live, callback):
        """Iterate on the recursion until every live system has reached its goal; the codes of breakdowns."""
        scale = np.where(norm > 0, norm, 1.0)
        ends = target >= self.last * scale
        values = {
            "scale": scale, "norm": norm, "norm0": norm0, "lowest": norm, "total": done, "count": 0 * norm,
            "goal": np.where(ends, target, self.trust * scale), "limit": np.minimum(maxiter - done, self.longest),
        }  # fmt: skip
        for name, value in values.items():
            self._s[name].copy_(self._tensor(np.asarray(value, float)))
        self.at_work.copy_(self._tensor(live)), self._ends.copy_(self._tensor(ends))
        self._code.zero_()
        torch.div(self._residual, self._s["scale"][:, None, None, None], out=self._residual)
        self._r.copy_(self._residual)
        for _ in range(0, self.longest + _CHECK, 1 if callback else _CHECK):
            self._advance(callback)
            if not bool(self.at_work.any()):
                break
        return self._code.cpu().numpy()

    def _advance(self, callback):
        if callback is not None:
            before = self.at_work.clone().cpu().numpy()
            self._iterate()
            for one in np.flatnonzero(before):
                callback(one, self._x[one])
        else:
            self._several()

    def _iterations(self):
        for _ in range(_CHECK):
            self._iterate()

    def _state(self):
        return [self._p, self._q, self._r, self._x, self.at_work, self._code, self._history, *self._s.values()]

    def _iterate(self):
        """One iteration of every system that is on; no value leaves the device."""
        s, on, k = self._s, self.at_work, self.kernels
        gained = (s["norm0"] / s["norm"]) ** (_LIGHT / s["total"].clamp_min(1.0))
        enough = self._ends & (s["total"] > 0) & (s["norm"] <= gained * s["goal"])
        z = self.precondition(self._r, enough, on)
        zr, zq, rp = k.products(z, self._r, self._p, self._q)
        beta = -zq / s["curvature"]
        reach = zr + beta * rp
        k.turn(self._p, z, beta, on)
        curvature = k.multiply(self.operator, self._p, self._q, on)
        finite = torch.isfinite(curvature) & torch.isfinite(reach)
        positive = (curvature > 0) & (zr > 0)
        good = on & finite & positive
        self._code.copy_(torch.where(on & ~finite, _NON_FINITE, torch.where(on & ~positive, _INDEFINITE, self._code)))
        s["curvature"].copy_(torch.where(good, curvature, s["curvature"]))
        alpha = torch.where(good, reach / curvature, 0.0)
        squares = k.step(self._x, self._p, self._r, self._q, s["scale"] * alpha, alpha, good)
        norm = s["scale"] * squares.sqrt()
        row = torch.where(good, s["count"], len(self._history) - 1.0).long()
        self._history.scatter_(0, row[None], norm[None])
        s["lowest"].copy_(torch.minimum(s["lowest"], s["norm"]))
        s["norm"].copy_(torch.where(good, norm, s["norm"]))
        s["count"] += good
        s["total"] += good
        going = (s["norm"] > s["goal"]) & (s["norm"] <= self.astray * s["lowest"]) & (s["count"] < s["limit"])
        self.at_work.copy_(good & going)

    def _tensor(self, array):
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._r.device)
