"""What the deconvolution network is trained on: ground views of galaxies, drawn without end from one seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deconjugate.astro.forward import MIN_FWHM, DataModel
from deconjugate.astro.network_input import MARGIN, describe, prepare
from deconjugate.astro.psf import PSF
from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.simulate import random_flip, simulate
from deconjugate.astro.tikhonov import choose_regularization, tikhonov
from deconjugate.astro.training_conditions import PSF_WRONG, SKY, STAR, left_sky, subtracted_star, wrong_psf
from deconjugate.astro.training_skies import binned, draw_sky

BEYOND = 32  # fine pixels of sky around the frame, whose light comes in
NOISE = {"white": 0.5, "poisson": 0.35, "correlated": 0.15}
BAD_PIXELS = 0.1  # share of the scenes that have 2 % of them


@dataclass(frozen=True)
class SceneData:
    """Which scenes are drawn.

    Parameters
    ----------
    size : int
        Fine pixels along each side of a scene.
    upsample : tuple of int
        Factors, drawn alike; one that is named twice comes twice as often.
    fwhm_pix : (float, float)
        FWHM of the native PSF, native pixels; what falls below 2.5 fine pixels or above ``largest_fwhm`` is left out.
    largest_fwhm : float
        Fine pixels.
    peak_snr : (float, float)
        Drawn evenly in the logarithm.
    seed : int
    """

    size: int = 128
    upsample: tuple = (2, 2, 3, 4, 4)
    fwhm_pix: tuple = (1.6, 6.0)
    largest_fwhm: float = 22.0
    peak_snr: tuple = (5.0, 500.0)
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "upsample", tuple(self.upsample))
        for name in ("fwhm_pix", "peak_snr"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {(low, high)}; give a positive interval, the lower end first")
            object.__setattr__(self, name, (float(low), float(high)))
        if self.size < 64:
            raise ValueError(f"size is {self.size}; scenes have at least 64 fine pixels a side")


@dataclass(frozen=True, eq=False)
class Exposure:
    """A drawn frame as a telescope gives it, in units of the median noise of its pixels, and what is true of it."""

    data: np.ndarray  # (h, w) native pixels, 0 where there are none
    weight: np.ndarray  # (h, w), 1 / variance as it is told; 0 where there are no data
    psf: np.ndarray  # on the fine grid, as it is told
    true_psf: np.ndarray  # as it was
    truth: np.ndarray  # (H, W) fine pixels, the sky that is left included
    left: np.ndarray  # (H, W), that sky
    upsample: int


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """One scene as the network sees it: the frame and MARGIN fine pixels around it; arrays (..., H, W) float32."""

    channels: np.ndarray
    conditions: np.ndarray
    base: np.ndarray
    scale: np.ndarray
    truth: np.ndarray
    inside: np.ndarray  # 1 in the frame, 0 around it, where no truth is known
    noise: float  # of the balanced Tikhonov image


class Scenes:
    """Scene number i is a function of the seed and i alone.

    Parameters
    ----------
    data : SceneData
    galaxies : list of (h, w) arrays
        Sharp images on an empty sky; none: galaxies from formulas alone.
    psfs : (N, h, w) array
        Effective PSFs at native sampling beside the Moffat family, or none.
    """

    def __init__(self, data, galaxies=(), psfs=()):
        self.data, self.galaxies, self.psfs = data, list(galaxies), psfs

    def draw(self, number):
        """A :class:`TrainingScene`."""
        seen = self.expose(number)
        model = DataModel(seen.data.shape, seen.psf, seen.upsample, workers=1)
        y, w = model.embed(seen.data), model.embed(seen.weight)
        lam = choose_regularization(model, y, w)
        guess = prepare(model, y, w, tikhonov(model, y, w, lam, rtol=1e-2), lam)
        _, n = describe(model, float(np.median(w[w > 0])), lam)
        here = tuple(slice(s.start - MARGIN, s.stop + MARGIN) for s in model.inside)
        crop = [np.ascontiguousarray(a[(..., *here)]) for a in (guess.channels, guess.base, guess.scale)]
        truth, inside = (np.pad(a, MARGIN) for a in (seen.truth, np.ones_like(seen.truth)))
        return TrainingScene(crop[0], guess.conditions, *crop[1:], truth, inside, n)

    def expose(self, number):
        """The :class:`Exposure` that scene ``number`` is made of.

        The data are drawn with the true PSF; what is told differs from it in some scenes. A bright star is no part of
        the truth: it was subtracted, and what is left of it is in the data. A sky that is left is part of it: a
        constant comes out of the network as that constant whatever the weights, and what is smooth must not be taken
        for noise, or the faint outskirts of galaxies are too.
        """
        data = self.data
        rng = np.random.default_rng([data.seed, number])
        starry, left = rng.random() < STAR, rng.random() < SKY
        wrong = starry or rng.random() < PSF_WRONG
        while True:
            u = int(rng.choice(data.upsample))
            true = self._psf(rng).fine(u, max_size=data.size // u * u)
            psf = wrong_psf(rng, true) if wrong else true
            if all(MIN_FWHM <= fwhm_pix(p) <= data.largest_fwhm for p in (psf, true)):
                break
        side, margin = data.size // u * u, -(-BEYOND // u)
        sky = draw_sky(rng, self.galaxies, side, margin * u)
        snr = float(np.exp(rng.uniform(*np.log(data.peak_snr))))
        noise = str(rng.choice(list(NOISE), p=list(NOISE.values())))
        options = {"peak_snr": snr} if sky.any() else {"sigma": 1.0}
        scene = simulate(
            sky, true, upsample=u, noise="white" if not sky.any() else noise, shot_fraction=rng.uniform(0.1, 0.98),
            correlation_fwhm=rng.uniform(0.6, 1.2), margin=margin,
            bad_fraction=0.02 if rng.random() < BAD_PIXELS else 0.0, seed=rng, **options,
        )  # fmt: skip
        unit = float(np.median(scene.noise_map))
        values, variance, lost = scene.data / unit, (scene.noise_map / unit) ** 2, scene.mask
        plane = np.zeros(scene.truth.shape)
        if starry:
            star = subtracted_star(rng, true, psf, u, [n // u for n in sky.shape], margin)
            values, variance, lost = values + star[0], variance + star[1], lost | star[2]
        if left:
            plane = left_sky(rng, side, u)
            values = values + binned(plane, u)
        return Exposure(
            np.where(lost, 0.0, values).astype(np.float32), np.where(lost, 0.0, 1.0 / variance).astype(np.float32),
            psf, true, (scene.truth / unit + plane).astype(np.float32), plane.astype(np.float32), u,
        )  # fmt: skip

    def _psf(self, rng):
        if len(self.psfs) and rng.random() < 0.5:
            return PSF.from_array(random_flip(self.psfs[rng.integers(len(self.psfs))], seed=rng))
        fwhm = float(np.exp(rng.uniform(*np.log(self.data.fwhm_pix))))
        return PSF.moffat(
            fwhm, beta=rng.uniform(2.3, 5.0), ellipticity=rng.uniform(0, 0.3) * rng.random(), pa=rng.uniform(0, 180)
        )


def read_galaxies(path):
    """Sharp images on an empty sky from an npz archive, in the order of their names, each of peak 1, float32.

    :func:`deconjugate.astro.training_images.collect` makes such archives from images of space telescopes.
    """
    with np.load(path) as archive:
        images = [archive[name].astype(np.float32) for name in sorted(archive.files)]
    return [image / image.max() for image in images if image.max() > 0]


def render_psfs(folder, positions=6, half=15, seed=0):
    """Effective PSFs at native sampling, (N, 2 half + 1, 2 half + 1), of all PSFEx models in a folder.

    Rendered once, where astropy is at hand, they let a machine without it train.
    """
    from deconjugate.astro.psfex import read_psf

    rng, arrays = np.random.default_rng(seed), []
    for path in sorted(Path(folder).iterdir()):
        model = read_psf(path)
        for _ in range(positions):
            x, y = (z + s * rng.uniform(-0.45, 0.45) for z, s in zip(model.zero, model.scale))
            native = PSF(model).fine(1, position=(x, y))
            middle = native.shape[0] // 2
            if middle >= half:
                arrays.append(native[middle - half : middle + half + 1, middle - half : middle + half + 1])
    if not arrays:
        raise ValueError(f"{folder} holds no PSFEx model that spans {2 * half + 1} native pixels")
    return np.stack(arrays).astype(np.float32)
