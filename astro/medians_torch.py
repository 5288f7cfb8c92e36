"""Medians of what is good in each frame of a batch."""

import torch


def masked_median(values, good):
    """The median of each frame's good values, (N,), the mean of the middle two where their number is even.

    Parameters
    ----------
    values : tensor (N, ...)
    good : bool tensor (N, ...)
        At least one in each frame.

    Example
    -------
    >>> values = torch.tensor([[4.0, 9.0, 2.0, 7.0], [1.0, 5.0, 8.0, 3.0]])
    >>> masked_median(values, values < 9).tolist()
    [4.0, 4.0]
    """
    ordered, count = _ordered(values, good)
    return _middle(ordered, torch.zeros_like(count), count)


def clipped_median(values, good, *, passes=5):
    """The median of what is left of each frame after clipping at three sigma, both from the median, (N,) float64."""
    ordered, count = _ordered(values.double(), good)
    low, high = torch.zeros_like(count), count
    place = torch.arange(ordered.shape[1], device=ordered.device)
    for _ in range(passes):
        middle = _middle(ordered, low, high)
        apart = (ordered - middle[:, None]).abs()
        inside = (place >= low[:, None]) & (place < high[:, None])
        spread = 1.4826 * masked_median(apart, inside)
        ends = torch.stack([middle - 3 * spread, middle + 3 * spread], dim=1)
        # Searched among what was left before alone: beyond it all would be found again.
        first, last = torch.searchsorted(ordered, ends).unbind(1)
        first, last = torch.maximum(first, low), torch.minimum(last, high)
        kept = last - first
        moves = (kept > 0) & (kept < high - low)
        low, high = torch.where(moves, first, low), torch.where(moves, last, high)
    return _middle(ordered, low, high)


def _ordered(values, good):
    """Good values in order, infinities behind them, and how many are good."""
    flat = torch.where(good, values, torch.inf).flatten(1)
    return flat.sort(dim=1).values, good.flatten(1).sum(1)


def _middle(ordered, low, high):
    """The median of ordered[low : high], row by row."""
    ends = torch.stack([(low + high - 1) // 2, (low + high) // 2], dim=1)
    return ordered.gather(1, ends).mean(1)
