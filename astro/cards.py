"""Header cards: those that still hold for an image made from another, in a form that every reader takes."""

import re
import textwrap
import warnings

from deconjugate.astro.wcs import wcs_cards

# wcslib lets the cards of a photographic plate solution, often left over in cutouts, override the WCS beside them.
PLATE_CARDS = re.compile(r"(AMD[XY]|PPO|PLTRA|PLTDEC)\w*|CNPIX[12]|[XY]PIXELSZ")
# Cards that describe the array as it was stored or gridded, and would lie about the one written.
STALE_CARDS = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|EXTEND|EXTNAME|EXTVER|EXTLEVEL|INHERIT|BSCALE|BZERO|BLANK|"
    r"CHECKSUM|DATASUM|Z(IMAGE|TENSION|SIMPLE|EXTEND|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|CMPTYPE|TILE\d+|NAME\d+|VAL\d+)|"
    r"Z(QUANTIZ|DITHER0|BLANK|HECKSUM|DATASUM|SCALE|ZERO|BLOCKED)|TFIELDS|T(TYPE|FORM)\d+|FZ(ALGOR|TILE|QVALUE|QMETHD)|"
    r"DATAMIN|DATAMAX|SATURATE|(ORIG|DATA|TRIM|BIAS|CCD|DET|AMP|ROI)SEC[A-D]?\d*|LTM\d_\d|LTV\d|"
    r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CNAME|CRDER|CSYER)\d[A-Z]?|(CD|PC|PV|PS)\d+_\d+[A-Z]?|(DP|DQ)\d.*|"
    r"(LON|LAT)POLE[A-Z]?|WCSAXES[A-Z]?|WCSNAME[A-Z]?|RADE(C|)SYS[A-Z]?|EQUINOX[A-Z]?|(A|B|AP|BP)_(\d+_\d+|ORDER|DMAX)|"
    r"(CPDIS|CPERR|CQDIS|D2IMDIS|D2IMERR)\d|D2IMEXT|WAT\d_\d+|END|" + PLATE_CARDS.pattern
)
DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d*)?)?|\d\d/\d\d/\d\d")  # of the standard, or its older form
THIRD_AXIS = re.compile(r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CNAME)3|(CD|PC)3_3")


def derived_header(meta, *, wcs=None, unit=None, history=()):
    """The header of an image made from another: its cards without the stale ones, a WCS, a unit and HISTORY.

    Parameters
    ----------
    meta : mapping
        Cards that do not hold on another grid (sections, scaling, checksums, the WCS) and cards that are not valid
        FITS are left out.
    wcs : astropy.wcs.WCS, optional
    unit : astropy.units.Unit or str, optional
    history : list of str
        Lines, which are broken between words.

    Returns
    -------
    astropy.io.fits.Header

    Example
    -------
    >>> header = derived_header({"OBJECT": "M 13", "TRIMSEC": "[1:20,1:20]"}, unit="adu", history=["made by hand"])
    >>> list(header.keys())
    ['OBJECT', 'BUNIT', 'HISTORY']
    """
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keywords too long for a plain card become HIERARCH
        cards = fits.Header(meta).cards
        header = fits.Header([card for card in cards if not STALE_CARDS.fullmatch(card.keyword) and _is_sound(card)])
        if wcs is not None:
            header.update(wcs_cards(wcs))
        for key in [key for key in header if key.startswith("DATE") and not DATE.fullmatch(str(header[key]).strip())]:
            del header[key]
    if unit is not None and str(unit):
        header["BUNIT"] = str(unit)
    for line in history:
        # A card holds 72 characters of ASCII; left to itself it breaks within words.
        for part in textwrap.wrap(line.encode("ascii", "replace").decode(), 72):
            header.add_history(part)
    return header


def with_third_axis(header, source):
    """A copy of a 2-D header with the third axis of a cube's, ``source``; a warning where that is askew."""
    header = header.copy()
    kept = [card for card in source.cards if THIRD_AXIS.fullmatch(card.keyword) and _is_sound(card)]
    askew = [key for key in source if re.fullmatch(r"(CD|PC)([12]_3|3_[12])", key) and source[key]]
    if askew:
        warnings.warn(
            f"the third axis of the cube is not at right angles to the sky ({', '.join(askew)}): its coordinates are "
            "left out",
            stacklevel=2,
        )
    elif kept and "WCSAXES" in header:
        header["WCSAXES"] = 3
        header.update(kept)
    return header


def _is_sound(card):
    """Whether a card is valid FITS, or becomes so when written again."""
    try:
        card.verify("silentfix+exception")
        image = card.image
        image.encode("ascii")
        return image.isprintable() and card.keyword == card.keyword.upper()
    except Exception:  # astropy parses a card when it is first looked at, and fails in many ways
        return False
