"""Galaxies drawn from formulas: bulge, disc, spiral arms, clumps and a dust lane."""

import numpy as np


def parametric_galaxy(rng, radius=None):
    """A sharp image (h, w) of a galaxy on an empty sky, its brightest pixel 1, float32.

    .. math:: I = B \\, e^{-b_n ((\\rho_B / R_B)^{1/n} - 1)} + e^{-\\rho / R} \\,
              (1 + a \\cos(m (\\phi - \\cot\\beta \\ln \\rho))) \\, (1 - d) + \\sum_i c_i G_i

    rho is the radius in the inclined plane. Every pixel is the mean of 3 x 3 samples.

    Parameters
    ----------
    rng : numpy.random.Generator
    radius : float, optional
        Scale length R of the disc in fine pixels; default drawn from 2 to 14.

    Example
    -------
    >>> import numpy as np
    >>> image = parametric_galaxy(np.random.default_rng(1), radius=4.0)
    >>> image.shape, float(image.max())
    ((45, 45), 1.0)
    """
    radius = float(np.exp(rng.uniform(np.log(2.0), np.log(14.0)))) if radius is None else float(radius)
    side = 2 * int(5.5 * radius) + 1
    place = (np.arange(3 * side) - (3 * side - 1) / 2) / 3
    rows, columns = np.meshgrid(place, place, indexing="ij")
    angle, flattening = rng.uniform(0, np.pi), rng.uniform(0.15, 1.0)
    along, across = _turned(rows - rng.uniform(-0.5, 0.5), columns - rng.uniform(-0.5, 0.5), angle)
    rho, phi = np.hypot(along, across / flattening), np.arctan2(across / flattening, along)

    disc = np.exp(-rho / radius)
    if rng.random() < 0.6:
        arms, pitch = int(rng.integers(2, 5)), np.tan(rng.uniform(0.2, 0.6))
        wave = np.cos(arms * (phi - np.log(rho + 0.5) / pitch) + rng.uniform(0, 2 * np.pi))
        disc *= 1 + rng.uniform(0.2, 0.95) * wave * (1 - np.exp(-rho / radius))
    if rng.random() < 0.3:
        lane = np.exp(-0.5 * ((across / flattening - rng.uniform(-0.5, 0.5) * radius) / (0.25 * radius)) ** 2)
        disc *= 1 - rng.uniform(0.3, 0.9) * lane * np.exp(-rho / (3 * radius))
    image = disc
    if rng.random() < 0.7:
        index, half = rng.uniform(0.8, 4.0), rng.uniform(0.1, 0.6) * radius
        rounder = np.hypot(along, across / max(flattening, rng.uniform(0.5, 1.0)))
        bulge = np.exp(-(2 * index - 1 / 3) * (np.hypot(rounder, 0.2) / half) ** (1 / index))
        image = image + bulge / bulge.sum() * disc.sum() * np.exp(rng.uniform(np.log(0.02), np.log(2.0)))
    for _ in range(int(rng.integers(0, 13)) if rng.random() < 0.6 else 0):
        r, t = radius * rng.gamma(2.0, 1.0), rng.uniform(0, 2 * np.pi)
        width = rng.uniform(0.3, 0.15 * radius + 0.6)
        clump = np.exp(-0.5 * (np.hypot(along - r * np.cos(t), across - flattening * r * np.sin(t)) / width) ** 2)
        share = np.exp(rng.uniform(np.log(0.003), np.log(0.08)))
        image = image + clump * (share * disc.sum() / max(clump.sum(), 1.0))
    # Nothing ends at the edge of its stamp.
    image = image * np.clip(2.0 * (1 - np.hypot(rows, columns) / (side / 2)), 0.0, 1.0)
    image = image.reshape(side, 3, side, 3).mean(axis=(1, 3))
    return (image / image.max()).astype(np.float32)


def _turned(rows, columns, angle):
    return rows * np.cos(angle) + columns * np.sin(angle), columns * np.cos(angle) - rows * np.sin(angle)
