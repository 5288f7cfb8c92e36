"""PSF files: FITS images and PSFEx models."""

import warnings

import numpy as np

from deconjugate.astro.hdus import find_image, open_fits
from deconjugate.astro.psf_samples import Samples, check_oversampling, check_psf_array
from deconjugate.astro.wcs import pixel_scale_arcsec

ROUNDING = 0.02  # by which the ratio of two pixel scales may miss a whole number and yet be it


def read_psf(path, *, oversampling=None, pixel_scale=None, ext=None):
    """Read a PSFEx model or a PSF image.

    PSFEx: psf(x, y) = sum_ij c_ij X^i Y^j with i + j <= degree, i running fastest, X = (x - POLZERO) / POLSCAL in
    FITS pixels (the first is 1); PSF_SAMP is the step between samples in image pixels. Keywords are read from the
    header or, as merged files have them, from the columns of a table of one row a chip.

    Parameters
    ----------
    path : str or path
    oversampling : float, optional
        Samples per pixel of a PSF image; default OVERSAMP of its header, else by its pixel scale, else 1.
    pixel_scale : float, optional
        Arcseconds per pixel of the image that the PSF is for, to be compared with that of the PSF (PIXSCALE, or its
        WCS).
    ext : int or str, optional
        Which HDU, by number or name; or, of a merged PSFEx table, which row from 0, or its CCDNAME.

    Raises
    ------
    OSError
        The file is missing or is not FITS.
    KeyError
        It has no such extension.
    ValueError
        It holds neither a 2-D image nor a model this reads; it holds several chips and ext does not say which.

    Returns
    -------
    Samples, and its error by the card PSFERROR, None where there is none.
    """
    with open_fits(path) as hdus:
        tables = [hdu for hdu in hdus if _is_psfex(hdu)]
        if tables:
            table, row = _chip(hdus, tables, ext, path)
            return _psfex(table, row, path), _error(table.header)
        chosen = list(hdus) if ext is None else [hdus[find_image(hdus, ext, path)]]
        for hdu in chosen:
            if hdu.is_image and hdu.data is not None and hdu.data.ndim == 2:
                step = _samples_per_pixel(hdu.header, oversampling, pixel_scale, path)
                array = check_psf_array(hdu.data, f"the PSF in {path}")
                return Samples(array[None], (step, step), True), _error(hdu.header)
    raise ValueError(f"{path} holds neither a 2-D image nor a PSFEx model (a table with PSF_MASK)")


def _error(header):
    """What the file says of its own error; a card that holds no number says nothing."""
    said = header.get("PSFERROR")
    known = isinstance(said, int | float) and not isinstance(said, bool) and np.isfinite(said) and said >= 0.0
    return float(said) if known else None


def psfex_chips(path):
    """The chips of a file of several PSFEx models, as ``ext`` of :func:`read_psf` takes them, each with its name.

    Returns
    -------
    list of (int, str)
        Empty where the file holds one PSF, or is none of PSFEx.
    """
    with open_fits(path) as hdus:
        tables = [(i, hdu) for i, hdu in enumerate(hdus) if _is_psfex(hdu)]
        if len(tables) > 1:
            return [(i, hdu.name.strip()) for i, hdu in tables]
        if not tables or len(tables[0][1].data) < 2:
            return []
        ccds = _ccd_names(tables[0][1])
        return [(row, ccds[row] if ccds else "") for row in range(len(tables[0][1].data))]


def _samples_per_pixel(header, given, pixel_scale, path):
    if given is not None:
        return check_oversampling(given)[0]
    if "OVERSAMP" in header:
        step = float(header["OVERSAMP"])
        if not step > 0.0:
            raise ValueError(f"{path}: OVERSAMP is {step}; it is the number of samples per pixel, positive")
        return step
    own = _own_scale(header)
    if own is None or pixel_scale is None:
        return 1.0
    step = pixel_scale / own
    # A copied header is rounded, or has its scale from another place of the sky.
    return float(round(step)) if abs(step - round(step)) < ROUNDING * step else step


def _own_scale(header):
    """Arcseconds per sample of a PSF image, None where it does not say."""
    from astropy.wcs import WCS

    for key in ("PIXSCALE", "PIXELSCL"):  # the second is WebbPSF's
        if isinstance(header.get(key), int | float) and header[key] > 0:
            return float(header[key])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pixel_scale_arcsec(WCS(header, naxis=2))
        except Exception:  # wcslib raises a dozen classes; a PSF without coordinates is the rule
            return None


def _is_psfex(hdu):
    from astropy.io import fits

    is_table = isinstance(hdu, fits.BinTableHDU) and not hdu.is_image
    return is_table and "psf_mask" in {name.lower() for name in hdu.columns.names}


def _chip(hdus, tables, ext, path):
    """The table and the row of it that hold the model asked for."""
    if len(tables) == 1 and len(tables[0].data) > 1:
        ccds = _ccd_names(tables[0])
        wanted = str(ext).strip()
        rows = [i for i, ccd in enumerate(ccds) if ccd.casefold() == wanted.casefold()]
        rows = rows or ([int(wanted)] if wanted.isdigit() and int(wanted) < len(tables[0].data) else [])
        if len(rows) == 1:
            return tables[0], rows[0]
        chips = ", ".join(ccds) or f"0 to {len(tables[0].data) - 1}"
        raise ValueError(f"{path} holds PSFEx models of {len(tables[0].data)} chips ({chips}); choose one (--psf-ext)")
    if ext is not None:
        hdu = hdus[find_image(hdus, ext, path)]
        if not _is_psfex(hdu):
            raise ValueError(f"{path}: extension {ext} holds no PSFEx model (a table with PSF_MASK)")
        return hdu, 0
    if len(tables) > 1:
        numbers = ", ".join(f"{i} {hdu.name.strip()}" for i, hdu in enumerate(hdus) if _is_psfex(hdu))
        raise ValueError(f"{path} holds PSFEx models of {len(tables)} chips ({numbers}); choose one (--psf-ext)")
    return tables[0], 0


def _ccd_names(table):
    """The names of the chips of a merged table, a row a chip; empty where it has none."""
    names = {name.lower(): name for name in table.columns.names}
    return [str(c).strip() for c in table.data[names["ccdname"]]] if "ccdname" in names else []


def _psfex(hdu, row, path):
    columns = {name.lower(): name for name in hdu.columns.names}

    def value(key, default=None):
        if key in hdu.header:
            return hdu.header[key]
        if key.lower() in columns:
            return hdu.data[columns[key.lower()]][row]
        if default is None:
            raise ValueError(f"{path}: the PSFEx model has no {key}")
        return default

    mask = np.asarray(hdu.data[columns["psf_mask"]][row], dtype=np.float64)
    if mask.ndim == 2:
        mask = mask[None]
    degree = int(value("POLDEG1", 0))
    axes = int(value("POLNAXIS", 2 if degree else 0))
    if not axes:
        degree = 0
    if axes not in (0, 2):
        raise ValueError(f"{path}: the PSFEx model varies with {axes} variables; only X_IMAGE and Y_IMAGE are read")
    names = [str(value(f"POLNAME{i}", "")).strip() for i in (1, 2)] if axes else []
    if any(n[:1] != c for n, c in zip(names, "XY")):
        raise ValueError(
            f"{path}: the PSFEx model varies with {' and '.join(names)}; only X_IMAGE and Y_IMAGE are read"
        )
    if mask.ndim != 3 or len(mask) != (degree + 1) * (degree + 2) // 2:
        raise ValueError(f"{path}: PSF_MASK of shape {mask.shape} does not fit a polynomial of degree {degree}")
    if not np.isfinite(mask).all():
        raise ValueError(f"{path}: PSF_MASK holds NaN")
    step = float(value("PSF_SAMP", 1.0))
    if not step > 0.0:
        raise ValueError(f"{path}: PSF_SAMP is {step}; the step between samples must be positive")
    # POLZERO counts pixels from 1, this package from 0.
    zero = tuple(float(value(f"POLZERO{i}")) - 1.0 for i in (1, 2)) if axes else (0.0, 0.0)
    scale = tuple(float(value(f"POLSCAL{i}")) for i in (1, 2)) if axes else (1.0, 1.0)
    return Samples(mask, (1.0 / step, 1.0 / step), True, zero, scale, degree)
