"""Centre and width of a point source."""

from functools import lru_cache

import numpy as np
import scipy.ndimage

GAUSSIAN_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # FWHM of a Gaussian of unit standard deviation


def fwhm_pix(array):
    """Full width at half maximum of a point source, in pixels of the array.

    .. math:: FWHM = 2 \\sqrt{A / \\pi}, \\quad A = \\text{area where the array exceeds half its maximum}

    A spline of order 5 supplies maximum and area between the samples. For an elliptical source it is the
    geometric mean of the two axes; noise in the wings does not enter, only the region around the maximum counts.

    Parameters
    ----------
    array : (h, w) array
        A PSF or a background-subtracted star, brightest at its own peak.

    Example
    -------
    >>> import numpy as np
    >>> x = np.arange(31) - 15.0
    >>> round(float(fwhm_pix(np.exp(-0.5 * (x[:, None] ** 2 + x**2) / 2.0**2))), 3)
    4.71
    """
    array = np.ascontiguousarray(array, dtype=np.float64)
    return _fwhm_pix(array.tobytes(), array.shape)


@lru_cache(maxsize=32)
def _fwhm_pix(values, shape):
    """Of an array in bytes: the PSF of a frame is asked for its width in several places, that of stamps for each."""
    array = np.frombuffer(values).reshape(shape)
    row, column = np.unravel_index(np.argmax(array), array.shape)
    above = scipy.ndimage.label(array > 0.5 * array[row, column])[0]
    rows, columns = np.nonzero(above == above[row, column])
    radius = 3 + max(np.ptp(rows), np.ptp(columns))
    window = array[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
    step = min(0.25, (radius - 3 + 1) / 40.0)
    y, x = (np.arange(0.0, n - 1 + 0.5 * step, step) for n in window.shape)
    dense = scipy.ndimage.map_coordinates(window, np.meshgrid(y, x, indexing="ij"), order=5, mode="mirror")
    half = 0.5 * dense.max()
    labels = scipy.ndimage.label(dense > half)[0]
    inside = labels == labels[np.unravel_index(np.argmax(dense), dense.shape)]
    # A step that the contour crosses counts by the share of it that lies inside.
    slope = np.hypot(*np.gradient(np.pad(dense, 1, mode="edge")))[1:-1, 1:-1]
    share = np.clip(0.5 + (dense - half) / np.maximum(slope, 1e-12 * half), 0.0, 1.0)
    area = share[scipy.ndimage.binary_dilation(inside)].sum() * step**2
    return 2.0 * np.sqrt(area / np.pi)


def windowed_centroid(array, *, maxiter=100):
    """Gaussian-windowed centroid (row, column), in pixels, 0 at the centre of the first pixel.

    .. math:: c \\leftarrow c + 2 \\frac{\\sum_i w_i(c) I_i (x_i - c)}{\\sum_i w_i(c) I_i}, \\quad
              w_i(c) = \\exp(-|x_i - c|^2 / 2 \\sigma^2)

    sigma is that of a Gaussian of the source's own width, so noise far out in the wings has no leverage.

    Source: the XWIN_IMAGE, YWIN_IMAGE of SExtractor.

    Example
    -------
    >>> import numpy as np
    >>> y, x = np.mgrid[:20, :17]
    >>> star = np.exp(-0.5 * ((y - 9.3) ** 2 + (x - 8.1) ** 2) / 1.5**2)
    >>> [round(float(c), 4) for c in windowed_centroid(star)]
    [9.3, 8.1]
    """
    array = np.asarray(array, dtype=np.float64)
    sigma = max(fwhm_pix(array) / GAUSSIAN_FWHM, 0.5)
    y, x = (np.arange(n, dtype=np.float64) for n in array.shape)
    row, column = map(float, np.unravel_index(np.argmax(array), array.shape))
    for _ in range(maxiter):
        weighted = array * np.exp(-0.5 * ((y - row) / sigma) ** 2)[:, None] * np.exp(-0.5 * ((x - column) / sigma) ** 2)
        total = weighted.sum()
        if not total > 0.0:
            break
        move = 2.0 * (weighted.sum(1) @ (y - row)) / total, 2.0 * (weighted.sum(0) @ (x - column)) / total
        row, column = row + move[0], column + move[1]
        if max(map(abs, move)) < 1e-10:
            break
    inside = 0.0 <= row <= array.shape[0] - 1 and 0.0 <= column <= array.shape[1] - 1
    if not inside:  # a source without a centre: its peak is the best there is
        return tuple(map(float, np.unravel_index(np.argmax(array), array.shape)))
    return row, column
