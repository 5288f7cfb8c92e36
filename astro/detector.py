"""What a header says of the detector: gain, read noise, saturation."""

import numpy as np

GAINS = ("EGAIN", "GAIN", "CCDGAIN", "ATODGAIN", "GAIN1", "GAINA")
READ_NOISES = ("RDNOISE", "READNOIS", "READNSE", "RON", "ENOISE", "RDNOISE1", "RDNOISEA")
TIMES = ("EXPTIME", "EXPOSURE", "ITIME", "TEXPTIME")


def header_gain(meta, unit):
    """Electrons per unit of the data, as a header has it; None where it or the unit does not tell.

    Counts (and data without a unit) take the gain of the header, electrons 1, rates either times the exposure time.
    Data in physical units have been calibrated, and a gain would no longer be theirs.

    Parameters
    ----------
    meta : mapping
    unit : astropy.units.Unit

    Example
    -------
    >>> from astropy import units
    >>> header_gain({"GAIN": 2.5, "EXPTIME": 100.0}, units.adu / units.s)
    250.0
    """
    from astropy import units

    rate = units.s in unit.bases
    counted = unit * units.s if rate else unit
    if counted in (units.electron, units.photon):
        gain = 1.0
    elif counted in (units.adu, units.ct, units.DN, units.dimensionless_unscaled):
        gain = positive_card(meta, *GAINS)
    else:
        return None
    time = positive_card(meta, *TIMES) if rate else 1.0
    return None if gain is None or time is None else gain * time


def header_read_noise(meta, gain):
    """Read noise in units of the data, or 0 where the header or the gain does not tell."""
    noise = positive_card(meta, *READ_NOISES)
    return 0.0 if noise is None or gain is None else noise / gain


def positive_card(meta, *keys):
    """The first of the cards that holds a positive finite number, or None."""
    for key in keys:
        value = meta.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 < value < np.inf:
            return value
    return None
