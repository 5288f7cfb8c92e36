"""World coordinates on the fine grid."""

import re
import warnings

import numpy as np

TOLERANCE_DEGREES = 1e-6
SEEN = 0.99  # cosine of the angle between a place and where another image has it
TABLES = "cpdis1", "cpdis2", "det2im1", "det2im2"


def scale_wcs(wcs, factor):
    """The WCS of the same sky on a grid of ``factor`` fine pixels per pixel.

    .. math:: CRPIX' = (CRPIX - 1/2) f + 1/2, \\quad CD' = CD / f \\ \\text{or} \\ CDELT' = CDELT / f, \\quad
              A'_{pq} = A_{pq} f^{1 - p - q}

    PC and CROTA stay, SIP polynomials (A, B, AP, BP) are rescaled, TPV terms act on degrees and need no change, nor do
    TNX and ZPX, which wcslib reads as TAN and ZPN with a polynomial between PC and CDELT: there PC' = PC / f in place
    of CDELT. A position of the sky is the same in both to rounding.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Two pixel axes. Left unchanged.
    factor : float, > 0
        Fine pixels per pixel.

    Returns
    -------
    astropy.wcs.WCS

    Raises
    ------
    ValueError
        The WCS has not two axes; factor is not positive.

    Warns
    -----
    UserWarning
        The WCS has a distortion of another kind (a lookup table, a polynomial in pixels that is not SIP), which was
        left out; the message tells by how many arcseconds positions move.

    Example
    -------
    >>> from astropy.wcs import WCS
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 10.5, "CRPIX2": 20.5, "CDELT1": -1e-4,
    ...            "CDELT2": 1e-4, "CRVAL1": 30.0, "CRVAL2": -5.0})
    >>> [float(c) for c in scale_wcs(wcs, 2).wcs.crpix]
    [20.5, 40.5]
    """
    if wcs.naxis != 2:
        raise ValueError(f"wcs has {wcs.naxis} axes; give its celestial part (wcs.celestial)")
    if not (np.isfinite(factor) and factor > 0):
        raise ValueError(f"factor is {factor}; give a positive number of fine pixels per pixel")
    scaled = _scaled(wcs, factor, any(key.startswith("CQDIS") for key in wcs.to_header(relax=True)))
    shift = _largest_shift(wcs, scaled, factor) if wcs.has_celestial else 0.0
    if shift > 3600.0 * TOLERANCE_DEGREES and not any(getattr(wcs, table) is not None for table in TABLES):
        scaled = _scaled(_without_records(wcs), factor, False)
        shift = _largest_shift(wcs, scaled, factor)
    if shift > 3600.0 * TOLERANCE_DEGREES:
        warnings.warn(
            f"the WCS has a distortion that cannot be carried to another grid: without it positions move by up to "
            f"{shift:.2g} arcsec",
            stacklevel=2,
        )
    return scaled


def _scaled(wcs, factor, sequent):
    scaled = wcs.deepcopy()
    inner = scaled.wcs
    inner.crpix = _scale_position(inner.crpix, factor)
    if inner.has_cd():
        inner.cd = inner.cd / factor
    elif sequent:  # a polynomial of what PC gives
        inner.pc = inner.get_pc() / factor
    else:
        inner.cdelt = inner.cdelt / factor
    if wcs.sip is not None:
        scaled.sip = _scale_sip(wcs.sip, factor)
    for table in TABLES:
        setattr(scaled, table, None)
    if wcs.array_shape is not None:
        scaled.array_shape = tuple(round(n * factor) for n in wcs.array_shape)
    scaled.wcs.set()
    return scaled


def _without_records(wcs):
    """The WCS without the distortions that wcslib holds, which cannot be taken out of it otherwise."""
    from astropy.wcs import WCS

    header = wcs.to_header(relax=True)
    for key in [key for key in header if re.fullmatch(r"C[PQ]DIS\d|D[PQ]\d\..*", key)]:
        del header[key]
    plain = WCS(header)
    plain.array_shape = wcs.array_shape
    return plain


def wcs_cards(wcs):
    """FITS cards of a WCS, as CDi_j where it was given as CDi_j, else as PCi_j and CDELTi."""
    header = wcs.to_header(relax=True)
    if wcs.wcs.has_cd():
        for key in [key for key in header if key.startswith(("PC", "CDELT"))]:
            del header[key]
        for i, j in np.ndindex(2, 2):
            header[f"CD{i + 1}_{j + 1}"] = (float(wcs.wcs.cd[i, j]), "Linear projection matrix")
    return header


def pixel_scale_arcsec(wcs):
    """Side of a pixel in arcseconds, the square root of its area; None where the WCS is not of the sky."""
    from astropy.wcs.utils import proj_plane_pixel_area

    if wcs is None or not wcs.has_celestial:
        return None
    return 3600.0 * float(np.sqrt(proj_plane_pixel_area(wcs.celestial)))


def places_in(one, other, rows, columns):
    """Rows and columns in another image of pixels of one, from 0; NaN for what the other's projection does not see.

    Parameters
    ----------
    one, other : astropy.wcs.WCS
        Celestial.
    rows, columns : arrays of one shape
    """
    sky = one.all_pix2world(np.ravel(columns), np.ravel(rows), 0)
    column, row = other.all_world2pix(*sky, 0, quiet=True)
    # Many a projection also maps what lies behind it.
    there, here = (_directions(*np.deg2rad(angles)) for angles in (other.all_pix2world(column, row, 0), sky))
    behind = ~((there * here).sum(axis=0) > SEEN)
    return [np.where(behind, np.nan, p).reshape(np.shape(rows)) for p in (row, column)]


def _directions(longitude, latitude):
    return np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])


def _scale_position(position, factor):
    """FITS pixel coordinates (the first pixel spans 0.5 to 1.5) on the fine grid."""
    return (np.asarray(position) - 0.5) * factor + 0.5


def _scale_sip(sip, factor):
    from astropy.wcs import Sip

    def scale(matrix):
        if matrix is None:
            return None
        p, q = np.indices(matrix.shape)
        return matrix * float(factor) ** (1 - p - q)

    return Sip(scale(sip.a), scale(sip.b), scale(sip.ap), scale(sip.bp), _scale_position(sip.crpix, factor))


def _largest_shift(wcs, scaled, factor):
    height, width = wcs.array_shape or (2 * wcs.wcs.crpix[1], 2 * wcs.wcs.crpix[0])
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0.5, width + 0.5, 9), np.linspace(0.5, height + 0.5, 9)))
    sky = wcs.all_pix2world(x, y, 1)
    fine = scaled.all_pix2world(_scale_position(x, factor), _scale_position(y, factor), 1)
    east = (np.asarray(sky[0]) - fine[0] + 180.0) % 360.0 - 180.0
    return 3600.0 * float(np.hypot(east * np.cos(np.deg2rad(sky[1])), np.asarray(sky[1]) - fine[1]).max())
