"""Large, resolved galaxies drawn from formulas: spirals with arms, rings, bars, dust and knots, and edge-on discs."""

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.special


def spiral_galaxy(rng, side, radius=None):
    """A sharp image (side, side) of a spiral that may fill or exceed it, its brightest pixel 1, float32.

    .. math:: I = D \\, (1 + a \\, s(\\phi - \\cot\\beta \\ln \\rho) + R) \\, e^{g} \\, e^{-\\tau} + B + \\sum_i f_i G_i

    D is exponential in the inclined plane; s are two to five logarithmic arms, narrower than a cosine, their phase
    bent at random so that no two are alike; R a ring in some, a bar in some; g a Gaussian random field of a
    power-law spectrum, the patches of a disc; tau dust, along the inner rims of the arms; B a bulge; G_i knots, most of
    them in the arms, of power-law fluxes.

    Parameters
    ----------
    rng : numpy.random.Generator
    side : int
        Pixels along each side; the middle of the galaxy is that of the image, to half a pixel.
    radius : float, optional
        Scale length of the disc in pixels; default drawn from 0.08 to 0.25 of the side.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro.resolved_galaxy import spiral_galaxy
    >>> image = spiral_galaxy(np.random.default_rng(1), 96)
    >>> image.shape, float(image.max()), bool(image.min() >= 0)
    ((96, 96), 1.0, True)
    """
    radius = side * float(np.exp(rng.uniform(np.log(0.08), np.log(0.25)))) if radius is None else float(radius)
    flat, along, across = _plane(rng, side, rng.uniform(0.3, 1.0))
    rho, phi = np.hypot(along, across / flat), np.arctan2(across / flat, along)
    disc = np.exp(-rho / radius)
    arms, pitch = int(rng.choice([2, 2, 2, 3, 4, 5])), np.tan(rng.uniform(0.15, 0.6))
    phase = arms * (phi - np.log(rho + 0.05 * radius) / pitch) + rng.uniform(0, 2 * np.pi)
    phase = phase + rng.uniform(0.0, 1.0) * _field(rng, side, 5.0)
    narrow = np.exp(rng.uniform(np.log(0.3), np.log(4.0)))
    grown = 1 - np.exp(-((rho / (rng.uniform(0.3, 1.0) * radius)) ** 2))
    wave = np.exp(narrow * (np.cos(phase) - 1)) * grown
    light = (1 - rng.uniform(0.0, 0.7) * grown) + rng.uniform(0.3, 3.0) * wave
    if rng.random() < 0.3:
        light = light + rng.uniform(0.3, 2.0) * _ring(
            rho, radius * rng.uniform(0.8, 2.5), radius * rng.uniform(0.1, 0.3)
        )
    image = disc * light * np.exp(rng.uniform(0.0, 0.6) * _field(rng, side, rng.uniform(2.5, 3.8)))
    if rng.random() < 0.5:
        lane = np.exp(rng.uniform(2.0, 8.0) * (np.cos(phase + rng.uniform(0.4, 1.0)) - 1)) * grown
        image = image * np.exp(-rng.uniform(0.2, 1.5) * lane * np.exp(0.5 * _field(rng, side, 2.5)))
    total = image.sum()
    if rng.random() < 0.3:
        image = image + _bar(rng, along, across / flat, radius, total)
    if rng.random() < 0.85:
        image = image + _bulge(rng, along, across, max(flat, rng.uniform(0.6, 1.0)), radius, total)
    if rng.random() < 0.8:
        where = disc * (wave + 0.05) * np.exp(-0.3 * rho / radius)
        _knots(rng, image, where, total)
    return _finished(image)


def edge_on_galaxy(rng, side, radius=None):
    """A sharp image (side, side) of a disc seen from its edge, its brightest pixel 1, float32.

    .. math:: I = \\frac{|x|}{R} K_1(|x| / R) \\, \\mathrm{sech}^2(z / h) \\, e^{g} \\, e^{-\\tau} + B + \\sum_i f_i G_i

    which is the projection of an exponential disc of scale length R; h a thirtieth to a sixth of R; a warp in some, a
    dust lane in the plane in most, patches, a bulge, knots in the plane.

    Parameters
    ----------
    rng : numpy.random.Generator
    side : int
    radius : float, optional
        Scale length in pixels; default drawn from 0.07 to 0.25 of the side.
    """
    radius = side * float(np.exp(rng.uniform(np.log(0.07), np.log(0.25)))) if radius is None else float(radius)
    _, along, across = _plane(rng, side, 1.0)
    across = across - rng.uniform(-0.15, 0.15) * along * np.abs(along) / side * (rng.random() < 0.4)
    height = max(0.6, radius * np.exp(rng.uniform(np.log(1 / 30), np.log(1 / 6))))
    x = np.maximum(np.abs(along) / radius, 1e-3)
    disc = x * scipy.special.k1(x) / np.cosh(np.minimum(np.abs(across) / height, 30.0)) ** 2
    image = disc * np.exp(rng.uniform(0.0, 0.5) * _field(rng, side, rng.uniform(2.5, 3.8)))
    total = image.sum()
    if rng.random() < 0.7:
        image = image + _bulge(rng, along, across, rng.uniform(0.6, 1.0), radius, total)
    if rng.random() < 0.7:
        thin = max(0.5, height * rng.uniform(0.15, 0.5))
        middle = rng.uniform(-0.5, 0.5) * height
        dust = np.exp(-0.5 * ((across - middle) / thin) ** 2 - np.abs(along) / (rng.uniform(1.0, 2.5) * radius))
        image = image * np.exp(-rng.uniform(0.3, 2.5) * dust * np.exp(0.5 * _field(rng, side, 2.5)))
    if rng.random() < 0.6:
        _knots(rng, image, disc * np.exp(-((across / (0.5 * height + 0.5)) ** 2)), total)
    return _finished(image)


def _plane(rng, side, flattening):
    """Flattening, and coordinates along the axes of a galaxy near the middle of a square."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    y, x, angle = y - rng.uniform(-0.5, 0.5), x - rng.uniform(-0.5, 0.5), rng.uniform(0, np.pi)
    return flattening, y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)


def _field(rng, side, slope):
    """A Gaussian random field of unit variance whose power falls as frequency to minus the slope."""
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    amplitude = np.maximum(np.hypot(rows, columns), 2.0 / side) ** (-slope / 2)
    amplitude[0, 0] = 0.0
    field = scipy.fft.irfft2(scipy.fft.rfft2(rng.standard_normal((side, side))) * amplitude, (side, side))
    return field / field.std()


def _ring(rho, radius, width):
    return np.exp(-0.5 * ((rho - radius) / width) ** 2)


def _bar(rng, along, across, radius, total):
    length, width = radius * rng.uniform(0.4, 1.2), rng.uniform(0.15, 0.35)
    angle = rng.uniform(0, np.pi)
    x, y = along * np.cos(angle) + across * np.sin(angle), across * np.cos(angle) - along * np.sin(angle)
    bar = np.exp(-(np.abs(x / length) ** 2.5 + np.abs(y / (width * length)) ** 2.5))
    return bar / bar.sum() * total * rng.uniform(0.02, 0.2)


def _bulge(rng, along, across, roundness, radius, total):
    """Sersic; the core is softened by 0.4 pixels, less than a pixel shows."""
    index, half = rng.uniform(0.8, 4.0), max(0.8, rng.uniform(0.05, 0.4) * radius)
    rho = np.sqrt(along**2 + (across / roundness) ** 2 + 0.16)
    bulge = np.exp(-(2 * index - 1 / 3) * (rho / half) ** (1 / index))
    return bulge / bulge.sum() * total * np.exp(rng.uniform(np.log(0.01), np.log(1.0)))


def _knots(rng, image, where, total):
    """Add Gaussians of 0.4 to a few pixels, drawn where ``where`` is large; their fluxes fall as a power law."""
    side = image.shape[0]
    chance = np.maximum(where, 0.0).ravel().cumsum()
    count = int(np.exp(rng.uniform(np.log(5), np.log(150))))
    fluxes = np.minimum(rng.pareto(rng.uniform(0.8, 1.5), count) + 0.05, 50.0)
    fluxes *= total * np.exp(rng.uniform(np.log(0.01), np.log(0.15))) / fluxes.sum()
    widest = np.exp(rng.uniform(np.log(0.6), np.log(0.015 * side + 0.7)))
    for flux, place in zip(fluxes, np.searchsorted(chance, rng.random(count) * chance[-1])):
        row, column = np.array(np.unravel_index(min(int(place), side**2 - 1), image.shape)) + rng.uniform(-0.5, 0.5, 2)
        sigma = rng.uniform(0.4, widest) if widest > 0.4 else 0.4
        reach = int(4 * sigma) + 2
        rows, columns = (
            np.arange(max(int(c) - reach, 0), min(int(c) + reach + 1, side)) for c in (round(row), round(column))
        )
        knot = np.outer(_pixels(rows - row, sigma), _pixels(columns - column, sigma))
        image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += flux * knot


def _pixels(distance, sigma):
    """A Gaussian of sum 1, integrated over pixels."""
    edge = np.sqrt(0.5) / sigma
    return 0.5 * (scipy.special.erf((distance + 0.5) * edge) - scipy.special.erf((distance - 0.5) * edge))


def _finished(image):
    """It fades from two thirds of the way to its border, all around, so that nothing ends at an edge."""
    y, x = np.indices(image.shape) - (image.shape[0] - 1) / 2
    image = image * np.clip(3 * (1 - np.hypot(y, x) / (image.shape[0] / 2)), 0.0, 1.0)
    return (image / image.max()).astype(np.float32)
