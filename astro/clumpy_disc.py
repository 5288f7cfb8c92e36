"""Disc galaxies with clumps, drawn from formulas, and the truth of their clumps."""

import numpy as np

OVERDRAWN = 3  # samples per pixel, along each axis


def clumpy_disc(rng, side=128, separation=2.0, faintest=0.01, brightest=0.15):
    """A disc of flux 1 with up to eight clumps, on an empty sky.

    .. math:: I = e^{-\\rho / R} (1 + a \\cos(2 (\\phi - c \\ln \\rho))) + B + \\sum_i f_i G_i

    Exponential of scale length R = 7 to 14 pixels, inclined, in half of all with two spiral arms (a > 0), in half with
    a bulge B. Clumps are Gaussians G_i of sigma 0.4 to 1.2 pixels, anywhere from half a scale length to three.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same state gives the same disc and the same places whatever the fluxes asked for.
    side : int
        Pixels along each side.
    separation : float, >= 0
        Least distance of two clumps, pixels.
    faintest, brightest : float, > 0
        Flux of a clump over that of the disc, drawn evenly in its logarithm.

    Returns
    -------
    image : (side, side) array
    clumps : (n, 4) array
        Row, column, flux, sigma.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro.clumpy_disc import clumpy_disc
    >>> image, clumps = clumpy_disc(np.random.default_rng(3), side=96)
    >>> image.shape, bool(abs(image.sum() - 1 - clumps[:, 2].sum()) < 0.01)
    ((96, 96), True)
    """
    centre = (side - 1) / 2 + rng.uniform(-2, 2, 2)
    radius = np.exp(rng.uniform(np.log(7), np.log(14)))
    ratio, angle = rng.uniform(0.35, 1.0), rng.uniform(0, np.pi)
    place = (np.arange(OVERDRAWN * side) + 0.5) / OVERDRAWN - 0.5
    y, x = place[:, None] - centre[0], place - centre[1]
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    rho, phi = np.hypot(along, across / ratio), np.arctan2(across / ratio, along)
    disc = np.exp(-rho / radius)
    if rng.random() < 0.5:
        wave = np.cos(2 * (phi - np.log(rho + 0.5) / rng.uniform(0.3, 0.6)) + rng.uniform(0, 2 * np.pi))
        disc = disc * (1 + rng.uniform(0.1, 0.5) * wave * (1 - np.exp(-rho / radius)))
    if rng.random() < 0.5:
        bulge = np.exp(-0.5 * (np.hypot(along, across / max(ratio, 0.7)) / (rng.uniform(0.15, 0.3) * radius)) ** 2)
        disc = disc + bulge / bulge.sum() * disc.sum() * rng.uniform(0.02, 0.2)
    disc *= np.clip(2 * (1 - np.hypot(y, x) / (side / 2)), 0, 1)
    disc /= disc.sum()
    clumps, wanted = [], rng.integers(0, 9)
    for _ in range(500):
        if len(clumps) == wanted:
            break
        r, t = radius * rng.uniform(0.5, 3.0), rng.uniform(0, 2 * np.pi)
        a, b = r * np.cos(t), ratio * r * np.sin(t)
        row = centre[0] + a * np.cos(angle) - b * np.sin(angle)
        column = centre[1] + a * np.sin(angle) + b * np.cos(angle)
        inside = min(row, column) >= 8 and max(row, column) <= side - 9
        if not inside or any(np.hypot(row - c[0], column - c[1]) < separation for c in clumps):
            continue
        flux, width = np.exp(rng.uniform(np.log(faintest), np.log(brightest))), rng.uniform(0.4, 1.2)
        clump = np.exp(-0.5 * ((place[:, None] - row) ** 2 + (place - column) ** 2) / width**2)
        disc = disc + flux * clump / clump.sum()
        clumps.append((row, column, flux, width))
    image = disc.reshape(side, OVERDRAWN, side, OVERDRAWN).sum(axis=(1, 3))
    return image, np.array(clumps).reshape(-1, 4)
