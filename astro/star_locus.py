"""Which width is that of the point sources of a frame."""

import numpy as np

from deconjugate.astro.stars import half_sample_mode

MANY = 8  # peaks of one width that are a clump
TIGHT = 0.025  # relative scatter of the widths of such a clump: galaxies scatter more
SCATTER = 0.15  # of the common width by which a star may differ, where many show it
PLANE = MANY  # stars from which on the width may be a plane over the frame
ALIKE = 0.03  # of the width by which stars may differ, beside their errors, where few show it
SAMPLED = 2.5  # pixels of FWHM below which widths depend on the place within a pixel, and scatter more
SIGMAS = 3.0
NARROWER = 4.0  # peaks of one width that a single narrower one outweighs


def width_locus(widths, errors, places, shape):
    """The width that point sources share, and which peaks have it.

    Point sources are the narrowest sources of a frame. Where eight peaks or more share a width to 2.5 per
    cent, the densest clump among the narrower half of all (the half-sample mode) is taken, a plane over the frame
    allowed for. Where they do not, a width w is rated by the peaks that have it within 3 per cent and three sigma, less
    four times those that are narrower: a single star among galaxies is found, be some of them alike.

    Parameters
    ----------
    widths, errors : (n,) arrays
    places : (n, 2) array
        x and y, pixels.
    shape : (rows, columns)
        Of the frame.

    Returns
    -------
    float, (n,) bool array

    Example
    -------
    >>> widths = np.array([3.5, 3.55, 4.2, 4.25, 4.3, 5.0, 7.0])
    >>> width, members = width_locus(widths, 0.02 * np.ones(7), np.zeros((7, 2)), (100, 100))
    >>> round(width, 1), members.nonzero()[0].tolist()
    (3.5, [0, 1])
    """
    width = half_sample_mode(widths[widths <= np.median(widths)])
    plane, members = np.full(len(widths), width), np.abs(widths - width) < SCATTER * width
    for _ in range(4):
        if np.count_nonzero(members) < PLANE:
            break
        plane = _plane(widths, errors, places, shape, members)
        members = np.abs(widths - plane) < SCATTER * plane
    if np.count_nonzero(members) >= MANY:
        relative = widths[members] / plane[members] - 1.0
        if 1.4826 * np.median(np.abs(relative - np.median(relative))) < TIGHT * _coarse(width):
            return float(np.median(widths[members])), members
    return _narrowest(widths, errors)


def _plane(widths, errors, places, shape, members):
    """A plane through the widths of the members; their median where the plane says little more."""
    x, y = (places - np.array(shape[::-1]) / 2.0).T / np.array(shape[::-1])[:, None]
    design = np.stack([np.ones(len(x)), x, y], axis=1)
    weight = 1.0 / np.hypot(errors, ALIKE * widths)
    middle = np.median(widths[members])
    plane, some = np.full(len(widths), middle), members
    for _ in range(3):
        terms, *_ = np.linalg.lstsq(design[some] * weight[some, None], (widths * weight)[some], rcond=None)
        scatter = 1.4826 * np.median(np.abs(widths - design @ terms)[some])
        new = members & (np.abs(widths - design @ terms) < SIGMAS * max(scatter, 0.01 * middle))
        if np.count_nonzero(new) < PLANE - 2:
            break
        some = new
    covariance = np.linalg.pinv(design[some].T @ design[some]) * max(scatter, 0.01 * middle) ** 2
    slope, error = np.hypot(*terms[1:]), np.sqrt(np.trace(covariance[1:, 1:]))
    if slope > SIGMAS * error and slope < 0.6 * terms[0]:
        plane = design @ terms
    return plane


def _narrowest(widths, errors):
    """The width with most peaks for it, and fewest that are narrower."""
    apart, alike = widths[None] - widths[:, None], ALIKE * _coarse(widths)
    slack = np.sqrt((SIGMAS * errors[None]) ** 2 + (SIGMAS * errors[:, None]) ** 2 + (alike[:, None] * widths[:, None]) ** 2)
    rating = np.count_nonzero(np.abs(apart) < slack, axis=1) - NARROWER * np.count_nonzero(apart <= -slack, axis=1)
    best = np.flatnonzero(rating == rating.max())
    width = widths[best[np.argmin(widths[best])]]
    for _ in range(3):
        members = np.abs(widths - width) < np.hypot(SIGMAS * errors, ALIKE * _coarse(width) * width)
        if not members.any():
            members[np.argmin(np.abs(widths - width))] = True
        weight = 1.0 / (errors[members] ** 2 + (0.3 * ALIKE * width) ** 2)
        width = float(np.sum(weight * widths[members]) / weight.sum())
    return width, members


def _coarse(width):
    """How much more widths scatter where pixels are coarse."""
    return np.maximum(1.0, (SAMPLED / width) ** 2)
