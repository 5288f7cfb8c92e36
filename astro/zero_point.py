"""The zero point of an image, from its header."""

import numpy as np

# Words of cameras, pipelines and archives for: m = zero point - 2.5 log10(counts).
ZERO_POINTS = (
    "MAGZERO",
    "MAGZPT",
    "MAGZP",
    "ZEROPNT",
    "ZEROPT",
    "PHOTZP",
    "PHOT_ZP",
    "ZPT",
    "ZP",
    "SEXMGZPT",
    "FLUXMAG0",
)


def zero_point(header, unit=None):
    """Magnitude of one count, None where the header does not say; that of AB magnitudes for fluxes in janskys.

    FLUXMAG0, the counts of magnitude zero, is understood too.

    Example
    -------
    >>> zero_point({"MAGZERO": 25.0}), zero_point({"FLUXMAG0": 1e10})
    (25.0, 25.0)
    """
    for key in ZERO_POINTS:
        value = header.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value) and value > 0:
            return 2.5 * float(np.log10(value)) if key == "FLUXMAG0" else float(value)
    if unit is not None:
        from astropy import units

        for light in (unit, unit * units.pix):  # of a pixel, as all are, or per pixel: said or not
            if light.is_equivalent(units.Jy):
                return float(2.5 * np.log10((3631.0 * units.Jy).to_value(light)))
    return None


def magnitude(flux, zero):
    """zero - 2.5 log10(flux), NaN where the flux is not positive."""
    flux = np.asarray(flux, dtype=float)
    return np.where(flux > 0, zero - 2.5 * np.log10(np.where(flux > 0, flux, 1.0)), np.nan)
