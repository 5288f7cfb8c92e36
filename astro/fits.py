"""Images in and out of FITS files: the package's only FITS parser."""

import os
import re
import warnings
from dataclasses import dataclass

import numpy as np

from deconjugate.astro.atomic import write_atomically
from deconjugate.astro.cards import PLATE_CARDS, STALE_CARDS, derived_header
from deconjugate.astro.hdus import NOISE_WORDS, find_image, image_pixels, open_fits, words
from deconjugate.astro.large_hdus import BLOCK, is_large, write_large
from deconjugate.astro.wcs import wcs_cards

DISTRACTING_CARDS = re.compile(r"NAXIS[3-9]|" + PLATE_CARDS.pattern)  # from the two axes of the sky
# Words for units that headers have and astropy has not.
UNITS = {"counts": "ct", "electrons": "electron", "e-": "electron", "adus": "adu", "counts/s": "ct/s", "cps": "ct/s"}
UNITS |= {"electrons/s": "electron/s", "e-/s": "electron/s", "counts/sec": "ct/s", "photons": "photon"}
# Where all is in capitals; small letters would make other units of some.
CAPITALS = {"MJY/SR": "MJy/sr", "JY/SR": "Jy/sr", "JY/BEAM": "Jy/beam", "JY/PIXEL": "Jy/pix", "JY": "Jy"}
WITHOUT_DATA = 1e15  # noise of pixels that SWarp and SExtractor mark as bad: variance 1e30


def read_image(path, *, ext=None, plane=None, noise=None, noise_kind=None, mask=None, bad_bits=None):
    """Read an image with its noise, mask, unit and world coordinates.

    Parameters
    ----------
    path : str or path
        FITS file, plain, gzipped or tile-compressed (.fz).
    ext : int or str, optional
        HDU by number or name (case and outer spaces do not matter; "SCI,2" is the second of that name). By default a
        2-D primary array, else the first extension named SCI, 2-D or else a cube, else the first 2-D image, else the
        first cube. Leading axes of length 1 are dropped.
    plane : int, optional
        Which plane of a cube, from 0; noise and mask may be cubes or images then.
    noise : int, str or path, optional
        An HDU of the same file, or another FITS file. Of several HDUs of that name, the one of the image's EXTVER.
    noise_kind : "rms", "variance", "ivar" or "weight", optional
        What it holds; ivar is 1 / variance, and so is weight, up to a factor that
        :func:`deconjugate.astro.deconvolve_file` finds. By default what its name says (ERR, RMS; VAR; IVAR; WHT,
        WEIGHT), else rms. Pixels without a positive finite noise (weight 0, variance 1e30) are masked.
    mask : int, str or path, optional
        An HDU of the same file or another file; bad where it is not zero.
    bad_bits : int, optional
        The bits of the mask that make a pixel bad, all by default: 5 for 1 and 4.

    Returns
    -------
    astropy.nddata.CCDData
        Floating data; ``uncertainty`` (standard deviations, if noise was given); ``mask`` (True = bad; every NaN is;
        None if no pixel is); ``wcs`` (or None); ``unit`` (BUNIT, dimensionless where absent or unknown); ``meta``
        (the header, with what the primary header adds).

    Raises
    ------
    FileNotFoundError, OSError
        No such file; not FITS; truncated.
    KeyError
        No such extension; the message lists those there are.
    ValueError
        No 2-D image there; noise or mask of another shape; bad_bits for a mask that does not hold whole numbers.

    Example
    -------
    >>> import tempfile
    >>> from astropy.io import fits
    >>> hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((5, 7)), name="SCI")])
    >>> hdus.append(fits.ImageHDU(np.full((5, 7), 4.0), name="VAR"))
    >>> with tempfile.NamedTemporaryFile(suffix=".fits") as file:
    ...     hdus.writeto(file.name, overwrite=True)
    ...     image = read_image(file.name, noise="VAR")
    >>> image.shape, str(image.unit), image.uncertainty.array.max().item()
    ((5, 7), '', 2.0)
    """
    return read_frame(
        path, ext=ext, plane=plane, noise=noise, noise_kind=noise_kind, mask=mask, bad_bits=bad_bits
    ).image


@dataclass(frozen=True, eq=False)
class Frame:
    """An image and how it was found."""

    image: object  # CCDData
    noise_kind: str | None


def read_frame(path, *, ext=None, plane=None, noise=None, noise_kind=None, mask=None, bad_bits=None, scratch=None):
    """:func:`read_image`, and what its noise was taken for.

    ``scratch``, a :class:`deconjugate.astro.scratch.Scratch`, makes the arrays of large images.
    """
    from astropy.nddata import CCDData, StdDevUncertainty

    path = os.fspath(path)
    with open_fits(path) as hdus:
        index = find_image(hdus, ext, path)
        data = image_pixels(hdus[index], path, plane, scratch)
        where = {"plane": plane, "version": hdus[index].ver, "shape": data.shape, "scratch": scratch}
        bad = ~np.isfinite(data)
        uncertainty = None
        if noise is not None:
            values, name = _companion(hdus, path, noise, "noise", **where)
            noise_kind = noise_kind or _noise_kind(name)
            rms = _rms(values, noise_kind)
            bad |= ~((rms > 0.0) & (rms < WITHOUT_DATA))
            uncertainty = StdDevUncertainty(rms)
        if mask is not None:
            bad |= _flagged(_companion(hdus, path, mask, "mask", **where)[0], mask, bad_bits)
        header = _header_of(hdus, index)
        wcs = _wcs(hdus[index].header, hdus)
    unit = _unit(header.get("BUNIT"))
    image = CCDData(data, uncertainty=uncertainty, mask=bad if bad.any() else None, wcs=wcs, meta=header, unit=unit)
    return Frame(image, noise_kind if noise is not None else None)


def write_image(path, image, *, extensions=(), others=(), history=(), overwrite=False):
    """Write an image and its companions, or nothing at all.

    The file holds an empty primary HDU, SCI (float32), ERR and MASK (1 = bad) where the image has them, then
    ``extensions`` and ``others``, each with CHECKSUM and DATASUM.

    Parameters
    ----------
    path : str or path
    image : astropy.nddata.CCDData
        Its ``wcs`` and ``unit`` are written in place of what ``meta`` says of them.
    extensions : list of (name, array, header or None)
    others : list of HDU
        Appended as they are.
    history : list of str
        HISTORY cards added to SCI.
    overwrite : bool

    Raises
    ------
    FileExistsError
        The file exists and ``overwrite`` is not set.
    OSError
        The folder is missing or not writable; the disk is full.

    Example
    -------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "image.fits")
    ...     write_image(path, CCDData(np.eye(5), unit="adu"), history=["made by hand"])
    ...     image = read_image(path)
    >>> image.shape, str(image.unit), str(image.meta["HISTORY"])
    ((5, 5), 'adu', 'made by hand')
    """
    from astropy.io import fits
    from astropy.nddata import StdDevUncertainty

    header = derived_header(image.meta, wcs=image.wcs, unit=image.unit, history=history)
    hdus = [fits.ImageHDU(np.asarray(image.data, np.float32), header, name="SCI")]
    companions = []
    grid = wcs_cards(image.wcs) if image.wcs is not None else None
    if image.uncertainty is not None:
        companions.append(("ERR", image.uncertainty.represent_as(StdDevUncertainty).array.astype(np.float32), grid))
    if image.mask is not None:
        companions.append(("MASK", np.asarray(image.mask, dtype=np.uint8), grid))
    companions += [(name, np.asarray(array, dtype=np.float32), header) for name, array, header in extensions]
    hdus += [fits.ImageHDU(array, header, name=name) for name, array, header in companions]
    write_hdus(path, [*hdus, *others], overwrite=overwrite)


def write_hdus(path, hdus, *, overwrite=False):
    """Write extensions after an empty primary HDU, with fresh checksums, or nothing at all.

    The file is written beside its final name and renamed when complete: a full disk, an error or Ctrl-C leave what was
    there before. The same HDUs give the same bytes, whenever they are written.

    Raises
    ------
    FileExistsError, OSError
        See :func:`write_image`.
    """
    from astropy.io import fits

    hdus = fits.HDUList([fits.PrimaryHDU(), *hdus])

    def write(temporary):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cards too long for their comment, and the like
            hdus.update_extend()
            large = [is_large(hdu) for hdu in hdus]
            for hdu in (hdu for hdu, there in zip(hdus, large) if not there):
                # astropy's own comment is the time.
                hdu.add_checksum(when="of this HDU", checksum_keyword="CHECKSUM", datasum_keyword="DATASUM")
            if not any(large):
                hdus.writeto(temporary, overwrite=True, output_verify="silentfix+ignore")
                return
            with open(temporary, "wb") as file:
                for hdu, there in zip(hdus, large):
                    write_large(file, hdu) if there else file.write(_bytes_of(hdu))

    write_atomically(path, write, overwrite=overwrite)


def _bytes_of(hdu):
    """What astropy writes of an HDU; of an extension, without the empty primary HDU before it."""
    import io

    from astropy.io import fits

    file, primary = io.BytesIO(), isinstance(hdu, fits.PrimaryHDU)
    fits.HDUList([hdu] if primary else [fits.PrimaryHDU(), hdu]).writeto(file, output_verify="silentfix+ignore")
    return file.getvalue()[0 if primary else BLOCK :]


def read_others(path, *, used, taken=()):
    """The HDUs of a file beside its image, to be written along with a result.

    Parameters
    ----------
    path : str or path
    used : list of extensions
        What the image, its noise and its mask were read from, as given to :func:`read_image`; names of other files do
        not matter.
    taken : list of str
        Names the result uses itself: HDUs of these names are left behind.

    Returns
    -------
    list of HDU
    """
    from astropy.io import fits

    path = os.fspath(path)
    with open_fits(path) as hdus:
        left = set()
        for ext in used:
            try:
                left.add(find_image(hdus, ext, path))
            except KeyError:
                continue  # another file
        kept = [hdu for i, hdu in enumerate(hdus) if i not in left and hdu.name.strip().upper() not in taken]
        # A primary HDU can only be the first: its image goes on as an extension, if it has one.
        primary = [fits.ImageHDU(h.data, h.header, name="INPUT") for h in kept if h is hdus[0] and h.data is not None]
        return primary + [hdu.copy() for hdu in kept if hdu is not hdus[0]]


def _companion(hdus, path, which, role, *, plane, version, shape, scratch):
    """(array, name) of the noise or mask: an HDU of this file if it has that one, else another file."""
    try:
        index = find_image(hdus, which, path, version)
        array, name = image_pixels(hdus[index], path, plane, scratch), hdus[index].name
    except KeyError as error:
        if not os.path.exists(str(which)):
            raise KeyError(f"{role}: no file {which}, and {error.args[0]}") from None
        with open_fits(which) as other:
            hdu = other[find_image(other, None, which)]
            array, name = image_pixels(hdu, which, plane, scratch), f"{hdu.name} {os.path.basename(which)}"
    if array.shape != shape:
        raise ValueError(f"the {role} {which} is {array.shape[::-1]} pixels, the image {shape[::-1]}; both must agree")
    return array, name


def _flagged(values, which, bits):
    """Where a mask says bad; what is not a number there is bad too."""
    if bits is None:
        return values != 0
    known = np.isfinite(values)
    whole = np.where(known, values, 0)
    if (whole != np.round(whole)).any():
        raise ValueError(f"the mask {which} does not hold whole numbers, so that bits of it mean nothing")
    return ~known | (whole.astype(np.int64) & int(bits) != 0)


def _noise_kind(name):
    found = words(name)
    return next((kind for kind, hints in NOISE_WORDS.items() if found & hints), "rms")


def _rms(values, kind):
    if kind not in NOISE_WORDS:
        raise ValueError(f"noise_kind is {kind!r}; choose one of {', '.join(NOISE_WORDS)}")
    if kind == "rms":
        return values
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.sqrt(values if kind == "variance" else 1.0 / values)


def _header_of(hdus, index):
    """The cards of an HDU, and what the primary header adds to them."""
    header = hdus[index].header.copy()
    if index:
        header.extend((c for c in hdus[0].header.cards if not STALE_CARDS.fullmatch(c.keyword)), unique=True)
    return header


def _wcs(header, hdus):
    from astropy import log
    from astropy.wcs import WCS

    if not any(key in header for key in ("CTYPE1", "CRPIX1", "CD1_1", "CDELT1")):
        return None
    header = type(header)([card for card in header.cards if not DISTRACTING_CARDS.fullmatch(card.keyword)])
    header["NAXIS"] = min(header.get("NAXIS", 2), 2)  # of a cube, the sky
    level = log.level
    try:
        log.setLevel("ERROR")  # astropy tells of SIP without -SIP, which it reads as such
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # and of every date and unit it repairs
            wcs = WCS(header, hdus, naxis=2)
            wcs.wcs.set()
        numbers = [wcs.wcs.crpix, wcs.wcs.crval, wcs.pixel_scale_matrix]
        if not all(np.isfinite(values).all() for values in numbers) or not wcs.pixel_scale_matrix.any():
            raise ValueError("it holds values that are infinite, or not numbers")
        return wcs
    except Exception as error:  # wcslib raises a dozen classes
        why = re.sub(r"ERROR \d+ in \w+\(\) at line \d+ of file \S+:", "", str(error)).strip(" \n:")
        kind = ", ".join(str(header.get(f"CTYPE{i}", "no CTYPE")).strip() for i in (1, 2))
        warnings.warn(f"the WCS ({kind}) cannot be read and is left out: {' '.join(why.split())}", stacklevel=3)
        return None
    finally:
        log.setLevel(level)


def _unit(text):
    from astropy import units

    text = str(text or "").strip()
    text = CAPITALS.get(text, UNITS.get(text.casefold(), text))
    for attempt in (text, text.lower()):
        unit = units.Unit(attempt, parse_strict="silent")
        if not isinstance(unit, units.UnrecognizedUnit):
            return unit
    return units.dimensionless_unscaled
