"""The coarse faces of a multigrid hierarchy on a torch device: sums over blocks, and what moved cells change."""

import torch

from deconjugate.solver.aggregate_torch import block_of, face_of, neighbour


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


def low_faces(t, axis, factors):
    """Sums of the fine faces along an axis that each coarse face covers."""
    first = (slice(None),) * (axis + 1) + (slice(None, None, factors[axis]),)
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
        _add_moved(faces, given, cells, target, periodic, factors, factor, factor_given, out, extra)
    return out, extra


def _add_moved(faces, given, cells, target, periodic, factors, factor, factor_given, out, extra):
    shape, coarse = given.shape[1:], extra.shape[1:]
    new = torch.full((given.numel(),), -1, dtype=torch.int64, device=given.device)
    new[cells] = target
    extra.reshape(-1).index_add_(0, target, factor_given * given.reshape(-1)[cells])
    for face in range(6):
        t = face_of(faces, cells, face, shape)
        there = neighbour(cells, face, shape)
        block = new[there]
        done = (block >= 0) & (there < cells)  # a moved neighbour adds their face itself
        block = torch.where(block >= 0, block, block_of(there, shape, coarse, factors))
        t = torch.where(done, 0, (factor / factors[face // 2]) * t)
        for axis in range(3):
            joined, at = _shared_face(target, block, axis, coarse, periodic)
            out[axis].reshape(-1).index_add_(0, at, torch.where(joined, t, 0))


def _shared_face(a, b, axis, coarse, periodic):
    """Whether flat coarse cells a and b share a face along an axis, and the cell above that face."""
    m0, m1, m2 = coarse
    stride, m = ((m1 * m2, m0), (m2, m1), (1, m2))[axis]
    pa, pb = a // stride % m, b // stride % m
    level = a - pa * stride == b - pb * stride  # alike along the other axes
    low, high = torch.minimum(pa, pb), torch.maximum(pa, pb)
    beside = high - low == 1
    wraps = (high - low == m - 1) & ~beside & (high > low) & periodic[axis]
    at = torch.where(wraps, 0, high)
    return level & (beside | wraps), a + (at - pa) * stride


def diagonal(faces, given):
    """given plus the faces of every cell."""
    d = None
    for axis, t in enumerate(faces, start=1):
        pair = (t, torch.roll(t, -1, axis)) if t.shape[axis] > 1 else ()
        for one in pair:
            d = one if d is None else d + one
    return given.clone() if d is None else d + given
