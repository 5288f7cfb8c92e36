"""A PSF known from samples, put on the fine grid."""

import warnings
from dataclasses import dataclass

import numpy as np

from deconjugate.astro.shape import windowed_centroid

# Where the native pixel passes less than this of a frequency, it is not divided by less: only noise is there.
PIXEL_FLOOR = 0.1
WORTH_A_WORD = 1e-3  # of the flux, lost where a PSF is cropped


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of the PSF, each a polynomial in the position where there are several coefficients."""

    coefficients: np.ndarray  # (n_coefficients, h, w)
    oversampling: tuple  # samples per native pixel, rows and columns
    includes_pixel: bool
    zero: tuple = (0.0, 0.0)  # position (x, y) where the polynomial's variables are zero
    scale: tuple = (1.0, 1.0)
    degree: int = 0

    def describe(self):
        h, w = self.coefficients.shape[1:]
        kind = "effective" if self.includes_pixel else "optical"
        return f"{h}x{w} samples, {self.oversampling[0]:g} a pixel, {kind}, degree {self.degree}"

    @property
    def varies(self):
        return self.degree > 0

    def at(self, position):
        if position is None:
            return self.coefficients[0]
        x, y = ((p - z) / s for p, z, s in zip(position, self.zero, self.scale))
        powers = [x**i * y**j for j in range(self.degree + 1) for i in range(self.degree + 1 - j)]
        return np.tensordot(powers, self.coefficients, 1)

    def fine(self, upsample, center, position, max_size):
        samples = check_psf_array(self.at(position))
        middle = [(n - 1) / 2 for n in samples.shape] if center == "keep" else windowed_centroid(samples)
        sizes, transforms = [], []
        for n, c, q in zip(samples.shape, middle, self.oversampling):
            # Room to the farther edge, so that recentring cuts nothing; twice that keeps the period's ends apart.
            size = 2 * int(np.ceil((max(c, n - 1 - c) + 0.5) * upsample / q)) + 1
            sizes.append(size)
            transforms.append(self._resampling(n, c, q, upsample, size))
        p = transforms[0] @ samples @ transforms[1].T
        p /= p.sum()
        spans = [round(n * upsample / q) for n, q in zip(samples.shape, self.oversampling)]
        return p if max_size is None or max(spans) <= max_size else _cropped(p, int(max_size))

    def _resampling(self, n, middle, oversampling, upsample, size):
        """(size, n) matrix: band-limited interpolation to the fine grid, the pixel response of one axis corrected."""
        period = 2 * size + 1
        # Cycles per fine pixel, up to the samples' Nyquist frequency: what lies beyond the fine grid's own folds back,
        # as it does for true integrals over fine pixels.
        f = np.arange(min(int(np.ceil(0.5 * oversampling / upsample * period)), period)) / period
        g = f * upsample / oversampling  # cycles per sample
        if self.includes_pixel:
            fine_pixel, native_pixel = np.sinc(f), np.sinc(f * upsample)
            passed = np.abs(native_pixel) > PIXEL_FLOOR * fine_pixel
            correction = fine_pixel / np.where(passed, native_pixel, 1.0)
            correction[~passed] = native_pixel[~passed] / (fine_pixel[~passed] * PIXEL_FLOOR**2)
        else:
            correction = np.sinc(f)
        weight = np.where(f == 0.0, 1.0, 2.0) * correction / period
        # sum over f of weight cos 2 pi (f i - g (n - middle)), as two products of matrices
        fine = 2.0 * np.pi * np.outer(np.arange(size) - size // 2, f)
        given = 2.0 * np.pi * np.outer(g, np.arange(n) - middle)
        return (weight * np.cos(fine)) @ np.cos(given) + (weight * np.sin(fine)) @ np.sin(given)


def _cropped(p, max_size):
    """The middle of p, no more than so many pixels, an odd number, along each axis, sum 1."""
    half = max((max_size - 1) // 2, 0)
    middle = p[tuple(slice(max(n // 2 - half, 0), n // 2 + half + 1) for n in p.shape)]
    lost = 1.0 - middle.sum()
    if abs(lost) > WORTH_A_WORD:
        warnings.warn(
            f"the PSF, {max(p.shape)} fine pixels wide, is larger than the image, {max_size}: it is cropped, and "
            f"{lost:.1%} of its flux is lost",
            stacklevel=4,
        )
    return middle / middle.sum()


def check_psf_array(array, name="psf"):
    """The array as float64, or an error that says why it is no PSF."""
    array = np.asarray(array)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; give a 2-D array")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {array.dtype}; give real numbers")
    array = array.astype(np.float64)
    if bad := np.count_nonzero(~np.isfinite(array)):
        raise ValueError(f"{name} holds {bad} NaN or infinite values; replace them by interpolation or zero")
    if not array.any():
        raise ValueError(f"{name} is all zero")
    if not array.sum() > 0.0:
        raise ValueError(f"{name} has the sum {array.sum():.3g}; it must be positive: subtract the background properly")
    return array


def check_oversampling(oversampling):
    """Samples per native pixel as a pair (rows, columns), or an error."""
    pair = np.broadcast_to(np.asarray(oversampling, dtype=float), np.shape(oversampling) or (2,))
    if pair.shape != (2,) or not np.all(np.isfinite(pair)) or not np.all(pair > 0.0):
        raise ValueError(f"oversampling is {oversampling!r}; give the samples per native pixel, a positive number")
    return float(pair[0]), float(pair[1])
