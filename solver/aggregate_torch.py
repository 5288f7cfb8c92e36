"""Which coarse cells take the parts of blocks that walls or jumps cut, on a torch device.

The rules are those of ``_aggregate_numba.py``, for all blocks at once: only blocks that are cut are looked at, with
eight places and six faces each.
"""

from functools import lru_cache

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
    coarse = tuple(-(-n // c) for n, c in zip(shape, factors))
    blocks = _cut_blocks(faces, dinv, factors).nonzero()
    none = blocks.new_zeros(0)
    if not len(blocks):
        return none, none, none
    grid = _Blocks(blocks, shape, coarse, factors, dinv)
    flat = torch.stack(faces).reshape(3, -1)
    part, several = _parts(grid, faces_at(flat, grid.cell, neighbours_of(grid.cell, shape)), dinv)
    grid, part = grid.take(several), part[several]
    kind = torch.zeros(dinv.numel(), dtype=torch.uint8, device=dinv.device)
    kind[grid.cell[grid.inside]] = part[grid.inside].to(torch.uint8)
    near = neighbours_of(grid.cell, shape)
    around = near, faces_at(flat, grid.cell, near).double(), block_of(near, shape, coarse, factors)
    target = torch.full((dinv.numel(),), -1, dtype=torch.int64, device=dinv.device)
    for _ in range(2):
        # A round reads the one before it.
        target = _move(grid, around, part, kind, target)
    cells = (target >= 0).nonzero()[:, 0]
    return cells, block_of(cells, shape, coarse, factors), target[cells]


def block_of(cell, shape, coarse, factors):
    """The block of flat cells, both counted through all domains."""
    n0, n1, n2 = shape
    domain, at = cell // (n0 * n1 * n2), cell % (n0 * n1 * n2)
    i, j, k = at // (n1 * n2) // factors[0], at // n2 % n1 // factors[1], at % n2 // factors[2]
    return ((domain * coarse[0] + i) * coarse[1] + j) * coarse[2] + k


@lru_cache(maxsize=64)
def steps_of(shape, steps, device):
    """Strides, sizes, steps and numbers of the axes, once for each of the steps."""
    n0, n1, n2 = shape
    axes = (n1 * n2, n0), (n2, n1), (1, n2)
    rows = [(stride, n, step, axis) for axis, (stride, n) in enumerate(axes) for step in steps]
    return torch.tensor(rows, device=device).T.unbind(0)


def neighbours_of(cell, shape):
    """The flat cells behind the six faces of some, around the end of the grid where need be, along a new first axis.

    Face 2 a is the low one of axis a, face 2 a + 1 the high one.
    """
    stride, n, step, _ = (x.reshape(-1, *[1] * cell.dim()) for x in steps_of(tuple(shape), (-1, 1), cell.device))
    at = cell // stride % n
    return cell + ((at + step) % n - at) * stride


def faces_at(flat, cell, near):
    """The transmissibilities of the six faces of cells; flat (3, all cells) has the low ones."""
    face = torch.arange(6, device=cell.device).reshape(-1, *[1] * cell.dim())
    return flat.reshape(-1)[torch.where(face % 2 == 0, cell, near) + face // 2 * flat.shape[1]]


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


def _parts(grid, t, dinv):
    """(part of each place: 0 keeps the block, others are numbered from 1; whether a block has several parts)."""
    places = len(grid.offsets)
    label = torch.arange(places, device=dinv.device).expand(len(grid.cell), places).clone()
    t = t.double()
    largest = t.amax(0)
    pairs = _pairs(tuple(grid.offsets))
    a, b, face = torch.tensor(pairs, device=dinv.device).reshape(-1, 3).T.unbind(0)
    between = t[face, :, a]
    strong = (between > 0) & (between >= STRONG * torch.maximum(largest[:, a], largest[:, b]).T)
    strong &= (grid.active[:, a] & grid.active[:, b]).T
    for (one, other, _), tied in zip(pairs, strong[:, :, None].unbind(0)):
        same = tied & (label == label[:, other : other + 1])
        label = torch.where(same, label[:, one : one + 1], label)
    groups = torch.arange(places, device=dinv.device)
    single = torch.where(grid.active, 1.0 / dinv.reshape(-1)[grid.cell].double(), 0.0)
    weight = ((label[:, :, None] == groups) * single[:, :, None]).sum(1)
    best, better = torch.zeros_like(weight[:, 0]), []
    for mine in weight.unbind(1):
        better.append(mine > OUTWEIGHS * best)
        best = torch.where(better[-1], mine, best)
    keeps = torch.where(torch.stack(better, 1), groups, -1).amax(1)
    part = torch.where(grid.active & (label != keeps[:, None]), label + 1, 0)
    return part, (part > 0).any(1)


@lru_cache(maxsize=8)
def _pairs(offsets):
    """(place, place, high face of the first between them) of a block, in their order."""
    found = []
    for a, one in enumerate(offsets):
        for b, other in enumerate(offsets):
            step = [y - x for x, y in zip(one, other)]
            if sorted(step) == [0, 0, 1]:
                found.append((a, b, 2 * step.index(1) + 1))
    return found


def _move(grid, around, part, kind, settled):
    """One round: a part joins the block that pulls it hardest, if that outweighs its ties to its own block."""
    near, t, block = around
    waits = grid.active & (part > 0) & (settled[grid.cell] < 0)
    t = torch.where(waits, t, 0.0)
    same, other, before = block == grid.block[:, None], kind[near], settled[near]
    keeps = other == 0
    pulls = ~same & (keeps | (before >= 0)) & (t > 0)
    held = torch.where(same & (other != part), t, 0.0).sum(0)
    pull = torch.where(pulls, t, 0.0).movedim(0, -1)  # (blocks, places, faces)
    whither = torch.where(pulls, torch.where(keeps, block, before), -1).movedim(0, -1)
    group, groups = part.clamp_min(1) - 1, len(grid.offsets)
    held = held.new_zeros(len(part), groups).scatter_add_(1, group, held)
    spread = group[..., None].expand_as(pull)
    total = pull.new_zeros(len(part), groups, 6).scatter_add_(1, spread, pull)
    place = torch.arange(groups, device=part.device)[None, :, None].expand_as(whither)
    last = torch.full_like(whither, -1).scatter_reduce_(1, spread, torch.where(whither >= 0, place, -1), "amax")
    whither = torch.where(last >= 0, whither.gather(1, last.clamp_min(0)), -1)
    best = total.amax(-1)
    face = torch.where(total == best[..., None], torch.arange(6, device=part.device), 6).amin(-1, keepdim=True)
    where = torch.where(best > PULL * held, whither.gather(-1, face)[..., 0], -1).gather(1, group)
    goes = waits & (where >= 0)
    target = settled.clone()
    target[grid.cell[goes]] = where[goes]
    return target
