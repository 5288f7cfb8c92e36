"""The work on the levels of a multigrid hierarchy in plain torch: the fallback of the Triton kernels and their oracle.

Vectors are (batch, n0, n1, n2), zero outside the unknowns; a level is that of ``multigrid_torch.py``, whose one domain
serves all systems or whose several serve one each. Nothing here asks the device for a value, so that all of it can be
captured in a CUDA graph. ``on``, the systems that are wanted, spares the Triton kernels the others; here all are
worked on.
"""

import torch

from deconjugate.solver.coarsen_torch import block_sum


def neighbours(level, x):
    """Sum of transmissibility times neighbour."""
    y = torch.zeros_like(x)
    for axis, t in enumerate(level.faces[0], start=1):
        if x.shape[axis] > 1:
            y += t * torch.roll(x, 1, axis)
            y += torch.roll(t, -1, axis) * torch.roll(x, -1, axis)
    return y


def _relax(level, x, b, colour, weight):
    """x + weight D^-1 (b - A x) on the cells of one colour; weight (batch,)."""
    sums = b + neighbours(level, x)
    if level.raised is not None:
        sums += level.raised * x
    return x + weight[:, None, None, None] * level.colours[colour] * (level.relaxed * sums - x)


def smooth(level, b, weights, on=None):
    """The half-sweeps before the coarse correction, from zero; weights (half-sweeps, batch)."""
    x = weights[0][:, None, None, None] * level.colours[0] * level.relaxed * b
    for stage in range(1, len(weights)):
        x = _relax(level, x, b, stage % 2, weights[stage])
    return x


def restrict_residual(level, x, b, on=None):
    """P^T (b - A x): the sum over each block, moved cells counted where they moved to."""
    r = torch.where(level.dinv > 0, (b + neighbours(level, x)) - level.diagonal * x, 0)
    return move_residuals(level, x, b, block_sum(r, level.factors))


def move_residuals(level, x, b, coarse):
    """Take the residuals of moved cells from the blocks they left to those they joined, in place."""
    cells = level.moved[0]
    if len(cells):
        system, cell, blocks = level.places(len(x))
        flat = x.reshape(len(x), -1)
        r = b.reshape(len(b), -1)[system, cell] - level.diagonal.reshape(-1)[cells] * flat[system, cell]
        near, t = level.around_moved()
        beside = flat[:, near] if len(level.dinv) == 1 else flat.reshape(-1)[near]
        r = r + (t * beside).sum(-2)
        # By atomic sums: sorted by place it would take several times the time of all else on the level.
        coarse.view(-1).index_add_(0, blocks.reshape(-1), torch.stack([-r, r]).reshape(-1))
    return coarse


def correct_and_smooth(level, x, b, e, weights, on=None):
    """The half-sweeps after x += P e, in reverse order."""
    x = x + prolong(level, e)
    for stage in range(len(weights) - 1, -1, -1):
        x = _relax(level, x, b, stage % 2, weights[stage])
    return x


def prolong(level, e):
    """P e: every unknown takes its block's value, a moved cell that of the block it moved to."""
    n0, n1, n2 = level.shape
    fine = e
    for axis, c in enumerate(level.factors, start=1):
        if c > 1:
            fine = fine.repeat_interleave(c, axis)
    fine = torch.where(level.dinv > 0, fine[:, :n0, :n1, :n2], 0)
    if len(level.moved[0]):
        system, cell, blocks = level.places(len(e))
        fine.view(len(e), -1)[system, cell] = e.reshape(-1)[blocks[1]]
    return fine
