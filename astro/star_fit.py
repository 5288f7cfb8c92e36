"""Stars as shifted copies of one PSF: the PSF from the stars, and flux and place of the stars from the PSF."""

import warnings

import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

ROBUST = 4.0  # sigmas beyond which a pixel is left out
TRUST = 0.1  # of the light of a star that is added to sigma then
FEW, LOOSE = 4, 0.3  # stars below which no median tells the model's fault from the pixel's, and what is added there
VARYING = 0.5  # of its departure from the profile, by which the PSF may vary over the frame
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
    """Coefficients of the cubic spline through the samples (..., m, m), which are zero outside."""
    samples = np.pad(samples, [(0, 0)] * (np.ndim(samples) - 2) + [(3, 3)] * 2)
    for axis in (-2, -1):
        samples = scipy.ndimage.spline_filter1d(samples, order=3, axis=axis, mode="mirror")
    return samples[..., 3:-3, 3:-3]


def spline_samples(coefficients):
    """Values of the spline on its own grid."""
    kernel = np.array([1.0, 4.0, 1.0]) / 6.0
    rows = scipy.ndimage.convolve1d(coefficients, kernel, axis=-2, mode="constant")
    return scipy.ndimage.convolve1d(rows, kernel, axis=-1, mode="constant")


class Stars:
    """Stamps (n, s, s) of stars, with weights, and for each its flux, place (row, column) and level.

    Coefficients of the PSF, below, are those of a spline, (m, m) for all stars or (n, m, m) for each its own.
    ``basis`` (n, K) holds the polynomials of a PSF that varies over the frame at the stars' positions.
    """

    def __init__(self, stamps, variance, good, oversampling):
        self.stamps, self.variance, self.good = stamps, variance, good
        self.oversampling = oversampling
        self.half = stamps.shape[1] // 2
        self.grid = oversampling * (self.half + 1)
        self.places = np.zeros((len(stamps), 2))
        self.flux = np.zeros(len(stamps))
        self.level = np.zeros(len(stamps))
        self.basis = np.ones((len(stamps), 1))
        self.spread = np.inf  # typical size of the levels: a PSF with a pedestal would do as well

    def select(self, which):
        """The same for some of the stars."""
        some = Stars(self.stamps[which], self.variance[which], self.good[which], self.oversampling)
        for name in ("places", "flux", "level", "basis"):
            setattr(some, name, getattr(self, name)[which].copy())
        some.spread = self.spread
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
        residual = self.residual(coefficients)
        if len(self.flux) < FEW:
            outlying = residual**2 > ROBUST**2 * (sigma2 + (LOOSE * light) ** 2)
            return np.where(self.good & ~outlying, 1.0 / sigma2, 0.0)
        # What most stars show beside the model is the model's fault, not that of the pixel.
        share = np.where(self.good, residual / self.flux[:, None, None], np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a pixel that is bad in all stars
            common = np.nan_to_num(np.nanmedian(share, axis=0))
        own = residual - self.flux[:, None, None] * common
        outlying = own**2 > ROBUST**2 * (sigma2 + (TRUST * light) ** 2)
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
        """Departures d_k of the PSF from a profile b, small where the stars do not ask for them, and the stars' levels.

        .. math:: \\min_{z, l} \\sum_i \\| y_i - l_i - f_i \\, S_i c_i \\|^2_W
                  + \\sum_k \\frac{\\| z_k \\|^2}{\\tau_k^2} + \\frac{\\| l \\|^2}{\\lambda^2}, \\qquad
                  c_i = b_i + \\sum_k \\phi_k(x_i) \\, d_k, \\quad d_k = \\max(b, m) \\, (G * z_k)

        S_i holds the splines at the pixels of star i, G is a Gaussian, m a profile with bright wings: departures from
        the profile are smooth and as large as tau times the greater of the two by chance, so that wings below the noise
        are those of the profile. phi_k are the polynomials of ``basis``, the first of them 1; tau is half for the
        others. Pedestals of the PSF and levels of the stars tell apart by their typical size lambda.

        Returns
        -------
        (K, m, m) array
        """
        rows, columns = self._weights()
        turned = np.swapaxes(columns, 1, 2)
        width = SMOOTHING * fwhm * self.oversampling
        unit = 2.0 * np.sqrt(np.pi) * width  # of norm one: z has the standard deviation of what it makes
        envelope = unit * np.maximum(base if base.ndim == 2 else base.mean(axis=0), room)
        basis, shape = self.basis, (self.basis.shape[1], *room.shape)
        size = basis.shape[1] * room.size

        def smoothed(z):
            return scipy.ndimage.gaussian_filter(z, (0.0, width, width), mode="constant")

        def normal(unknowns):
            z, level = unknowns[:size].reshape(shape), unknowns[size:]
            image = rows @ self._along(basis, envelope * smoothed(z)) @ turned
            return transposed(weight * (self.flux[:, None, None] * image + level[:, None, None])) + prior * unknowns

        def transposed(image):
            z = np.swapaxes(rows, 1, 2) @ (self.flux[:, None, None] * image) @ columns
            z = np.tensordot(basis, z, axes=(0, 0))
            return np.concatenate([smoothed(envelope * z).ravel(), image.sum(axis=(1, 2))])

        taus = strength * np.array([1.0] + [VARYING] * (shape[0] - 1))
        prior = np.concatenate([np.repeat(taus**-2.0, room.size), np.full(len(self.level), self.spread**-2.0)])
        counts = (self.flux**2)[:, None, None] * weight
        seen = np.swapaxes(rows, 1, 2) @ counts @ columns / self.oversampling**2
        seen = np.tensordot(basis**2, seen, axes=(0, 0))
        diagonal = np.concatenate([(envelope**2 * seen / unit**2).ravel(), weight.sum(axis=(1, 2))]) + prior
        system = scipy.sparse.linalg.LinearOperator((len(diagonal),) * 2, normal, dtype=np.float64)
        left = self.stamps - self.flux[:, None, None] * (rows @ base @ turned)
        solution, _ = scipy.sparse.linalg.cg(
            system, transposed(weight * left), rtol=1e-4, maxiter=MAXITER, M=scipy.sparse.diags(1.0 / diagonal)
        )
        self.level = solution[size:]
        return envelope * smoothed(solution[:size].reshape(shape))

    @staticmethod
    def _along(basis, components):
        """The sum of the components of each star; one for all where there is but one."""
        return components[0] if len(components) == 1 else np.tensordot(basis, components, axes=(1, 0))

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
