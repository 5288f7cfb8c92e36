"""Units in which systems on a torch device can be squared: :mod:`deconjugate.solver.units` for batches."""

from dataclasses import replace

import numpy as np
import torch

from deconjugate.solver.result import SolveStatus
from deconjugate.solver.units import exponent_of


def exponents_of(b):
    """The power of two that each system of b (batch, ...) is best counted in, (batch,) of int."""
    norms = b.flatten(1).norm(dim=1).tolist()
    return np.array([exponent_of(one.abs().max().cpu().numpy(), n) for one, n in zip(b, norms)], int)


def solve_in_units(solve, apply, p, exponents, b, x0, rtol, atol, maxiter, callback):
    """x and results for A x = b of a function that solves A' x' = b' alike, with A = 2^p A' and b = 2^exponent b'.

    What they certify holds to the last bit, unless x is too large or too small for double precision: then the residual
    is measured again.

    Parameters
    ----------
    solve : callable
        ``solve(b', x0', rtol, atol', maxiter, callback')`` to x' and a list of SolveResult.
    apply : callable
        x' to A' x'.
    p : int
    exponents : array (batch,) of int
    atol : float
    """
    turn = exponents - p
    b = _times_power(b, -exponents)
    with np.errstate(over="ignore", under="ignore"):
        atol = np.ldexp(np.broadcast_to(float(atol), exponents.shape), -exponents)
    watch = None
    if callback is not None:

        def watch(k, x):
            callback(k, _times_power(x[None], turn[k : k + 1])[0])

    start = None if x0 is None else _times_power(x0, -turn)
    norm_b = b.flatten(1).norm(dim=1).cpu().numpy()  # a solve may use b as memory
    inner, found = solve(b.clone(), start, rtol, atol, maxiter, watch)
    x = _times_power(inner, turn)
    back = _times_power(x, -turn)
    left = (b - apply(back)).flatten(1).norm(dim=1).cpu().numpy()
    finite, kept = (ok.flatten(1).all(1).cpu().numpy() for ok in (torch.isfinite(back), inner == back))
    target = np.maximum(rtol * norm_b, atol)
    answers = []
    for k, one in enumerate(found):
        residual, relative, status = one.residual_norms[-1], one.relative_residual, one.status
        if not finite[k]:
            residual = relative = np.inf
            status = SolveStatus.NON_FINITE
        elif not kept[k]:
            residual = float(np.hypot(left[k], one.removed_norm))
            relative = residual / (norm_b[k] or 1.0)
            if one.converged and residual > target[k]:
                status = SolveStatus.ATTAINABLE_ACCURACY
        with np.errstate(over="ignore", under="ignore"):
            norms = [float(np.ldexp(n, exponents[k])) for n in (*one.residual_norms[:-1], residual)]
            removed = float(np.ldexp(one.removed_norm, exponents[k]))
        answers.append(
            replace(
                one,
                status=status,
                converged=status is SolveStatus.CONVERGED,
                residual_norms=norms,
                relative_residual=relative,
                removed_norm=removed,
            )
        )
    return x, answers


def _times_power(v, exponents):
    """2^exponent v, system by system; in two factors, since one alone may be too large or too small."""
    halves = exponents // 2, exponents - exponents // 2
    shape = (-1,) + (1,) * (v.dim() - 1)
    for half in halves:
        v = v * torch.from_numpy(np.ldexp(1.0, half)).to(v.device).reshape(shape)
    return v
