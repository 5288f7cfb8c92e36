"""Triton kernels for the levels of a multigrid hierarchy; the plain form and the oracle is ``_multigrid_torch.py``.

A program works on a tile of rows and columns of one system, so that only rows are divided into planes and lines; a
cell's neighbours are read from memory, where the caches have them. Systems whose ``on`` is false, or whose half-sweep
has the weight 0, cost a launch and no memory. A level of uniform coefficient is read by one byte a cell: the neighbour
sum needs none, for vectors are zero outside the unknowns, and the diagonal counts open faces.

Bytes a cell of the finest level, uniform: the first half-sweep 9 (b, byte, x), each later one 13 (x, b, byte, x again),
residual and restriction 9.5, prolongation with the half-sweep after it 13.5. With faces 15 more each. Red and black
cells lie side by side: apart from each other they would save a third of a half-sweep. Single precision.
"""

import torch
import triton
import triton.language as tl

from deconjugate.solver._multigrid_torch import move_residuals

# Cells of a tile, and of a row of it at most.
TILE, COLUMNS = 512, 128


@triton.jit
def _share(programs):
    """The system of a program, in 64 bits for offsets, and its part of it: one axis of the grid has both, for others
    end at 65535."""
    return (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs


@triton.jit
def _tile(part, n0, n1, n2, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Planes and lines (ROWS, 1) and columns (1, COLS) of a program's tile, and which of its cells exist."""
    across = tl.cdiv(n2, COLS)
    row = part // across * ROWS + tl.arange(0, ROWS)
    k = part % across * COLS + tl.arange(0, COLS)
    i, j = row // n1, row % n1
    return i[:, None], j[:, None], k[None, :], (row < n0 * n1)[:, None] & (k < n2)[None, :]


@triton.jit
def _beside(at, n, PERIODIC: tl.constexpr):
    """The places below and above along an axis, and whether they are there."""
    has_low, has_high = at > 0, at < n - 1
    low, high = tl.where(has_low, at - 1, n - 1), tl.where(has_high, at + 1, 0)
    if PERIODIC:
        has_low, has_high = at >= 0, at >= 0
    return low, high, has_low, has_high


@triton.jit
def _value(
    x, e, target, known, i, j, k, there, n1, n2, m1, m2,
    C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, ADDS: tl.constexpr, MAPPED: tl.constexpr,
):  # fmt: skip
    """x at cells, and with ADDS the coarse correction there."""
    cell = (i * n1 + j) * n2 + k
    v = tl.load(x + cell, mask=there, other=0.0)
    if ADDS:
        if MAPPED:
            block = tl.load(target + cell, mask=there, other=0)
        else:
            block = (i // C0 * m1 + j // C1) * m2 + k // C2
        # A byte without open faces is an unknown by itself, which nothing corrects.
        is_known = (tl.load(known + cell, mask=there, other=0) & 63) > 0
        v += tl.load(e + block, mask=there & is_known, other=0.0)
    return v


@triton.jit
def _diagonal(
    known, t0, t1, t2, given, w0, w1, w2, i, j, k, there, n0, n1, n2,
    UNIFORM: tl.constexpr, P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr,
):  # fmt: skip
    """The diagonal of A: from bytes or from faces."""
    cell = (i * n1 + j) * n2 + k
    if UNIFORM:
        c = tl.load(known + cell, mask=there, other=0).to(tl.int32)
        d = w0 * ((c & 1) + ((c >> 1) & 1)).to(tl.float32)
        d += w1 * (((c >> 2) & 1) + ((c >> 3) & 1)).to(tl.float32)
        d += w2 * (((c >> 4) & 1) + ((c >> 5) & 1)).to(tl.float32)
    else:
        _, hi0, _, has0 = _beside(i, n0, P0)
        _, hi1, _, has1 = _beside(j, n1, P1)
        _, hi2, _, has2 = _beside(k, n2, P2)
        d = tl.load(t0 + cell, mask=there, other=0.0)
        d += tl.load(t0 + (hi0 * n1 + j) * n2 + k, mask=there & has0, other=0.0)
        d += tl.load(t1 + cell, mask=there, other=0.0)
        d += tl.load(t1 + (i * n1 + hi1) * n2 + k, mask=there & has1, other=0.0)
        d += tl.load(t2 + cell, mask=there, other=0.0)
        d += tl.load(t2 + (i * n1 + j) * n2 + hi2, mask=there & has2, other=0.0)
        d += tl.load(given + cell, mask=there, other=0.0)
    return d


@triton.jit
def _neighbours(
    x, e, target, known, t0, t1, t2, w0, w1, w2, i, j, k, there, n0, n1, n2, m1, m2,
    C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, UNIFORM: tl.constexpr,
    P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, ADDS: tl.constexpr, MAPPED: tl.constexpr,
):  # fmt: skip
    """Sum of transmissibility times neighbour."""
    lo0, hi0, has_lo0, has_hi0 = _beside(i, n0, P0)
    lo1, hi1, has_lo1, has_hi1 = _beside(j, n1, P1)
    lo2, hi2, has_lo2, has_hi2 = _beside(k, n2, P2)
    a0 = _value(x, e, target, known, lo0, j, k, there & has_lo0, n1, n2, m1, m2, C0, C1, C2, ADDS, MAPPED)
    b0 = _value(x, e, target, known, hi0, j, k, there & has_hi0, n1, n2, m1, m2, C0, C1, C2, ADDS, MAPPED)
    a1 = _value(x, e, target, known, i, lo1, k, there & has_lo1, n1, n2, m1, m2, C0, C1, C2, ADDS, MAPPED)
    b1 = _value(x, e, target, known, i, hi1, k, there & has_hi1, n1, n2, m1, m2, C0, C1, C2, ADDS, MAPPED)
    a2 = _value(x, e, target, known, i, j, lo2, there & has_lo2, n1, n2, m1, m2, C0, C1, C2, ADDS, MAPPED)
    b2 = _value(x, e, target, known, i, j, hi2, there & has_hi2, n1, n2, m1, m2, C0, C1, C2, ADDS, MAPPED)
    if UNIFORM:
        y = w0 * (a0 + b0) + w1 * (a1 + b1) + w2 * (a2 + b2)
    else:
        cell = (i * n1 + j) * n2 + k
        y = tl.load(t0 + cell, mask=there, other=0.0) * a0
        y += tl.load(t0 + (hi0 * n1 + j) * n2 + k, mask=there & has_hi0, other=0.0) * b0
        y += tl.load(t1 + cell, mask=there, other=0.0) * a1
        y += tl.load(t1 + (i * n1 + hi1) * n2 + k, mask=there & has_hi1, other=0.0) * b1
        y += tl.load(t2 + cell, mask=there, other=0.0) * a2
        y += tl.load(t2 + (i * n1 + j) * n2 + hi2, mask=there & has_hi2, other=0.0) * b2
    return y


@triton.jit(do_not_specialize=["programs"])
def _start_kernel(
    programs, b, x, known, t0, t1, t2, given, raised, w0, w1, w2, weights, on, size, domain_step, n0, n1, n2,
    UNIFORM: tl.constexpr, P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, RAISED: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """The first half-sweep from zero: x = w D^-1 b on the cells of the first colour, 0 on the others."""
    one, part = _share(programs)
    if tl.load(on + one) != 0:
        i, j, k, there = _tile(part, n0, n1, n2, ROWS, COLS)
        cell = (i * n1 + j) * n2 + k
        domain = one * domain_step
        mine = there & ((i + j + k) % 2 == 0)
        d = _diagonal(
            known + domain, t0 + domain, t1 + domain, t2 + domain, given + domain, w0, w1, w2,
            i, j, k, mine, n0, n1, n2, UNIFORM, P0, P1, P2,
        )  # fmt: skip
        if RAISED:
            d += tl.load(raised + domain + cell, mask=mine, other=0.0)
        value = tl.load(weights + one) * tl.load(b + one * size + cell, mask=mine, other=0.0) / tl.where(d > 0, d, 1.0)
        tl.store(x + one * size + cell, tl.where(mine & (d > 0), value, 0.0), mask=there)


@triton.jit(do_not_specialize=["programs"])
def _relax_kernel(
    programs, x, out, b, e, target, known, t0, t1, t2, given, raised, w0, w1, w2, weights, on, size, coarse_size,
    domain_step, target_step, colour, n0, n1, n2, m1, m2,
    C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, UNIFORM: tl.constexpr,
    P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, RAISED: tl.constexpr, ADDS: tl.constexpr,
    MAPPED: tl.constexpr, COPIES: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """One half-sweep from x into out, which may be x; with ADDS after x += P e; COPIES the other colour too."""
    one, part = _share(programs)
    weight = tl.load(weights + one)
    goes = tl.load(on + one) != 0
    if not COPIES:
        goes = goes & (weight != 0)
    if goes:
        i, j, k, there = _tile(part, n0, n1, n2, ROWS, COLS)
        cell = (i * n1 + j) * n2 + k
        domain, start = one * domain_step, one * size
        mine = there & ((i + j + k) % 2 == colour)
        if not COPIES:
            there = mine
        source, known_here = x + start, known + domain
        e_here, target_here = e + one * coarse_size, target + one * target_step
        here = _value(source, e_here, target_here, known_here, i, j, k, there, n1, n2, m1, m2, C0, C1, C2, ADDS, MAPPED)
        y = tl.load(b + start + cell, mask=mine, other=0.0)
        y += _neighbours(
            source, e_here, target_here, known_here, t0 + domain, t1 + domain, t2 + domain, w0, w1, w2,
            i, j, k, mine, n0, n1, n2, m1, m2, C0, C1, C2, UNIFORM, P0, P1, P2, ADDS, MAPPED,
        )  # fmt: skip
        d = _diagonal(
            known_here, t0 + domain, t1 + domain, t2 + domain, given + domain, w0, w1, w2,
            i, j, k, mine, n0, n1, n2, UNIFORM, P0, P1, P2,
        )  # fmt: skip
        if RAISED:
            more = tl.load(raised + domain + cell, mask=mine, other=0.0)
            y += more * here
            d += more
        new = here + weight * tl.where(d > 0, y / tl.where(d > 0, d, 1.0) - here, 0.0)
        tl.store(out + start + cell, tl.where(mine, new, here), mask=there)


@triton.jit(do_not_specialize=["programs"])
def _restrict_kernel(
    programs, x, b, coarse, known, t0, t1, t2, given, w0, w1, w2, on, size, coarse_size, domain_step,
    n0, n1, n2, m0, m1, m2,
    C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, UNIFORM: tl.constexpr,
    P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """coarse = the sum of b - A x over each block."""
    one, part = _share(programs)
    if tl.load(on + one) != 0:
        bi, bj, bk, there = _tile(part, m0, m1, m2, ROWS, COLS)
        domain, start = one * domain_step, one * size
        source = x + start
        total = tl.zeros([ROWS, COLS], dtype=tl.float32)
        for a in tl.static_range(C0):
            for c in tl.static_range(C1):
                for f in tl.static_range(C2):
                    i, j, k = bi * C0 + a, bj * C1 + c, bk * C2 + f
                    inside = there & (i < n0) & (j < n1) & (k < n2)
                    cell = (i * n1 + j) * n2 + k
                    r = tl.load(b + start + cell, mask=inside, other=0.0)
                    r += _neighbours(
                        source, source, source, known + domain, t0 + domain, t1 + domain, t2 + domain, w0, w1, w2,
                        i, j, k, inside, n0, n1, n2, m1, m2, C0, C1, C2, UNIFORM, P0, P1, P2, False, False,
                    )  # fmt: skip
                    d = _diagonal(
                        known + domain, t0 + domain, t1 + domain, t2 + domain, given + domain, w0, w1, w2,
                        i, j, k, inside, n0, n1, n2, UNIFORM, P0, P1, P2,
                    )  # fmt: skip
                    r -= d * tl.load(source + cell, mask=inside, other=0.0)
                    total += tl.where(inside & (d > 0), r, 0.0)
        block = (bi * m1 + bj) * m2 + bk
        tl.store(coarse + one * coarse_size + block, total, mask=there)


def smooth(level, b, weights, on=None):
    """See ``_multigrid_torch.py``."""
    x = torch.empty_like(b)
    grid, programs, how = _tiles(level.shape, len(b))
    arrays, on = _arrays(level), _flags(on, b)
    _start_kernel[grid](
        programs, b, x, *arrays, weights[0], on, level.size, _step(level), *level.shape, **_kind(level), **how
    )
    for stage in range(1, len(weights)):
        x = _relax(level, x, b, weights[stage], stage % 2, on)
    return x


def restrict_residual(level, x, b, on=None):
    """See ``_multigrid_torch.py``."""
    m = level.coarse_shape
    coarse = torch.empty(len(b), *m, dtype=b.dtype, device=b.device)
    grid, programs, how = _tiles(m, len(b))
    kind = _kind(level)
    del kind["RAISED"]
    known, t0, t1, t2, given, _, *w = _arrays(level)
    _restrict_kernel[grid](
        programs, x, b, coarse, known, t0, t1, t2, given, *w, _flags(on, b), level.size, coarse[0].numel(),
        _step(level), *level.shape, *m, **_blocks(level), **kind, **how,
    )  # fmt: skip
    return move_residuals(level, x, b, coarse)


def correct_and_smooth(level, x, b, e, weights, on=None):
    """See ``_multigrid_torch.py``."""
    on, last = _flags(on, b), len(weights) - 1
    x = _relax(level, x, b, weights[last], last % 2, on, e)
    for stage in range(last - 1, -1, -1):
        x = _relax(level, x, b, weights[stage], stage % 2, on)
    return x


def _relax(level, x, b, weights, colour, on, e=None):
    adds = e is not None
    # Where cells read what is written in the same pass the result goes to new memory.
    copies = adds or bool(level.odd)
    out = torch.empty_like(x) if copies else x
    target = level.block_map() if adds else None
    grid, programs, how = _tiles(level.shape, len(b))
    m = level.coarse_shape
    _relax_kernel[grid](
        programs, x, out, b, e if adds else x, x if target is None else target, *_arrays(level), weights, on,
        level.size,
        m[0] * m[1] * m[2], _step(level), 0 if target is None or len(target) == 1 else level.size, colour,
        *level.shape, *m[1:], **_blocks(level), **_kind(level), ADDS=adds, MAPPED=target is not None, COPIES=copies,
        **how,
    )  # fmt: skip
    return out


def _tiles(shape, batch):
    """The grid of programs, how many of them a system has, and the sizes of their tiles."""
    n0, n1, n2 = shape
    columns = min(COLUMNS, triton.next_power_of_2(n2))
    rows = TILE // columns
    tiles = triton.cdiv(n0 * n1, rows) * triton.cdiv(n2, columns)
    return (tiles * batch,), tiles, {"ROWS": rows, "COLS": columns}


def _flags(on, b):
    if on is None:
        return torch.ones(len(b), dtype=torch.uint8, device=b.device)
    return on.view(torch.uint8)


def _step(level):
    return level.size if len(level.known) > 1 else 0


def _arrays(level):
    """(known, three faces, given, raised, three weights); a uniform level has bytes and weights in place of faces."""
    known = level.known
    raised = known if level.raised is None else level.raised
    if level.uniform is not None:
        return known, known, known, known, known, raised, *level.uniform.weights[0]
    faces, given = level.faces
    return known, *faces, given, raised, 0.0, 0.0, 0.0


def _kind(level):
    return {"UNIFORM": level.uniform is not None, "RAISED": level.raised is not None, **_wraps(level)}


def _wraps(grid):
    """Which axes of a level or an operator are periodic: one of a single cell has no faces."""
    return {f"P{a}": bool(p and n > 1) for a, (p, n) in enumerate(zip(grid.periodic, grid.shape))}


def _blocks(level):
    return dict(zip(("C0", "C1", "C2"), level.factors))
