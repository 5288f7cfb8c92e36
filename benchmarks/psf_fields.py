"""Fields of stars and galaxies through PSFs that are known, which may vary over the frame."""

import numpy as np
from scipy.signal import fftconvolve

from deconjugate.astro import PSF
from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.star_profile import ellipse

SAMPLING = 4  # fine pixels per pixel
NOISE_OF_WINGS = 2.0, 3.0  # FWHM between which a PSFEx model goes over to its mean profile


def draw(psf_at, sources, shape, rng):
    """Sources (x, y, peak, scale) and noise of 1: points where the scale is 0, else round exponential galaxies.

    ``psf_at(x, y)`` gives p on the fine grid; sources sit in the middle of fine pixels.
    """
    margin = 60
    frame = np.zeros([n + 2 * margin for n in shape])
    for x, y, peak, scale in sources:
        p = psf_at(x, y)
        if scale:
            r = np.arange(-40, 41) / SAMPLING
            galaxy = np.exp(-np.hypot(r[:, None], r) / scale)
            p = fftconvolve(p, galaxy / galaxy.sum())
        corner = [round(SAMPLING * (v + margin)) - n // 2 for v, n in zip((y, x), p.shape)]
        before = [c % SAMPLING for c in corner]
        p = np.pad(p, [(b, -(b + n) % SAMPLING) for b, n in zip(before, p.shape)])
        native = p.reshape(p.shape[0] // SAMPLING, SAMPLING, -1, SAMPLING).sum(axis=(1, 3))
        row, column = (c // SAMPLING for c in corner)
        cut = [(max(0, -k), min(n, m - k)) for k, n, m in zip((row, column), native.shape, frame.shape)]
        inner = native[cut[0][0] : cut[0][1], cut[1][0] : cut[1][1]]
        row, column = row + cut[0][0], column + cut[1][0]
        frame[row : row + inner.shape[0], column : column + inner.shape[1]] += inner * peak / native.max()
    return frame[margin:-margin, margin:-margin] + rng.standard_normal(shape)


def field(psf_at, count, seed):
    """Stars of a tenfold range of brightness, five faint ones, ten galaxies, two of them hardly wider than stars."""
    rng = np.random.default_rng(seed)
    shape = (311, 347) if count > 4 else (201, 223)
    low = 10 ** rng.uniform(1.6, 2.2)

    def places(n, margin):
        return [rng.uniform(margin, side - margin, n) for side in shape[::-1]]

    stars = [*places(count, 25 if count < 5 else 0), low * 10 ** rng.uniform(0.0, 1.0, count), np.zeros(count)]
    faint = [*places(5, 0), 10 ** rng.uniform(0.5, 1.3, 5), np.zeros(5)]
    scales = np.concatenate([rng.uniform(0.5, 3.0, 8), rng.uniform(0.4, 0.6, 2)])
    galaxies = [*places(10, 20), 10 ** rng.uniform(1.3, 2.4, 10), scales]
    return draw(psf_at, np.concatenate([stars, faint, galaxies], axis=1).T, shape, rng), shape


def fixed(psf):
    """A PSF, or p on the fine grid, as a function of the position."""
    p = psf.fine(SAMPLING) if isinstance(psf, PSF) else psf / psf.sum()
    return lambda x, y: p


def changing(shape, width=0.2, elongation=0.1, fwhm=3.5):
    """Moffats whose FWHM grows by so much from one corner to the other, and whose ellipticity does along x."""

    def at(x, y):
        u, v = x / (shape[1] - 1), y / (shape[0] - 1)
        e = 0.03 + elongation * u
        return PSF.moffat(fwhm * (1.0 + width * (0.5 * (u + v) - 0.5)), ellipticity=e, pa=40.0).fine(SAMPLING)

    return at


def psfex_core(path):
    """p of a PSFEx model of a real exposure; the noise of its wings, which no star can show, averaged in rings."""
    psf = PSF.from_file(path)
    p, (near, far) = psf.fine(SAMPLING), NOISE_OF_WINGS
    y, x = ((np.arange(n) - n // 2) / SAMPLING for n in p.shape)
    radius = np.hypot(y[:, None], x)
    ring = (radius * SAMPLING).astype(int)
    mean = np.maximum(np.bincount(ring.ravel(), p.ravel()) / np.bincount(ring.ravel()), 0.0)[ring]
    share = np.clip((radius / psf.fwhm_pix - near) / (far - near), 0.0, 1.0)
    return (1.0 - share) * p + share * mean


def distance(psf, psf_at, x, y):
    """||psf - truth||_1 on the fine grid at a place."""
    own, true = psf.fine(SAMPLING, position=(x, y)) if psf.varies else psf.fine(SAMPLING), psf_at(x, y)
    sides = np.maximum(own.shape, true.shape)
    own, true = (np.pad(a, [((s - n) // 2,) * 2 for s, n in zip(sides, a.shape)]) for a in (own, true))
    return float(np.abs(own - true).sum())


def effective_shape(p):
    """FWHM in pixels, and ellipticity, of p with the pixel in."""
    kernel = np.ones(SAMPLING)
    for axis in (0, 1):
        p = np.apply_along_axis(np.convolve, axis, p, kernel)
    return float(fwhm_pix(p)) / SAMPLING, ellipse(p)[0]
