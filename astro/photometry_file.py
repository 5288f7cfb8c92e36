"""An image and its deconvolution in, a table of fluxes out."""

import os
import warnings
from importlib.metadata import version

import numpy as np

from deconjugate.astro.atomic import check_output, write_atomically
from deconjugate.astro.background import background_and_rms
from deconjugate.astro.fits import read_frame, read_image
from deconjugate.astro.light import check_light
from deconjugate.astro.photometry import find_sources, photometry
from deconjugate.astro.preparation import given_noise
from deconjugate.astro.wcs import pixel_scale_arcsec
from deconjugate.astro.zero_point import zero_point

# Of positions, in the words of catalogues; pixels from 0.
SKY_COLUMNS = ("ra", "dec"), ("alpha_j2000", "delta_j2000"), ("raj2000", "dej2000"), ("ra_icrs", "de_icrs")
PIXEL_COLUMNS = ("x", "y"), ("xcentroid", "ycentroid")


def photometry_file(
    path,
    deconvolved,
    output,
    *,
    ext=None,
    noise=None,
    noise_kind=None,
    mask=None,
    radii_arcsec=None,
    radii_pix=(),
    positions=None,
    zero=None,
    threshold=3.0,
    sky="map",
    overwrite=False,
):
    """Measure sources in an image and in its deconvolution; what ``deconjugate photometry`` does.

    The sky is measured in the input, as the deconvolution does it, and taken off both.

    Parameters
    ----------
    path, deconvolved, output : str or path
        The input, what ``deconjugate deconvolve`` made of it, and the table (.ecsv).
    ext, noise, noise_kind, mask
        Of the input: see :func:`deconjugate.astro.read_image`.
    radii_arcsec, radii_pix : sequence of float
        Circular apertures beside the total one, in arcseconds or in pixels of the input.
    positions : str or path, optional
        A table (ECSV, FITS, CSV) of sources, with columns ra and dec (or as SExtractor and VizieR name them) in degrees
        or a unit of their own, or x and y in pixels of the input from 0; their total aperture is the largest radius.
        Default: sources found in the input.
    zero : float, optional
        Magnitude of one count; default what the header says.
    threshold : float
        See :func:`deconjugate.astro.photometry.find_sources`.
    sky : "map", "flat" or "none"
    overwrite : bool

    Returns
    -------
    astropy.table.Table

    Raises
    ------
    OSError, KeyError, ValueError
        See :func:`deconjugate.astro.read_image`; the two images are not the same sky, or are in magnitudes; positions
        cannot be read.

    Warns
    -----
    UserWarning
        Positions outside of the image.
    """
    if not str(output).lower().endswith(".ecsv"):
        raise ValueError(f"the table {output} must end in .ecsv")
    check_output(output, overwrite=overwrite)
    frame = read_frame(path, ext=ext, noise=noise, noise_kind=noise_kind, mask=mask)
    image = frame.image
    sharp = read_image(deconvolved)
    check_light(image, path)
    check_light(sharp, deconvolved)
    upsample = sharp.shape[0] // image.shape[0]
    if upsample < 1 or sharp.shape != tuple(n * upsample for n in image.shape):
        raise ValueError(
            f"{deconvolved} is {sharp.shape[::-1]} pixels, {path} {image.shape[::-1]}: the one is not made of the other"
        )
    scale = pixel_scale_arcsec(image.wcs)
    radii = list(radii_pix)
    if radii_arcsec:
        if scale is None:
            raise ValueError(f"{path} has no sky coordinates to turn arcsec into pixels; give radii in pixels")
        radii += [r / scale for r in radii_arcsec]
    level, rms = background_and_rms(image.data, image.mask, sky=sky)
    after = sharp.data
    if sharp.meta.get("CONSERVE") == "surface brightness":
        after = np.divide(after, upsample**2, dtype=np.float64)
    rms = rms if noise is None else np.where(image.mask, 0.0, given_noise(frame, rms))
    if positions is None:
        places, ellipses = find_sources(image.data - level, rms, image.mask, threshold=threshold)
    else:
        if not radii:
            raise ValueError("positions are given without an aperture; give its radius (--aperture)")
        places = _positions(positions, image.wcs, image.shape)
        outside = np.count_nonzero(~_within(places, image.shape))
        if outside:
            warnings.warn(
                f"{outside} of {len(places)} positions lie outside of the image: their fluxes are NaN, or of what is "
                "seen of them",
                stacklevel=2,
            )
        ellipses = np.tile([max(radii), max(radii), 0.0], (len(places), 1))
    zero = zero_point(image.meta, image.unit) if zero is None else zero
    table = photometry(
        image.data,
        after,
        rms,
        places,
        ellipses,
        upsample=upsample,
        radii=radii,
        mask=image.mask,
        zero=zero,
        level=level,
    )
    if scale is not None:
        from astropy import units

        sky_places = (
            np.array(image.wcs.all_pix2world(places[:, 0], places[:, 1], 0)) if len(places) else np.empty((2, 0))
        )
        table.add_columns(list(sky_places), names=["ra", "dec"], indexes=[2, 2])
        table["ra"].unit = table["dec"].unit = units.deg
    table.meta.update(
        {
            "before": os.path.basename(path),
            "after": os.path.basename(deconvolved),
            "pixels": "those of the input, from 0",
            "zero_point": zero,
            "made_by": f"deconjugate {version('deconjugate')}",
        }
    )
    write_atomically(
        output, lambda temporary: table.write(temporary, format="ascii.ecsv", overwrite=True), overwrite=overwrite
    )
    return table


def _within(places, shape):
    return ((places > -0.5) & (places < np.array(shape[::-1]) - 0.5)).all(axis=1)


def _positions(path, wcs, shape):
    from astropy.table import Table

    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file: {path}")
    try:
        table = Table.read(path)
    except Exception as error:  # astropy tries every reader it has
        raise ValueError(f"{path} cannot be read as a table: {' '.join(str(error).split())[:200]}") from error
    names = {name.lower(): name for name in table.colnames}

    def columns(pairs, unit):
        """The first two of these columns that there are, or None."""
        found = next(([names[key] for key in pair] for pair in pairs if set(pair) <= set(names)), None)
        return found and [_numbers(table[name], unit, f"{path}: the column {name}") for name in found]

    if wcs is not None and wcs.has_celestial and (sky := columns(SKY_COLUMNS, "deg")):
        return _places_of(*sky, wcs, shape)
    if (places := columns(PIXEL_COLUMNS, "pix")) is not None:
        return np.stack(places, axis=1)
    raise ValueError(f"{path} has no columns ra and dec, or x and y; it has {', '.join(table.colnames)}")


def _numbers(column, unit, name):
    """A column as numbers in a unit, which columns without one are taken to have."""
    from astropy import units

    try:
        values = np.ma.filled(np.ma.asarray(column, dtype=float), np.nan)
        given = getattr(column, "unit", None)
        return np.asarray(values, float) if given is None else units.Quantity(values, given).to_value(unit)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} does not hold numbers of {unit}: {error}") from error


def _places_of(ra, dec, wcs, shape):
    """Pixels (n, 2) of places on the sky, NaN where they are farther from the image than it is wide."""
    places = np.stack(wcs.wcs_world2pix(ra, dec, 0), axis=1)
    reach = np.array(shape[::-1], float)
    near = np.isfinite(places).all(axis=1) & ((places > -reach) & (places < 2 * reach)).all(axis=1)
    places[~near] = np.nan
    # Distortions need not have an inverse beyond the frame.
    places[near] = np.stack(wcs.all_world2pix(ra[near], dec[near], 0, quiet=True), axis=1)
    return places
