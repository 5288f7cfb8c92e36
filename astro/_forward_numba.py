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
    """out = scale conj(transfer) x the native half-spectrum repeated, ``width`` its full number of columns.

    What stands there mirrored has loops of its own, and products are written out, so that both run in vectors.
    """
    (height, half), columns = native.shape, out.shape[1]
    for row in prange(out.shape[0]):
        i = row % height
        back = (height - i) % height
        for first in range(0, columns, width):
            middle, last = min(first + half, columns), first + width
            for k in range(first, middle):
                t, v = transfer[row, k], native[i, k - first]
                a, b = scale * t.real, scale * t.imag
                out[row, k] = complex(a * v.real + b * v.imag, a * v.imag - b * v.real)
            for k in range(middle, min(last, columns)):
                t, v = transfer[row, k], native[back, last - k]
                a, b = scale * t.real, scale * t.imag
                out[row, k] = complex(a * v.real - b * v.imag, -(a * v.imag + b * v.real))


@njit(parallel=True, cache=True)
def subtract(native, transfer, inverse, width, out):
    """out -= inverse conj(transfer) x the native half-spectrum repeated: see :func:`unfold`."""
    (height, half), columns = native.shape, out.shape[1]
    for row in prange(out.shape[0]):
        i = row % height
        back = (height - i) % height
        for first in range(0, columns, width):
            middle, last = min(first + half, columns), first + width
            for k in range(first, middle):
                t, v = transfer[row, k], native[i, k - first]
                a, b = inverse[row, k] * t.real, inverse[row, k] * t.imag
                out[row, k] -= complex(a * v.real + b * v.imag, a * v.imag - b * v.real)
            for k in range(middle, min(last, columns)):
                t, v = transfer[row, k], native[back, last - k]
                a, b = inverse[row, k] * t.real, inverse[row, k] * t.imag
                out[row, k] -= complex(a * v.real - b * v.imag, -(a * v.imag + b * v.real))
