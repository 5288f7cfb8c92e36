"""How many clumps are found, by putting some into the data."""

import sys
from dataclasses import dataclass

import numpy as np

from deconjugate.astro.clumps import find_clumps
from deconjugate.astro.deconvolve import deconvolve
from deconjugate.astro.psf import PSF

CLOSE = 0.5  # seeing FWHM between a clump put in and the one found
RATIO = 0.5, 2.0  # of the fluxes of both: a bright clump nearby is no recovery of a faint one


@dataclass(frozen=True, eq=False)
class Completeness:
    """Share of the clumps put in that were found, by brightness."""

    shares: np.ndarray  # flux over that of the disc
    injected: np.ndarray
    ratios: list  # for each share a list: measured over true flux of those that were found

    @property
    def found(self):
        return np.array([len(ratios) for ratios in self.ratios])

    @property
    def fraction(self):
        return self.found / np.maximum(self.injected, 1)

    @property
    def flux_ratio(self):
        """Median of measured over true flux, NaN where none was found."""
        return np.array([np.median(ratios) if ratios else np.nan for ratios in self.ratios])


def clump_completeness(
    data,
    psf,
    noise,
    *,
    upsample=2,
    mask=None,
    shares=(0.01, 0.02, 0.05, 0.1),
    trials=4,
    seed=0,
    network="default",
    k_sigma=3.0,
    progress=None,
    **find,
):
    """Put point-like clumps into the data, one a galaxy at a time, deconvolve, and look for them.

    The clump is added to the data through the PSF of its place, without noise of its own, anywhere in the disc that is
    further than a seeing FWHM from known clumps and from the nucleus.

    Parameters
    ----------
    data : (h, w) array
        Native, sky subtracted.
    psf : PSF or array
    noise : float or (h, w) array
        1 sigma per pixel.
    upsample, network, k_sigma
        As for :func:`deconjugate.astro.deconvolve`.
    mask : (h, w) bool array, optional
    shares : sequence of float, > 0
        Flux of the clumps over that of their disc.
    trials : int, >= 1
        Clumps per galaxy and share; each trial is a deconvolution.
    seed : int
    progress : bool, optional
        Whether to show a bar on stderr; default only on a terminal.
    **find
        Further arguments of :func:`deconjugate.astro.clumps.find_clumps`.

    Returns
    -------
    Completeness

    Raises
    ------
    ValueError
        There is no galaxy; trials is not positive.
    """
    if trials != int(trials) or trials < 1:
        raise ValueError(f"trials is {trials}; give a whole number, 1 or more")
    psf = psf if isinstance(psf, PSF) else PSF.from_array(psf)
    rng, seeing = np.random.default_rng(seed), psf.fwhm_pix * upsample
    sigma = np.broadcast_to(np.asarray(noise, dtype=np.float64), np.shape(data))
    good = np.ones(sigma.shape, bool) if mask is None else ~np.asarray(mask, bool)

    def galaxies(native):
        how = {"upsample": upsample, "network": network, "k_sigma": k_sigma, "stages": False, "progress": False}
        sharp = deconvolve(native, psf, noise=noise, mask=mask, **how)
        level = float(np.median(sigma[good]))
        return find_clumps(
            sharp.image.data, noise=level, seeing=seeing, upsample=upsample, mask=sharp.image.mask, **find
        )

    known = galaxies(data)
    if not known:
        raise ValueError("there is no galaxy in the image to put clumps in")
    from tqdm import tqdm

    shares = np.asarray(shares, dtype=float)
    injected, ratios = np.zeros(len(shares), int), [[] for _ in shares]
    shown = sys.stderr.isatty() if progress is None else bool(progress)
    bar = {"total": len(shares) * int(trials), "disable": not shown, "desc": "clumps put in", "file": sys.stderr}
    with tqdm(**bar) as bar:
        for k in np.repeat(np.arange(len(shares)), int(trials)):
            given = [(_place(g, seeing, rng), shares[k] * g.disc_flux) for g in known]
            given = [(place, flux) for place, flux in given if place is not None]
            native = np.array(data, dtype=np.float64)
            for place, flux in given:
                _add(native, psf, place, flux, upsample)
            clumps = [clump for galaxy in galaxies(native) for clump in galaxy.clumps]
            back = [_recovered(clumps, place, flux, seeing) for place, flux in given]
            injected[k] += len(given)
            ratios[k] += [ratio for ratio in back if ratio is not None]
            bar.update()
    return Completeness(shares, injected, ratios)


def _place(galaxy, seeing, rng):
    """A random fine pixel (row, column) of the disc, away from known clumps; None where there is no room."""
    rows, columns = (place + s.start for place, s in zip(np.nonzero(galaxy.within), galaxy.box))
    dy, dx = rows - galaxy.y, columns - galaxy.x
    angle = np.deg2rad(galaxy.pa)
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / max(galaxy.axis_ratio, 0.1)
    rho = np.hypot(along, across)
    room = (np.hypot(dy, dx) > seeing) & (rho < 0.8 * rho.max())
    for clump in galaxy.clumps:
        room &= np.hypot(rows - clump.y, columns - clump.x) > seeing
    if not room.any():
        return None
    i = rng.choice(np.flatnonzero(room))
    return int(rows[i]), int(columns[i])


def _add(native, psf, place, flux, upsample):
    """Add a point source in a fine pixel to the native image."""
    position = [(c + 0.5) / upsample - 0.5 for c in reversed(place)] if psf.varies else None
    p = psf.fine(upsample, position=position, max_size=min(native.shape) * upsample)
    fine = np.zeros([n * upsample for n in native.shape])
    here, there = [], []
    for c, n, k in zip(place, fine.shape, p.shape):
        first = c - k // 2
        here.append(slice(max(first, 0), min(first + k, n)))
        there.append(slice(max(-first, 0), min(k, n - first)))
    fine[tuple(here)] = flux * p[tuple(there)]
    h, w = native.shape
    native += fine.reshape(h, upsample, w, upsample).sum(axis=(1, 3))


def _recovered(clumps, place, flux, seeing):
    """Measured over true flux of the clump, None if it is not found."""
    near = [c.flux / flux for c in clumps if np.hypot(c.y - place[0], c.x - place[1]) < CLOSE * seeing]
    near = [ratio for ratio in near if RATIO[0] <= ratio <= RATIO[1]]
    return min(near, key=lambda ratio: abs(np.log(ratio))) if near else None
