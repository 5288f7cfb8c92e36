"""The PSF of every tile of a frame, and the data model that goes with it."""

import numpy as np

from deconjugate.astro.forward import DataModel


class FramePsf:
    """p on the fine grid, tile by tile, for a PSF that may vary over the frame.

    One that varies is taken at the middle of every tile; where tiles overlap the images are blended, so that its steps
    are smoothed. All have the shape of the largest, so that every tile has the same margin.

    Parameters
    ----------
    tiles : deconjugate.astro.tiling.Tiling
    upsample : int
    fine : (odd, odd) array, or callable (x, y) -> such an array
        p, or p at a position in the frame, native pixels from 0.
    turn : int
        Which of the eight flips and quarter turns the tiles and their PSFs are seen in: see :func:`orient`.
    """

    def __init__(self, tiles, upsample, fine, turn=0):
        self.tiles, self.upsample, self.turn = tiles, int(upsample), turn
        if callable(fine):
            places = tiles.places()
            arrays = [fine(*self._middle(place)) for place in places]
            largest = np.max([p.shape for p in arrays], axis=0)
            arrays = [np.pad(p, [((n - k) // 2,) * 2 for n, k in zip(largest, p.shape)]) for p in arrays]
            self._psfs = {_key(place): orient(p, turn) for place, p in zip(places, arrays)}
        else:
            self._psfs = {None: orient(np.asarray(fine), turn)}
        self._last = None, None

    def at(self, place):
        """The data model of a tile and p there."""
        key = _key(place) if None not in self._psfs else None
        if self._last[1] is None or self._last[0] != key:
            self._last = key, DataModel(self.tiles.size, self._psfs[key], self.upsample)
        return self._last[1], self._psfs[key]

    def _middle(self, place):
        """(x, y) of the middle of a tile in the frame as it was given."""
        y, x = ((s.start + s.stop - 1) / 2 for s in place)
        rows, columns = self.tiles.shape
        if self.turn >= 4:
            x = columns - 1 - x
        for _ in range(self.turn % 4):
            y, x = x, rows - 1 - y
            rows, columns = columns, rows
        return x, y


def orient(array, turn, *, back=False):
    """The ``turn``-th of the eight flips and quarter turns of the last two axes, or its inverse."""
    if back:
        array = array[..., ::-1] if turn >= 4 else array
        return np.ascontiguousarray(np.rot90(array, -turn % 4, axes=(-2, -1)))
    array = np.rot90(array, turn % 4, axes=(-2, -1))
    return np.ascontiguousarray(array[..., ::-1] if turn >= 4 else array)


def _key(place):
    return tuple(s.start for s in place)
