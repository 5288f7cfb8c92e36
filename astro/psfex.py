"""PSF files: FITS images and PSFEx models."""

import numpy as np

from deconjugate.astro.hdus import open_fits
from deconjugate.astro.psf_samples import Samples, check_psf_array


def read_psf(path):
    """Read a PSFEx model or a PSF image.

    PSFEx: psf(x, y) = sum_ij c_ij X^i Y^j with i + j <= degree, i running fastest, X = (x - POLZERO) / POLSCAL in
    FITS pixels (the first is 1); PSF_SAMP is the step between samples in image pixels. Keywords are read from the
    header or, as merged files have them, from the columns of a one-row table.

    Raises
    ------
    OSError
        The file is missing or is not FITS.
    ValueError
        It holds neither a 2-D image nor a model this reads.
    """
    from astropy.io import fits

    with open_fits(path) as hdus:
        for hdu in hdus:
            is_table = isinstance(hdu, fits.BinTableHDU) and not hdu.is_image
            if is_table and "psf_mask" in {name.lower() for name in hdu.columns.names}:
                return _psfex(hdu, path)
        for hdu in hdus:
            if hdu.is_image and hdu.data is not None and hdu.data.ndim == 2:
                step = float(hdu.header.get("OVERSAMP", 1.0))
                if not step > 0.0:
                    raise ValueError(f"{path}: OVERSAMP is {step}; it is the number of samples per pixel, positive")
                array = check_psf_array(hdu.data, f"the PSF in {path}")
                return Samples(array[None], (step, step), True)
    raise ValueError(f"{path} holds neither a 2-D image nor a PSFEx model (a table with PSF_MASK)")


def _psfex(hdu, path):
    if len(hdu.data) != 1:
        raise ValueError(f"{path}: the PSFEx table has {len(hdu.data)} rows; give a file of one chip")
    columns = {name.lower(): name for name in hdu.columns.names}

    def value(key, default=None):
        if key in hdu.header:
            return hdu.header[key]
        if key.lower() in columns:
            return hdu.data[columns[key.lower()]][0]
        if default is None:
            raise ValueError(f"{path}: the PSFEx model has no {key}")
        return default

    mask = np.asarray(hdu.data[columns["psf_mask"]][0], dtype=np.float64)
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
