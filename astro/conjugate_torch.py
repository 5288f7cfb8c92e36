"""Conjugate gradients for a batch of systems, each stopping by itself."""

import torch

CHECK = 2  # iterations between looks at how many systems are left, where looking means waiting for the device


def conjugate_gradient(apply, precondition, b, dot, spread, *, rtol, maxiter):
    """The solutions of A_i x_i = b_i, from zero.

    .. math:: ||b_i - A_i x_i||_2 \\le \\mathrm{rtol} \\, ||b_i||_2

    A system that is there is left alone from then on, so that its answer is what it would be by itself. Whether any is
    left is asked at every iteration on a processor, at every second on a GPU, which need not wait in between.

    Parameters
    ----------
    apply, precondition : callables
        A v and M v for all systems.
    b : tensor
        Right-hand sides, in whatever layout the callables share.
    dot : callable (u, v) -> (N,) tensor
        Inner products, system by system.
    spread : callable
        One number a system, (N,), as a tensor that broadcasts to the layout of b.
    rtol : float, in (0, 1)
    maxiter : int

    Returns
    -------
    tensor like b

    Example
    -------
    >>> A = torch.tensor([[[2.0, 1.0], [1.0, 3.0]], [[1.0, 0.0], [0.0, 5.0]]], dtype=torch.float64)
    >>> apply = lambda v: torch.einsum("nij,nj->ni", A, v)
    >>> b = apply(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64))
    >>> dot, spread = lambda u, v: (u * v).sum(1), lambda a: a[:, None]
    >>> conjugate_gradient(apply, lambda v: v, b, dot, spread, rtol=1e-9, maxiter=9).round(decimals=6).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    x, r = torch.zeros_like(b), b.clone()
    limit = rtol**2 * dot(b, b)
    direction = rho = None
    check = 1 if b.device.type == "cpu" else CHECK
    for iteration in range(maxiter):
        left = dot(r, r) > limit
        if iteration % check == 0 and not left.any():
            break
        z = precondition(r)
        before, rho = rho, dot(r, z)
        direction = z if before is None else z + spread(_ratio(rho, before)).to(z.dtype) * direction
        product = apply(direction)
        step = spread(torch.where(left, _ratio(rho, dot(direction, product)), 0.0)).to(z.dtype)
        x = x + step * direction
        r = r - step * product
    return x


def _ratio(a, b):
    """a / b, zero where b is."""
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))
