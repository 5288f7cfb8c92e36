"""Stars: where the data are those of a point source and of nothing more."""

from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.signal

from deconjugate.astro.shape import GAUSSIAN_FWHM, fwhm_pix
from deconjugate.astro.simulate import TARGET_FWHM
from deconjugate.astro.support import matched_filter

MIN_SNR = 10.0  # of the filtered frame: fainter sources are never told from a galaxy
MAX_EXTENT = 14.2  # chi^2 of three degrees of freedom: 0.3 per cent of all stars exceed it
MAX_MISFIT = 4.0  # sigmas of chi^2 above its expectation
TOLERANCE = 0.01  # of a star's flux: what may lie beneath it, or be wrong with the PSF, at least
FORGIVEN = 2.5  # errors of the PSF
BRIGHT = 100.0  # signal to noise of a star on which the error of the PSF is measured
ALIKE, WORST, SEVERAL = 0.1, 0.1, 3  # second moment over the PSF's, and misfit, of what may be such a star; of how many
LIKELY = 0.2  # misfit of a source as wide as the PSF that is a star still
MAX_SIZE = 0.2, 3.0  # intrinsic second moment that the data must exclude, over those of the PSF and of the target
EXCLUSION = 2.0  # sigmas by which it must be excluded
HALF_WIDTH = 1.5  # of the window of a fit, in FWHM
FLANK = 0.1  # of all light in its pixel: what has less is no star of its own
PASSES = 5  # Gauss-Newton steps of all stars together
BATCH = 256  # stars whose templates are in memory at a time


class Points(NamedTuple):
    """Point sources by place, in pixels of the padded fine grid, and flux."""

    rows: np.ndarray
    columns: np.ndarray
    flux: np.ndarray


class StarFits(NamedTuple):
    """Every peak of a frame fitted as if it were a star."""

    points: Points
    proven: np.ndarray  # bool, which are stars
    errors: np.ndarray  # relative error of the PSF at each of them
    error: float  # of the PSF, relative, as the stars of the frame show it
    measured: bool = False  # whether they do


def find_points(model, data, weight, psf, error=0.0):
    """The sources of a frame that are points, with place and flux by a fit of the PSF.

    .. math:: \\min_{f, t} || y - \\sum_i f_i \\, A r(\\cdot - t_i) ||_W^2

    r is the target resolution. Every peak of the frame filtered with the PSF is fitted as if it were a star, all
    together, so that each is seen without its neighbours. Then those are kept that prove to be one, by the residual in
    a window of 3 FWHM and the terms b that it holds of the three second derivatives e'' of the PSF, which are what a
    small width adds to a point; place and flux are free beside them:

    - nothing is wider, narrower or longer than a star: :math:`b^T \\mathrm{cov}(b)^{-1} b < 14.2`;
    - nothing else is there: chi^2 is within 4 of its sigmas;
    - the data suffice to say so: a second moment of a fifth of the PSF's, or of three times the target's, is excluded
      at two sigma, so that small faint galaxies are not made points. At a FWHM of 3 pixels and two fine pixels to a
      native one, half of all stars of peak SNR 10 pass and nearly all of 20;
    - the place is within 1.5 native pixels of the peak.

    One per cent of the star's own flux is forgiven in the first two, more where the bright stars of the frame show that
    the PSF is less accurate than that: the relative error of the PSF is the median misfit of the sources that are as
    wide as it, and twice that is forgiven. What remains beneath a star is left in the data.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : (h, w) arrays
        The native frame, y and 1 / sigma^2, zero where bad.
    psf : (odd, odd) array
        p on the fine grid.
    error : float
        Relative error of the PSF where the frame has no star to measure it on.

    Returns
    -------
    StarFits

    Source
    ------
    Stetson, PASP 99, 191 (1987), for the joint fit; Magain, Courbin, Sohy, ApJ 494, 472 (1998), for points beside a
    smooth image in deconvolution.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF, simulate
    >>> from deconjugate.astro.forward import DataModel
    >>> sky = np.zeros((60, 80))
    >>> sky[31, 44] = 1.0
    >>> scene = simulate(sky, PSF.moffat(3.0), upsample=2, peak_snr=200, seed=1)
    >>> model = DataModel(scene.data.shape, scene.psf, 2)
    >>> points = find_points(model, scene.data, scene.noise_map**-2.0, scene.psf).points
    >>> [round(float(x[0]) - s.start, 1) for x, s in zip(points, model.inside)], round(float(points.flux[0]), 2)
    ([31.0, 44.0], 1.0)
    """
    u = model.upsample
    width = float(fwhm_pix(psf)) / u
    half = max(2, round(HALF_WIDTH * width))
    star = Star(model, half)
    y, w = model.embed(data.astype(np.float64)), model.embed(weight.astype(np.float64))
    peaks = _peaks(data, weight, psf, width, u) + [s.start for s in model.frame]
    peaks = peaks[_seen(w, peaks, star)]
    if not len(peaks):
        return StarFits(Points(*np.empty((3, 0))), np.zeros(0, bool), np.zeros(0), error)
    places = u * peaks + 0.5 * (u - 1)
    flux = y[tuple(peaks.T)] / star.peak
    for last in (False, True):
        for _ in range(PASSES):
            residual = y - model.apply(point_image(model, Points(*places.T, flux)).astype(np.float32))
            for some in batches(len(flux)):
                pixels = star.window(peaks[some])
                terms = star.templates(*pixels, places[some], 1)
                normal, gradient = normal_equations(terms, w[pixels], residual[pixels])
                step = np.linalg.solve(normal, gradient[..., None])[..., 0]
                flux[some] = np.maximum(flux[some] + step[:, 0], 0.1 * flux[some])
                places[some] += np.clip(step[:, 1:] / flux[some, None], -0.5 * u, 0.5 * u)
        if last:
            break
        # A peak of the noise on the flank of a bright star would take some of its flux.
        fitted = model.apply(point_image(model, Points(*places.T, flux)).astype(np.float32))
        real = flux * star.peak > FLANK * fitted[tuple(peaks.T)]
        if real.all():
            break
        peaks, places, flux = peaks[real], places[real], flux[real]
    residual = y - model.apply(point_image(model, Points(*places.T, flux)).astype(np.float32))
    moments = (u * width / GAUSSIAN_FWHM) ** 2, (TARGET_FWHM / GAUSSIAN_FWHM) ** 2
    fits = []
    for some in batches(len(flux)):
        pixels = star.window(peaks[some])
        terms = star.templates(*pixels, places[some], 2)
        fits.append(Shape(terms, flux[some], w[pixels], residual[pixels], moments))
    misfit, size, snr = (np.concatenate([getattr(fit, name) for fit in fits]) for name in ("misfit", "size", "snr"))
    alike = (snr > BRIGHT) & (np.abs(size) < ALIKE) & (misfit < WORST)
    if np.count_nonzero(alike) < SEVERAL:
        alike &= np.abs(size) < 0.3 * ALIKE  # or a compact galaxy would pass for the one star of a stamp
    if alike.any():
        # The brightest show it best: a faint one shows none at all.
        order = np.argsort(misfit[alike])
        total = np.cumsum(snr[alike][order])
        error = float(misfit[alike][order][np.searchsorted(total, 0.5 * total[-1])])
    tolerance = max(TOLERANCE, FORGIVEN * error)
    proven = np.concatenate([fit.is_point(tolerance) for fit in fits])
    near = np.abs(places - u * peaks - 0.5 * (u - 1)).max(axis=1) < 1.5 * u
    proven &= near
    # A bright source as wide as the PSF that departs from it is a star seen through another PSF: near an edge, say.
    likely = (snr > BRIGHT) & (np.abs(size) < ALIKE) & (misfit < LIKELY) & ~proven & near
    errors = np.maximum(error, np.where(likely, misfit, 0.0))
    for i in np.flatnonzero(likely):
        # A fit with another PSF is off in flux: the sum over the window is not.
        pixels = star.window(peaks[i : i + 1])
        good = w[pixels] > 0
        part = star.templates(*pixels, places[i : i + 1], 0)[:, 0][good].sum()
        flux[i] = max(flux[i] + residual[pixels][good].sum() / part, 0.5 * flux[i])
    return StarFits(Points(*places.T, flux), proven | likely, errors, error, bool(alike.any()))


def point_image(model, points):
    """Points at the target resolution on the padded fine grid: Gaussians of FWHM 2 fine pixels."""
    image = np.zeros(model.domain_shape)
    reach = np.arange(-7, 8)
    std = TARGET_FWHM / GAUSSIAN_FWHM
    pixels, profiles = [], []
    for x in points[:2]:
        near = np.round(x).astype(int)[:, None] + reach
        profile = np.exp(-0.5 * ((near - x[:, None]) / std) ** 2)
        pixels.append(near)
        profiles.append(profile / profile.sum(axis=1, keepdims=True))
    (rows, columns), (down, across) = pixels, profiles
    rows, columns = rows % image.shape[0], columns % image.shape[1]
    stamps = points.flux[:, None, None] * down[:, :, None] * across[:, None, :]
    np.add.at(image, (rows[:, :, None], columns[:, None, :]), stamps)
    return image


class Star:
    """The effective PSF k * r summed over native pixels, at any place, with its derivatives: by its Fourier series."""

    def __init__(self, model, half):
        self.upsample, self.half = model.upsample, half
        p = scipy.signal.fftconvolve(model.kernel, model.target)
        centre = [n // 2 for n in p.shape]
        reach = [min((half + 3) * self.upsample, c) for c in centre]
        p = np.roll(p[tuple(slice(c - m, c + m + 1) for c, m in zip(centre, reach))], [-m for m in reach], (0, 1))
        self.frequencies = np.fft.fftfreq(p.shape[0]), np.fft.rfftfreq(p.shape[1])
        both = np.where(self.frequencies[1] > 0, 2.0, 1.0)  # a column and its mirror image
        boxes = [sum(np.exp(2j * np.pi * f * a) for a in range(self.upsample)) for f in self.frequencies]
        self.spectrum = np.fft.rfft2(p) * boxes[0][:, None] * boxes[1] * both / p.size
        middle = np.full((1, 2), 0.5 * (self.upsample - 1))
        self.centred = self.templates(*self.window(np.zeros((1, 2), int)), middle, 0)[0, 0]
        self.peak = self.centred[half, half]

    def window(self, peaks):
        """Native rows (n, w, 1) and columns (n, 1, w) around the peaks."""
        reach = np.arange(-self.half, self.half + 1)
        return peaks[:, :1, None] + reach[:, None], peaks[:, 1:, None] + reach

    def templates(self, rows, columns, places, order):
        """Stars of flux 1 at ``places`` and their derivatives up to ``order``: (n, k, w, w), k of 1, 3 or 6."""
        down, across = (
            np.exp(2j * np.pi * f * (self.upsample * pixels[..., None] - x[:, None, None]))
            for f, pixels, x in zip(self.frequencies, (rows[:, :, 0], columns[:, 0]), places.T)
        )
        slopes = [-2j * np.pi * f for f in self.frequencies]
        halfway = [(down * slopes[0] ** i) @ self.spectrum for i in range(order + 1)]
        turned = [np.swapaxes(across * slopes[1] ** j, 1, 2) for j in range(order + 1)]
        orders = [(i - j, j) for i in range(order + 1) for j in range(i + 1)]
        return np.stack([(halfway[i] @ turned[j]).real for i, j in orders], 1)


def _peaks(data, weight, psf, width, upsample):
    """(row, column) of the peaks of the filtered frame, one in half a FWHM."""
    good = weight > 0
    snr = matched_filter(np.where(good, data - np.median(data[good]), 0.0), weight, psf, upsample)
    highest = scipy.ndimage.maximum_filter(snr, 2 * max(1, round(0.5 * width)) + 1)
    return np.argwhere((snr == highest) & (snr > MIN_SNR) & (data > 0) & good)


def _seen(weight, peaks, star):
    """Whether the window lies on the padded grid and shows half of its pixels and of what tells a star's flux."""
    inside = np.all((peaks >= star.half) & (peaks < np.array(weight.shape) - star.half), axis=1)
    good = weight[star.window(peaks[inside])] > 0
    share = star.centred**2 / np.sum(star.centred**2)
    inside[inside] = (np.sum(share * good, axis=(1, 2)) > 0.5) & (good.mean(axis=(1, 2)) > 0.5)
    return inside


def normal_equations(terms, weight, residual):
    """Normal matrices and right-hand sides; a trace of their trace keeps them regular whatever is masked."""
    flat = terms.reshape(*terms.shape[:2], -1)
    weighted = flat * weight.reshape(len(flat), 1, -1)
    normal = weighted @ np.swapaxes(flat, 1, 2)
    normal = normal + 1e-10 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(normal.shape[-1])
    return normal, (weighted @ residual.reshape(len(flat), -1, 1))[..., 0]


class Shape:
    """How the residual of each fitted star departs from noise, on the whole and along the PSF's second derivatives.

    A Gaussian of second moment m added to a star of flux f is b = f m / 2 on both axes, to first order. ``moments``
    are those of the PSF, one for all stars or (n,), and of the target.
    """

    def __init__(self, terms, flux, weight, residual, moments):
        self.flux, self.moments = flux, moments
        normal, gradient = normal_equations(terms, weight, residual)
        fitted, mixed, second = normal[:, :3, :3], normal[:, :3, 3:], normal[:, 3:, 3:]
        eliminate = np.swapaxes(np.linalg.solve(fitted, mixed), 1, 2)
        self.covariance = np.linalg.inv(second - eliminate @ mixed)
        self.b = self.covariance @ (gradient[:, 3:, None] - eliminate @ gradient[:, :3, None])
        self.freedom = (weight != 0).sum((1, 2)) - 3.0
        self.chi2 = (weight * residual**2).sum((1, 2))
        self.power = flux**2 * normal[:, 0, 0]

    @property
    def snr(self):
        """Signal to noise of the fluxes."""
        return np.sqrt(self.power)

    @property
    def misfit(self):
        """Root mean square of the residual beyond the noise, relative to the star."""
        return np.sqrt(np.maximum(self.chi2 - self.freedom, 0.0) / self.power)

    @property
    def size(self):
        """Second moment, the PSF's taken off, in units of the PSF's."""
        return (self.b[:, 0, 0] + self.b[:, 2, 0]) / self.flux / self.moments[0]

    def is_point(self, tolerance):
        """Which of them are points, ``tolerance`` of their own flux forgiven."""
        spare = ((0.5 * tolerance * self.moments[0] * self.flux) ** 2)[:, None, None] * np.eye(3)
        extent = (self.b * np.linalg.solve(self.covariance + spare, self.b)).sum((1, 2))
        misfit = (self.chi2 - tolerance**2 * self.power - self.freedom) / np.sqrt(2.0 * self.freedom)
        # The sums over both axes of b and of its covariance.
        variance = self.covariance[:, 0, 0] + self.covariance[:, 2, 2] + 2.0 * self.covariance[:, 0, 2]
        size = (self.b[:, 0, 0] + self.b[:, 2, 0] + EXCLUSION * np.sqrt(variance)) / self.flux
        proven = (extent < MAX_EXTENT) & (misfit < MAX_MISFIT)
        for share, moment in zip(MAX_SIZE, self.moments):
            proven = proven & (size < share * moment)
        return proven


def batches(count):
    return [slice(i, i + BATCH) for i in range(0, count, BATCH)]
