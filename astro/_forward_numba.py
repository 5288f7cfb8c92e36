"""Aliasing between the half-spectra of the fine and the native grid, one pass over memory each."""

from numba import njit, prange


@njit(parallel=True, cache=True)
def fold(transfer, spectrum, columns, mirrored, out):
    """Sum of transfer x spectrum over the fine frequencies that alias onto each native one.

    ``columns[c, j]`` is where alias c of native column j stands in the half-spectrum; if ``mirrored``, it stands there
    conjugated and at minus its row.
    """
    rows, height = spectrum.shape[0], out.shape[0]
    for i in prange(height):
        for j in range(out.shape[1]):
            out[i, j] = 0
        for row in range(i, rows, height):
            back = (rows - row) % rows
            for c in range(columns.shape[0]):
                for j in range(out.shape[1]):
                    k = columns[c, j]
                    if mirrored[c, j]:
                        out[i, j] += (transfer[back, k] * spectrum[back, k]).conjugate()
                    else:
                        out[i, j] += transfer[row, k] * spectrum[row, k]


@njit(parallel=True, cache=True)
def unfold(native, transfer, scale, width, out):
    """out = scale conj(transfer) x the native half-spectrum repeated, ``width`` its full number of columns."""
    height = native.shape[0]
    for row in prange(out.shape[0]):
        i = row % height
        back = (height - i) % height
        for k in range(out.shape[1]):
            j = k % width
            value = native[i, j] if 2 * j <= width else native[back, width - j].conjugate()
            out[row, k] = scale * transfer[row, k].conjugate() * value


@njit(parallel=True, cache=True)
def subtract(native, transfer, inverse, width, out):
    """out -= inverse conj(transfer) x the native half-spectrum repeated: see :func:`unfold`."""
    height = native.shape[0]
    for row in prange(out.shape[0]):
        i = row % height
        back = (height - i) % height
        for k in range(out.shape[1]):
            j = k % width
            value = native[i, j] if 2 * j <= width else native[back, width - j].conjugate()
            out[row, k] -= inverse[row, k] * transfer[row, k].conjugate() * value
