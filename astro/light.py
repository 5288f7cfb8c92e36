"""Whether the numbers of an image add up as light does."""

import re

# Logarithms, in the words of headers: mag, mag/arcsec^2, mag(AB), ABmag, mag_AB, dex, log(Jy); not nanomaggies.
LOGARITHM = re.compile(r"(?<![a-z])(?:ab|st|vega|inst)?(?:mags?|magnitudes?|dex|db)(?![a-z])|\blog\d*\b")
MESSAGE = "{} is in {} (BUNIT), a logarithm: make it counts or a flux first"


def check_light(image, name="the image"):
    """Raise ValueError for magnitudes, surface brightness in magnitudes and the like.

    A PSF adds up light, and so do a flux and a mean over pixels; none of them can be had of logarithms.

    Parameters
    ----------
    image : CCDData or Quantity
        Whose unit, and BUNIT in ``meta`` where astropy does not know the unit, are looked at.
    name : str or path
        Words for it.

    Example
    -------
    >>> from astropy.nddata import CCDData
    >>> check_light(CCDData([[20.0]], unit="mag/arcsec2"), "sky.fits")
    Traceback (most recent call last):
    ...
    ValueError: sky.fits is in mag / arcsec2 (BUNIT), a logarithm: make it counts or a flux first
    """
    for text in (str(image.unit or ""), str((getattr(image, "meta", None) or {}).get("BUNIT", ""))):
        if LOGARITHM.search(text.casefold()):
            raise ValueError(MESSAGE.format(name, text.strip()))
