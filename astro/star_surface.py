"""A PSF that is known as an analytic profile and what departs from it, both polynomials in the position."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from deconjugate.astro.shape import windowed_centroid
from deconjugate.astro.star_fit import spline_coefficients, spline_samples
from deconjugate.astro.star_profile import at_stars, outside, profile_samples

ORDERS = (0, 1, 2)
RADIUS = 4.0  # FWHM of the stars' stamps
OUTER = 8.0  # FWHM at most of the PSF that is written
OUTSIDE = 0.003  # of the light, beyond its edge
NODES = 9  # along each axis of the frame, where the polynomial that is written is fitted


def terms(order):
    """How many polynomials in two variables there are up to an order."""
    return (order + 1) * (order + 2) // 2


def legendre(xy, shape, order):
    """Legendre polynomials of two variables over a frame, up to order 2.

    Parameters
    ----------
    xy : (n, 2) array
        Pixels from 0.
    shape : (rows, columns)
    order : 0, 1 or 2

    Returns
    -------
    (n, 1, 3 or 6) array
        1; x, y; and of second order in x, in both, in y. x and y run from -1 to 1 over the frame.
    """
    x, y = ((2.0 * p - (n - 1)) / n for p, n in zip(np.transpose(xy), shape[::-1]))
    columns = [np.ones_like(x), x, y, 1.5 * x * x - 0.5, x * y, 1.5 * y * y - 0.5]
    return np.stack(columns[: terms(order)], axis=-1)


@dataclass(frozen=True, eq=False)
class Surface:
    """The PSF over the frame: a Moffat whose parameters are polynomials, and splines with polynomial coefficients."""

    parameters: np.ndarray  # (K, 4), see fit_profile
    departures: np.ndarray  # (K, m, m) spline coefficients
    shape: tuple  # of the frame
    oversampling: int

    @property
    def order(self):
        return next(k for k in ORDERS if terms(k) == len(self.parameters))

    @property
    def grid(self):
        return self.departures.shape[-1] // 2

    def profile(self, basis):
        """Spline coefficients of the profile alone; one set for all where it does not vary."""
        return spline_coefficients(profile_samples(at_stars(self.parameters, basis), self.grid, self.oversampling))

    def coefficients(self, basis):
        """Spline coefficients (n, m, m) at positions of this (n, K) basis; (m, m) where the PSF does not vary."""
        if len(self.departures) == 1:
            return self.profile(basis) + self.departures[0]
        return self.profile(basis) + np.tensordot(basis, self.departures, axes=(1, 0))

    def basis(self, xy):
        """The polynomials at positions (n, 2)."""
        return legendre(np.atleast_2d(xy), self.shape, self.order)

    @property
    def middle(self):
        """x and y of the middle of the frame."""
        return (self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2

    def samples(self, xy=None):
        """The PSF on the grid of the stamps at a position, or in the middle of the frame."""
        c = self.coefficients(self.basis(self.middle if xy is None else xy))
        return spline_samples(c if c.ndim == 2 else c[0])

    def whole(self, xy=None, side=None):
        """With the wings of the profile beyond the stamps, to where little is left; sum 1.

        ``side`` : samples on one side of the middle, default as many as the profile in the middle asks for.
        """
        basis = self.basis(self.middle if xy is None else xy)
        parameters = at_stars(self.parameters, basis)
        parameters = [float(np.ravel(v)[0]) for v in parameters]
        far = self.reach() if side is None else side
        samples, grid = self.samples(xy), self.grid
        whole = profile_samples(parameters, far, self.oversampling)
        near = slice(far - grid, far + grid + 1)
        # The step from the one to the other is spread over a fifth of the stamp.
        taper = np.clip((grid + 1 - np.abs(np.arange(-grid, grid + 1))) / (0.2 * grid), 0.0, 1.0)
        whole[near, near] += np.minimum.outer(taper, taper) * (samples - whole[near, near])
        return whole / whole.sum()

    def reach(self):
        """Samples on one side of the middle one, of the PSF that is written."""
        parameters = [float(np.ravel(v)[0]) for v in at_stars(self.parameters, self.basis(self.middle))]
        fwhm = np.exp(parameters[0])
        radius = next((r for r in np.arange(RADIUS, OUTER, 0.5) if outside(parameters, r * fwhm) < OUTSIDE), OUTER)
        return max(self.grid, int(np.ceil(radius * fwhm * self.oversampling)))

    def polynomial(self):
        """Samples whose every coefficient is a polynomial in the position, as PSFEx has them.

        Widths and ellipticities that are polynomials of one order make samples of a higher one: two orders more are
        fitted, to the PSFs of 9 x 9 positions.

        Returns
        -------
        (n, s, s) array
            Of x^i y^j with i + j up to ``degree``, i running fastest; x and y as :func:`legendre` has them.
        degree : int
        """
        degree = self.order + 2 if self.order else 0
        if not degree:
            return self.whole()[None], 0
        u = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)  # Chebyshev's: the error is even over the frame
        x, y = (g.ravel() for g in np.meshgrid(u, u))
        places = np.stack([0.5 * (n * g + n - 1) for g, n in zip((x, y), self.shape[::-1])], axis=1)
        far = self.reach()
        seen = np.stack([self.whole(place, far).ravel() for place in places])
        powers = np.stack([x**i * y**j for j in range(degree + 1) for i in range(degree + 1 - j)], axis=1)
        fitted, *_ = np.linalg.lstsq(powers, seen, rcond=None)
        return fitted.reshape(-1, 2 * far + 1, 2 * far + 1), degree


def centred(surface, stars):
    """The surface with the centre of its mean in the middle; the stars move the other way."""
    c = surface.coefficients(stars.basis)
    samples = spline_samples(c if c.ndim == 2 else c.mean(axis=0))
    offset = np.array(windowed_centroid(samples)) - surface.grid
    stars.places = stars.places + offset / surface.oversampling
    moved = spline_coefficients(scipy.ndimage.shift(samples, -offset, order=5, mode="nearest"))
    departures = surface.departures.copy()
    departures[0] += moved - (c if c.ndim == 2 else c.mean(axis=0))
    return Surface(surface.parameters, departures, surface.shape, surface.oversampling)
