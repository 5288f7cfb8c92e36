"""Images in and out of FITS files: the package's only FITS parser."""

import os
import re
import textwrap
import warnings

import numpy as np

from deconjugate.astro.atomic import write_atomically
from deconjugate.astro.hdus import find_image, image_pixels, open_fits
from deconjugate.astro.wcs import wcs_cards

PLATE_CARDS = re.compile(r"(AMD[XY]|PPO|PLTRA|PLTDEC)\w*|CNPIX[12]|[XY]PIXELSZ")
# Cards that describe the array as it was stored or gridded, and would lie about the one written.
STALE_CARDS = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|EXTEND|EXTNAME|EXTVER|EXTLEVEL|INHERIT|BSCALE|BZERO|BLANK|"
    r"CHECKSUM|DATASUM|Z(IMAGE|TENSION|SIMPLE|EXTEND|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|CMPTYPE|TILE\d+|NAME\d+|VAL\d+)|"
    r"Z(QUANTIZ|DITHER0|BLANK|HECKSUM|DATASUM|SCALE|ZERO)|TFIELDS|T(TYPE|FORM)\d+|"
    r"DATAMIN|DATAMAX|(DATA|TRIM|BIAS|CCD|DET|AMP)SEC[A-D]?|LTM\d_\d|LTV\d|"
    r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CNAME|CRDER|CSYER)\d[A-Z]?|(CD|PC|PV|PS)\d+_\d+[A-Z]?|(DP|DQ)\d.*|"
    r"(LON|LAT)POLE[A-Z]?|WCSAXES[A-Z]?|WCSNAME[A-Z]?|RADE(C|)SYS[A-Z]?|EQUINOX[A-Z]?|(A|B|AP|BP)_(\d+_\d+|ORDER|DMAX)|"
    r"(CPDIS|CPERR|CQDIS|D2IMDIS|D2IMERR)\d|D2IMEXT|WAT\d_\d+|" + PLATE_CARDS.pattern
)
NOISE_KINDS = {  # words in the name of an extension or file, by SWarp's, SExtractor's and archives' habits
    "rms": {"err", "error", "rms", "sigma", "noise", "std", "stddev", "uncert", "uncertainty"},
    "variance": {"var", "variance"},
    "weight": {"weight", "weights", "wht", "ivar", "invvar"},
}


def read_image(path, *, ext=None, noise=None, noise_kind=None, mask=None):
    """Read an image with its noise, mask, unit and world coordinates.

    Parameters
    ----------
    path : str or path
        FITS file, plain, gzipped or tile-compressed (.fz).
    ext : int or str, optional
        HDU by number or name (case and outer spaces do not matter; "SCI,2" is the second of that name). By default a
        2-D primary array, else the first 2-D extension named SCI, else the first 2-D image. Leading axes of length
        1 are dropped.
    noise : int, str or path, optional
        An HDU of the same file, or another FITS file.
    noise_kind : "rms", "variance" or "weight", optional
        What it holds; weight is 1 / variance, 0 where bad. By default what its name says (ERR, RMS; VAR; WHT, WEIGHT,
        IVAR), else rms. Pixels without a positive finite noise are masked.
    mask : int, str or path, optional
        An HDU of the same file or another file; bad where it is not zero.

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
        No 2-D image there; noise or mask of another shape.
    """
    from astropy.nddata import CCDData, StdDevUncertainty

    path = os.fspath(path)
    with open_fits(path) as hdus:
        index = find_image(hdus, ext, path)
        data = image_pixels(hdus[index], path)
        bad = ~np.isfinite(data)
        uncertainty = None
        if noise is not None:
            values, name = _companion(hdus, path, noise, "noise", data.shape)
            rms = _rms(values, noise_kind or _noise_kind(name))
            bad |= ~(np.isfinite(rms) & (rms > 0.0))
            uncertainty = StdDevUncertainty(rms)
        if mask is not None:
            bad |= _companion(hdus, path, mask, "mask", data.shape)[0] != 0
        header = hdus[index].header.copy()
        if index:
            header.extend((c for c in hdus[0].header.cards if not STALE_CARDS.fullmatch(c.keyword)), unique=True)
        wcs = _wcs(hdus[index].header, hdus)
    unit = _unit(header.get("BUNIT"))
    return CCDData(data, uncertainty=uncertainty, mask=bad if bad.any() else None, wcs=wcs, meta=header, unit=unit)


def write_image(path, image, *, extensions=(), others=(), history=(), overwrite=False):
    """Write an image and its companions, or nothing at all.

    The file holds an empty primary HDU, SCI (float32), ERR and MASK (1 = bad) where the image has them, then
    ``extensions`` and ``others``. It is written beside its final name and renamed when complete: a full disk, an
    error or Ctrl-C leave what was there before.

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

    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.asarray(image.data, np.float32), _header(image, history), name="SCI")]
    companions = []
    grid = wcs_cards(image.wcs) if image.wcs is not None else None
    if image.uncertainty is not None:
        companions.append(("ERR", image.uncertainty.represent_as(StdDevUncertainty).array.astype(np.float32), grid))
    if image.mask is not None:
        companions.append(("MASK", np.asarray(image.mask, dtype=np.uint8), grid))
    companions += [(name, np.asarray(array, dtype=np.float32), header) for name, array, header in extensions]
    hdus += [fits.ImageHDU(array, header, name=name) for name, array, header in companions]
    hdus = fits.HDUList([*hdus, *others])

    def write(temporary):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cards too long for their comment, and the like
            hdus.writeto(temporary, overwrite=True, output_verify="silentfix+ignore")

    write_atomically(path, write, overwrite=overwrite)


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


def _companion(hdus, path, which, role, shape):
    """(array, name) of the noise or mask: an HDU of this file if it has that one, else another file."""
    try:
        index = find_image(hdus, which, path)
        array, name = image_pixels(hdus[index], path), hdus[index].name
    except KeyError as error:
        if not os.path.exists(str(which)):
            raise KeyError(f"{role}: no file {which}, and {error.args[0]}") from None
        with open_fits(which) as other:
            hdu = other[find_image(other, None, which)]
            array, name = image_pixels(hdu, which), f"{hdu.name} {os.path.basename(which)}"
    if array.shape != shape:
        raise ValueError(f"the {role} {which} is {array.shape[::-1]} pixels, the image {shape[::-1]}; both must agree")
    return array, name


def _noise_kind(name):
    words = set(re.findall("[a-z]+", name.casefold()))
    return next((kind for kind, hints in NOISE_KINDS.items() if words & hints), "rms")


def _rms(values, kind):
    if kind not in NOISE_KINDS:
        raise ValueError(f"noise_kind is {kind!r}; choose one of {', '.join(NOISE_KINDS)}")
    if kind == "rms":
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(values if kind == "variance" else 1.0 / values)


def _wcs(header, hdus):
    from astropy.wcs import WCS

    if not any(key in header for key in ("CTYPE1", "CRPIX1", "CD1_1", "CDELT1")):
        return None
    # wcslib lets the cards of a photographic plate solution, often left over in cutouts, override the WCS beside them.
    header = type(header)([card for card in header.cards if not PLATE_CARDS.fullmatch(card.keyword)])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy tells of every date and unit it repairs
            wcs = WCS(header, hdus, naxis=2)
            wcs.wcs.set()
            return wcs
    except Exception as error:  # wcslib raises a dozen classes
        warnings.warn(f"the WCS cannot be read and is left out: {' '.join(str(error).split())}", stacklevel=3)
        return None


def _unit(text):
    from astropy import units

    text = str(text or "").strip()
    for attempt in (text, text.lower()):
        unit = units.Unit(attempt, parse_strict="silent")
        if not isinstance(unit, units.UnrecognizedUnit):
            return unit
    return units.dimensionless_unscaled


def _header(image, history):
    """Cards of SCI: the image's own without the stale ones, its WCS, unit and HISTORY."""
    from astropy.io import fits

    header = fits.Header([card for card in fits.Header(image.meta).cards if not STALE_CARDS.fullmatch(card.keyword)])
    if image.wcs is not None:
        header.update(wcs_cards(image.wcs))
    if image.unit is not None and str(image.unit):
        header["BUNIT"] = str(image.unit)
    for line in history:
        # A card holds 72 characters of ASCII; left to itself it breaks within words.
        for part in textwrap.wrap(line.encode("ascii", "replace").decode(), 72):
            header.add_history(part)
    return header
