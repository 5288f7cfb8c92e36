"""Stars as shifted copies of one PSF: the PSF from the stars, and flux and place of the stars from the PSF."""

import warnings

import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

ROBUST = 4.0  # sigmas beyond which a pixel is left out
MAXITER = 60
SMOOTHING = 0.2  # FWHM: the PSF has no finer detail beside its profile


def spline_weights(grid, oversampling, places, derivative=0):
    """Cubic B-splines at distances ``places`` from the centre of a star, or their derivative there.

    Parameters
    ----------
    grid : int
        Samples on one side of the middle one.
    oversampling : int
        Samples per pixel.
    places : array (...)
        Native pixels.

    Returns
    -------
    (..., 2 grid + 1) array
    """
    s = oversampling * np.asarray(places, dtype=np.float64)
    weights = np.zeros((*s.shape, 2 * grid + 1))
    first = np.floor(s).astype(int) - 1
    for k in range(4):  # all others are zero
        t = np.abs(s - first - k)
        if derivative:
            value = np.where(t < 1.0, t * (1.5 * t - 2.0), -0.5 * (2.0 - t) ** 2)
            value *= oversampling * np.sign(s - first - k)
        else:
            value = np.where(t < 1.0, 2.0 / 3.0 + t * t * (0.5 * t - 1.0), (2.0 - t) ** 3 / 6.0)
        column = first + k + grid
        inside = (column >= 0) & (column <= 2 * grid)
        np.put_along_axis(
            weights, np.where(inside, column, 0)[..., None], np.where(inside, value, 0.0)[..., None], axis=-1
        )
    return weights


def spline_coefficients(samples):
    """Coefficients of the cubic spline through the samples (which are zero outside)."""
    return scipy.ndimage.spline_filter(np.pad(samples, 3), order=3, mode="mirror")[3:-3, 3:-3]


def spline_samples(coefficients):
    """Values of the spline on its own grid."""
    kernel = np.array([1.0, 4.0, 1.0]) / 6.0
    rows = scipy.ndimage.convolve1d(coefficients, kernel, axis=0, mode="constant")
    return scipy.ndimage.convolve1d(rows, kernel, axis=1, mode="constant")


class Stars:
    """Stamps (n, s, s) of stars, with weights, and for each its flux, place (row, column) and level."""

    def __init__(self, stamps, variance, good, oversampling):
        self.stamps, self.variance, self.good = stamps, variance, good
        self.oversampling = oversampling
        self.half = stamps.shape[1] // 2
        self.grid = oversampling * (self.half + 1)
        self.places = np.zeros((len(stamps), 2))
        self.flux = np.zeros(len(stamps))
        self.level = np.zeros(len(stamps))
        self.spread = np.inf  # typical size of the levels: a PSF with a pedestal would do as well

    def select(self, which):
        """The same for some of the stars."""
        some = Stars(self.stamps[which], self.variance[which], self.good[which], self.oversampling)
        some.places, some.flux, some.level, some.spread = (
            self.places[which],
            self.flux[which],
            self.level[which],
            self.spread,
        )
        return some

    def model(self, coefficients):
        """The PSF at the place of every star: (n, s, s)."""
        rows, columns = self._weights()
        return rows @ coefficients @ np.swapaxes(columns, 1, 2)

    def residual(self, coefficients):
        """Stamps minus model, in counts."""
        return self.stamps - self.level[:, None, None] - self.flux[:, None, None] * self.model(coefficients)

    def weight(self, coefficients, error):
        """1 / sigma^2 with the relative error of the PSF in sigma, outlying pixels at zero."""
        light = self.flux[:, None, None] * self.model(coefficients)
        sigma2 = self.variance + (error * light) ** 2
        # What most stars show beside the model is the model's fault, not that of the pixel.
        residual = self.residual(coefficients)
        share = np.where(self.good, residual / self.flux[:, None, None], np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a pixel that is bad in all stars
            common = np.nan_to_num(np.nanmedian(share, axis=0))
        own = residual - self.flux[:, None, None] * common
        outlying = own**2 > ROBUST**2 * (sigma2 + (0.1 * light) ** 2)
        return np.where(self.good & ~outlying, 1.0 / sigma2, 0.0)

    def refit(self, coefficients, weight, passes=3, radius=None):
        """Flux, place and level of every star by Gauss-Newton steps, within ``radius`` pixels of its middle."""
        if radius is not None:
            y, x = np.indices(self.stamps.shape[1:]) - self.half
            weight = weight * (y * y + x * x <= radius * radius)
        for _ in range(passes):
            rows, columns = self._weights()
            down, across = self._weights(1)
            columns, across = np.swapaxes(columns, 1, 2), np.swapaxes(across, 1, 2)
            image = rows @ coefficients @ columns
            slopes = [
                -self.flux[:, None, None] * t for t in (down @ coefficients @ columns, rows @ coefficients @ across)
            ]
            terms = np.stack([image, *slopes, np.ones_like(image)], axis=1)
            residual = self.stamps - self.level[:, None, None] - self.flux[:, None, None] * image
            normal = np.einsum("nkij,nij,nlij->nkl", terms, weight, terms, optimize=True)
            gradient = np.einsum("nkij,nij,nij->nk", terms, weight, residual, optimize=True)
            normal[:, 3, 3] += self.spread**-2.0
            gradient[:, 3] -= self.level * self.spread**-2.0
            scale = np.sqrt(np.maximum(np.einsum("nkk->nk", normal), 1e-300))
            normal = normal / (scale[:, :, None] * scale[:, None]) + 1e-8 * np.eye(4)
            step = np.linalg.solve(normal, (gradient / scale)[..., None])[..., 0] / scale
            self.flux = np.maximum(self.flux + step[:, 0], 0.3 * self.flux)
            self.places = np.clip(self.places + np.clip(step[:, 1:3], -0.5, 0.5), -2.0, 2.0)
            self.level = self.level + step[:, 3]

    def fit_psf(self, base, room, weight, fwhm, strength):
        """Coefficients c of the PSF, near those of a profile b where the stars do not say otherwise, and their levels.

        .. math:: \\min_{z, l} \\sum_i \\| y_i - l_i - f_i \\, S_i c \\|^2_W + \\frac{\\| z \\|^2}{\\tau^2} +
                  \\frac{\\| l \\|^2}{\\lambda^2}, \\qquad c = b + \\max(b, m) \\, (G * z)

        S_i holds the splines at the pixels of star i, G is a Gaussian, m a profile with bright wings: departures from
        the profile are smooth and as large as tau times the greater of the two by chance, so that wings below the noise
        are those of the profile. Pedestals of the PSF and levels of the stars tell apart by their typical size lambda.
        """
        rows, columns = self._weights()
        turned = np.swapaxes(columns, 1, 2)
        width = SMOOTHING * fwhm * self.oversampling
        unit = 2.0 * np.sqrt(np.pi) * width  # of norm one: z has the standard deviation of what it makes
        envelope = unit * np.maximum(base, room)
        shape = base.shape

        def smoothed(z):
            return scipy.ndimage.gaussian_filter(z, width, mode="constant")

        def normal(unknowns):
            z, level = unknowns[: base.size].reshape(shape), unknowns[base.size :]
            image = self.flux[:, None, None] * (rows @ (envelope * smoothed(z)) @ turned) + level[:, None, None]
            return transposed(weight * image) + prior * unknowns

        def transposed(image):
            z = np.sum(np.swapaxes(rows, 1, 2) @ (self.flux[:, None, None] * image) @ columns, axis=0)
            return np.concatenate([smoothed(envelope * z).ravel(), image.sum(axis=(1, 2))])

        prior = np.concatenate([np.full(base.size, strength**-2.0), np.full(len(self.level), self.spread**-2.0)])
        counts = (self.flux**2)[:, None, None] * weight
        seen = np.sum(np.swapaxes(rows, 1, 2) @ counts @ columns, axis=0) / self.oversampling**2
        diagonal = np.concatenate([(envelope**2 * seen / unit**2).ravel(), weight.sum(axis=(1, 2))]) + prior
        size = len(diagonal)
        system = scipy.sparse.linalg.LinearOperator((size, size), normal, dtype=np.float64)
        left = self.stamps - self.flux[:, None, None] * (rows @ base @ turned)
        solution, _ = scipy.sparse.linalg.cg(
            system, transposed(weight * left), rtol=1e-4, maxiter=MAXITER, M=scipy.sparse.diags(1.0 / diagonal)
        )
        self.level = solution[base.size :]
        return base + envelope * smoothed(solution[: base.size].reshape(shape))

    def measure_spread(self):
        """Take the typical level from the levels found; no less than a twentieth of the noise."""
        self.spread = max(
            1.4826 * float(np.median(np.abs(self.level))), 0.05 * float(np.sqrt(np.median(self.variance)))
        )

    def chi2(self, coefficients, weight):
        """Weighted sum of squares of the residual."""
        return float(np.sum(weight * self.residual(coefficients) ** 2))

    def _weights(self, derivative=0):
        pixels = np.arange(-self.half, self.half + 1)
        return tuple(
            spline_weights(self.grid, self.oversampling, pixels - x[:, None], derivative) for x in self.places.T
        )
