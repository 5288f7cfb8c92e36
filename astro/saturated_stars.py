"""Stars whose cores are saturated: their place and flux from the wings that are left."""

import numpy as np
import scipy.ndimage

from deconjugate.astro.points import Points, Star, normal_equations, point_image
from deconjugate.astro.shape import fwhm_pix

BRIGHT = 30.0  # sigmas of the pixels beside a hole, in the median, that make it the core of a star
WINGS = 2.5  # FWHM beyond the hole in which the star is fitted
LARGEST = 60  # native pixels from the middle of a hole to the end of its fit
SOFT = 0.05  # of the star's own flux that a pixel may be off before it counts less
FURTHER = 0.2  # FWHM from the core by which that is as much again
STEPS = 12
WORST = 1.0  # relative error of the wings that is told at most
MISFIT, CERTAIN = 0.25, 5.0  # of the wings beside a core that was found; by how many of these it must be too low
BESIDE = 3  # rings of a pixel that lie beside a core, at least
SEEN = 12  # pixels that a fit needs


def fit_saturated(model, data, weight, cores, psf, known=None):
    """Point sources behind the saturated cores of a frame, and how wrong the PSF is around each.

    A core that was found, not known, is one only where the wings beside it are those of a star, off by less than 25 per
    cent, and five times as far off as they are would not make that star as low as its core. That of a galaxy is none.

    .. math:: \\min_{f, t} \\sum_p \\rho\\Big( \\frac{y_p - f \\, e(p - t)}{\\sqrt{\\sigma_p^2 + (0.05 f e)^2}} \\Big)

    by iterated weights (Huber's rho), brightest first, each with those before it taken out, in the pixels within 2.5
    FWHM of the hole. The relative error of the PSF in the wings is measured ring by ring on the residual.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : float32 arrays on the padded native grid
        The weight is zero in the cores.
    cores : (h, w) bool array
        The frame's saturated pixels.
    psf : (odd, odd) array
        p on the fine grid.
    known : (h, w) bool array, optional
        Those of the cores that need no proof.

    Returns
    -------
    points : Points
    fitted : array on the padded native grid
        A x of them.
    variance : array on the padded native grid
        Of the model: (e f p)^2, with e of the ring.
    refuted : (h, w) bool array
        Pixels of cores that are none.
    """
    u, width = model.upsample, float(fwhm_pix(psf)) / model.upsample
    rest, fitted = data.astype(np.float64), np.zeros(data.shape)
    variance, found, refuted = np.zeros(data.shape), [], np.zeros(data.shape, bool)
    proven = model.embed(np.zeros(cores.shape, bool) if known is None else known)
    for middle, radius, hole in holes(data, weight, model.embed(cores), width, model.frame):
        half = int(min(np.ceil(radius + WINGS * width), LARGEST, *(n // (2 * u) for n in psf.shape)))
        one = _fit_one(model, rest, weight, middle, half, radius, u, width) if half > radius else None
        if one is None:
            continue
        if not (proven[hole].any() or _is_star(*one, data[hole], width)):
            refuted[hole] = True
            continue
        point, errors, _ = one
        image = model.apply(point_image(model, point).astype(np.float32)).astype(np.float64)
        distance = np.hypot(*(np.arange(n)[np.s_[:, None] if axis == 0 else np.s_[None]] - m
                              for axis, (n, m) in enumerate(zip(data.shape, middle))))  # fmt: skip
        variance += (np.interp(distance, *errors) * image) ** 2
        rest, fitted = rest - image, fitted + image
        found.append(point)
    points = Points(*(np.concatenate(x) for x in zip(*found))) if found else Points(*np.empty((3, 0)))
    return points, fitted, variance, cores & refuted[model.frame]


def holes(data, weight, cores, width, frame):
    """Middle, radius and pixels of the holes in bright stars, the largest first.

    A hole is a connected set of pixels of the frame without weight that holds a saturated one or half of a PSF's core,
    and whose rim is brighter than 30 sigma. A bleed trail is long and thin: the middle is where the hole is widest, and
    the rim is that of the middle.
    """
    good, inside = weight > 0, np.zeros(weight.shape, bool)
    inside[frame] = True
    labels, count = scipy.ndimage.label(inside & ~good, np.ones((3, 3), bool))
    found = []
    for number, place in enumerate(scipy.ndimage.find_objects(labels, count), 1):
        place = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in place)
        hole = labels[place] == number
        depth = scipy.ndimage.distance_transform_edt(hole)
        widest = np.argwhere(depth > 0.9 * depth.max()).mean(axis=0)
        rim = scipy.ndimage.binary_dilation(hole, iterations=2) & good[place]
        rim &= np.hypot(*(np.indices(hole.shape) - widest[:, None, None])) < depth.max() + 3.0
        if not rim.any():
            continue
        bright = np.median(data[place][rim] * np.sqrt(weight[place][rim])) > BRIGHT
        if not bright or not (cores[place][hole].any() or hole.sum() > 0.5 * width**2):
            continue
        corner = [s.start for s in place]
        pixels = tuple((np.argwhere(hole) + corner).T)
        found.append((widest + corner, float(depth.max()), pixels))
    return sorted(found, key=lambda one: -one[1])


def _fit_one(model, data, weight, middle, half, radius, u, width):
    """The point behind one hole, and the relative error of the PSF by radius; None where there is none."""
    star = Star(model, half)
    peak = np.round(middle).astype(int)[None]
    if not (np.all(peak >= half) and np.all(peak < np.array(data.shape) - half)):
        return None
    pixels = star.window(peak)
    y, w = data[pixels], weight[pixels].astype(np.float64)
    distance = np.hypot(pixels[0] - middle[0], pixels[1] - middle[1])
    inside = distance <= half + 0.5
    # A PSF is known the less the farther out: what is beside the core decides.
    soft = SOFT * (1.0 + (np.maximum(distance - radius - 1.0, 0.0) / (FURTHER * width)) ** 2)
    w = np.where(inside, w, 0.0)
    if np.count_nonzero(w) < SEEN:
        return None
    sigma2 = 1.0 / np.where(w > 0, w, 1.0)
    place = u * middle[None] + 0.5 * (u - 1)
    flux = np.zeros(1)
    for step in range(STEPS):
        terms = star.templates(*pixels, place, 1)
        shape = terms[:, 0]
        if step == 0:
            lit = (w > 0) & (shape > 0)
            if not lit.any():
                return None
            flux = np.array([_weighted_median(y[lit] / shape[lit], shape[lit])])
        own = flux[:, None, None] * shape
        fair = w / (1.0 + w * (soft * own) ** 2)
        residual = y - own
        scaled = np.abs(residual) * np.sqrt(fair)
        fair = fair * np.minimum(1.0, 1.5 / np.maximum(scaled, 1e-12))
        normal, gradient = normal_equations(terms * np.array([1.0, 1.0, 1.0])[:, None, None], fair, residual)
        move = np.linalg.solve(normal, gradient[..., None])[..., 0]
        flux = np.maximum(flux + move[:, 0], 0.3 * flux)
        if not flux[0] > 0.0:
            return None
        place = place + np.clip(move[:, 1:] / flux[:, None], -0.5 * u, 0.5 * u)
        place = np.clip(place, u * middle - u * (radius + 1.0), u * middle + u * (radius + 1.0))
    own = flux[:, None, None] * star.templates(*pixels, place, 0)[:, 0]
    errors = _errors((y - own)[0], own[0], w[0], sigma2[0], pixels, middle, radius)
    return Points(place[:, 0], place[:, 1], flux), errors, float(flux[0] * star.peak)


def _is_star(point, errors, peak, core, width):
    """Whether the wings are those of a star that is higher than its core is."""
    beside = np.median(errors[1][: max(BESIDE, round(0.6 * width))])
    return bool(beside < MISFIT and peak > (1.0 + CERTAIN * beside) * max(core.max(), 0.0))


def _errors(residual, own, w, sigma2, pixels, middle, radius):
    """Radii, and the rms of the residual beyond the noise over the star in rings around them."""
    distance = np.hypot(pixels[0][0] - middle[0], pixels[1][0] - middle[1])
    relative = np.where(w > 0, (residual**2 - sigma2) / np.maximum(own, 1e-12) ** 2, np.nan)
    edges = np.arange(radius, distance.max() + 1.0, 1.0)
    radii, errors = [], []
    for low, high in zip(edges[:-1], edges[1:]):
        ring = relative[(distance >= low - 0.5) & (distance < high + 0.5) & np.isfinite(relative)]
        if ring.size >= 4:
            radii.append(0.5 * (low + high))
            errors.append(np.sqrt(np.clip(np.mean(np.minimum(ring, WORST)), 0.0, WORST)))
    return (radii, errors) if radii else ([0.0], [SOFT])


def _weighted_median(values, weights):
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return values[order][np.searchsorted(total, 0.5 * total[-1])]
