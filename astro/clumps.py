"""Clumps of disc galaxies: compact structures of a deconvolved image above the disc that they lie in."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import scipy.signal

from deconjugate.astro.shape import GAUSSIAN_FWHM

ROUNDS = 3  # of disc and clumps
DETECTION = 3.0  # sigmas of a galaxy's outline in the image smoothed to the seeing
SMOOTH = 1.25  # seeing FWHM: radius of the median filter that leaves the disc
LEAST_AREA = 4.0  # seeing FWHM squared: smaller sources are no discs
APERTURE = 0.75  # seeing FWHM: radius in which the light of a clump is summed
STRIP = 2**20  # pixels smoothed at a time
NUCLEUS = 0.6  # seeing FWHM around the centre of the disc in which a compact source is its nucleus


@dataclass(frozen=True, eq=False)
class Galaxy:
    """One galaxy with its clumps, in pixels of the image given."""

    x: float  # centre of the disc
    y: float
    flux: float  # of everything within its outline
    disc_flux: float  # without clumps and nucleus
    axis_ratio: float
    pa: float  # degrees from x to the major axis
    shape: tuple  # of the image
    box: tuple  # slices of the image, around the galaxy
    within: np.ndarray  # bool, its pixels in the box
    clumps: list

    @property
    def outline(self):
        """Its pixels in the image, bool (h, w)."""
        whole = np.zeros(self.shape, bool)
        whole[self.box] = self.within
        return whole


@dataclass(frozen=True)
class Clump:
    """A compact structure, in pixels of the image given."""

    x: float
    y: float
    flux: float
    error: float
    share: float  # of the disc's flux

    @property
    def significance(self):
        return self.flux / self.error


def find_clumps(image, *, noise, seeing, resolution=2.0, upsample=1, mask=None, min_snr=5.0, min_share=0.01):
    """Galaxies of an image and their clumps.

    A galaxy is a connected region that stands out of the noise at the resolution of the data. Its disc is the median of
    the image in rings of ellipses, and beside it whatever is smooth over 1.25 FWHM of the seeing (spiral arms, lanes).
    Clumps are the peaks of what lies above the disc; the light within 0.75 FWHM of the seeing belongs to the nearest.
    Disc and clumps are found in turns, three times. The compact source at the centre of the disc is its nucleus.

    Parameters
    ----------
    image : (h, w) array
        Deconvolved, sky subtracted. NaN counts as masked.
    noise : float, > 0
        Standard deviation of a pixel of the data that the image was made from.
    seeing : float, > 0
        FWHM of the PSF of those data, in pixels of the image.
    resolution : float, > 0
        FWHM of the PSF of the image, in its pixels.
    upsample : int, >= 1
        Pixels of the image per pixel of the data, along each axis.
    mask : (h, w) bool array, optional
        True = bad.
    min_snr : float, > 0
        Flux of a clump over its error. The error holds the noise of a point source in the data, and the scatter of the
        light above the disc in apertures elsewhere in the galaxy.
    min_share : float, >= 0
        Flux of a clump over that of its disc.

    Returns
    -------
    list of Galaxy
        The brightest first. What has no light beside its compact structure, a cluster of stars say, is none.

    Raises
    ------
    ValueError
        A parameter is outside its interval; the image is not 2-D.

    Source
    ------
    Akhaury, Jablonka, Starck, Courbin, A&A 688, A6 (2024), for clumps in deconvolved discs.

    Example
    -------
    >>> y, x = np.mgrid[-32:33, -40:41]
    >>> disc = np.exp(-np.hypot(x, 1.5 * y) / 8.0)
    >>> clump = np.exp(-((x - 10) ** 2 + (y + 4) ** 2) / 2.0)
    >>> galaxy = find_clumps(disc + clump, noise=0.02, seeing=6.0, upsample=2)[0]
    >>> [(round(c.x), round(c.y), round(c.flux, 1)) for c in galaxy.clumps]
    [(50, 28, 6.8)]
    """
    image = np.asarray(image)
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}; give a 2-D array")
    given = {"noise": noise, "seeing": seeing, "resolution": resolution, "min_snr": min_snr}
    for name, value in given.items():
        if not (np.isfinite(value) and value > 0.0):
            raise ValueError(f"{name} is {value}; give a positive number")
    if not (np.isfinite(min_share) and min_share >= 0.0):
        raise ValueError(f"min_share is {min_share}; give a fraction of the disc, 0 or more")
    good = np.isfinite(image) if mask is None else np.isfinite(image) & ~np.asarray(mask, dtype=bool)
    std = seeing / GAUSSIAN_FWHM
    # The noise of a point source's flux in the data, and that of the image smoothed to the seeing once more.
    point = noise * np.sqrt(4.0 * np.pi) * std / upsample
    labels, _ = scipy.ndimage.label(_bright(image, good, std, DETECTION * point))
    galaxies = []
    for label, box in enumerate(scipy.ndimage.find_objects(labels), 1):
        if np.count_nonzero(labels[box] == label) < LEAST_AREA * seeing**2:
            continue
        pad = int(2.0 * SMOOTH * seeing) + 1
        wide = tuple(slice(max(s.start - pad, 0), min(s.stop + pad, n)) for s, n in zip(box, image.shape))
        outline = _outline(labels[wide], label, seeing)
        # Other galaxies are no part of this one's disc.
        alone = np.where(good[wide] & ((labels[wide] == 0) | outline), image[wide], 0.0).astype(np.float64, copy=False)
        with suppress(NoDisc):
            galaxies.append(_galaxy(alone, outline, wide, image.shape, point, seeing, resolution, min_snr, min_share))
    return sorted(galaxies, key=lambda galaxy: -galaxy.flux)


class NoDisc(Exception):
    """A group of pixels is all compact structure: a cluster of stars, no galaxy."""


def _bright(image, good, std, level):
    """Where the image, smoothed and each pixel given the weight of a point source, exceeds a level; strip by strip."""
    reach = int(4.0 * std + 0.5)  # of the filter
    step = max(2 * reach, STRIP // image.shape[1], 1)
    bright = np.zeros(image.shape, bool)
    for start in range(0, len(image), step):
        low, stop = max(start - reach, 0), min(start + step, len(image))
        rows = slice(low, min(stop + reach, len(image)))
        strip = np.where(good[rows], image[rows], 0.0).astype(np.float64, copy=False)
        smooth = scipy.ndimage.gaussian_filter(strip, std, truncate=4.0)[start - low : stop - low]
        bright[start:stop] = smooth * 4.0 * np.pi * std**2 > level
    return bright


def disc_model(image, outline, seeing, clumps=()):
    """What is left of a galaxy without compact structure: a profile over ellipses, and what is smooth beside it.

    Returns
    -------
    disc : (h, w) array
    centre : (row, column)
    axis_ratio, angle : float

    Raises
    ------
    NoDisc
        No light is left beside the clumps.
    """
    y, x = np.indices(image.shape)
    near = np.zeros(image.shape, bool)
    for row, column in clumps:
        near |= (y - row) ** 2 + (x - column) ** 2 < (APERTURE * seeing) ** 2
    smooth = _smooth(image, near, seeing)
    light = np.where(outline, np.maximum(smooth, 0.0), 0.0)
    total = light.sum()
    if not total > 0.0 or near[outline].all():
        raise NoDisc
    row, column = (light * y).sum() / total, (light * x).sum() / total
    dy, dx = y - row, x - column
    yy, xx, xy = ((light * a).sum() / total for a in (dy * dy, dx * dx, dy * dx))
    angle = 0.5 * np.arctan2(2.0 * xy, xx - yy)
    mean, half = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    ratio = np.sqrt(max(mean - half, 1e-6) / (mean + half))
    along, across = dx * np.cos(angle) + dy * np.sin(angle), (dy * np.cos(angle) - dx * np.sin(angle)) / ratio
    rho = np.hypot(along, across)
    used = ~near & (rho < 1.2 * rho[outline].max() + 2)
    profile = _profile(image[used], rho[used], rho)
    rest = image - profile
    disc = profile + _smooth(rest, near, seeing)
    return disc, (row, column), float(ratio), float(np.degrees(angle) % 180.0)


def _profile(values, radii, at):
    """Median of the values in rings of radius, interpolated at other radii."""
    edges = np.append(np.arange(0.0, radii.max(), 1.0), radii.max() + 1e-9)
    rings = np.digitize(radii, edges)
    middles, medians = [], []
    for i in range(1, len(edges)):
        inside = rings == i
        if np.count_nonzero(inside) >= 4:
            middles.append(radii[inside].mean())
            medians.append(np.median(values[inside]))
    return np.interp(at, middles, medians)


def _smooth(image, near, seeing):
    """The image without compact structure: its median over a circle, or around known clumps the mean of the rest."""
    radius = SMOOTH * seeing
    if not near.any():
        median = scipy.ndimage.median_filter(image, footprint=_circle(radius))
        return scipy.ndimage.gaussian_filter(median, 0.25 * radius)
    share = scipy.ndimage.gaussian_filter((~near).astype(float), 0.5 * radius)
    return scipy.ndimage.gaussian_filter(np.where(near, 0.0, image), 0.5 * radius) / np.maximum(share, 1e-3)


def _outline(labels, label, seeing):
    """The pixels of a galaxy and those around it that belong to no other: light goes on below the noise."""
    around = scipy.ndimage.binary_dilation(labels == label, _circle(0.75 * seeing))
    return (labels == label) | (around & (labels == 0))


def _galaxy(image, outline, box, shape, point, seeing, resolution, min_snr, min_share):
    peaks, error = np.empty((0, 2)), point
    for _ in range(ROUNDS):
        disc, centre, ratio, angle = disc_model(image, outline, seeing, peaks)
        excess = image - disc
        peaks, flux = _compact(excess, outline, seeing, resolution)
        error = np.hypot(point, _aperture_scatter(excess, outline, peaks[flux > min_snr * point], seeing))
        strong = flux > min_snr * error
        peaks, flux = peaks[strong], flux[strong]
    disc_flux = float(image[outline].sum() - flux.sum())
    offset = np.array([s.start for s in box])
    counted = (np.hypot(*(peaks - centre).T) >= NUCLEUS * seeing) & (flux >= min_share * disc_flux)
    clumps = [
        Clump(float(column), float(row), float(f), float(error), float(f / disc_flux))
        for (row, column), f in zip(peaks[counted] + offset, flux[counted])
    ]
    row, column = (float(v) for v in np.array(centre) + offset)
    total = float(image[outline].sum())
    clumps.sort(key=lambda clump: -clump.flux)
    return Galaxy(column, row, total, disc_flux, ratio, angle, shape, box, outline, clumps)


def _aperture_scatter(excess, outline, peaks, seeing):
    """Scatter of the light above the disc in apertures within the galaxy that no clump is in; 0 without room."""
    aperture = _circle(APERTURE * seeing).astype(float)
    sums = scipy.signal.fftconvolve(excess, aperture, mode="same")
    y, x = np.indices(excess.shape)
    free = outline.copy()
    for row, column in peaks:
        free &= (y - row) ** 2 + (x - column) ** 2 > (2.0 * APERTURE * seeing) ** 2
    return 1.4826 * float(np.median(np.abs(sums[free]))) if free.any() else 0.0


def _compact(excess, outline, seeing, resolution):
    """Peaks (n, 2) of what lies above the disc, and the light around each that is nearer to it than to others."""
    smooth = scipy.ndimage.gaussian_filter(excess, 0.7 * resolution / GAUSSIAN_FWHM)
    highest = scipy.ndimage.maximum_filter(smooth, footprint=_circle(max(1.0, 0.75 * resolution)))
    peaks = np.argwhere((smooth == highest) & (smooth > 0) & outline)
    if not len(peaks):
        return np.empty((0, 2)), np.empty(0)
    y, x = np.indices(excess.shape)
    # A peak owns the pixels from which the way to it is the steepest: shallow maxima on a slope own few.
    nearest, owner = np.full(excess.shape, np.inf), np.zeros(excess.shape, int)
    for i, (row, column) in enumerate(peaks):
        distance = np.hypot(y - row, x - column)
        closer = distance < nearest
        nearest[closer], owner[closer] = distance[closer], i
    near = nearest < APERTURE * seeing
    flux = np.bincount(owner[near], excess[near], len(peaks))
    return peaks.astype(float), flux


def _circle(radius):
    r = int(radius)
    yy, xx = np.mgrid[-r : r + 1, -r : r + 1]
    return yy * yy + xx * xx <= radius * radius
