"""Triton kernels for the vectors of conjugate gradients; the plain form and the oracle is ``_conjugate_torch.py``.

Each kernel reads memory once. Sums are single precision within a program's cells and double between programs. Systems
whose ``on`` is false cost a launch and no memory. Bytes a cell in single precision, uniform: products 16, turn 12,
multiply 9, step 32 (x is double).
"""

import torch
import triton
import triton.language as tl

from deconjugate.solver._multigrid_triton import _beside, _flags, _share, _tile, _tiles, _wraps

BLOCK = 1024


@triton.jit(do_not_specialize=["programs"])
def _products_kernel(programs, z, r, p, q, out, size, BLOCK: tl.constexpr):
    """<z, r>, <z, q> and <r, p> of a run of cells, into out[system, program, 0 to 2]."""
    one, part = _share(programs)
    cell = part * BLOCK + tl.arange(0, BLOCK)
    inside = cell < size
    at = one * size + cell
    a, b = tl.load(z + at, mask=inside, other=0.0), tl.load(r + at, mask=inside, other=0.0)
    c, d = tl.load(p + at, mask=inside, other=0.0), tl.load(q + at, mask=inside, other=0.0)
    place = out + (one * programs + part) * 3
    tl.store(place, tl.sum(a * b, 0).to(tl.float64))
    tl.store(place + 1, tl.sum(a * d, 0).to(tl.float64))
    tl.store(place + 2, tl.sum(b * c, 0).to(tl.float64))


@triton.jit(do_not_specialize=["programs"])
def _turn_kernel(programs, p, z, beta, on, size, BLOCK: tl.constexpr):
    """p = z + beta p."""
    one, part = _share(programs)
    if tl.load(on + one) != 0:
        cell = part * BLOCK + tl.arange(0, BLOCK)
        inside = cell < size
        at = one * size + cell
        old = tl.load(p + at, mask=inside, other=0.0)
        factor = tl.load(beta + one).to(old.dtype)
        tl.store(p + at, tl.load(z + at, mask=inside, other=0.0) + factor * old, mask=inside)


@triton.jit(do_not_specialize=["programs"])
def _step_kernel(programs, x, p, r, q, whole, alpha, on, out, size, BLOCK: tl.constexpr):
    """x += whole p, r -= alpha q; <r, r> of a run of cells, into out[system, program]."""
    one, part = _share(programs)
    if tl.load(on + one) != 0:
        cell = part * BLOCK + tl.arange(0, BLOCK)
        inside = cell < size
        at = one * size + cell
        along = tl.load(p + at, mask=inside, other=0.0).to(tl.float64)
        tl.store(x + at, tl.load(x + at, mask=inside, other=0.0) + tl.load(whole + one) * along, mask=inside)
        old = tl.load(r + at, mask=inside, other=0.0)
        new = old - tl.load(alpha + one).to(old.dtype) * tl.load(q + at, mask=inside, other=0.0)
        tl.store(r + at, new, mask=inside)
        tl.store(out + one * programs + part, tl.sum(new * new, 0).to(tl.float64))


@triton.jit
def _difference(x, u, low, high, has_low, has_high, t_low, t_high):
    """t (x - neighbour) over the two faces along an axis: in single precision its error is the gradient's, not x's."""
    below, above = tl.load(u + low, mask=has_low, other=0.0), tl.load(u + high, mask=has_high, other=0.0)
    return t_low * (x - below) + t_high * (x - above)


@triton.jit(do_not_specialize=["programs"])
def _multiply_kernel(
    programs, u, b, y, known, t0, t1, t2, given, weights, on, out, size, domain_step, n0, n1, n2,
    UNIFORM: tl.constexpr, P0: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, SUBTRACTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """y = A u and <u, y>, or with SUBTRACTS y = b - A u and <y, y>, of a tile, into out[system, program]."""
    one, part = _share(programs)
    if tl.load(on + one) != 0:
        i, j, k, there = _tile(part, n0, n1, n2, ROWS, COLS)
        start, domain = one * size, one * domain_step
        u += start
        cell = (i * n1 + j) * n2 + k
        x = tl.load(u + cell, mask=there, other=0.0)
        lo0, hi0, has_lo0, has_hi0 = _beside(i, n0, P0)
        lo1, hi1, has_lo1, has_hi1 = _beside(j, n1, P1)
        lo2, hi2, has_lo2, has_hi2 = _beside(k, n2, P2)
        low0, high0 = (lo0 * n1 + j) * n2 + k, (hi0 * n1 + j) * n2 + k
        low1, high1 = (i * n1 + lo1) * n2 + k, (i * n1 + hi1) * n2 + k
        low2, high2 = (i * n1 + j) * n2 + lo2, (i * n1 + j) * n2 + hi2
        has_lo0, has_hi0 = there & has_lo0, there & has_hi0
        has_lo1, has_hi1 = there & has_lo1, there & has_hi1
        has_lo2, has_hi2 = there & has_lo2, there & has_hi2
        if UNIFORM:
            c = tl.load(known + domain + cell, mask=there, other=0).to(tl.int32)
            w0, w1, w2 = tl.load(weights), tl.load(weights + 1), tl.load(weights + 2)
            s = w0 * _difference(x, u, low0, high0, has_lo0, has_hi0, (c & 1).to(x.dtype), ((c >> 1) & 1).to(x.dtype))
            s += w1 * _difference(
                x, u, low1, high1, has_lo1, has_hi1, ((c >> 2) & 1).to(x.dtype), ((c >> 3) & 1).to(x.dtype)
            )
            s += w2 * _difference(
                x, u, low2, high2, has_lo2, has_hi2, ((c >> 4) & 1).to(x.dtype), ((c >> 5) & 1).to(x.dtype)
            )
        else:
            s = x * tl.load(given + domain + cell, mask=there, other=0.0)
            s += _difference(
                x, u, low0, high0, has_lo0, has_hi0, tl.load(t0 + domain + cell, mask=there, other=0.0),
                tl.load(t0 + domain + high0, mask=has_hi0, other=0.0),
            )  # fmt: skip
            s += _difference(
                x, u, low1, high1, has_lo1, has_hi1, tl.load(t1 + domain + cell, mask=there, other=0.0),
                tl.load(t1 + domain + high1, mask=has_hi1, other=0.0),
            )  # fmt: skip
            s += _difference(
                x, u, low2, high2, has_lo2, has_hi2, tl.load(t2 + domain + cell, mask=there, other=0.0),
                tl.load(t2 + domain + high2, mask=has_hi2, other=0.0),
            )  # fmt: skip
        if SUBTRACTS:
            s = tl.load(b + start + cell, mask=there, other=0.0) - s
            x = s
        tl.store(y + start + cell, s, mask=there)
        total = tl.sum(tl.sum(tl.where(there, x * s, 0.0), 1), 0)
        tl.store(out + one * programs + part, total.to(tl.float64))


def products(z, r, p, q):
    """See ``_conjugate_torch.py``."""
    size = z[0].numel()
    programs = triton.cdiv(size, BLOCK)
    out = torch.empty(len(z), programs, 3, dtype=torch.float64, device=z.device)
    _products_kernel[(programs * len(z),)](programs, z.contiguous(), r, p, q, out, size, BLOCK=BLOCK)
    return out.sum(1).unbind(1)


def turn(p, z, beta, on):
    """See ``_conjugate_torch.py``."""
    size = p[0].numel()
    programs = triton.cdiv(size, BLOCK)
    _turn_kernel[(programs * len(p),)](programs, p, z.contiguous(), beta, _flags(on, p), size, BLOCK=BLOCK)


def multiply(A, p, q, on):
    """See ``_conjugate_torch.py``."""
    return _apply(A, p, p, q, on, False)


def residual(A, b, x, out):
    """See ``_conjugate_torch.py``."""
    return _apply(A, x, b, out, None, True).sqrt()


def step(x, p, r, q, whole, alpha, on):
    """See ``_conjugate_torch.py``."""
    size = p[0].numel()
    programs = triton.cdiv(size, BLOCK)
    out = torch.zeros(len(p), programs, dtype=torch.float64, device=p.device)
    _step_kernel[(programs * len(p),)](programs, x, p, r, q, whole, alpha, _flags(on, p), out, size, BLOCK=BLOCK)
    return out.sum(1)


def _apply(A, u, b, y, on, subtracts):
    grid, programs, how = _tiles(A.shape, len(u))
    out = torch.zeros(len(u), programs, dtype=torch.float64, device=u.device)
    faces = [A.code] * 4
    if not A.uniform:
        low, given = A.faces(u.dtype)
        faces = [*low, given]
    size = u[0].numel()
    _multiply_kernel[grid](
        programs, u, b, y, A.code, *faces, A.weights_in(u.dtype), _flags(on, u), out, size,
        size if A.domains > 1 else 0, *A.shape, UNIFORM=A.uniform, SUBTRACTS=subtracts, **_wraps(A), **how,
    )  # fmt: skip
    return out.sum(1)
