"""The coarse faces of a multigrid hierarchy on a torch device: sums over blocks, and what moved cells change."""

import torch

from deconjugate.solver.aggregate_torch import block_of, faces_at, neighbours_of, steps_of


def block_sum(x, factors):
    """Sums of x (domains, n0, n1, n2) over blocks, cut short at the end of an odd axis."""
    total = None
    for i in range(factors[0]):
        for j in range(factors[1]):
            for k in range(factors[2]):
                part = x[:, i :: factors[0], j :: factors[1], k :: factors[2]]
                if total is None:
                    total = part.clone()
                else:
                    total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
    return total


def low_faces(t, axis, factors, step=None):
    """Sums of the fine faces along an axis that each coarse face covers: of every ``step``, the factor of the axis."""
    first = (slice(None),) * (axis + 1) + (slice(None, None, step or factors[axis]),)
    return block_sum(t[first], [1 if a == axis else c for a, c in enumerate(factors)])


def coarsen(faces, given, moved, periodic, factors, factor, factor_given):
    """([faces], given) of the next level.

    Parameters
    ----------
    faces, given : tensors (domains, n0, n1, n2)
    moved : (cells, own, target), see :func:`deconjugate.solver.aggregate_torch.moved_cells`
    periodic, factors : three each
    factor, factor_given : float
        Of all coarse faces, and of all parts towards given values.

    Example
    -------
    >>> import torch
    >>> t = torch.ones(1, 1, 1, 6)
    >>> t[..., 0] = 0
    >>> none = torch.zeros(0, dtype=torch.int64)
    >>> coarse, _ = coarsen([0 * t, 0 * t, t], 0 * t, (none, none, none), (False,) * 3, (1, 1, 2), 1.0, 0.6)
    >>> coarse[2].flatten().tolist()
    [0.0, 0.5, 0.5]
    """
    cells, _, target = moved
    stays = None
    if len(cells):
        stays = torch.ones(given.shape, dtype=torch.bool, device=given.device)
        stays.reshape(-1)[cells] = False
    out = []
    for axis, t in enumerate(faces):
        if stays is not None:
            t = torch.where(stays & torch.roll(stays, 1, axis + 1), t, 0)
        weight = torch.tensor(factor / factors[axis], dtype=given.dtype, device=given.device)
        out.append(weight * low_faces(t, axis, factors))
    known = torch.tensor(factor_given, dtype=given.dtype, device=given.device)
    extra = known * block_sum(given if stays is None else torch.where(stays, given, 0), factors)
    if len(cells):
        out = _add_moved(faces, given, cells, target, periodic, factors, factor, factor_given, out, extra)
    return out, extra


def _add_moved(faces, given, cells, target, periodic, factors, factor, factor_given, out, extra):
    """Add the moved cells' faces and given parts; the faces of the coarse level, in new memory."""
    shape, coarse = tuple(given.shape[1:]), tuple(extra.shape[1:])
    new = torch.full((given.numel(),), -1, dtype=torch.int64, device=given.device)
    new[cells] = target
    extra.reshape(-1).index_add_(0, target, factor_given * given.reshape(-1)[cells])
    near = neighbours_of(cells, shape)
    t = faces_at(torch.stack(faces).reshape(3, -1), cells, near)
    block = new[near]
    done = (block >= 0) & (near < cells)  # a moved neighbour adds their face itself
    block = torch.where(block >= 0, block, block_of(near, shape, coarse, factors))
    share = torch.tensor([factor / c for c in factors for _ in range(2)], dtype=t.dtype, device=t.device)
    t = torch.where(done, 0, share[:, None] * t)
    joined, at = _shared_faces(target, block, coarse, periodic)
    total = torch.stack(out)
    at = at + torch.arange(3, device=at.device)[:, None, None] * extra.numel()
    total.view(-1).index_add_(0, at.reshape(-1), torch.where(joined, t, 0).reshape(-1))
    return list(total.unbind(0))


def _shared_faces(a, b, coarse, periodic):
    """Whether flat coarse cells a and b share a face, for each axis, and the cells above those faces."""
    stride, m, *_ = (x[:, None, None] for x in steps_of(coarse, (1,), a.device))
    wraps = torch.tensor(periodic, device=a.device)[:, None, None]
    pa, pb = a // stride % m, b // stride % m
    level = a - pa * stride == b - pb * stride  # alike along the other axes
    low, high = torch.minimum(pa, pb), torch.maximum(pa, pb)
    beside = high - low == 1
    wraps = (high - low == m - 1) & ~beside & (high > low) & wraps
    return level & (beside | wraps), a + (torch.where(wraps, 0, high) - pa) * stride


def diagonal(faces, given):
    """given plus the faces of every cell."""
    d = None
    for axis, t in enumerate(faces, start=1):
        pair = (t, torch.roll(t, -1, axis)) if t.shape[axis] > 1 else ()
        for one in pair:
            d = one if d is None else d + one
    return given.clone() if d is None else d + given
