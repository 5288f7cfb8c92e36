"""Orthogonal wavelets of PyWavelets, stationary and decimated, and the noise of an image from its finest wavelets."""

import numpy as np
import scipy  # its fft is loaded when it is used

from deconjugate.operators.dictionaries import (
    Dictionary,
    checked_scales,
    checked_shape,
    checked_variance,
)

GAUSSIAN_MAD = 0.6744897501960817  # median of |n| for unit normal n


class StationaryWavelet(Dictionary):
    """Stationary (undecimated, shift-invariant) wavelet transform of images that are zero outside.

    .. math:: W x = (g_1 \\otimes l_1, l_1 \\otimes g_1, g_1 \\otimes g_1, g_2 \\otimes l_2, ..., l_J \\otimes l_J) * x,
              \\qquad W^T W = 1

    l_j and g_j are the equivalent low- and high-pass filters of scale j, of norm 2^(-j/2). The planes are wider than
    the image by the longest filter, so that nothing wraps and nothing is lost: the adjoint is the reconstruction.
    Subtract the sky first, since an image with a pedestal has an edge all around. Computed by real FFTs.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image in pixels, odd or even.
    n_scales : int, 1 <= n_scales <= log2(min(shape))
        Planes: three per scale (high-pass along rows' index, along columns' index, both), and the coarse one.
    wavelet : str
        Any orthogonal wavelet of PyWavelets; "haar" is the shortest, longer ones are smoother.
    workers : int
        Threads of scipy.fft; -1 takes all processors.

    Raises
    ------
    ValueError
        shape or n_scales is not as above; the wavelet is unknown or not orthogonal.

    References
    ----------
    Starck, Fadili, Murtagh, IEEE Transactions on Image Processing 16, 297 (2007).

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import StationaryWavelet
    >>> wavelet = StationaryWavelet((31, 37), 2, "db2")
    >>> image = np.random.default_rng(1).standard_normal((31, 37))
    >>> planes = wavelet.apply(image)
    >>> len(planes), bool(np.allclose(wavelet.reconstruct(planes), image))
    (7, True)
    """

    def __init__(self, shape, n_scales, wavelet="db4", *, workers=-1):
        shape = checked_shape(shape)
        self.n_scales = checked_scales(n_scales, shape)
        self.wavelet, self.workers = wavelet, workers
        self._filters = _equivalent_filters(_orthogonal(wavelet), self.n_scales)
        longest = self._filters[-1][0].size
        self._plane_shape = tuple(scipy.fft.next_fast_len(n + longest - 1, real=True) for n in shape)
        self._transfer = [
            (scipy.fft.fft(a, self._plane_shape[0])[:, None], scipy.fft.rfft(b, self._plane_shape[1])[None])
            for a, b in self._filters
        ]
        super().__init__(shape, (len(self._filters), *self._plane_shape))

    def reconstruct(self, planes):
        """The image whose transform is ``planes``: W^T, for planes (..., \\*range_shape)."""
        return self.adjoint(planes)

    def noise_std(self):
        """Standard deviation per plane for white noise of unit variance: 2^-j, (3 n_scales + 1,).

        It holds where the filters lie inside the image, and E ||W_j n||^2 = pixels sigma_j^2 over whole planes.
        """
        return np.array([np.linalg.norm(a) * np.linalg.norm(b) for a, b in self._filters])

    def redundancy(self):
        """How many coefficients of a plane tell as much as one independent number, (3 n_scales + 1,)."""
        correlations = ([np.correlate(f, f, "full") / (f @ f) for f in pair] for pair in self._filters)
        return np.array([(rows @ rows) * (columns @ columns) for rows, columns in correlations])

    def noise_planes(self, noise_map):
        """Standard deviation of every coefficient for independent pixel noise of the given standard deviations.

        .. math:: \\sigma_j^2 = (f_j^2) * \\sigma^2

        Parameters
        ----------
        noise_map : array (height, width), finite, >= 0
        """
        spectrum = scipy.fft.rfft2(checked_variance(noise_map, self.domain_shape), self._plane_shape)
        planes = np.empty(self.range_shape)
        for plane, (a, b) in zip(planes, self._filters):
            rows, columns = scipy.fft.fft(a**2, self._plane_shape[0]), scipy.fft.rfft(b**2, self._plane_shape[1])
            plane[:] = scipy.fft.irfft2(spectrum * rows[:, None] * columns, self._plane_shape, workers=self.workers)
        return np.sqrt(np.maximum(planes, 0.0))  # rounding alone goes below zero

    def expand(self, values):
        """One value per plane, as an array that broadcasts to ``range_shape``."""
        return np.asarray(values)[:, None, None]

    def _forward(self, x):
        spectrum = scipy.fft.rfft2(x, self._plane_shape, workers=self.workers)
        planes = np.empty((len(x), *self.range_shape), x.dtype)
        for k, (rows, columns) in enumerate(self._transfer):
            product = spectrum * rows.astype(spectrum.dtype)
            product *= columns.astype(spectrum.dtype)
            planes[:, k] = scipy.fft.irfft2(product, self._plane_shape, workers=self.workers, overwrite_x=True)
        return planes

    def _backward(self, y):
        spectrum = 0
        for k, (rows, columns) in enumerate(self._transfer):
            product = scipy.fft.rfft2(y[:, k], workers=self.workers)
            product *= rows.conj().astype(product.dtype)
            product *= columns.conj().astype(product.dtype)
            spectrum = spectrum + product
        image = scipy.fft.irfft2(spectrum, self._plane_shape, workers=self.workers, overwrite_x=True)
        return image[:, : self.domain_shape[0], : self.domain_shape[1]]


class OrthogonalWavelet(Dictionary):
    """Decimated wavelet transform of images that are zero outside, as one vector of coefficients.

    .. math:: W^T W = 1

    Coefficients whose filter reaches beyond the image are kept, as PyWavelets' mode "zero" does, so that any size is
    allowed, nothing wraps, and the adjoint is the reconstruction. Planes follow each other in the vector, three per
    scale from the finest, the coarse one last.

    Parameters
    ----------
    shape, n_scales, wavelet
        As for :class:`StationaryWavelet`.

    Raises
    ------
    ValueError
        As for :class:`StationaryWavelet`.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import OrthogonalWavelet
    >>> wavelet = OrthogonalWavelet((31, 37), 2, "haar")
    >>> image = np.random.default_rng(1).standard_normal((31, 37))
    >>> bool(np.allclose(wavelet.reconstruct(wavelet.apply(image)), image))
    True
    """

    def __init__(self, shape, n_scales, wavelet="db4"):
        shape = checked_shape(shape)
        self.n_scales = checked_scales(n_scales, shape)
        self.wavelet = wavelet
        self._wavelet = _orthogonal(wavelet)
        self._plane_shapes = [band.shape[1:] for band in self._bands(np.zeros((1, *shape)))]
        self._plane_sizes = [int(np.prod(s)) for s in self._plane_shapes]
        super().__init__(shape, (sum(self._plane_sizes),))

    def reconstruct(self, planes):
        """The image whose transform is ``planes``: W^T, for coefficients (..., size)."""
        return self.adjoint(planes)

    def noise_std(self):
        """Standard deviation per plane for white noise of unit variance: 1 where filters lie inside the image."""
        return np.ones(3 * self.n_scales + 1)

    def redundancy(self):
        """1 for every plane: the coefficients of white noise are independent, (3 n_scales + 1,)."""
        return np.ones(3 * self.n_scales + 1)

    def noise_planes(self, noise_map):
        """Standard deviation of every coefficient for independent pixel noise of the given standard deviations.

        .. math:: \\sigma_k^2 = \\sum_i W_{ki}^2 \\sigma_i^2

        Parameters
        ----------
        noise_map : array (height, width), finite, >= 0
        """
        import pywt

        variance = checked_variance(noise_map, self.domain_shape)
        low = [np.eye(n) for n in self.domain_shape]
        bands = []
        for _ in range(self.n_scales):
            pairs = [pywt.dwt(m, self._wavelet, mode="zero", axis=0) for m in low]
            (low_rows, high_rows), (low_columns, high_columns) = pairs
            low = [low_rows, low_columns]
            for rows, columns in ((high_rows, low_columns), (low_rows, high_columns), (high_rows, high_columns)):
                bands.append(rows**2 @ variance @ (columns**2).T)
        bands.append(low[0] ** 2 @ variance @ (low[1] ** 2).T)
        return np.sqrt(np.concatenate([band.ravel() for band in bands]))

    def expand(self, values):
        """One value per plane, as an array of ``range_shape``."""
        return np.repeat(np.asarray(values), self._plane_sizes)

    def _bands(self, x):
        import pywt

        bands = []
        for _ in range(self.n_scales):  # not wavedec2, which warns of filters that reach beyond the image
            x, details = pywt.dwt2(x, self._wavelet, mode="zero")
            bands += details
        return [*bands, x]

    def _forward(self, x):
        return np.concatenate([band.reshape(len(x), -1) for band in self._bands(x)], axis=1)

    def _backward(self, y):
        import pywt

        flat = np.split(y, np.cumsum(self._plane_sizes)[:-1], axis=1)
        bands = [band.reshape(len(y), *shape) for band, shape in zip(flat, self._plane_shapes)]
        details = [tuple(bands[k : k + 3]) for k in range(0, 3 * self.n_scales, 3)]
        image = pywt.waverec2([bands[-1], *reversed(details)], self._wavelet, mode="zero")
        return image[:, : self.domain_shape[0], : self.domain_shape[1]]


def estimate_noise(image, *, mask=None, wavelet="db2"):
    """Standard deviation of the white noise of an image, from its finest diagonal wavelet coefficients.

    .. math:: \\sigma = \\mathrm{median} |d| / 0.6745, \\qquad d = (g \\otimes g) * x

    Smooth structure, sources and sky gradients hardly reach these coefficients, and the median ignores the few that
    they reach. Correlated noise (resampled images) has less power there: it is underestimated.

    Parameters
    ----------
    image : array (height, width)
        NaN and infinite pixels are left out, as masked ones are.
    mask : bool array (height, width), optional
        True = bad. Every coefficient that a bad pixel enters is left out, and so is every exact zero: filler and cut
        sky carry no noise.
    wavelet : str
        An orthogonal wavelet of PyWavelets; a longer one sees less of the structure and loses more around bad pixels.

    Returns
    -------
    float
        0.0 if the image is piecewise constant.

    Raises
    ------
    ValueError
        image is not 2-D, mask has another shape, the wavelet is not orthogonal, or no good patch is left.

    References
    ----------
    Donoho, Johnstone, Biometrika 81, 425 (1994).

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import estimate_noise
    >>> image = np.random.default_rng(1).normal(100.0, 2.0, (300, 300))
    >>> round(estimate_noise(image), 1)
    2.0
    """
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}; give a 2-D image")
    bad = ~np.isfinite(image)
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != image.shape:
            raise ValueError(f"mask has shape {mask.shape}; the image has {image.shape}")
        bad |= mask
    high_pass = np.array(_orthogonal(wavelet).dec_hi)
    if min(image.shape) < high_pass.size:
        raise ValueError(f"image has shape {image.shape}; the wavelet needs {high_pass.size} pixels a side")
    detail = _valid(_valid(np.where(bad, 0.0, image), high_pass).T, high_pass).T
    touched = _valid(_valid(bad.astype(np.float64), np.abs(high_pass)).T, np.abs(high_pass)).T > 0
    if touched.all():
        raise ValueError(f"no {high_pass.size} x {high_pass.size} patch without bad pixels is left; relax the mask")
    scale = np.abs(image[~bad]).max()
    detail = np.abs(detail[~touched])
    detail = detail[detail > 1e-14 * scale]  # a constant patch gives zero up to rounding
    return float(np.median(detail) / GAUSSIAN_MAD) if detail.size else 0.0


def _valid(x, taps):
    """Filter along rows' index without its ends."""
    n = len(x) - len(taps) + 1
    return sum(tap * x[k : k + n] for k, tap in enumerate(taps))


def _orthogonal(name):
    import pywt

    discrete = pywt.wavelist(kind="discrete")
    # dmey calls itself orthogonal and loses 2 % of an image.
    if name == "dmey" or name not in discrete or not pywt.Wavelet(name).orthogonal:
        families = "haar, db1-db38, sym2-sym20, coif1-coif17"
        raise ValueError(f"wavelet is {name!r}; give an orthogonal wavelet of PyWavelets ({families}) or the starlet")
    return pywt.Wavelet(name)


def _equivalent_filters(wavelet, n_scales):
    """Row and column filters of each plane: those of scale j are the taps of one level spread and convolved j times."""
    low_taps, high_taps = (np.array(taps) / np.sqrt(2.0) for taps in (wavelet.dec_lo, wavelet.dec_hi))
    low, filters = np.ones(1), []
    for j in range(n_scales):
        spread = [np.zeros((len(low_taps) - 1) * 2**j + 1) for _ in range(2)]
        spread[0][:: 2**j], spread[1][:: 2**j] = low_taps, high_taps
        high = np.convolve(low, spread[1])
        low = np.convolve(low, spread[0])
        filters += [(high, low), (low, high), (high, high)]
    return [*filters, (low, low)]
