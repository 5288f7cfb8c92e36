"""Connected components of the unknowns on a torch device, by runs along the last axis."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Components:
    """The components of several domains, numbered through them all from 1, in the order of their first cells.

    Attributes
    ----------
    label : int64 tensor of the cells' shape
        0 where there is no unknown.
    domain : int64 tensor (components + 1,)
        Of each component; entry 0 is no component.
    closed : bool tensor (components + 1,)
        Whether a component touches no given value: A u = 0 for u constant there.
    """

    label: torch.Tensor
    domain: torch.Tensor
    closed: torch.Tensor


def components(code, periodic):
    """Label the components.

    Runs of unknowns along the last axis are numbered by a running sum. Two runs with an open face between them are an
    edge of a graph; each round hooks the larger of two roots to the smaller and shortens all ways to the roots, so that
    the rounds are some ten whatever the domain: each asks the device once whether it was the last.

    Parameters
    ----------
    code : uint8 tensor (domains, n0, n1, n2)
        Bytes of the cells: bits 0-5 open faces, 6 unknown, 7 beside a given value.
    periodic : three bools

    Returns
    -------
    Components

    Source: Shiloach and Vishkin, Journal of Algorithms 3, 57 (1982).

    Example
    -------
    >>> import torch
    >>> row = torch.tensor([64 + 32, 64 + 16, 0, 64 + 128], dtype=torch.uint8)
    >>> found = components(row.reshape(1, 1, 1, 4), (False, False, False))
    >>> found.label.flatten().tolist(), found.closed.tolist()
    ([1, 1, 0, 2], [False, True, False])
    """
    unknown = code >= 64
    start = unknown.clone()
    start[..., 1:] &= ~(unknown[..., :-1] & ((code[..., 1:] >> 4) & 1).bool())
    run = torch.cumsum(start.reshape(-1), 0).reshape(code.shape) - 1
    count = int(run.reshape(-1)[-1]) + 1
    pairs = [_edges(code, unknown, start, run, axis, periodic) for axis in range(3)]
    a, b = (torch.cat(ends) for ends in zip(*pairs))
    parent = _roots(torch.arange(count, device=code.device), a, b)
    is_root = parent == torch.arange(count, device=code.device)
    label = torch.cumsum(is_root, 0)[parent]
    total = int(label.max()) if count else 0
    flat = torch.where(unknown.reshape(-1), label[run.reshape(-1).clamp_min(0)], 0) if count else run.reshape(-1) * 0
    cells = flat.reshape(code.shape)
    held = torch.zeros(total + 1, dtype=torch.bool, device=code.device)
    held[cells[code >= 128]] = True
    held[0] = True
    domain = torch.zeros(total + 1, dtype=torch.int64, device=code.device)
    at = start.reshape(-1).nonzero()[:, 0][is_root]
    domain[1:] = at // (code[0].numel())
    return Components(cells, domain, ~held)


def _edges(code, unknown, start, run, axis, periodic):
    """The pairs of runs with an open face between them along an axis, each place where they meet once."""
    at, n = axis + 1, code.shape[axis + 1]
    if n == 1 or (axis == 2 and not periodic[2]):
        return run.new_zeros(0), run.new_zeros(0)
    meets = unknown & torch.roll(unknown, 1, at) & ((code >> (2 * axis)) & 1).bool()
    if not periodic[axis]:
        meets.narrow(at, 0, 1).fill_(False)
    below = torch.roll(run, 1, at)
    if axis == 2:
        meets[..., 1:] = False
    else:
        # Two runs that meet at one cell after another are one edge.
        again = meets[..., 1:] & meets[..., :-1] & ~start[..., 1:] & ~torch.roll(start, 1, at)[..., 1:]
        meets[..., 1:] &= ~again
    return run[meets], below[meets]


def _roots(parent, a, b):
    while a.numel():
        low, high = torch.minimum(parent[a], parent[b]), torch.maximum(parent[a], parent[b])
        parent = parent.scatter_reduce(0, high, low, "amin")
        shorter = parent[parent]
        while not torch.equal(shorter, parent):
            parent, shorter = shorter, shorter[shorter]
        if torch.equal(parent[a], parent[b]):
            break
    return parent
