"""Which coarse cells take the parts of blocks that walls or jumps cut, on a torch device.

The rules are those of ``_aggregate_numba.py``, for all blocks at once: only blocks that are cut are looked at, with
eight places and six faces each.
"""

import torch

# See _aggregate_numba.py.
STRONG, PULL, OUTWEIGHS = 0.02, 4.0, 1.2


def moved_cells(faces, dinv, periodic, factors):
    """The cells that leave their blocks.

    Parameters
    ----------
    faces : three float32 tensors (domains, n0, n1, n2), the low face of each cell
    dinv : float32 tensor, zero where there is no unknown
    periodic, factors : three each

    Returns
    -------
    (cells, own, target) : int64 tensors
        Flat indices through all domains: of the cells, of the blocks they leave, and of those that they join.
    """
    shape = dinv.shape[1:]
    coarse = [-(-n // c) for n, c in zip(shape, factors)]
    blocks = _cut_blocks(faces, dinv, factors).nonzero()
    grid = _Blocks(blocks, shape, coarse, factors, dinv)
    part, several = _parts(grid, faces, dinv)
    grid, part = grid.take(several), part[several]
    kind = torch.zeros(dinv.numel(), dtype=torch.uint8, device=dinv.device)
    kind[grid.cell[grid.inside]] = part[grid.inside].to(torch.uint8)
    target = torch.full((dinv.numel(),), -1, dtype=torch.int64, device=dinv.device)
    for _ in range(2):
        # A round reads the one before it.
        target = _move(grid, faces, part, kind, target)
    cells = (target >= 0).nonzero()[:, 0]
    return cells, block_of(cells, shape, coarse, factors), target[cells]


def block_of(cell, shape, coarse, factors):
    """The block of flat cells, both counted through all domains."""
    n0, n1, n2 = shape
    domain, at = cell // (n0 * n1 * n2), cell % (n0 * n1 * n2)
    i, j, k = at // (n1 * n2) // factors[0], at // n2 % n1 // factors[1], at % n2 // factors[2]
    return ((domain * coarse[0] + i) * coarse[1] + j) * coarse[2] + k


def neighbour(cell, face, shape):
    """The flat cell behind a face, around the end of the grid where need be; face 2 a is the low one of axis a."""
    n0, n1, n2 = shape
    stride, n = ((n1 * n2, n0), (n2, n1), (1, n2))[face // 2]
    at = cell // stride % n
    step = 2 * (face % 2) - 1
    return cell + ((at + step) % n - at) * stride


def face_of(faces, cell, face, shape):
    """The transmissibility of one of the six faces of flat cells."""
    t = faces[face // 2].reshape(-1)
    return t[neighbour(cell, face, shape) if face % 2 else cell]


class _Blocks:
    """The places of some blocks: flat cells (blocks, places), in C order, and whether they are inside the grid."""

    def __init__(self, blocks, shape, coarse, factors, dinv):
        self.shape, self.coarse, self.factors = shape, coarse, factors
        device = blocks.device
        self.offsets = [(i, j, k) for i in range(factors[0]) for j in range(factors[1]) for k in range(factors[2])]
        place = torch.tensor(self.offsets, device=device)
        at = blocks[:, None, 1:] * torch.tensor(factors, device=device) + place
        size = torch.tensor(shape, device=device)
        self.inside = (at < size).all(-1)
        at = torch.minimum(at, size - 1)
        domain = blocks[:, None, 0]
        self.cell = ((domain * shape[0] + at[..., 0]) * shape[1] + at[..., 1]) * shape[2] + at[..., 2]
        block = ((blocks[:, 0] * coarse[0] + blocks[:, 1]) * coarse[1] + blocks[:, 2]) * coarse[2] + blocks[:, 3]
        self.block = block
        self.active = self.inside & (dinv.reshape(-1)[self.cell] > 0)

    def take(self, chosen):
        other = object.__new__(_Blocks)
        other.__dict__.update(self.__dict__)
        for name in ("inside", "cell", "block", "active"):
            setattr(other, name, getattr(self, name)[chosen])
        return other


def _cut_blocks(faces, dinv, factors):
    """True for the blocks with an inner face that is not strong, unless all their faces are closed."""
    weakest = strongest = None
    for axis, t in enumerate(faces):
        n = t.shape[axis + 1]
        cell = torch.maximum(t, torch.roll(t, -1, axis + 1))
        strongest = cell if strongest is None else torch.maximum(strongest, cell)
        if factors[axis] == 2 and n > 1:
            inner = torch.full_like(t, torch.inf)
            odd = (slice(None),) * (axis + 1) + (slice(1, None, 2),)
            inner[odd] = t[odd]
            weakest = inner if weakest is None else torch.minimum(weakest, inner)
    if weakest is None:
        return torch.zeros([len(dinv), *dinv.shape[1:]], dtype=torch.bool, device=dinv.device)
    strongest = _over_blocks(strongest, factors, torch.maximum, 0.0)
    weakest = _over_blocks(weakest, factors, torch.minimum, torch.inf)
    strong = (weakest > 0) & (weakest.double() >= STRONG * strongest.double())
    return ~((strongest == 0) | strong)


def _over_blocks(x, factors, combine, filler):
    for axis, c in enumerate(factors, start=1):
        if c == 2:
            if x.shape[axis] % 2:
                x = torch.cat([x, torch.full_like(x.narrow(axis, 0, 1), filler)], axis)
            even, odd = ((slice(None),) * axis + (slice(s, None, 2),) for s in (0, 1))
            x = combine(x[even], x[odd])
    return x


def _parts(grid, faces, dinv):
    """(part of each place: 0 keeps the block, others are numbered from 1; whether a block has several parts)."""
    places = len(grid.offsets)
    label = torch.arange(places, device=dinv.device).expand(len(grid.cell), places).clone()
    t = [face_of(faces, grid.cell, face, grid.shape).double() for face in range(6)]
    largest = torch.stack(t).amax(0)
    for a in range(places):
        for b in range(a + 1, places):
            step = [y - x for x, y in zip(grid.offsets[a], grid.offsets[b])]
            if sorted(map(abs, step)) != [0, 0, 1]:
                continue
            between = t[2 * step.index(1) + 1][:, a]
            strong = (between > 0) & (between >= STRONG * torch.maximum(largest[:, a], largest[:, b]))
            strong &= grid.active[:, a] & grid.active[:, b]
            old, new = label[:, b : b + 1], label[:, a : a + 1]
            label = torch.where(strong[:, None] & (label == old), new, label)
    weight = torch.zeros(label.shape, dtype=torch.float64, device=dinv.device)
    single = 1.0 / dinv.reshape(-1)[grid.cell].double()
    for place in range(places):
        mine = torch.where(grid.active[:, place], single[:, place], 0.0)
        weight.scatter_add_(1, label[:, place : place + 1], mine[:, None])
    keeps = torch.full((len(label),), -1, dtype=torch.int64, device=dinv.device)
    best = torch.zeros(len(label), dtype=torch.float64, device=dinv.device)
    for group in range(places):
        better = weight[:, group] > OUTWEIGHS * best
        keeps = torch.where(better, group, keeps)
        best = torch.where(better, weight[:, group], best)
    part = torch.where(grid.active & (label != keeps[:, None]), label + 1, 0)
    return part, (part > 0).any(1)


def _move(grid, faces, part, kind, settled):
    """One round: a part joins the block that pulls it hardest, if that outweighs its ties to its own block."""
    pull, whither, held = [], [], 0.0
    leaves = grid.active & (part > 0)
    own = grid.block[:, None]
    waits = leaves & (settled[grid.cell] < 0)
    for face in range(6):
        t = face_of(faces, grid.cell, face, grid.shape).double()
        there = neighbour(grid.cell, face, grid.shape)
        block = block_of(there, grid.shape, grid.coarse, grid.factors)
        t = torch.where(waits, t, 0.0)
        same, other = block == own, kind[there]
        held = held + torch.where(same & (other != part), t, 0.0)
        keeps, moved = other == 0, settled[there] >= 0
        pulls = ~same & (keeps | moved) & (t > 0)
        pull.append(torch.where(pulls, t, 0.0))
        whither.append(torch.where(pulls, torch.where(keeps, block, settled[there]), -1))
    pull, whither = torch.stack(pull, -1), torch.stack(whither, -1)  # (blocks, places, faces)
    group = part.clamp_min(1) - 1
    groups = len(grid.offsets)
    held = torch.zeros(len(part), groups, dtype=torch.float64, device=part.device).scatter_add_(1, group, held)
    spread = group[..., None].expand_as(pull)
    total = torch.zeros(len(part), groups, 6, dtype=torch.float64, device=part.device).scatter_add_(1, spread, pull)
    place = torch.arange(groups, device=part.device)[None, :, None].expand_as(whither)
    last = torch.full_like(whither, -1).scatter_reduce_(1, spread, torch.where(whither >= 0, place, -1), "amax")
    whither = torch.where(last >= 0, whither.gather(1, last.clamp_min(0)), -1)
    best, where = total[..., 0], whither[..., 0]
    for face in range(1, 6):
        more = total[..., face] > best
        best, where = torch.where(more, total[..., face], best), torch.where(more, whither[..., face], where)
    where = torch.where(best > PULL * held, where, -1).gather(1, group)
    goes = waits & (where >= 0)
    target = settled.clone()
    target[grid.cell[goes]] = where[goes]
    return target
