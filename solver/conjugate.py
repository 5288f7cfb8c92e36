"""Conjugate directions: the classical loop and the one that takes its directions from a learned guess."""

import numpy as np

from deconjugate.solver.result import SolveStatus


def conjugate_gradient(A, b, *, x0=None, M=None, rtol=1e-6, atol=0.0, maxiter=None, callback=None):
    """Preconditioned conjugate gradients in the precision of b.

    .. math:: ||b - A x_k||_2 \\le \\max(rtol ||b||_2, atol)

    stops the loop; the residual is the recursion's and is replaced by the true one before convergence is declared.

    Parameters
    ----------
    A : callable or linear operator
        Symmetric positive (semi)definite; ``A(p)`` or ``A.apply(p)`` or ``A @ p`` for p of b's shape.
    b : float array, any shape
    x0 : array of b's shape, optional
        Start; zero by default.
    M : callable or linear operator, optional
        Symmetric positive definite approximation of the inverse of A.
    rtol, atol : float, >= 0
    maxiter : int, optional
        10 times the size of b by default.
    callback : callable, optional
        Called as callback(x) after each iteration.

    Returns
    -------
    x : array
    status : SolveStatus
    residual_norms : list of float
        ||b - A x_k|| for k = 0, 1, ...

    Source: Hestenes and Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952).

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import conjugate_gradient
    >>> x, status, norms = conjugate_gradient(np.diag([1.0, 2.0, 4.0]), np.ones(3))
    >>> status.name, len(norms) - 1
    ('CONVERGED', 3)
    """
    apply, precondition = _function(A), _function(M)
    x, r, target = _start(apply, b, x0, rtol, atol)
    norms = [_norm(r)]
    if norms[0] <= target:
        return x, SolveStatus.CONVERGED, norms
    replaced, epsilon = norms[0], np.finfo(r.dtype).eps
    p = rz = best = None
    status = SolveStatus.MAXITER
    for _ in range(10 * b.size if maxiter is None else maxiter):
        z = r if precondition is None else precondition(r)
        rz, before = float(np.vdot(r, z)), rz
        if p is None:
            p = np.array(z)
        else:
            p *= rz / before
            p += z
        q = apply(p)
        curvature = float(np.vdot(p, q))
        if not np.isfinite(curvature) or not np.isfinite(rz):
            status = SolveStatus.NON_FINITE
            break
        if curvature <= 0.0 or rz <= 0.0:
            status = SolveStatus.INDEFINITE
            break
        alpha = rz / curvature
        x += alpha * p
        r = r - alpha * q
        norms.append(_norm(r))
        if callback is not None:
            callback(x.copy())
        # Below its own rounding the recursion says nothing of x, and its directions lose their way.
        if norms[-1] <= max(target, epsilon * replaced):
            r = b - apply(x)
            norms[-1] = _norm(r)
            if norms[-1] <= target:
                return x, SolveStatus.CONVERGED, norms
            if norms[-1] >= 0.5 * replaced:
                status = SolveStatus.STAGNATED
                break
            replaced, p, best = norms[-1], None, x.copy()
    norms[-1] = _norm(b - apply(x))
    if best is not None and not norms[-1] <= replaced:
        # What followed the last residual that was measured was rounding.
        x, norms[-1] = best, replaced
        status = status if status is SolveStatus.MAXITER else SolveStatus.STAGNATED
    return x, status, norms


def deep_conjugate_directions(
    A, b, direction, *, window=2, x0=None, rtol=1e-6, atol=0.0, maxiter=1000, fallback=None, callback=None
):
    """Exact line searches along conjugate directions that any callable proposes (DCDM).

    .. math:: q_k = direction(r_k / ||r_k||), \\quad
              p_k = q_k - \\sum_{i = k - window}^{k - 1} (p_i^T A q_k / p_i^T A p_i) p_i, \\quad
              x_{k+1} = x_k + (p_k^T r_k / p_k^T A p_k) p_k

    The residual is computed anew from x after every step. A direction that is not finite, of no positive curvature,
    or that lowers the residual's A^-1-norm by nothing is replaced by the fallback's, then by the residual itself:
    a bad callable costs time, not correctness.

    Parameters
    ----------
    A, b, x0, rtol, atol, callback
        As for :func:`conjugate_gradient`; the same stopping rule, always of the true residual.
    direction : callable
        r / ||r|| of b's shape to q of b's shape: an approximation of A^-1 r up to any factor. Need not be linear.
    window : int, >= 0
        How many of the last directions p_k is made conjugate to; 2 in the paper. With a linear symmetric
        positive definite callable 1 suffices.
    maxiter : int
    fallback : callable, optional
        Same form as direction, tried when direction fails.

    Returns
    -------
    x, status, residual_norms
        As for :func:`conjugate_gradient`.

    Source: Kaneda, Akar, Chen, Kala, Hyde and Teran, ICML 2023, arXiv 2205.10763, algorithm 1.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import deep_conjugate_directions
    >>> A = np.diag([1.0, 2.0, 4.0])
    >>> x, status, norms = deep_conjugate_directions(A, np.ones(3), lambda r: r / np.diag(A))
    >>> status.name, len(norms) - 1
    ('CONVERGED', 1)
    """
    if window < 0:
        raise ValueError(f"window is {window}; it must be 0 or more")
    apply = _function(A)
    proposals = [_function(direction), _function(fallback), np.copy]
    x, r, target = _start(apply, b, x0, rtol, atol)
    norms = [_norm(r)]
    previous = []  # (p, A p, p.A p), the last `window` of them
    for _ in range(maxiter):
        if norms[-1] <= target:
            return x, SolveStatus.CONVERGED, norms
        if not np.isfinite(norms[-1]):
            return x, SolveStatus.NON_FINITE, norms
        unit = r / norms[-1]
        for propose in proposals:
            found = propose and _conjugate_direction(apply, propose(unit), unit, previous)
            if found:
                break
        else:
            return x, SolveStatus.INDEFINITE, norms
        p, _, pAp = found
        x += (float(np.vdot(p, r)) / pAp) * p
        r = b - apply(x)
        norms.append(_norm(r))
        previous = [*previous, found][-window:] if window else []
        if callback is not None:
            callback(x.copy())
    return x, SolveStatus.CONVERGED if norms[-1] <= target else SolveStatus.MAXITER, norms


def _conjugate_direction(apply, q, unit, previous):
    """(p, A p, p.A p) from a proposal q, or None where the proposal is of no use."""
    q = np.asarray(q, dtype=unit.dtype)
    if q.shape != unit.shape:
        raise ValueError(f"direction returned an array of shape {q.shape}; it must be that of b, {unit.shape}")
    if not np.isfinite(q).all():
        return None
    p = q.copy()
    for other, A_other, curvature in previous:
        p -= (float(np.vdot(q, A_other)) / curvature) * other
    Ap = apply(p)
    pAp = float(np.vdot(p, Ap))
    # Below rounding of p.Ap, and for a direction at right angles to the residual, a step is noise.
    scale = _norm(p) * _norm(Ap)
    epsilon = np.finfo(unit.dtype).eps
    if not np.isfinite(pAp) or pAp <= epsilon * scale or abs(float(np.vdot(p, unit))) <= epsilon * _norm(p):
        return None
    return p, Ap, pAp


def _start(apply, b, x0, rtol, atol):
    x = np.zeros_like(b) if x0 is None else np.array(x0, dtype=b.dtype)
    r = b.copy() if x0 is None else b - apply(x)
    return x, r, max(rtol * _norm(b), atol)


def _norm(r):
    return float(np.linalg.norm(r.reshape(-1)))


def _function(A):
    """A as a function of arrays, whatever form it came in."""
    if A is None or not (hasattr(A, "apply") or hasattr(A, "__matmul__")):
        return A
    return A.apply if hasattr(A, "apply") else lambda p: A @ p
