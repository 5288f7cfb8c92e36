"""A deconvolved file in, a table of clumps out."""

import os
import warnings
from importlib.metadata import version

import numpy as np

from deconjugate.astro.atomic import check_output, write_atomically
from deconjugate.astro.background import background_and_rms
from deconjugate.astro.clumps import APERTURE, find_clumps
from deconjugate.astro.fits import read_image
from deconjugate.astro.grids import SHIFT, largest_shift
from deconjugate.astro.light import check_light
from deconjugate.astro.wcs import pixel_scale_arcsec
from deconjugate.astro.zero_point import magnitude, zero_point


def clumps_file(
    path,
    output,
    *,
    colour=None,
    ext=None,
    noise=None,
    seeing_arcsec=None,
    sky="map",
    figure=None,
    overwrite=False,
    **find,
):
    """Find the clumps of the galaxies in a deconvolved file; what ``deconjugate clumps`` does.

    Two ECSV tables are written: one row a clump in ``output``, one row a galaxy in ``..._galaxies.ecsv`` beside it.

    Parameters
    ----------
    path, output : str or path
        What ``deconjugate deconvolve`` wrote; the table.
    colour : (path, path), optional
        A bluer and a redder band on the same grid and at the same resolution, both deconvolved: for the disc's colour.
    ext : int or str, optional
    noise, seeing_arcsec : float, optional
        Noise of a pixel of the data and FWHM of their PSF, for files of other software; default INNOISE and INFWHM of
        the header.
    sky : "map", "flat" or "none"
        See :func:`deconjugate.astro.background.background_and_rms`.
    figure : str or path, optional
        Where to draw the galaxies and the number of clumps against the disc's colour.
    overwrite : bool
    **find
        ``min_snr`` and ``min_share`` of :func:`deconjugate.astro.clumps.find_clumps`.

    Returns
    -------
    (clumps, galaxies) : astropy.table.Table

    Raises
    ------
    OSError, KeyError, ValueError
        See :func:`deconjugate.astro.read_image`; noise or seeing are not known; the bands do not match; an
        image in magnitudes.
    """
    check_clump_outputs(output, figure, overwrite)
    found = measure_clumps(path, colour=colour, ext=ext, noise=noise, seeing_arcsec=seeing_arcsec, sky=sky, **find)
    light, galaxies, clump_table, galaxy_table = found
    write_clump_tables(output, clump_table, galaxy_table, overwrite)
    if figure is not None:
        from deconjugate.astro.clump_figure import clump_figure

        clump_figure(figure, light, galaxies, galaxy_table, title=os.path.basename(path), overwrite=overwrite)
    return clump_table, galaxy_table


def measure_clumps(path, *, colour=None, ext=None, noise=None, seeing_arcsec=None, sky="map", **find):
    """Light, galaxies and the two tables of a file; parameters as for :func:`clumps_file`."""
    image = read_image(path, ext=ext)
    check_light(image, path)
    upsample = int(image.meta.get("UPSAMPLE", 1))
    scale = pixel_scale_arcsec(image.wcs)
    noise = image.meta.get("INNOISE") if noise is None else noise
    if seeing_arcsec is None:
        seeing = image.meta.get("INFWHM") and image.meta["INFWHM"] * upsample
    elif scale is None:
        raise ValueError(f"{path} has no sky coordinates to turn the seeing into pixels")
    else:
        seeing = seeing_arcsec / scale
    if noise is None or seeing is None:
        raise ValueError(
            f"{path} does not say the noise and the seeing of its data (INNOISE, INFWHM), as `deconjugate deconvolve` "
            "writes them; give them (--noise, --seeing)"
        )
    # Sums of a surface brightness over fine pixels are larger than those over pixels of the data.
    noise = float(noise) * (upsample**2 if image.meta.get("CONSERVE") == "surface brightness" else 1.0)
    light = _light(image, sky)
    resolution = float(image.meta.get("TGTFWHM", 2.0))
    galaxies = find_clumps(
        light, noise=noise, seeing=seeing, resolution=resolution, upsample=upsample, mask=image.mask, **find
    )
    bands = None if colour is None else [_band(band, image, sky) for band in colour]
    return light, galaxies, *_tables(galaxies, image, bands, seeing, os.path.basename(path), find)


def check_clump_outputs(output, figure, overwrite):
    """Raise where the tables or the figure cannot be written."""
    if not os.fspath(output).lower().endswith(".ecsv"):
        raise ValueError(f"the table {output} must end in .ecsv")
    for one in (output, _second(output), figure):
        if one is not None:
            check_output(one, overwrite=overwrite)
    if figure is not None:
        from deconjugate.astro.qa import check_qa_format

        check_qa_format(figure)


def write_clump_tables(output, clumps, galaxies, overwrite):
    """Write both tables."""
    for table, name in ((clumps, output), (galaxies, _second(output))):
        write_atomically(
            name,
            lambda temporary, t=table: t.write(temporary, format="ascii.ecsv", overwrite=True),
            overwrite=overwrite,
        )


def _second(output):
    """The name of the table of galaxies."""
    return f"{os.path.splitext(os.fspath(output))[0]}_galaxies.ecsv"


def _light(image, sky):
    """The image without its sky, in its own place where a sky is taken off."""
    if sky != "none":
        image.data -= background_and_rms(image.data, image.mask, sky=sky)[0]
    return image.data


def _band(path, image, sky):
    """Light and zero point of another band, after a check that it is on the same grid."""
    band = read_image(path)
    check_light(band, path)
    if band.shape != image.shape:
        raise ValueError(
            f"{path} is {band.shape[::-1]} pixels, the image {image.shape[::-1]}: both bands must be alike"
        )
    for key in ("UPSAMPLE", "TGTFWHM"):
        if band.meta.get(key) != image.meta.get(key):
            raise ValueError(
                f"{path}: {key} is {band.meta.get(key)}, that of the image {image.meta.get(key)}: colours need the "
                "same grid and resolution"
            )
    if band.wcs is not None and image.wcs is not None and band.wcs.has_celestial and image.wcs.has_celestial:
        shift = largest_shift(image, band)
        if shift > SHIFT:
            raise ValueError(f"{path} lies {shift:.2g} pixels from the image: bring both bands to one grid first")
    return _light(band, sky), zero_point(band.meta, band.unit), band.mask


def _tables(galaxies, image, bands, seeing, source, find):
    from astropy import units
    from astropy.table import Table

    rows = [
        (i, *_place(c, image), c.flux, c.error, c.significance, c.share)
        for i, g in enumerate(galaxies, 1)
        for c in g.clumps
    ]
    names = ["galaxy", "x", "y", "ra", "dec", "flux", "flux_error", "significance", "share"]
    clumps = Table(rows=rows or None, names=names, dtype=[int] + 8 * [float])
    rows = [
        (i, *_place(g, image), g.flux, g.disc_flux, g.axis_ratio, g.pa, len(g.clumps), sum(c.share for c in g.clumps))
        for i, g in enumerate(galaxies, 1)
    ]
    names = ["galaxy", "x", "y", "ra", "dec", "flux", "disc_flux", "axis_ratio", "pa", "n_clumps", "clump_share"]
    table = Table(rows=rows or None, names=names, dtype=[int] + 8 * [float] + [int, float])
    zero = zero_point(image.meta, image.unit)
    if zero is not None:
        clumps["mag"], table["disc_mag"] = magnitude(clumps["flux"], zero), magnitude(table["disc_flux"], zero)
    if bands is not None:
        calibrated = all(band[1] is not None for band in bands)
        if not calibrated:
            warnings.warn("a band has no zero point (MAGZERO): the colours are instrumental", stacklevel=3)
        table["disc_colour"] = [_disc_colour(g, bands, seeing, calibrated) for g in galaxies] or np.empty(0)
        table["disc_colour"].unit = units.mag
        table.meta["colour"] = "blue - red, " + ("calibrated" if calibrated else "instrumental")
    for t in (clumps, table):
        t["x"].unit = t["y"].unit = units.pix
        t["ra"].unit = t["dec"].unit = units.deg
        t.meta.update({"source": source, "made_by": f"deconjugate {version('deconjugate')}", "pixels": "from 0"})
        t.meta.update(find)
    table["pa"].unit = units.deg
    return clumps, table


def _place(thing, image):
    ra = dec = np.nan
    if image.wcs is not None and image.wcs.has_celestial:
        ra, dec = (float(v) for v in image.wcs.all_pix2world(thing.x, thing.y, 0))
    return thing.x, thing.y, ra, dec


def _disc_colour(galaxy, bands, seeing, calibrated):
    """Blue minus red magnitude of the pixels of the galaxy that no clump is in."""
    y, x = np.ogrid[galaxy.box]
    free = galaxy.within.copy()
    for clump in galaxy.clumps:
        free &= (y - clump.y) ** 2 + (x - clump.x) ** 2 > (APERTURE * seeing) ** 2
    for _, _, mask in bands:
        free &= True if mask is None else ~mask[galaxy.box]
    blue, red = (magnitude(light[galaxy.box][free].sum(), zero if calibrated else 0.0) for light, zero, _ in bands)
    return float(blue - red)
