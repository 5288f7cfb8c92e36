"""Work memory that goes from one solve to the next."""

import ctypes
import weakref
from math import prod

import numpy as np

# Arrays of fewer bytes are left to malloc, which gives them again by itself.
_SMALL = 1 << 18
# So many bytes are kept for the next solve, at most.
_KEPT = 128 << 20

_blocks = {}  # unused ones by their address, the oldest first


def empty(shape, dtype=np.float32):
    """An uninitialised array like ``np.empty``, of memory that an earlier one of its size has left behind.

    The system may take large arrays back when they are freed, and clears the pages of the next ones, which costs half
    of what a solve of 1024^2 takes by itself. Blocks that nobody holds any more, not even by a view, are kept for the
    next that asks for so many bytes: 128 MB at most, the oldest go first.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : NumPy's, optional
        Single precision.

    Example
    -------
    >>> from deconjugate.solver.memory import empty
    >>> first = empty((300, 400))
    >>> address = first.ctypes.data
    >>> del first
    >>> empty(120000).ctypes.data == address
    True
    """
    shape = (int(shape),) if np.ndim(shape) == 0 else tuple(shape)
    size = prod(shape) * np.dtype(dtype).itemsize
    if size < _SMALL:
        return np.empty(shape, dtype)
    block = _take(size)
    # Views hold their array, arrays the lease, the lease its block. NumPy would look through a memoryview or an array.
    lease = (ctypes.c_char * size).from_buffer(block)
    weakref.finalize(lease, _give_back, block).atexit = False
    return np.ndarray(shape, dtype, lease)


def zeros(shape, dtype=np.float64):
    """The same, filled with zeros."""
    out = empty(shape, dtype)
    out.fill(0)
    return out


def _take(size):
    for address in reversed(list(_blocks)):
        block = _blocks.get(address)
        if block is not None and block.size == size and _blocks.pop(address, None) is not None:
            return block
    return np.empty(size, np.uint8)


def _give_back(block):
    # Any thread may come by at any time: single operations on the dictionary alone, and what is missing is no harm.
    if block.size > _KEPT:
        return
    _blocks[block.ctypes.data] = block
    kept = list(_blocks.items())
    excess = sum(one.size for _, one in kept) - _KEPT
    for address, one in kept:
        if excess <= 0:
            break
        _blocks.pop(address, None)
        excess -= one.size
