"""Kernels of the starlet: one a-trous smoothing with its neighbour operations, each one pass over memory.

Every array is C-contiguous (batch, planes, height, width) with the plane to use given by its number, so that the
innermost loops run over unit stride. Row i of a smoothing with step s meets only rows i - 2s, i - s, ..., so rows are
visited one residue class modulo s after the other: five rows are live whatever the scale, and stay in the near cache.
"""

from contextlib import contextmanager

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads

ROWS_PER_TASK = 64
PIXELS_WORTH_A_THREAD = 2**16


@contextmanager
def enough_threads(pixels):
    """Threads by the size of the work: waking one costs more than a small image, far more on a busy machine."""
    threads = get_num_threads()
    set_num_threads(max(1, min(threads, pixels // PIXELS_WORTH_A_THREAD)))
    try:
        yield
    finally:
        set_num_threads(threads)


@njit(cache=True)
def _reflect(i, n):
    """Index of sample i of a signal of length n extended by half-sample mirrors: ... 1 0 | 0 1 2 ... n-1 | n-1 ..."""
    while i < 0 or i >= n:
        i = -1 - i if i < 0 else 2 * n - 1 - i
    return i


@njit(cache=True)
def _plan(height, width, step):
    """Row order by residue class, and the source columns of the 2 s samples beyond either end of a row."""
    order = np.empty(height, np.int64)
    k = 0
    for residue in range(min(step, height)):
        for i in range(residue, height, step):
            order[k] = i
            k += 1
    pad = np.empty((2, 2 * step), np.int64)
    for k in range(2 * step):
        pad[0, k] = _reflect(k - 2 * step, width)
        pad[1, k] = _reflect(width + k, width)
    return order, pad


@njit(cache=True, fastmath={"contract"})
def _columns(image, i, step, taps, pad, line):
    """line = row i of the image smoothed along columns, with its mirrored ends: (width + 4 step)."""
    height, width = image.shape
    far, near, centre = taps[0], taps[1], taps[2]
    a, b = image[_reflect(i - 2 * step, height)], image[_reflect(i - step, height)]
    c = image[i]
    d, e = image[_reflect(i + step, height)], image[_reflect(i + 2 * step, height)]
    inner = line[2 * step : 2 * step + width]
    for x in range(width):
        inner[x] = far * (a[x] + e[x]) + near * (b[x] + d[x]) + centre * c[x]
    for k in range(2 * step):
        line[k] = inner[pad[0, k]]
        line[2 * step + width + k] = inner[pad[1, k]]


@njit(parallel=True, cache=True, fastmath={"contract"})
def smooth_and_detail(image, p, step, taps, smooth, q, planes, j):
    """smooth[:, q] = H image[:, p] and planes[:, j] = image[:, p] - smooth[:, q]."""
    batch, _, height, width = image.shape
    order, pad = _plan(height, width, step)
    tasks = (height + ROWS_PER_TASK - 1) // ROWS_PER_TASK
    far, near, centre = taps[0], taps[1], taps[2]
    for task in prange(batch * tasks):
        n, first = task // tasks, (task % tasks) * ROWS_PER_TASK
        line = np.empty(width + 4 * step, image.dtype)
        a, b, c = line[:width], line[step : step + width], line[2 * step : 2 * step + width]
        d, e = line[3 * step : 3 * step + width], line[4 * step : 4 * step + width]
        for k in range(first, min(first + ROWS_PER_TASK, height)):
            i = order[k]
            _columns(image[n, p], i, step, taps, pad, line)
            image_row, smooth_row, detail_row = image[n, p, i], smooth[n, q, i], planes[n, j, i]
            for x in range(width):
                value = far * (a[x] + e[x]) + near * (b[x] + d[x]) + centre * c[x]
                smooth_row[x] = value
                detail_row[x] = image_row[x] - value


@njit(parallel=True, cache=True, fastmath={"contract"})
def smooth_and_add(image, step, taps, planes, j, out):
    """out[:, 0] = H image[:, 0] + planes[:, j] - planes[:, j - 1], the last term absent for j = 0."""
    batch, _, height, width = image.shape
    order, pad = _plan(height, width, step)
    tasks = (height + ROWS_PER_TASK - 1) // ROWS_PER_TASK
    far, near, centre = taps[0], taps[1], taps[2]
    for task in prange(batch * tasks):
        n, first = task // tasks, (task % tasks) * ROWS_PER_TASK
        line = np.empty(width + 4 * step, image.dtype)
        a, b, c = line[:width], line[step : step + width], line[2 * step : 2 * step + width]
        d, e = line[3 * step : 3 * step + width], line[4 * step : 4 * step + width]
        for k in range(first, min(first + ROWS_PER_TASK, height)):
            i = order[k]
            _columns(image[n, 0], i, step, taps, pad, line)
            plane_row, out_row = planes[n, j, i], out[n, 0, i]
            if j > 0:
                finer_row = planes[n, j - 1, i]
                for x in range(width):
                    value = far * (a[x] + e[x]) + near * (b[x] + d[x]) + centre * c[x]
                    out_row[x] = value + (plane_row[x] - finer_row[x])
            else:
                for x in range(width):
                    value = far * (a[x] + e[x]) + near * (b[x] + d[x]) + centre * c[x]
                    out_row[x] = value + plane_row[x]


@njit(parallel=True, cache=True)
def last_difference(planes, out):
    """out[:, 0] = planes[:, -1] - planes[:, -2]."""
    batch, count, height, width = planes.shape
    for row in prange(batch * height):
        n, i = row // height, row % height
        left, right, out_row = planes[n, count - 1, i], planes[n, count - 2, i], out[n, 0, i]
        for x in range(width):
            out_row[x] = left[x] - right[x]


@njit(parallel=True, cache=True)
def banded_rows(first, values, image, out):
    """out = B image for a matrix B whose row i holds values[i] in columns first[i], first[i] + 1, ..."""
    height, width = image.shape
    rows, count = values.shape
    for i in prange(rows):
        out_row = out[i]
        out_row[:] = 0
        for k in range(min(count, height - first[i])):
            weight, image_row = values[i, k], image[first[i] + k]
            for x in range(width):
                out_row[x] += weight * image_row[x]
