"""Exact line searches along proposed directions for batches on a torch device (DCDM)."""

import numpy as np
import torch

from deconjugate.solver import _conjugate_torch as plain
from deconjugate.solver.result import SolveStatus

# The host asks whether any system goes on after so many steps.
_CHECK = 2


def deep_conjugate_directions(
    A, b, x, directions, target, *, window=2, maxiter=1000, patience=None, todo=None, callback=None
):
    """Improve x in place along conjugate directions that callables propose, system by system.

    .. math:: p_k = q_k - \\sum_{i = k - window}^{k - 1} (p_i^T A q_k / p_i^T A p_i) p_i, \\quad
              x_{k+1} = x_k + (p_k^T r_k / p_k^T A p_k) p_k

    The loop of :func:`deconjugate.solver.deep_conjugate_directions`. All proposals are asked at every step, and each
    system takes the first that is finite, of positive curvature and not at right angles to its residual. Which one that
    is stays on the device, as do the norms; every second step the host asks which systems go on, and what has ended
    takes no part from then on: a network is asked for the others alone.

    Parameters
    ----------
    A : callable
        (u, here) to A u, for the systems ``here``, an int64 tensor of places in the batch; u is (len(here), ...).
    b, x : tensors (batch, ...)
    directions : list of callables
        (r / ||r||, here) to q, the best first; the residual itself is tried after them all.
    target : array (batch,)
        Norms of b - A x to reach.
    window : int, >= 0
    maxiter : int
    patience : int, optional
        The best direction is given up for a system whose residual so many steps have not halved.
    todo : bool array (batch,), optional
    callback : callable, optional
        Called as callback(k, x_k) for each system k after each of its steps.

    Returns
    -------
    (list of SolveStatus, list of lists of residual norms, bool array (batch, proposals) of those that were taken)

    Raises
    ------
    ValueError
        window is negative.

    Source: Kaneda, Akar, Chen, Kala, Hyde and Teran, ICML 2023, arXiv 2205.10763, algorithm 1.

    Example
    -------
    >>> import torch
    >>> d = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    >>> b, x = torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    >>> A, guess = lambda u, here: d * u, lambda r, here: r / d
    >>> status, norms, _ = deep_conjugate_directions(A, b, x, [guess], [1e-9, 1e-9])
    >>> [s.name for s in status], [len(n) - 1 for n in norms]
    (['CONVERGED', 'CONVERGED'], [1, 1])
    """
    if window < 0:
        raise ValueError(f"window is {window}; it must be 0 or more")
    batch, epsilon = len(b), torch.finfo(b.dtype).eps
    wide = [-1] + [1] * (b.dim() - 1)
    here = torch.arange(batch, device=b.device)
    target = torch.as_tensor(np.asarray(target, float), device=b.device)
    r = b - A(x, here)
    final = _norm(r)
    on = (final > target) & torch.isfinite(final)
    if todo is not None:
        on &= torch.as_tensor(np.asarray(todo), device=b.device)
    stuck, retired = torch.zeros_like(on), torch.zeros_like(on)
    proposals = [*directions, lambda r, here: r.clone()]
    taken = torch.zeros(batch, len(proposals), dtype=torch.bool, device=b.device)
    history, before, step = [final.clone()], [], 0
    y, norm, goal, right = x.clone(), final.clone(), target, b
    while step < maxiter:
        left = on.nonzero()[:, 0]
        if len(left) < len(here):
            x[here], final[here] = y, norm
            here, y, r, on, norm, goal, right, retired = (v[left] for v in (here, y, r, on, norm, goal, right, retired))
            before = [tuple(v[left] for v in one) for one in before]
        if not len(here):
            break
        asked = (~retired).nonzero()[:, 0]
        for _ in range(min(_CHECK, maxiter - step)):
            unit = r / torch.where(norm > 0, norm, 1).reshape(wide)
            p, Ap, curvature, which = _choose(A, proposals, unit, here, before, (asked, retired), epsilon, wide)
            found = which.any(1)
            stuck[here] |= on & ~found
            taken[here] |= which & on[:, None]
            on = on & found
            alpha = torch.where(on, plain._dot(p, r) / curvature, 0.0).to(b.dtype).reshape(wide)
            y = y + alpha * p
            r = right - A(y, here)
            norm = torch.where(on, _norm(r), norm)
            history.append(torch.full_like(final, torch.nan).index_copy(0, here, torch.where(on, norm, torch.nan)))
            before = [*before, (p, Ap, curvature)][-window:] if window else []
            if patience is not None and len(history) > patience + 1:
                retired = retired | (norm > 0.5 * history[-1 - patience][here])
            for k in on.nonzero()[:, 0].tolist() if callback is not None else ():
                callback(int(here[k]), y[k])
            on = on & (norm > goal) & torch.isfinite(norm)
            step += 1
    x[here], final[here] = y, norm
    return *_ends(history, final, target, stuck), taken.cpu().numpy()


def _choose(A, proposals, unit, here, before, best, epsilon, wide):
    """The first proposal that serves, A times it, its curvature, and which it was, (systems, proposals).

    ``best`` says which systems the first is asked for, and for which it has been given up since.
    """
    p, Ap = torch.zeros_like(unit), torch.zeros_like(unit)
    curvature = torch.ones(len(unit), dtype=torch.float64, device=unit.device)
    which = torch.zeros(len(unit), len(proposals), dtype=torch.bool, device=unit.device)
    asked, retired = best
    for number, propose in enumerate(proposals):
        if number == 0 and len(asked) < len(unit):
            if not len(asked):
                continue
            some = propose(unit[asked], here[asked])
            q = torch.full_like(unit, torch.nan).index_copy(0, asked, some.to(unit.dtype))
        else:
            q = propose(unit, here)
        for other, A_other, c in before:
            q = q - (plain._dot(q, A_other) / c).to(q.dtype).reshape(wide) * other
        Aq = A(q, here)
        qAq = plain._dot(q, Aq)
        take = torch.isfinite(qAq) & (qAq > epsilon * _norm(q) * _norm(Aq)) & ~which.any(1)
        take &= plain._dot(q, unit).abs() > epsilon * _norm(q)
        if number == 0:
            take &= ~retired
        p, Ap = torch.where(take.reshape(wide), q, p), torch.where(take.reshape(wide), Aq, Ap)
        curvature = torch.where(take, qAq, curvature)
        which[:, number] = take
    return p, Ap, curvature, which


def _ends(history, final, target, stuck):
    rows = torch.stack(history, 1).cpu().numpy()
    final, target, stuck = (v.cpu().numpy() for v in (final, target, stuck))
    status, norms = [], []
    for k, row in enumerate(rows):
        taken = int(np.count_nonzero(~np.isnan(row[1:])))
        norms.append(row[: taken + 1].tolist())
        if final[k] <= target[k]:
            status.append(SolveStatus.CONVERGED)
        elif not np.isfinite(final[k]):
            status.append(SolveStatus.NON_FINITE)
        else:
            status.append(SolveStatus.INDEFINITE if stuck[k] else SolveStatus.MAXITER)
    return status, norms


def _norm(v):
    return plain._dot(v, v).sqrt()
