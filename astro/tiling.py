"""Overlapping tiles of one size, and the weights that blend them without a seam."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Tiling:
    """Places of equal size that cover a frame; see :func:`tiling`."""

    shape: tuple  # of the frame
    size: tuple  # of every tile
    starts: tuple  # per axis, first pixel of each tile
    overlap: int

    def places(self):
        """The tiles, each a pair of slices into the frame."""
        return [
            tuple(slice(s, s + n) for s, n in zip(start, self.size))
            for start in ((i, j) for i in self.starts[0] for j in self.starts[1])
        ]

    def window(self, place, margin=(0, 0)):
        """Weight of a tile in the blend, on the tile and ``margin`` pixels (rows, columns) around it.

        Linear ramps over the middle half of the overlap; the weights of all tiles sum to one on every pixel of the
        frame, and those of edge tiles go on into the margin.
        """
        rows, columns = (
            self._ramp(s.start, size, n, starts, m)
            for s, size, n, starts, m in zip(place, self.size, self.shape, self.starts, margin)
        )
        return np.outer(rows, columns)

    def _ramp(self, start, size, n, starts, margin):
        pixels = np.arange(start - margin, start + size + margin)
        total = sum(self._raw(pixels, s, size, n) for s in starts)
        own = self._raw(pixels, start, size, n)
        return np.divide(own, total, out=np.zeros(own.shape), where=own > 0.0)

    def _raw(self, pixels, start, size, n):
        quarter = self.overlap / 4.0
        low = np.inf if start == 0 else pixels + 0.5 - start - quarter
        high = np.inf if start + size == n else start + size - pixels - 0.5 - quarter
        return np.clip(np.minimum(low, high) / max(2.0 * quarter, 1.0), 0.0, 1.0) * np.ones(pixels.size)


def tiling(shape, size, overlap):
    """Tiles of at most ``size`` pixels a side that overlap by at least ``overlap``.

    Parameters
    ----------
    shape : (int, int)
        Frame.
    size : int
        Side of a tile; a frame axis that is no longer is left whole.
    overlap : int

    Raises
    ------
    ValueError
        size is not larger than twice the overlap, so that tiles would not advance.

    Example
    -------
    >>> tiles = tiling((100, 250), 128, 20)
    >>> tiles.size, tiles.starts
    ((100, 128), ((0,), (0, 61, 122)))
    """
    if any(n > size for n in shape) and size <= 2 * overlap:
        raise ValueError(f"tile is {size}; it must exceed {2 * overlap}, twice the overlap that this PSF needs")
    starts = []
    for n in shape:
        if n <= size:
            starts.append((0,))
            continue
        count = -(-(n - overlap) // (size - overlap))
        starts.append(tuple(int(s) for s in np.round(np.linspace(0, n - size, count))))
    return Tiling(tuple(shape), tuple(min(n, size) for n in shape), tuple(starts), overlap)
