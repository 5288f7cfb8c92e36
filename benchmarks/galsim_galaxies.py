"""Galaxies drawn by other software: GalSim's bulges, inclined discs and knots, which anyone can install."""

import numpy as np


def galsim_galaxies(count, seed=0):
    """Sharp images (h, w) on an empty sky, their brightest pixel 1.

    A Sersic bulge within a disc that is seen from some angle; in two of three galaxies a part of the disc's light is in
    knots, strewn as the disc is. Every galaxy depends on the seed and its number alone.

    Raises
    ------
    ImportError
        GalSim is not installed: it is in the extra ``bench``.

    Source
    ------
    Rowe et al., Astronomy and Computing 10, 121 (2015).
    """
    try:
        import galsim
    except ImportError as error:
        raise ImportError("galaxies drawn by GalSim need it: pip install galsim") from error
    return [_galaxy(galsim, np.random.default_rng([seed, number])) for number in range(count)]


def _galaxy(galsim, rng):
    radius = np.exp(rng.uniform(np.log(2.5), np.log(9.0)))  # scale length of the disc, fine pixels
    inclination = np.arccos(rng.uniform(0.1, 1.0)) * galsim.radians
    angle = rng.uniform(0, 180) * galsim.degrees
    share, index = rng.uniform(0.05, 0.6), rng.uniform(1.0, 4.0)
    bulge = galsim.Sersic(n=index, half_light_radius=rng.uniform(0.15, 0.5) * radius, flux=share, trunc=4 * radius)
    parts = [bulge.shear(q=rng.uniform(0.6, 1.0), beta=angle)]
    knots = rng.uniform(0.1, 0.5) if rng.random() < 2 / 3 else 0.0
    smooth = galsim.InclinedExponential(inclination, scale_radius=radius, flux=(1 - share) * (1 - knots))
    parts.append(smooth.rotate(angle))
    if knots:
        random = galsim.BaseDeviate(int(rng.integers(1, 2**31)))
        disc = galsim.Exponential(scale_radius=radius)
        strewn = galsim.RandomKnots(int(rng.integers(5, 40)), profile=disc, rng=random)
        flattened = strewn.transform(1.0, 0.0, 0.0, max(np.cos(inclination), 0.1)).withFlux((1 - share) * knots)
        parts.append(galsim.Convolve(flattened.rotate(angle), galsim.Gaussian(fwhm=rng.uniform(1.0, 2.5))))
    side = 2 * int(5.5 * radius) + 1
    image = sum(_drawn(part, side) for part in parts)
    # Nothing ends at the edge of its stamp.
    row, column = np.indices(image.shape) - side // 2
    image = image * np.clip(2.0 * (1 - np.hypot(row, column) / (side / 2)), 0.0, 1.0)
    return np.maximum(image, 0.0) / image.max()


def _drawn(profile, side):
    return profile.drawImage(nx=side, ny=side, scale=1.0, dtype=float).array
