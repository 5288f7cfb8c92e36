"""Arrays of a large frame that lie in files in place of memory."""

import mmap
import os
import tempfile

import numpy as np

SMALL = 2**25  # bytes of an array for which there is always room in memory
STRIP = 2**24  # bytes of a strip


class Scratch:
    """Makes arrays, large ones in nameless files of a folder, which are gone when nobody uses them any more.

    The kernel writes and reads such a file as memory is needed. What a process has touched of it counts as its memory
    until :func:`forget` is called.

    Parameters
    ----------
    folder : str or path, optional
        Where there is room for them; without it all arrays are made in memory.

    Example
    -------
    >>> import tempfile
    >>> import numpy as np
    >>> array = Scratch(tempfile.gettempdir()).kept(np.ones((4000, 5000), np.float32))
    >>> forget(array)
    >>> array.flags.owndata, float(array.sum())
    (False, 20000000.0)
    """

    def __init__(self, folder=None):
        self.folder = folder

    def zeros(self, shape, dtype=np.float32):
        """An array of zeros.

        Raises
        ------
        OSError
            The disk has no room for it.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.folder is None or size < SMALL:
            return np.zeros(shape, dtype)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            try:
                # All room is taken at once: a disk found full at a later write to the array would end the process.
                getattr(os, "posix_fallocate", _extend)(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(
                    f"the folder {self.folder} has no room for {size / 1e9:.2f} GB more: {error.strerror}"
                ) from error
            return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)

    def kept(self, array):
        """A contiguous copy of an array."""
        copy = self.zeros(array.shape, array.dtype)
        for rows in strips(array):
            copy[rows] = array[rows]
            forget(array, copy)
        return copy


def forget(*arrays):
    """Give back the memory that arrays in files, or views of such, have taken; what they hold stays.

    Arrays in memory are left alone.
    """
    for array in arrays:
        if is_mapped(array) and hasattr(mmap, "MADV_DONTNEED"):
            _file_of(array).madvise(mmap.MADV_DONTNEED)


def is_mapped(array):
    """Whether an array was made in a file, or is a view of such."""
    return isinstance(_file_of(array), mmap.mmap)


def _file_of(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return getattr(array, "obj", None)


def strips(array):
    """Slices of the first axis that hold some megabytes each, and 4 rows or a multiple of them but for the last."""
    step = max(1, STRIP * len(array) // max(array.nbytes, 1)) // 4 * 4 or 4
    return [slice(start, min(start + step, len(array))) for start in range(0, len(array), step)]


def _extend(descriptor, _, size):
    os.truncate(descriptor, size)
