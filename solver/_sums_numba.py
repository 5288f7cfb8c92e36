"""The sum of a few partial sums, in their order."""

from numba import njit


@njit(cache=True)
def total(partial):
    """What ``partial.sum()`` is elsewhere: in a parallel kernel numba shares that out too, and its order with it."""
    whole = 0.0
    for part in partial:
        whole += part
    return whole
