"""Connected sets of pixels in a batch of frames, by repeated maxima over neighbours."""

import torch
from torch.nn import functional as F

CHECK = 8  # passes between looks at whether anything has changed


def connected_to(seed, mask):
    """Which true places of ``mask`` are connected, by faces, edges or corners, with one that is in ``seed`` too.

    Parameters
    ----------
    seed, mask : bool tensors (N, planes, h, w)

    Example
    -------
    >>> mask = torch.tensor([[[[1, 1, 0, 1]]]], dtype=torch.bool)
    >>> seed = torch.tensor([[[[1, 0, 1, 0]]]], dtype=torch.bool)
    >>> connected_to(seed, mask)[0, 0, 0].tolist()
    [True, True, False, False]
    """
    inside = mask[:, None].half() if mask.is_cuda else mask[:, None].float()
    found = inside * seed[:, None]
    return _settled(lambda f: F.max_pool3d(f, 3, 1, 1) * inside, found)[:, 0] > 0


def labels(mask):
    """Sets of true pixels that share edges: their numbers from 1 in each frame, 0 elsewhere, and how many there are.

    Parameters
    ----------
    mask : bool tensor (N, h, w)

    Returns
    -------
    labels : int64 tensor (N, h, w)
    counts : int64 tensor (N,)

    Example
    -------
    >>> numbers, counts = labels(torch.tensor([[[1, 0, 1], [1, 0, 0], [0, 1, 1]]], dtype=torch.bool))
    >>> counts.tolist(), numbers[0].tolist()
    ([3], [[1, 0, 2], [1, 0, 0], [0, 3, 3]])
    """
    n, height, width = mask.shape
    # The first pixel of a set names it: exact in single precision up to 4096 x 4096 pixels.
    place = height * width - torch.arange(height * width, device=mask.device)
    names = place.to(torch.float32 if height * width < 2**24 else torch.float64).view(height, width) * mask
    names = _settled(lambda x: _across(x) * mask, names)
    first = mask & (names == place.view(height, width))
    numbers = first.flatten(1).cumsum(1)
    owner = height * width - names.flatten(1).long()
    found = numbers.gather(1, owner.clamp(max=height * width - 1)) * mask.flatten(1)
    return found.view(n, height, width), numbers[:, -1]


def dilated(mask, reach):
    """True within ``reach`` pixels along both axes of a true pixel: (N, h, w)."""
    if reach == 0:
        return mask
    return F.max_pool2d(mask.float(), 2 * reach + 1, 1, reach) > 0


def dilated_across(mask, steps):
    """True within so many steps over pixels' edges: (N, h, w), with (N,) steps."""
    values = mask.float()
    for step in range(int(max(steps))):
        grown = _across(values)
        here = torch.tensor([step < n for n in steps], device=mask.device)[:, None, None]
        values = torch.where(here, grown, values)
    return values > 0


def _across(x):
    """The largest of each pixel and the four beside it."""
    return torch.maximum(F.max_pool2d(x, (3, 1), 1, (1, 0)), F.max_pool2d(x, (1, 3), 1, (0, 1)))


def _settled(step, x):
    """x after as many steps as change it."""
    while True:
        before = x
        for _ in range(CHECK):
            x = step(x)
        if torch.equal(x, before):
            return x
