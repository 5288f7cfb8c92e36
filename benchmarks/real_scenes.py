"""Skies of known truth for the benchmark of real frames: galaxies of either half, and stars that no model explains."""

import json
from argparse import Namespace

import numpy as np
from bench_deconvolution import DATA
from network_views import chosen
from scipy.signal.windows import tukey

from deconjugate.astro import PSF, simulate

FWHM, BETA = 4.0, 3.0  # native pixels, of the locality test
CLEAN = ("f814w", "f115w", "f150w", "f200w")  # the bluer bands of the second collection have cosmic rays
DEEP = 200.0  # peak over noise: the truth's own noise must not count


def galaxies_of(half, step=1):
    """Sharp galaxies of one half of the validation split, both collections, every ``step``-th."""
    found = list(chosen(Namespace(half=half, step=1)))
    index = json.loads((DATA / "galaxies" / "space2_index.json").read_text())
    numbers = {}
    with np.load(DATA / "galaxies" / "space2_val.npz") as archive:
        for name in archive.files:
            number = numbers.setdefault(name.rsplit("-", 1)[0], len(numbers))
            deep = index[name].get("peak_over_noise", 0.0) >= DEEP and name.rsplit("-", 1)[1] in CLEAN
            if (number % 2 == 0) != (half == "select") or not deep:
                continue
            image = archive[name].astype(np.float64)
            image = np.maximum(image - np.median(image), 0.0) * np.outer(*(tukey(n, 0.3) for n in image.shape))
            found.append(image)
    return found[::step]


def put(sky, image, row, column, scale=1.0):
    """Add an image to a sky with its middle pixel at (row, column); what falls outside is cut."""
    corner = [p - n // 2 for p, n in zip((row, column), image.shape)]
    here = tuple(slice(max(c, 0), max(min(c + n, s), 0)) for c, n, s in zip(corner, image.shape, sky.shape))
    sky[here] += scale * image[tuple(slice(h.start - c, h.stop - c) for h, c in zip(here, corner))]


# The locality test: a galaxy of peak SNR 40 in a frame of 192 x 192, a star far from it or near.
SIDE, MIDDLE = 192, 280
STAR = {"35 FWHM": (40.2, 40.3), "10 FWHM": (140.3, 99.8)}  # native row and column
BOX = {"35 FWHM": np.s_[200:360, 200:360], "10 FWHM": np.s_[224:340, 224:340]}  # fine pixels, the star's cut away
STARS = [  # peak in sigmas, clipped at this share of it, and what else is wrong
    (300, 1.0, ""), (3000, 1.0, ""), (30000, 1.0, ""), (3000, 0.7, ""), (30000, 0.7, ""), (3000, 0.5, ""),
    (30000, 0.5, ""), (3000, 0.3, ""), (30000, 0.3, ""), (3000, 0.1, ""), (30000, 0.1, ""),
    (30000, 1.0, "off-centre"), (30000, 0.3, "off-centre"), (3000, 0.5, "core NaN"), (30000, 0.3, "core NaN"),
    (3000, 1.0, "PSF 3 % narrow"), (30000, 1.0, "PSF 3 % narrow"), (30000, 0.3, "bleeding"),
]  # fmt: skip
FEW = [(30000, 1.0, ""), (3000, 0.5, ""), (30000, 0.3, ""), (30000, 0.3, "core NaN"), (30000, 0.3, "bleeding")]


def lonely_galaxy(kind, half="select"):
    """Scene of a galaxy in units of the noise: "disc", or the number of one of a half."""
    if kind == "disc":
        y, x = np.mgrid[: 2 * SIDE, : 2 * SIDE]
        sky = np.exp(-np.hypot(x - MIDDLE, (y - MIDDLE) * 1.6) / 10.0)
    else:
        sky = np.zeros((2 * SIDE, 2 * SIDE))
        image = galaxies_of(half)[kind]
        cut = [slice(max(n // 2 - 56, 0), n // 2 + 56) for n in image.shape]  # of the smaller box
        put(sky, image[tuple(cut)], MIDDLE, MIDDLE)
    scene = simulate(sky / sky.max(), PSF.moffat(FWHM, beta=BETA), upsample=2, peak_snr=40, seed=3)
    sigma = np.median(scene.noise_map)
    return scene.data / sigma, scene.truth / sigma


def star(peak, clip, what, place):
    """A star as a detector shows it: (192, 192) pixels in sigmas, NaN where it says nothing."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    row, column = place
    if what == "off-centre":
        row, column = np.floor(row) + 0.5, np.floor(column) + 0.5
    width = FWHM * (0.97 if what == "PSF 3 % narrow" else 1.0)
    a2 = width**2 / (4.0 * (2.0 ** (1.0 / BETA) - 1.0))
    light = peak * (1.0 + ((columns - column) ** 2 + (rows - row) ** 2) / a2) ** -BETA
    seen = np.minimum(light, clip * peak)
    if what == "core NaN":
        seen[light >= clip * peak] = np.nan
    if what == "bleeding":  # what the full pixels cannot hold runs along their column
        over = np.sum(light - seen)
        reach = int(np.clip(over / (clip * peak) / 2, 6, 30))
        seen[max(round(row) - reach, 0) : round(row) + reach + 1, round(column)] = clip * peak
    return seen
