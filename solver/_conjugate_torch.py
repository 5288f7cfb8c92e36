"""The vector work of conjugate gradients in plain torch: the fallback of the Triton kernels and their oracle.

Vectors are (batch, n0, n1, n2); factors and sums (batch,), in double precision. ``on`` says which systems take part:
nothing of the others is changed, whatever their vectors hold.
"""

import torch


def _each(factor, like):
    return factor.to(like.dtype)[:, None, None, None]


def _dot(u, v):
    return (u * v).flatten(1).sum(1, dtype=torch.float64)


def products(z, r, p, q):
    """<z, r>, <z, q> and <r, p>."""
    return _dot(z, r), _dot(z, q), _dot(r, p)


def turn(p, z, beta, on):
    """p = z + beta p, in place."""
    p.copy_(torch.where(on[:, None, None, None], z + _each(beta, p) * p, p))


def multiply(A, p, q, on):
    """q = A p, in place; <p, q>."""
    q.copy_(torch.where(on[:, None, None, None], A.apply(p), q))
    return _dot(p, q)


def step(x, p, r, q, whole, alpha, on):
    """x += whole p in double precision and r -= alpha q, in place; <r, r>."""
    here = on[:, None, None, None]
    x.copy_(torch.where(here, x + _each(whole, x) * p, x))
    r.copy_(torch.where(here, r - _each(alpha, r) * q, r))
    return _dot(r, r)


def residual(A, b, x, out):
    """out = b - A x in double precision; the norms."""
    torch.sub(b, A.apply(x), out=out)
    return _dot(out, out).sqrt()
