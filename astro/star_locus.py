"""Which width is that of the point sources of a frame."""

import numpy as np
import scipy.special

from deconjugate.astro.stars import half_sample_mode

CLUMP, SCATTER = 20, 0.06  # peaks of one width that are a clump, and its relative scatter: galaxies scatter more
NEAR = 0.15  # of the common width by which a star may differ at most
SCATTERS = 5.0, 0.06  # times the scatter of the clump, and of the width at least, that are allowed a star
PLANE = 12  # stars from which on the width may be a plane over the frame
ALIKE = 0.01  # relative scatter of the widths of stars beside their errors
SAMPLED = 2.5  # pixels of FWHM below which widths depend on the place within a pixel, and scatter more
SIGMAS = 3.0
DOUBT = 0.017  # relative error that is allowed a star at most: a faint peak agrees with any width
STARS = 0.3  # share of the peaks
BROADER = 0.4  # mean excess of the width of a galaxy
NEITHER = 1e-3  # share of peaks that are narrower than a star


def width_locus(widths, errors, places, shape):
    """The width that point sources share, and which peaks have it.

    Point sources are the narrowest sources of a frame. Where twenty peaks or more share a width to 6 per cent, the
    densest clump among the narrower half of all (the half-sample mode) is taken. Where they do not, the peaks are
    taken for a mixture of stars, of one width w, and of galaxies, whose widths exceed w by an exponential law, each
    seen with its error; the likeliest w is found: a single star among galaxies is found, be some of them alike. A
    plane over the frame is allowed for in both.

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
    plane, members = np.full(len(widths), width), np.abs(widths - width) < NEAR * width
    for _ in range(4):
        if np.count_nonzero(members) < PLANE:
            break
        plane = _plane(widths, errors, places, shape, members)
        members = np.abs(widths - plane) < NEAR * plane
    if np.count_nonzero(members) >= CLUMP:
        relative = widths[members] / plane[members] - 1.0
        scatter = 1.4826 * np.median(np.abs(relative - np.median(relative)))
        if scatter < SCATTER * _coarse(width):
            doubt = SIGMAS * np.minimum(errors / plane, DOUBT)
            allowed = np.hypot(np.clip(SCATTERS[0] * scatter, SCATTERS[1], NEAR), doubt)
            members = np.abs(widths / plane - 1.0 - np.median(relative)) < allowed
            return float(np.median(widths[members])), members
    middle = np.median(plane)
    width, members = _likeliest(widths * middle / plane, errors * middle / plane)
    return width, members


def _plane(widths, errors, places, shape, members):
    """A plane through the widths of the members; their median where the plane says little more."""
    x, y = (places - np.array(shape[::-1]) / 2.0).T / np.array(shape[::-1])[:, None]
    design = np.stack([np.ones(len(x)), x, y], axis=1)
    weight = 1.0 / np.hypot(errors, SIGMAS * ALIKE * widths)
    middle = np.median(widths[members])
    some = members
    for _ in range(3):
        terms, *_ = np.linalg.lstsq(design[some] * weight[some, None], (widths * weight)[some], rcond=None)
        scatter = 1.4826 * np.median(np.abs(widths - design @ terms)[some])
        new = members & (np.abs(widths - design @ terms) < SIGMAS * max(scatter, 0.01 * middle))
        if np.count_nonzero(new) < PLANE - 2:
            break
        some = new
    covariance = np.linalg.pinv(design[some].T @ design[some]) * max(scatter, 0.01 * middle) ** 2
    slope, error = np.hypot(*terms[1:]), np.sqrt(np.trace(covariance[1:, 1:]))
    # A slope must be beyond doubt, and explain most of the scatter: some galaxies on one side make one too.
    explains = scatter < 0.5 * 1.4826 * np.median(np.abs(widths - middle)[members])
    if explains and slope > SIGMAS * error and slope < 0.6 * terms[0]:
        return design @ terms
    return np.full(len(widths), middle)


def _likeliest(widths, errors):
    """The width of stars, of a mixture of stars and galaxies, and which peaks agree with it."""
    sigma = np.hypot(errors, ALIKE * _coarse(widths) * widths)
    w = widths[:, None]  # each peak proposes its own
    apart = widths[None] - w
    star = np.exp(-0.5 * (apart / sigma) ** 2) / (np.sqrt(2.0 * np.pi) * sigma)
    tail = 1.0 / (BROADER * w)
    # An exponential law seen with Gaussian errors, as scaled functions that neither overflow nor cancel.
    argument = (tail * sigma - apart / sigma) / np.sqrt(2.0)
    galaxy = 0.5 * tail * np.exp(-0.5 * (apart / sigma) ** 2) * scipy.special.erfcx(np.maximum(argument, -5.0))
    far = argument < -5.0
    galaxy[far] = (tail * np.exp(np.minimum(0.5 * (tail * sigma) ** 2 - tail * apart, 0.0)))[far]
    likelihood = np.log(STARS * star + (1.0 - STARS) * galaxy + NEITHER / w).sum(axis=1)
    width = float(widths[np.argmax(likelihood)])
    for _ in range(3):
        scale = np.hypot(np.minimum(errors, DOUBT * width), ALIKE * _coarse(width) * width)
        members = np.abs(widths - width) < SIGMAS * scale
        if not members.any():
            members[np.argmin(np.abs(widths - width))] = True
        width = float(np.average(widths[members], weights=sigma[members] ** -2.0))
    return width, members


def _coarse(width):
    """How much more widths scatter where pixels are coarse."""
    return np.maximum(1.0, (SAMPLED / width) ** 2)
