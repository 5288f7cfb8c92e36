"""The FITS file of a PSF that was measured on stars; PSFEx's own format where it varies over the frame."""

import os
from importlib.metadata import version

import numpy as np

UNITS = {"x": "pix", "y": "pix", "fwhm_pix": "pix", "ra": "deg", "dec": "deg"}


def psf_hdus(measured, path, pixel_scale=None, wcs=None):
    """The HDUs of a measured PSF.

    The primary image is the effective PSF in the middle of the frame. Where it varies, PSF_DATA follows, which
    :meth:`deconjugate.astro.PSF.from_file` and what reads PSFEx's files take: a polynomial in the position (PSF_MASK;
    POLNAME, POLZERO, POLSCAL, POLDEG; PSF_SAMP). Then the table STARS and the image RESIDUAL.

    Parameters
    ----------
    measured : deconjugate.astro.star_psf.StarPSF
    path : str or path
        Of the image, for HISTORY.
    pixel_scale : float, optional
        Arcseconds per pixel.
    wcs : astropy.wcs.WCS, optional
        Gives the stars ra and dec.

    Returns
    -------
    list of HDU
    """
    from astropy.io import fits

    header = _cards(measured, pixel_scale)
    header.add_history(f"deconjugate {version('deconjugate')}: effective PSF of the stars of")
    header.add_history(os.path.basename(path).encode("ascii", "replace").decode())
    hdus = [fits.PrimaryHDU(measured.array.astype(np.float32), header)]
    if measured.order:
        hdus.append(_psfex_table(measured))
    columns = dict(measured.stars)
    if wcs is not None and wcs.has_celestial:
        columns["ra"], columns["dec"] = wcs.all_pix2world(columns["x"], columns["y"], 0)
    columns = [fits.Column(key, "D", unit=UNITS.get(key), array=values) for key, values in columns.items()]
    hdus.append(fits.BinTableHDU.from_columns(columns, name="STARS"))
    hdus.append(fits.ImageHDU(measured.residual.astype(np.float32), name="RESIDUAL"))
    return hdus


def _cards(measured, pixel_scale):
    from astropy.io import fits

    header = fits.Header()
    header["OVERSAMP"] = (measured.oversampling, "samples per pixel of the image")
    if pixel_scale is not None:
        header["PIXSCALE"] = (pixel_scale / measured.oversampling, "arcsec per sample")
    header["PSFFWHM"] = (measured.fwhm_pix, "FWHM in pixels of the image")
    header["PSFELLIP"] = (measured.ellipticity, "1 - minor / major axis")
    header["PSFPA"] = (measured.pa, "degrees from x to the major axis")
    built = "exponent of the Moffat that it is" if measured.analytic else "exponent of the Moffat it was built on"
    header["PSFBETA"] = (measured.beta, built)
    header["PSFNSTAR"] = (measured.count, "stars it rests on")
    header["PSFERROR"] = (measured.error, "estimate of the sum of |PSF - true PSF|")
    header["PSFRESID"] = (float(np.median(measured.stars["misfit"])), "median residual over the peak")
    header["PSFGRAD"] = (measured.gradient, "change of the FWHM over the frame")
    header["PSFORDER"] = (measured.order, "of position, that it follows")
    return header


def _psfex_table(measured):
    from astropy.io import fits

    model = measured.polynomial
    mask = model.coefficients.astype(np.float32)[None]
    column = fits.Column("PSF_MASK", f"{mask[0].size}E", dim=str(mask.shape[:0:-1]), array=mask)
    table = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    header = table.header
    header["LOADED"] = (measured.count + sum(measured.rejected.values()), "bright peaks")
    header["ACCEPTED"] = (measured.count, "stars it rests on")
    header["POLNAXIS"] = 2
    for axis, name in ((1, "X_IMAGE"), (2, "Y_IMAGE")):
        header[f"POLGRP{axis}"] = 1
        header[f"POLNAME{axis}"] = name
        header[f"POLZERO{axis}"] = model.zero[axis - 1] + 1.0  # the first pixel is 1 there
        header[f"POLSCAL{axis}"] = model.scale[axis - 1]
    header["POLNGRP"] = 1
    header["POLDEG1"] = model.degree
    header["PSF_FWHM"] = measured.fwhm_pix
    header["PSF_SAMP"] = (1.0 / measured.oversampling, "step between samples, pixels of the image")
    header["PSFNAXIS"] = 3
    for axis, size in enumerate(mask.shape[:0:-1], 1):
        header[f"PSFAXIS{axis}"] = size
    header["PSFERROR"] = (measured.error, "estimate of the sum of |PSF - true PSF|")
    return table
