"""Units in which the numbers of a system can be squared, and rounded to single precision."""

from dataclasses import replace
from math import frexp, ldexp

import numpy as np

from deconjugate.operators.poisson import PoissonOperator
from deconjugate.solver.result import SolveStatus
from deconjugate.solver.vectors import norm

# A norm of b between these has squares, of residuals far below it too, that float64 holds.
_LEAST, _LARGEST = 1e-100, 1e100
# Couplings whose largest is between these keep clear of the ends of single precision, some decades apart as they are.
_LEAST_COUPLING, _LARGEST_COUPLING = 2.0**-60, 2.0**60


def exponent_of(b, norm_b):
    """The power of two that b is best counted in; 0 where its norm, as computed, is of no concern."""
    if _LEAST < norm_b < _LARGEST:
        return 0
    return frexp(float(np.abs(b).max(initial=0.0)))[1]


def in_range(*operators):
    """Operators of moderate couplings, and the power of two p by which all are to be multiplied: A = 2^p A'.

    The given ones and 0 where couplings are moderate. A power of two changes no digit of any product.

    Raises
    ------
    ValueError
        Couplings beyond double precision, or of several operators too far apart.
    """
    largest = [_largest_coupling(operator) for operator in operators]
    if not np.isfinite(largest).all():
        raise ValueError("coefficient / spacing^2 is too large for double precision; choose another unit of length")
    if all(map(_is_moderate, largest)):
        return operators, 0
    half = frexp(max(largest))[1] // 2
    if not all(_is_moderate(ldexp(size, -2 * half)) for size in largest):
        raise ValueError("coefficients of the domains lie too many decades apart; solve the domains one by one")
    moderate = [
        PoissonOperator(
            operator.cells,
            spacing=[ldexp(h, half) for h in operator.spacing],
            boundary=operator.boundary,
            coefficient=operator.coefficient,
        )
        for operator in operators
    ]
    return moderate, 2 * half


def _largest_coupling(operator):
    couplings = [operator._weights] if operator._is_uniform else operator._faces
    return max(float(t.max()) for t in couplings)


def _is_moderate(coupling):
    return coupling == 0.0 or _LEAST_COUPLING <= coupling <= _LARGEST_COUPLING


def solve_in_units(solve, apply, p, exponent, b, x0, x, rtol, atol, maxiter, callback):
    """The result for A x = b of a function that solves A' x' = b' alike, with A = 2^p A' and b = 2^exponent b'.

    What it certifies holds to the last bit, unless x is too large or too small for double precision: then the
    residual is measured again.

    Parameters
    ----------
    solve : callable
        ``solve(b', its norm, x0', x', rtol, atol', maxiter, callback')``, which writes x' and gives a SolveResult.
    apply : callable
        x' to A' x'.
    p, exponent : int
    """
    turn = exponent - p
    with np.errstate(over="ignore", under="ignore"):
        np.ldexp(b, -exponent, out=b)
        atol = float(np.ldexp(atol, -exponent))
        norm_b = norm(b)
        target = max(rtol * norm_b, atol)
        start = None if x0 is None else np.ldexp(x0, -turn)
        watch = None if callback is None else lambda inner: callback(np.ldexp(inner, turn))
        found = solve(b, norm_b, start, x, rtol, atol, maxiter, watch)
        inner = x.copy()
        back = np.ldexp(np.ldexp(x, turn, out=x), -turn)
        residual, relative, status = found.residual_norms[-1], found.relative_residual, found.status
        if not np.isfinite(back).all():
            residual = relative = np.inf
            status = SolveStatus.NON_FINITE
        elif not np.array_equal(inner, back):
            residual = float(np.hypot(norm(b - apply(back)), found.removed_norm))
            relative = residual / (norm_b or 1.0)
            if found.converged and residual > target:
                status = SolveStatus.ATTAINABLE_ACCURACY
        norms = [float(np.ldexp(n, exponent)) for n in (*found.residual_norms[:-1], residual)]
        removed = float(np.ldexp(found.removed_norm, exponent))
    return replace(
        found,
        x=x,
        status=status,
        converged=status is SolveStatus.CONVERGED,
        residual_norms=norms,
        relative_residual=relative,
        removed_norm=removed,
    )
