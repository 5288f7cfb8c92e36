"""A band brought to the pixels of another, with its noise and its PSF."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import scipy.ndimage
from scipy.interpolate import RectBivariateSpline

from deconjugate.astro.product import PIXEL_AREAS, PIXEL_SIDES, is_surface_brightness
from deconjugate.astro.psf import PSF
from deconjugate.astro.scratch import forget, strips
from deconjugate.astro.wcs import places_in

NODE = 16  # pixels between places at which the coordinates are asked for
ROWS = 256  # of the grid at a time
FILL = 1.5  # pixels, sigma of the mean that fills a hole
MARGIN = 12  # pixels beyond which a cubic spline does not feel its neighbours
SAMPLES = 4  # of the PSF per pixel
COARSE = 5  # samples of the PSF as given per pixel of the band
NODES = 5  # places along an axis at which a PSF that varies is taken


@dataclass(frozen=True, eq=False)
class Mapping:
    """Where the pixels of one grid lie in another, rows and columns from 0."""

    shape: tuple  # of the grid
    splines: tuple  # rows and columns of the other as functions of rows and columns of the grid

    def __call__(self, rows):
        """Rows and columns of the other for some rows of the grid."""
        wanted = np.arange(rows.start, rows.stop), np.arange(self.shape[1])
        return [spline(*wanted) for spline in self.splines]

    def at(self, row, column):
        """The same for one place."""
        return [float(spline.ev(row, column)) for spline in self.splines]

    def linear(self, row, column):
        """(2, 2) matrix: how rows and columns of the other change with those of the grid."""
        return np.array([[float(s.ev(row, column, dx=1)), float(s.ev(row, column, dy=1))] for s in self.splines])

    @property
    def area(self):
        """Area of a pixel of the grid in pixels of the other."""
        return float(abs(np.linalg.det(self.linear(*((n - 1) / 2 for n in self.shape)))))


def mapping(onto, band):
    """The :class:`Mapping` from the pixels of one image to those of another.

    Parameters
    ----------
    onto, band : CCDData
        With celestial WCS.

    Raises
    ------
    ValueError
        They lie on different parts of the sky, or do not overlap.
    """
    nodes = [np.linspace(0.0, n - 1.0, max(4, -(-n // NODE) + 1)) for n in onto.shape]
    y, x = np.meshgrid(*nodes, indexing="ij")
    places = places_in(onto.wcs, band.wcs, y, x)
    if not np.isfinite(places).all():
        raise ValueError("the images lie on different parts of the sky")
    inside = [(p > -0.5) & (p < n - 0.5) for p, n in zip(places, band.shape)]
    if not (inside[0] & inside[1]).any():
        raise ValueError("the images do not overlap")
    return Mapping(tuple(onto.shape), tuple(RectBivariateSpline(*nodes, place) for place in places))


def resample(array, where, *, bad=None, order=3):
    """Values of an array at the pixels of another grid, by splines, and where they are not known.

    Parameters
    ----------
    array : (h, w) array
    where : Mapping
    bad : (h, w) bool array, optional
        Pixels that count for nothing; what they touch is not known.
    order : 1 or 3
        Linear, or the cubic spline through the pixels: exact enough for what is sampled twice a FWHM.

    Returns
    -------
    values : array of ``where.shape``, 0 where not known
    unknown : bool array
    """
    dtype = np.float32 if array.dtype == np.float32 else np.float64
    values, unknown = np.zeros(where.shape, dtype), np.ones(where.shape, bool)
    for start in range(0, where.shape[0], ROWS):
        rows = slice(start, min(start + ROWS, where.shape[0]))
        y, x = where(rows)
        inside = (y > -0.5) & (y < array.shape[0] - 0.5) & (x > -0.5) & (x < array.shape[1] - 0.5)
        if not inside.any():
            continue
        box = tuple(
            slice(max(int(p[inside].min()) - MARGIN, 0), min(int(p[inside].max()) + MARGIN + 2, n))
            for p, n in ((y, array.shape[0]), (x, array.shape[1]))
        )
        places = np.array([y - box[0].start, x - box[1].start])
        piece = np.asarray(array[box], np.float64)
        spoilt = ~np.isfinite(piece) if bad is None else ~np.isfinite(piece) | bad[box]
        piece = _filled(np.where(spoilt, 0.0, piece), spoilt)
        found = scipy.ndimage.map_coordinates(piece, places, order=order, mode="nearest")
        touched = scipy.ndimage.map_coordinates(spoilt.astype(np.float32), places, order=1, mode="nearest") > 1e-3
        unknown[rows] = touched | ~inside
        values[rows] = np.where(unknown[rows], 0.0, found)
    return values, unknown


def _filled(array, holes):
    """Holes filled with the mean around them, for a spline rings where a source has a hole of zeros."""
    if not holes.any():
        return array
    known = scipy.ndimage.gaussian_filter((~holes).astype(np.float64), FILL, mode="constant")
    around = scipy.ndimage.gaussian_filter(array, FILL, mode="constant")
    return np.where(holes & (known > 1e-6), around / np.maximum(known, 1e-6), array)


def regrid_psf(psf, where, shape):
    """The effective PSF of a band as it is on the pixels of another grid.

    .. math:: e'(v) = e(M v)

    e holds the pixel of the band, M is the derivative of the coordinates. Beyond that interpolation changes nothing
    where the band is sampled twice a FWHM. One that varies is taken at 5 x 5 places, linearly between.

    Parameters
    ----------
    psf : deconjugate.astro.PSF
    where : Mapping
    shape : (int, int)
        Of the band.
    """
    if not psf.varies:
        middle = [(n - 1) / 2 for n in where.shape]
        return PSF.from_array(_samples(psf, None, where.linear(*middle), where.shape, shape), oversampling=SAMPLES)
    rows, columns = (np.linspace(0.0, n - 1.0, NODES) for n in where.shape)
    positions, data = [], []
    for row in rows:
        for column in columns:
            positions.append((column, row))
            data.append(_samples(psf, where.at(row, column)[::-1], where.linear(row, column), where.shape, shape))
    side = min(len(samples) for samples in data)
    data = [samples[(cut := slice((len(samples) - side) // 2, (len(samples) + side) // 2)), cut] for samples in data]
    return PSF.from_epsf(SimpleNamespace(data=np.array(data), oversampling=SAMPLES, grid_xypos=np.array(positions)))


def _samples(psf, position, linear, shape, given_shape):
    """e(M v) at v a quarter of a pixel apart, an odd number along each axis, and no wider than the grid."""
    p = psf.fine(COARSE, position=position, max_size=min(given_shape) * COARSE)
    kernel = np.ones(COARSE)
    effective = np.apply_along_axis(np.convolve, 1, np.apply_along_axis(np.convolve, 0, p, kernel), kernel)
    reach = [(n - 1) / 2 / COARSE for n in effective.shape]  # pixels of the band
    scale = np.sqrt(abs(np.linalg.det(linear)))
    half = int(min(max(reach) / scale, (min(shape) - 1) / 2 - 1) * SAMPLES)
    v = np.arange(-half, half + 1) / SAMPLES
    y, x = np.meshgrid(v, v, indexing="ij")
    places = [(linear[i, 0] * y + linear[i, 1] * x + reach[i]) * COARSE for i in (0, 1)]
    samples = scipy.ndimage.map_coordinates(effective, places, order=3, mode="constant")
    return samples / samples.sum()


def regrid(prepared, onto, scratch):
    """A band as it would be on the pixels of another.

    .. math:: y'_m = a \\, y(M m), \\quad \\sigma'_m = \\sqrt{a} \\, \\sigma(M m), \\qquad a = |\\det M|

    a is the area of a new pixel in old ones (1, and 1 / sqrt(a) for the noise, where the unit is a surface brightness),
    so that sums over the sky, and their errors, stay. The noise of new pixels is no longer independent: what a residual
    has left is less than a sigma a pixel.

    Parameters
    ----------
    prepared : deconjugate.astro.preparation.Prepared
    onto : CCDData
        On whose pixels.
    scratch : deconjugate.astro.scratch.Scratch

    Returns
    -------
    deconjugate.astro.preparation.Prepared

    Raises
    ------
    ValueError
        See :func:`mapping`; not a pixel of the band is good where the other is.
    """
    from astropy.nddata import CCDData

    image = prepared.image
    where = mapping(onto, image)
    area = where.area
    factor = 1.0 if is_surface_brightness(image.unit) else area
    bad = np.zeros(image.shape, bool) if image.mask is None else image.mask
    sources, unknown = resample(image.data - prepared.level, where, bad=bad)
    if unknown.all():
        raise ValueError("no pixel of it is good where the other image is")
    level, _ = resample(prepared.level, where, order=1)
    sigma, _ = resample(np.where(bad, np.nan, prepared.sigma), where, order=1)
    saturated, outside = resample(prepared.saturated.astype(np.float32), where, order=1)
    data, sky, noise = (scratch.zeros(where.shape, x.dtype) for x in (sources, level, sigma))
    for rows in strips(data):
        sky[rows] = factor * level[rows]
        data[rows] = factor * sources[rows] + sky[rows]
        noise[rows] = np.where(unknown[rows], 1.0, factor / np.sqrt(area) * sigma[rows])
        forget(data, sky, noise)
    meta = image.meta.copy()
    for keys, ratio in ((PIXEL_SIDES, np.sqrt(area)), (PIXEL_AREAS, area)):
        meta.update({key: meta[key] * ratio for key in keys if isinstance(meta.get(key), (int, float))})
    return replace(
        prepared,
        image=CCDData(data, mask=unknown if unknown.any() else None, wcs=onto.wcs, unit=image.unit, meta=meta),
        level=sky,
        sigma=noise,
        saturated=(saturated > 1e-3) & ~outside,
        psf=regrid_psf(prepared.psf, where, image.shape),
        psf_name=f"{prepared.psf_name}, on other pixels",
        noise_name=f"{prepared.noise_name}, resampled",
    )
