"""Analytic PSFs, integrated over fine pixels."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.optimize

from deconjugate.astro.shape import GAUSSIAN_FWHM

# A profile is cut where this fraction of its flux lies outside, or at 12 FWHM.
TRUNCATED_FLUX = 5e-4


@dataclass(frozen=True)
class Profile:
    """An optical Moffat (finite beta) or Gaussian (infinite beta), integrated over fine pixels."""

    beta: float
    optical_fwhm: float  # native pixels
    ellipticity: float
    pa: float

    @classmethod
    def of_width(cls, beta, fwhm, ellipticity, pa, includes_pixel):
        if not (np.isfinite(fwhm) and fwhm > 0.0):
            raise ValueError(f"fwhm_pix is {fwhm}; give a positive width in native pixels")
        if not 0.0 <= ellipticity < 1.0:
            raise ValueError(f"ellipticity is {ellipticity}; 1 - minor / major axis lies in [0, 1)")
        if not np.isfinite(pa):
            raise ValueError(f"pa is {pa}; give an angle in degrees")
        if includes_pixel:
            if fwhm < 1.2:
                raise ValueError(
                    f"fwhm_pix is {fwhm:.4g}; a pixel alone shows a width of 1.13, so give the width that stars have "
                    "in the image, 1.2 or more (in Python, or the optical one with includes_pixel=False)"
                )
            fwhm = _optical_fwhm(beta, float(fwhm))
        return cls(beta, float(fwhm), float(ellipticity), float(pa))

    @property
    def varies(self):
        return False

    def describe(self):
        name = "Gaussian" if np.isinf(self.beta) else f"Moffat beta {self.beta:g}"
        return f"{name}, optical FWHM {self.optical_fwhm:.3f} pixels, ellipticity {self.ellipticity:g}, pa {self.pa:g}"

    def fine(self, upsample, center, position, max_size):
        width = self.optical_fwhm * upsample
        if max_size is not None and width > max_size:
            raise ValueError(
                f"the PSF is larger than the image: its FWHM is {width:.0f} fine pixels, the image {max_size} wide"
            )
        axis_ratio = 1.0 - self.ellipticity
        if np.isinf(self.beta):
            reach = width / GAUSSIAN_FWHM * np.sqrt(-2.0 * np.log(TRUNCATED_FLUX * 1e-3))
        else:
            reach = _alpha(self.beta, width) * np.sqrt(TRUNCATED_FLUX ** (1.0 / (1.0 - self.beta)) - 1.0)
        half = int(np.ceil(min(reach, 12.0 * width) / np.sqrt(axis_ratio))) + 1
        if max_size is not None:
            half = min(half, (int(max_size) - 1) // 2)
        nodes, weights = np.polynomial.legendre.leggauss(9)
        grid = np.arange(-half, half + 1)[:, None] + 0.5 * nodes
        angle = np.deg2rad(self.pa)
        p = np.empty((2 * half + 1, 2 * half + 1))
        for i, rows in enumerate(grid):  # a row at a time: the quadrature's 81 points a pixel stay small in memory
            y, x = rows[:, None, None], grid[None]
            along = (x * np.cos(angle) + y * np.sin(angle)) ** 2 * axis_ratio
            across = (y * np.cos(angle) - x * np.sin(angle)) ** 2 / axis_ratio
            p[i] = weights @ (_profile(along + across, self.beta, width) @ weights)
        return p / p.sum()


def _alpha(beta, fwhm):
    return 0.5 * fwhm / np.sqrt(2.0 ** (1.0 / beta) - 1.0)


def _profile(radius_squared, beta, fwhm):
    if np.isinf(beta):
        return np.exp(-0.5 * radius_squared * (GAUSSIAN_FWHM / fwhm) ** 2)
    return (1.0 + radius_squared / _alpha(beta, fwhm) ** 2) ** -beta


@lru_cache(maxsize=256)
def _optical_fwhm(beta, effective_fwhm):
    """FWHM of the circular profile that shows ``effective_fwhm`` once integrated over unit pixels."""
    if effective_fwhm > 100.0:  # pixels change it by less than 1e-4
        return effective_fwhm
    nodes, weights = np.polynomial.legendre.leggauss(25)
    nodes, weights = 0.5 * nodes, np.outer(weights, weights)
    angles = np.deg2rad([5.625, 16.875, 28.125, 39.375])  # midpoints of [0, 45] degrees, the rest by symmetry

    def effective(r, angle, width):
        x, y = r * np.cos(angle) + nodes, r * np.sin(angle) + nodes
        return np.sum(weights * _profile(y[:, None] ** 2 + x**2, beta, width))

    def half_radius(angle, width):
        half = 0.5 * effective(0.0, 0.0, width)
        return scipy.optimize.brentq(
            lambda r: effective(r, angle, width) - half, 0.0, 2.0 * effective_fwhm + 1.0, xtol=1e-7
        )

    def excess(width):
        return 2.0 * np.sqrt(np.mean([half_radius(angle, width) ** 2 for angle in angles])) - effective_fwhm

    return scipy.optimize.brentq(excess, 0.1, effective_fwhm, xtol=1e-6)
