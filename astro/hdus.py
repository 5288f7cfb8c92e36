"""FITS files opened, their images found, and what is wrong with them said."""

import os
import re
import warnings
from contextlib import contextmanager

import numpy as np


@contextmanager
def open_fits(path):
    """Open a FITS file for reading; every way in which that fails is an OSError that says how.

    Raises
    ------
    FileNotFoundError, OSError
        No such file; not FITS; truncated.
    """
    from astropy.io import fits

    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file: {path}")
    if os.path.isdir(path):
        raise OSError(f"{path} is a folder; give a FITS file")
    if not os.access(path, os.R_OK):
        raise OSError(f"{path} may not be read: permission denied")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # truncation is checked here, non-standard cards do no harm
        try:
            hdus = fits.open(path, memmap=False, lazy_load_hdus=False, ignore_missing_simple=True)
        except Exception as error:  # a damaged file fails in many ways inside the decompressor or the parser
            raise OSError(f"{path} is not a FITS file, or is damaged: {error}") from error
    with hdus:
        _check_whole(path)
        yield hdus


def _check_whole(path):
    """Raise OSError where an HDU ends beyond the file; missing padding after the last one does no harm."""
    from astropy.io import fits

    if path.endswith((".gz", ".bz2", ".xz", ".zip", ".Z")):
        return  # the decompressor tells
    size = os.path.getsize(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdus = fits.open(
            path, memmap=False, lazy_load_hdus=False, disable_image_compression=True, ignore_missing_simple=True
        )
    with hdus:
        for index, hdu in enumerate(hdus):
            end = hdu.fileinfo()["datLoc"] + hdu.size
            if end > size:
                raise OSError(f"{path} is truncated: HDU {index} ends at byte {end}, the file at {size}")


def find_image(hdus, ext, path):
    """Index of the HDU that ``ext`` names, or of the image where it is None: see ``read_image``."""
    if ext is None:
        images = [i for i, hdu in enumerate(hdus) if hdu.is_image and image_shape(hdu) is not None]
        if not images:
            raise ValueError(f"{path} holds no 2-D image; it has {_contents(hdus)}")
        named = [i for i in images if hdus[i].name.strip().casefold() == "sci"]
        return images[0] if images[0] == 0 or not named else named[0]
    name, _, version = str(ext).strip().casefold().partition(",")
    if re.fullmatch(r"\d+", name) and not version:
        if int(name) < len(hdus):
            return int(name)
    else:
        matches = [i for i, hdu in enumerate(hdus) if hdu.name.strip().casefold() == name.strip()]
        if version.strip():
            matches = [i for i in matches if str(hdus[i].ver) == version.strip()]
        if matches:
            return matches[0]
    raise KeyError(f"{path} has no extension {str(ext).strip()!r}; it has {_contents(hdus)}")


def _contents(hdus):
    shapes = [f"{hdu.shape[::-1]}" if hdu.is_image and hdu.shape else "no image" for hdu in hdus]
    return ", ".join(
        f"{i} {hdu.name.strip() or '(no name)'} {shape}" for i, (hdu, shape) in enumerate(zip(hdus, shapes))
    )


def image_shape(hdu):
    """(h, w) of a 2-D image, leading axes of length 1 aside; None for anything else."""
    shape = tuple(hdu.shape) if hdu.is_image else ()
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape if len(shape) == 2 and all(shape) else None


def image_pixels(hdu, path):
    """The image of an HDU, native byte order: float32 where that holds every value exactly, else float64."""
    shape = image_shape(hdu)
    if shape is None:
        what = f"an image of axes {hdu.shape[::-1]}" if hdu.is_image and hdu.shape else "no image"
        raise ValueError(f"{path}: extension {hdu.name.strip() or 'without name'} holds {what}; a 2-D image is needed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = hdu.data
    except Exception as error:  # damaged compressed tiles fail in many ways
        raise OSError(f"{path}: the pixels of {hdu.name.strip()} cannot be read: {error}") from error
    return data.reshape(shape).astype(np.result_type(data.dtype.newbyteorder("="), np.float32))
