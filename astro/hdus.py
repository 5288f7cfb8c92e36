"""FITS files opened, their images found, and what is wrong with them said."""

import os
import re
import warnings
from contextlib import contextmanager

import numpy as np

from deconjugate.astro.scratch import SMALL, Scratch, forget, strips

# Words in the name of an extension or file, by SWarp's, SExtractor's and archives' habits.
NOISE_WORDS = {
    "rms": {"err", "error", "rms", "sigma", "noise", "std", "stddev", "uncert", "uncertainty"},
    "variance": {"var", "variance"},
    "ivar": {"ivar", "invvar"},
    "weight": {"weight", "weights", "wht"},
}
MASK_WORDS = {"mask", "dq", "flag", "flags", "msk", "bpm", "ctx", "con"}
# No compressed image packs more bytes into one (gzip ends at 1032); small ones are let through.
MOST_PACKED, HARMLESS = 2000, 2**26


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
        _check_whole(path)
        try:
            hdus = fits.open(path, memmap=False, lazy_load_hdus=False, ignore_missing_simple=True)
        except Exception as error:  # a damaged file fails in many ways inside the decompressor or the parser
            raise _damaged(path, error) from error
    with hdus:
        yield hdus


def _damaged(path, error):
    return OSError(f"{path} is not a FITS file, or is damaged: {error}")


def _check_whole(path):
    """Raise OSError where an HDU ends beyond the file; missing padding after the last one does no harm.

    And where a compressed image claims more pixels than its bytes can hold: to believe it would fill the memory.
    """
    from astropy.io import fits

    try:
        hdus = fits.open(
            path, memmap=False, lazy_load_hdus=False, disable_image_compression=True, ignore_missing_simple=True
        )
    except Exception as error:
        raise _damaged(path, error) from error
    size = None if path.endswith((".gz", ".bz2", ".xz", ".zip", ".Z")) else os.path.getsize(path)
    with hdus:
        for index, hdu in enumerate(hdus):
            try:
                end, claimed = hdu.fileinfo()["datLoc"] + hdu.size, _unpacked_size(hdu.header)
            except (TypeError, ValueError, AttributeError) as error:
                raise _damaged(path, f"the header of HDU {index} makes no sense ({error})") from error
            if size is not None and end > size:
                raise OSError(f"{path} is truncated: HDU {index} ends at byte {end}, the file at {size}")
            if claimed > MOST_PACKED * hdu.size + HARMLESS:
                raise OSError(
                    f"{path} is damaged: the image in HDU {index} would be {claimed / 1e9:.3g} GB, in {hdu.size} bytes"
                )


def _unpacked_size(header):
    """Bytes of the image that a compressed one says it holds; 0 for any other HDU."""
    if header.get("ZIMAGE") is not True:
        return 0
    sides = [int(header[f"ZNAXIS{i + 1}"]) for i in range(int(header.get("ZNAXIS", 0)))]
    tiles = [int(header.get(f"ZTILE{i + 1}", 1)) for i in range(len(sides))]
    if min(sides + tiles, default=1) < 1:
        raise ValueError(f"ZNAXISn {sides}, ZTILEn {tiles}")
    return max(float(np.prod(np.array(axes, float))) for axes in (sides, tiles)) * abs(int(header["ZBITPIX"])) / 8


def find_image(hdus, ext, path, version=None):
    """Index of the HDU that ``ext`` names, or of the image where it is None: see ``read_image``.

    Of several HDUs of a name, the one of ``version`` is taken where there is one, unless ``ext`` gives its own.
    """
    if ext is None:
        images, cubes = ([i for i, hdu in enumerate(hdus) if shape(hdu)] for shape in (image_shape, cube_shape))
        science = [[i for i in found if words(hdus[i].name) == {"sci"}] for found in (images, cubes)]
        # What is named SCI, a cube too, goes before images of something else: a cube's PSF, say.
        for found in (images if 0 in images else [], *science, images, cubes):
            if found:
                return found[0]
        raise ValueError(f"{path} holds no 2-D image; it has {contents(hdus)}")
    name, _, wanted = str(ext).strip().casefold().partition(",")
    if re.fullmatch(r"\d+", name) and not wanted:
        if int(name) < len(hdus):
            return int(name)
    else:
        matches = [i for i, hdu in enumerate(hdus) if hdu.name.strip().casefold() == name.strip()]
        if wanted.strip():
            matches = [i for i in matches if str(hdus[i].ver) == wanted.strip()]
        if matches:
            return next((i for i in matches if hdus[i].ver == version), matches[0])
    raise KeyError(f"{path} has no extension {str(ext).strip()!r}; it has {contents(hdus)}")


def find_all_images(hdus, path, besides=()):
    """Indices of all images of a file: those named SCI, else all that neither name nor use shows to be something else.

    Parameters
    ----------
    besides : list of extensions
        Noise and mask, as given to ``read_image``.
    """
    images = [i for i, hdu in enumerate(hdus) if image_shape(hdu) or cube_shape(hdu)]
    named = [i for i in images if words(hdus[i].name) == {"sci"}]
    if named:
        return named
    used = {str(ext).strip().casefold().partition(",")[0] for ext in besides if ext is not None}
    other = set.union(MASK_WORDS, *NOISE_WORDS.values())
    images = [i for i in images if hdus[i].name.strip().casefold() not in used and not words(hdus[i].name) & other]
    if not images:
        raise ValueError(f"{path} holds no 2-D image; it has {contents(hdus)}")
    return images


def words(name):
    """The words of a name, in small letters."""
    return set(re.findall("[a-z]+", name.casefold()))


def contents(hdus):
    """What a file holds, in words."""
    shapes = [f"{hdu.shape[::-1]}" if hdu.is_image and hdu.shape else "no image" for hdu in hdus]
    return ", ".join(
        f"{i} {hdu.name.strip() or '(no name)'} {shape}" for i, (hdu, shape) in enumerate(zip(hdus, shapes))
    )


def image_shape(hdu):
    """(h, w) of a 2-D image, leading axes of length 1 aside; None for anything else."""
    shape = _shape(hdu)
    return shape if len(shape) == 2 else None


def cube_shape(hdu):
    """(n, h, w) of a cube of images, leading axes of length 1 aside; None for anything else."""
    shape = _shape(hdu)
    return shape if len(shape) == 3 else None


def _shape(hdu):
    shape = tuple(hdu.shape) if hdu.is_image and hdu.shape else ()
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape if all(shape) else ()


def image_pixels(hdu, path, plane=None, scratch=None):
    """The image of an HDU, native byte order: float32 where that holds every value exactly, else float64.

    Of a cube, the plane of that number, and no other is read; a 2-D image is taken for any plane. A large image that is
    not compressed is read strip by strip into an array that ``scratch`` makes, so that the file is never in memory.
    """
    shape = _shape(hdu)
    if len(shape) != 2 and (plane is None or len(shape) != 3):
        what = f"an image of axes {hdu.shape[::-1]}" if hdu.is_image and hdu.shape else "no image"
        name = hdu.name.strip() or "without name"
        raise ValueError(f"{path}: extension {name} holds {what}; a 2-D image is needed, of a cube a plane")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if hdu.size > SMALL and not _is_compressed(hdu):
                return _by_strips(hdu, shape, plane, scratch or Scratch())
            data = hdu.data if len(shape) == 2 else hdu.section[(0,) * (len(hdu.shape) - 3) + (plane,)]
        data = np.asarray(data).reshape(shape[-2:])
        return data.astype(_precision(data))
    except Exception as error:  # damaged compressed tiles fail in many ways
        raise OSError(f"{path}: the pixels of {hdu.name.strip() or 'the image'} cannot be read: {error}") from error


def _precision(data):
    return np.result_type(data.dtype.newbyteorder("="), np.float32)


def _is_compressed(hdu):
    from astropy.io import fits

    return isinstance(hdu, fits.CompImageHDU)


def _by_strips(hdu, shape, plane, scratch):
    leading = (0,) * (len(hdu.shape) - len(shape)) + (() if len(shape) == 2 else (plane,))
    array = scratch.zeros(shape[-2:], _precision(hdu.section[(*leading, slice(0, 1))]))
    for rows in strips(array):
        array[rows] = hdu.section[(*leading, rows)]
        forget(array)
    return array
