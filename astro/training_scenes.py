"""What the deconvolution network is trained on: ground views of galaxies, drawn without end from one seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal.windows import tukey

from deconjugate.astro.forward import MIN_FWHM, DataModel
from deconjugate.astro.network_input import MARGIN, describe, prepare
from deconjugate.astro.psf import PSF
from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.simulate import random_flip, simulate
from deconjugate.astro.tikhonov import choose_regularization, tikhonov
from deconjugate.astro.training_skies import draw_sky

BEYOND = 32  # fine pixels of sky around the frame, whose light comes in


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
        Sharp images on an empty sky; none: parametric galaxies alone.
    psfs : (N, h, w) array
        Effective PSFs at native sampling beside the Moffat family, or none.
    """

    def __init__(self, data, galaxies=(), psfs=()):
        self.data, self.galaxies, self.psfs = data, list(galaxies), psfs

    def draw(self, number):
        """A :class:`TrainingScene`."""
        data = self.data
        rng = np.random.default_rng([data.seed, number])
        while True:
            u = int(rng.choice(data.upsample))
            psf = self._psf(rng)
            p = psf.fine(u, max_size=data.size // u * u)
            if MIN_FWHM <= fwhm_pix(p) <= data.largest_fwhm:
                break
        side, margin = data.size // u * u, -(-BEYOND // u)
        sky = draw_sky(rng, self.galaxies, side, margin * u)
        snr = float(np.exp(rng.uniform(*np.log(data.peak_snr))))
        noise = str(rng.choice(["white", "poisson", "correlated"], p=[0.65, 0.25, 0.1]))
        options = {"peak_snr": snr} if sky.any() else {"sigma": 1.0}
        scene = simulate(
            sky, p, upsample=u, noise="white" if not sky.any() else noise, shot_fraction=rng.uniform(0.1, 0.98),
            correlation_fwhm=rng.uniform(0.6, 1.2), margin=margin,
            bad_fraction=0.02 if rng.random() < 0.1 else 0.0, seed=rng, **options,
        )  # fmt: skip
        unit = float(np.median(scene.noise_map))
        model = DataModel(scene.data.shape, p, u, workers=1)
        weight = np.where(scene.mask, 0.0, (scene.noise_map / unit) ** -2.0).astype(np.float32)
        y = model.embed(np.where(scene.mask, 0.0, scene.data / unit).astype(np.float32))
        w = model.embed(weight)
        lam = choose_regularization(model, y, w)
        seen = prepare(model, y, w, tikhonov(model, y, w, lam, rtol=1e-2), lam)
        _, n = describe(model, float(np.median(weight[weight > 0])), lam)
        here = tuple(slice(s.start - MARGIN, s.stop + MARGIN) for s in model.inside)
        crop = [np.ascontiguousarray(a[(..., *here)]) for a in (seen.channels, seen.base, seen.scale)]
        truth, inside = (np.pad(a.astype(np.float32), MARGIN) for a in (scene.truth / unit, np.ones(scene.truth.shape)))
        return TrainingScene(crop[0], seen.conditions, *crop[1:], truth, inside, n)

    def _psf(self, rng):
        if len(self.psfs) and rng.random() < 0.5:
            return PSF.from_array(random_flip(self.psfs[rng.integers(len(self.psfs))], seed=rng))
        fwhm = float(np.exp(rng.uniform(*np.log(self.data.fwhm_pix))))
        return PSF.moffat(
            fwhm, beta=rng.uniform(2.3, 5.0), ellipticity=rng.uniform(0, 0.3) * rng.random(), pa=rng.uniform(0, 180)
        )


def read_galaxies(path):
    """Sharp images from an npz archive, sky subtracted and tapered to zero where their names tell of a real sky."""
    images = []
    with np.load(path) as archive:
        for name in sorted(archive.files):
            image = archive[name].astype(np.float32)
            if not name.startswith("candels"):
                image = image[36:-36, 36:-36] if min(image.shape) > 190 else image
                image = (image - np.median(image)) * np.outer(*(tukey(n, 0.3) for n in image.shape))
            if image.max() > 0:
                images.append((image / image.max()).astype(np.float32))
    return images


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
