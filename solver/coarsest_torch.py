"""The coarsest level of a multigrid hierarchy on a torch device: a product with its inverse."""

import torch


class TorchCoarsest:
    """x = A^-1 b on the coarsest level of several domains.

    As in :class:`deconjugate.solver.coarsest.Coarsest` a component without given values gets one, of the strength of
    its first cell's diagonal. A few hundred cells: the inverse is made once and applied by one product, both in
    double precision: jumps of the coefficient magnify what single would lose.

    Parameters
    ----------
    faces, given, diagonal : tensors (domains, n0, n1, n2)
    periodic : three bools
    """

    def __init__(self, faces, given, diagonal, periodic):
        domains, shape = len(given), given.shape[1:]
        size = given[0].numel()
        A = torch.zeros(domains, size, size, dtype=torch.float64, device=given.device)
        index = torch.arange(size, device=given.device).reshape(shape)
        for axis, t in enumerate(faces, start=1):
            if shape[axis - 1] > 1:
                cell, below = index.reshape(-1), torch.roll(index, 1, axis - 1).reshape(-1)
                t = t.reshape(domains, size).double()
                # On a periodic axis of two cells both faces join the same pair.
                A[:, cell, below] += t
                A[:, below, cell] += t
        d = given.reshape(domains, size).double() + A.sum(2)
        loose = _loose(A > 0, given.reshape(domains, size) > 0)
        d = d + torch.where(loose, torch.where(d > 0, d, 1.0), 0.0)
        factor, _ = torch.linalg.cholesky_ex(torch.diag_embed(d) - A)
        self.inverse = torch.cholesky_inverse(factor)
        known = (diagonal.reshape(domains, size) > 0).double()
        self.inverse *= known[:, :, None] * known[:, None, :]

    def solve(self, b):
        """x = A^-1 b for b (batch, n0, n1, n2)."""
        flat = b.reshape(len(b), -1, 1).double()
        return torch.matmul(self.inverse, flat).to(b.dtype).reshape(b.shape)


def _loose(joined, held):
    """True at the first cell of every component without a given value, and at every cell of no component."""
    domains, size = held.shape
    index = torch.arange(size, device=held.device).expand(domains, size)
    first = index
    while True:
        least = torch.where(joined, first[:, None, :], size).amin(2)
        new = torch.minimum(first, least)
        new = new.gather(1, new)
        if torch.equal(new, first):
            break
        first = new
    any_held = torch.zeros_like(held, dtype=torch.uint8).scatter_reduce_(1, first, held.to(torch.uint8), "amax")
    return (first == index) & (any_held == 0)
