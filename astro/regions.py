"""Sums over regions of a frame, and maps that are constant on each."""

import numpy as np
import scipy.ndimage


class Regions:
    """Every pixel belongs to one region; the same regions on the native frame and on the padded fine grid.

    Parameters
    ----------
    labels : (h, w) int array
        The region of every native pixel, from 0.
    model : deconjugate.astro.forward.DataModel

    Example
    -------
    >>> from deconjugate.astro import PSF
    >>> from deconjugate.astro.forward import DataModel
    >>> labels = np.repeat([[0, 0, 1, 1, 1, 1, 1, 1]], 8, axis=0)
    >>> regions = Regions(labels, DataModel((8, 8), PSF.moffat(3.0).fine(2), 2))
    >>> regions.native_sums(np.ones((8, 8))).tolist()
    [16.0, 48.0]
    """

    def __init__(self, labels, model):
        self.count, self.shape = int(labels.max()) + 1, labels.shape
        if self.count > 1:
            pads = [(s.start, n - s.stop) for s, n in zip(model.frame, model.range_shape)]
            padded = np.pad(labels, pads, mode="edge")
            self.native = labels.ravel()
            self.fine = np.repeat(np.repeat(padded, model.upsample, axis=0), model.upsample, axis=1)
            self._flat = self.fine.ravel()

    def native_sums(self, values):
        """Sums of (h, w) values by region, float64."""
        if self.count == 1:
            return np.array([values.sum(dtype=np.float64)])
        return np.bincount(self.native, values.ravel(), self.count)

    def fine_sums(self, values):
        """Sums of values on the padded fine grid by region, float64."""
        if self.count == 1:
            return np.array([values.sum(dtype=np.float64)])
        return np.bincount(self._flat, values.ravel(), self.count)

    def on_native(self, numbers):
        """(h, w): each region's number, float32; a scalar where there is one region."""
        if self.count == 1:
            return np.float32(numbers[0])
        return np.asarray(numbers, np.float32)[self.native].reshape(self.shape)

    def on_fine(self, numbers):
        """Each region's number on the padded fine grid, float32; a scalar where there is one region."""
        return np.float32(numbers[0]) if self.count == 1 else np.asarray(numbers, np.float32)[self.fine]


def groups(sources, reach):
    """The group of every pixel, from 0: sources within ``reach`` pixels of each other go together, the rest is nearest.

    Parameters
    ----------
    sources : (h, w) int array
        Sources by number, 0 where there is none.
    reach : float
        Native pixels.

    Returns
    -------
    (h, w) int array

    Example
    -------
    >>> sources = np.zeros((1, 20), int)
    >>> sources[0, [2, 4, 15]] = 1, 2, 3
    >>> groups(sources, 3.0)[0].tolist()
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    if not sources.any():
        return np.zeros(sources.shape, int)
    distance, nearest = scipy.ndimage.distance_transform_edt(sources == 0, return_indices=True)
    joined, _ = scipy.ndimage.label(distance <= 0.5 * reach)
    return joined[tuple(nearest)] - 1
