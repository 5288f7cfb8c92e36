"""The point spread function, given in any of its forms, on the fine grid of a deconvolution."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.optimize

from deconjugate.astro.shape import GAUSSIAN_FWHM, fwhm_pix, windowed_centroid

# Frequencies where the native pixel passes less than this are not divided by less: a real PSF has nothing there
# but noise.
PIXEL_FLOOR = 0.1
# An analytic profile is cut where this fraction of its flux lies outside (or at 12 FWHM).
TRUNCATED_FLUX = 5e-4


class PSF:
    """A point spread function, from an array, a file or an analytic profile.

    The *effective* PSF e is what stars in the image show: the optical PSF o integrated over native pixels. On a fine
    grid of ``upsample`` pixels per native pixel, :meth:`fine` gives the array p whose u x u block sums are e:

    .. math:: \\sum_{a=0}^{u-1} p[m + a] = e((m + (u - 1) / 2) / u), \\quad
              \\hat p(f) = \\hat e(f) \\, \\frac{u \\sin \\pi f}{\\sin \\pi u f} = \\hat o(f) \\, \\mathrm{sinc}(f)

    per axis, f in cycles per fine pixel: a source in fine pixel j sits at native coordinate (j - (u - 1) / 2) / u. The
    pixel response is thus never applied twice.

    Make one with :meth:`from_array`, :meth:`moffat`, :meth:`gaussian`, :meth:`from_file` or :meth:`from_epsf`.

    Example
    -------
    >>> p = PSF.moffat(3.5, beta=3.0).fine(2)
    >>> p.shape[0] % 2, round(float(p.sum()), 12)
    (1, 1.0)
    """

    def __init__(self, model):
        self._model = model

    def __repr__(self):
        return f"PSF({self._model.describe()})"

    @classmethod
    def from_array(cls, array, *, oversampling=1, includes_pixel=True):
        """A PSF from its samples.

        Parameters
        ----------
        array : (h, w) array
            Samples, odd or even in size, of any centring and normalisation; negative wings are kept.
        oversampling : float or pair (rows, columns), > 0
            Samples per native pixel; 2 means that two samples span one pixel of the image.
        includes_pixel : bool
            True: the effective PSF, native pixel response included, as stars, PSFEx and ePSF models show it,
            whatever the oversampling. False: the optical PSF alone.

        Raises
        ------
        ValueError
            The array is not 2-D, holds NaN or infinity, is all zero or not positive in sum; oversampling is not
            positive.

        Example
        -------
        >>> import numpy as np
        >>> x = np.arange(16) - 7.5
        >>> PSF.from_array(np.exp(-0.5 * (x[:, None] ** 2 + x**2) / 1.7**2)).fine(2).shape
        (33, 33)
        """
        array = check_psf_array(array)
        return cls(_Samples(array[None], _check_oversampling(oversampling), bool(includes_pixel)))

    @classmethod
    def moffat(cls, fwhm_pix, *, beta=3.0, ellipticity=0.0, pa=0.0, includes_pixel=True):
        """A Moffat profile, I(r) ~ (1 + r^2 / alpha^2)^-beta.

        Parameters
        ----------
        fwhm_pix : float
            Full width at half maximum in native pixels, the geometric mean of both axes. It is that of the effective
            PSF, as measured on the stars of the image: the optical Moffat is solved for, so that once integrated
            over pixels it has this width. With ``includes_pixel=False`` it is the optical width itself.
        beta : float, > 1
            Larger values mean fainter wings; 2.5 to 4.8 describes seeing.
        ellipticity : float, in [0, 1)
            1 - minor / major axis.
        pa : float
            Angle of the major axis, degrees counter-clockwise from the first image axis (x, columns).

        Raises
        ------
        ValueError
            A parameter outside its interval.
        """
        if not (np.isfinite(beta) and beta > 1.0):
            raise ValueError(f"beta is {beta}; a Moffat profile has finite flux for beta > 1 only, 3 is usual")
        return cls(_Profile.of_width(float(beta), fwhm_pix, ellipticity, pa, includes_pixel))

    @classmethod
    def gaussian(cls, fwhm_pix, *, ellipticity=0.0, pa=0.0, includes_pixel=True):
        """A Gaussian profile; parameters as for :meth:`moffat`."""
        return cls(_Profile.of_width(np.inf, fwhm_pix, ellipticity, pa, includes_pixel))

    @classmethod
    def from_file(cls, path):
        """A PSF from a FITS file: an image (effective PSF at native sampling) or a PSFEx model (.psf).

        A header keyword OVERSAMP gives the samples per native pixel of an image. A PSFEx model is a polynomial over the
        frame: see ``position`` in :meth:`fine`.

        Raises
        ------
        OSError
            The file is missing or is not FITS.
        ValueError
            It holds neither an image nor a PSFEx model, or the image is no PSF.
        """
        from deconjugate.astro.psfex import read_psf

        samples = read_psf(path)
        return cls(
            _Samples(samples.coefficients, samples.oversampling, True, samples.zero, samples.scale, samples.degree)
        )

    @classmethod
    def from_epsf(cls, model):
        """A PSF from a photutils ``ImagePSF``, ``EPSFModel`` or any object with ``data`` and ``oversampling``."""
        try:
            data, oversampling = model.data, model.oversampling
        except AttributeError as error:
            raise TypeError(f"{type(model).__name__} is no ePSF model: it has no .data and .oversampling") from error
        return cls.from_array(data, oversampling=np.asarray(oversampling, dtype=float))

    @property
    def fwhm_pix(self):
        """FWHM of the effective PSF in native pixels: see :func:`deconjugate.astro.shape.fwhm_pix`."""
        sampling = 5
        p = self.fine(sampling)
        kernel = np.ones(sampling)
        rows = np.apply_along_axis(np.convolve, 0, p, kernel)
        return float(fwhm_pix(np.apply_along_axis(np.convolve, 1, rows, kernel))) / sampling

    def fine(self, upsample, *, center="centroid", position=None, max_size=None):
        """The PSF on the fine grid, native pixel response taken out.

        Parameters
        ----------
        upsample : int, >= 1
            Fine pixels per native pixel.
        center : "centroid" or "keep"
            "centroid" puts the Gaussian-windowed centroid on the middle pixel; "keep" puts the middle of the given
            array there ((n - 1) / 2, between two samples for even n).
        position : pair (x, y), optional
            Where in the image, pixels from 0, for a PSF that varies over it; default the middle of its range.
        max_size : int, optional
            Largest side for an analytic profile, which has no size of its own; arrays keep theirs.

        Returns
        -------
        (n, m) float64 array, both odd, sum 1, centred on its middle pixel.

        Raises
        ------
        ValueError
            upsample is not a positive whole number; center is unknown; position is not a pair.
        """
        if isinstance(upsample, bool) or upsample != int(upsample) or upsample < 1:
            raise ValueError(f"upsample is {upsample!r}; give a whole number, 1 or more")
        if center not in ("centroid", "keep"):
            raise ValueError(f'center is {center!r}; choose "centroid" or "keep"')
        if position is not None and (np.shape(position) != (2,) or not np.all(np.isfinite(position))):
            raise ValueError(f"position is {position!r}; give two pixel coordinates (x, y)")
        return self._model.fine(int(upsample), center, position, max_size)


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


def _check_oversampling(oversampling):
    pair = np.broadcast_to(np.asarray(oversampling, dtype=float), np.shape(oversampling) or (2,))
    if pair.shape != (2,) or not np.all(np.isfinite(pair)) or not np.all(pair > 0.0):
        raise ValueError(f"oversampling is {oversampling!r}; give the samples per native pixel, a positive number")
    return float(pair[0]), float(pair[1])


@dataclass(frozen=True, eq=False)
class _Samples:
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
        return p / p.sum()

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
        fine = np.arange(size) - size // 2
        phase = f[None, :, None] * fine[:, None, None] - g[None, :, None] * (np.arange(n) - middle)[None, None, :]
        return np.einsum("f,ifn->in", weight, np.cos(2.0 * np.pi * phase))


@dataclass(frozen=True)
class _Profile:
    """An optical Moffat (finite beta) or Gaussian (infinite beta), integrated over fine pixels."""

    beta: float
    optical_fwhm: float  # native pixels
    ellipticity: float
    pa: float

    @classmethod
    def of_width(cls, beta, fwhm, ellipticity, pa, includes_pixel):
        if not (np.isfinite(fwhm) and fwhm > 0.0):
            raise ValueError(f"fwhm_pix is {fwhm}; give a positive width in native pixels")
        if not 0.0 <= ellipticity < 1.0:
            raise ValueError(f"ellipticity is {ellipticity}; 1 - minor / major axis lies in [0, 1)")
        if not np.isfinite(pa):
            raise ValueError(f"pa is {pa}; give an angle in degrees")
        if includes_pixel:
            if fwhm < 1.2:
                raise ValueError(
                    f"fwhm_pix is {fwhm}; a pixel alone shows a width of 1.13, so give the width that stars have in "
                    "the image, 1.2 or more, or the optical one with includes_pixel=False"
                )
            fwhm = _optical_fwhm(beta, float(fwhm))
        return cls(beta, float(fwhm), float(ellipticity), float(pa))

    def describe(self):
        name = "Gaussian" if np.isinf(self.beta) else f"Moffat beta {self.beta:g}"
        return f"{name}, optical FWHM {self.optical_fwhm:.3f} pixels, ellipticity {self.ellipticity:g}, pa {self.pa:g}"

    def fine(self, upsample, center, position, max_size):
        width = self.optical_fwhm * upsample
        axis_ratio = 1.0 - self.ellipticity
        if np.isinf(self.beta):
            reach = width / GAUSSIAN_FWHM * np.sqrt(-2.0 * np.log(TRUNCATED_FLUX * 1e-3))
        else:
            reach = _alpha(self.beta, width) * np.sqrt(TRUNCATED_FLUX ** (1.0 / (1.0 - self.beta)) - 1.0)
        half = int(np.ceil(min(reach, 12.0 * width) / np.sqrt(axis_ratio))) + 1
        if max_size is not None:
            half = min(half, (int(max_size) - 1) // 2)
        nodes, weights = np.polynomial.legendre.leggauss(9)
        grid = np.arange(-half, half + 1)[:, None] + 0.5 * nodes
        angle = np.deg2rad(self.pa)
        p = np.empty((2 * half + 1, 2 * half + 1))
        for i, rows in enumerate(grid):  # a row at a time: the quadrature's 81 points a pixel stay small in memory
            y, x = rows[:, None, None], grid[None]
            along = (x * np.cos(angle) + y * np.sin(angle)) ** 2 * axis_ratio
            across = (y * np.cos(angle) - x * np.sin(angle)) ** 2 / axis_ratio
            p[i] = weights @ (_profile(along + across, self.beta, width) @ weights)
        return p / p.sum()


def _alpha(beta, fwhm):
    return 0.5 * fwhm / np.sqrt(2.0 ** (1.0 / beta) - 1.0)


def _profile(radius_squared, beta, fwhm):
    if np.isinf(beta):
        return np.exp(-0.5 * radius_squared * (GAUSSIAN_FWHM / fwhm) ** 2)
    return (1.0 + radius_squared / _alpha(beta, fwhm) ** 2) ** -beta


@lru_cache(maxsize=256)
def _optical_fwhm(beta, effective_fwhm):
    """FWHM of the circular profile that shows ``effective_fwhm`` once integrated over unit pixels."""
    nodes, weights = np.polynomial.legendre.leggauss(25)
    nodes, weights = 0.5 * nodes, np.outer(weights, weights)
    angles = np.deg2rad([5.625, 16.875, 28.125, 39.375])  # midpoints of [0, 45] degrees, the rest by symmetry

    def effective(r, angle, width):
        x, y = r * np.cos(angle) + nodes, r * np.sin(angle) + nodes
        return np.sum(weights * _profile(y[:, None] ** 2 + x**2, beta, width))

    def half_radius(angle, width):
        half = 0.5 * effective(0.0, 0.0, width)
        return scipy.optimize.brentq(
            lambda r: effective(r, angle, width) - half, 0.0, 2.0 * effective_fwhm + 1.0, xtol=1e-7
        )

    def excess(width):
        return 2.0 * np.sqrt(np.mean([half_radius(angle, width) ** 2 for angle in angles])) - effective_fwhm

    return scipy.optimize.brentq(excess, 0.1, effective_fwhm, xtol=1e-6)
