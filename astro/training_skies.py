"""The skies that the deconvolution network is trained on: a frame, and what lies around it."""

import numpy as np
import scipy.ndimage

from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.resolved_galaxy import edge_on_galaxy, spiral_galaxy
from deconjugate.astro.simulate import random_flip

# Share of the kinds of sky: one galaxy as in a stamp, one large enough to fill the frame or more, several in a field,
# drawn ones, a crowd of stars, galaxies that an edge of the frame cuts, a deep field of small faint ones, nothing.
KINDS = {
    "stamp": 0.22, "filling": 0.18, "field": 0.13, "parametric": 0.11, "crowd": 0.07, "cut": 0.15, "deep": 0.10,
    "empty": 0.04,
}  # fmt: skip
STARRY = ("stamp", "filling", "field", "parametric", "cut")  # kinds that now and then have a few bright stars
LEAST = 0.02  # of the brightest pixel of the sky, that the frame's own must have


def draw_sky(rng, galaxies, side, beyond):
    """A sky on an empty ground, (side + 2 beyond, side + 2 beyond) float32, some of its light in the frame.

    Parameters
    ----------
    rng : numpy.random.Generator
    galaxies : list of (h, w) arrays
        Sharp images, their brightest pixel 1; none: parametric galaxies alone.
    side : int
        Fine pixels along each side of the frame.
    beyond : int, >= 1
        Fine pixels of sky on every side of the frame. Sources there send light in, and those on the border are cut.

    Example
    -------
    >>> import numpy as np
    >>> draw_sky(np.random.default_rng(1), [], 64, 32).shape
    (128, 128)
    """
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    whole = side + 2 * beyond
    if kind == "empty":
        return np.zeros((whole, whole), np.float32)
    while True:
        sky = _sources(rng, galaxies, kind, side, beyond)
        if rng.random() < 0.15 and kind in STARRY:
            for _ in range(int(rng.integers(1, 4))):
                place = tuple(int(rng.integers(whole)) for _ in range(2))
                sky[place] += 20 * sky.max() * np.exp(rng.uniform(np.log(0.02), 0))
        sky = np.maximum(sky, 0.0)
        if sky[beyond:-beyond, beyond:-beyond].max() > LEAST * sky.max():
            return sky


def crowd(rng, side):
    """Stars of a cluster, (side, side): fluxes fall as a power law, some stand apart, some overlap."""
    sky = np.zeros((side, side), np.float32)
    count = int(np.exp(rng.uniform(np.log(5), np.log(0.03 * side**2))))
    places = tuple(rng.integers(side, size=(2, count)))
    np.add.at(sky, places, np.minimum(rng.pareto(rng.uniform(0.8, 1.5), count) + 0.05, 100.0).astype(np.float32))
    return sky


def deep_field(rng, galaxies, side):
    """Small galaxies and some stars, (side, side): fluxes fall as a power law; at times a large galaxy among them."""
    sky = np.zeros((side, side), np.float32)
    for _ in range(int(np.exp(rng.uniform(np.log(20), np.log(150))))):
        image = _small(rng, galaxies) * (min(rng.pareto(rng.uniform(0.7, 1.5)), 100.0) + 0.05)
        add(sky, image, rng.integers(side, size=2))
    if rng.random() < 0.3:
        image = np.maximum(random_flip(_galaxy(rng, galaxies), seed=rng), 0.0)
        image = image / image.sum() * np.exp(rng.uniform(np.log(10), np.log(300)))
        add(sky, image, rng.integers(side, size=2))
    return sky


def add(sky, image, place):
    """Add an image to a sky, its middle at a pixel; what falls outside is cut."""
    corner = [int(c) - k // 2 for c, k in zip(place, image.shape)]
    here = tuple(slice(max(c, 0), max(min(c + k, n), 0)) for c, k, n in zip(corner, image.shape, sky.shape))
    sky[here] += image[tuple(slice(s.start - c, s.stop - c) for s, c in zip(here, corner))]


def binned(image, factor):
    """Sums of factor x factor pixels; the rows and columns at the end that fill none are left out."""
    rows, columns = (n // factor for n in image.shape)
    image = image[: rows * factor, : columns * factor]
    return image.reshape(rows, factor, columns, factor).sum(axis=(1, 3))


def _sources(rng, galaxies, kind, side, beyond):
    whole = side + 2 * beyond
    if kind == "crowd":
        return crowd(rng, whole)
    if kind == "deep":
        return deep_field(rng, galaxies, whole)
    sky = np.zeros((whole, whole), np.float32)
    if kind == "parametric":
        sources = [_drawn(rng, side) for _ in range(int(rng.integers(1, 4)))]
    elif kind == "filling":
        # The large one is the last, the first to be placed.
        sources = [_galaxy(rng, galaxies) for _ in range(int(rng.integers(0, 3)))] + [
            _large(rng, galaxies, side, whole)
        ]
    else:
        count = 1 if kind == "stamp" else int(rng.integers(*{"cut": (1, 4), "field": (2, 12)}[kind]))
        sources = [_galaxy(rng, galaxies) for _ in range(count)]
        if kind == "cut" and rng.random() < 0.4:
            sources[-1] = _large(rng, galaxies, side, whole)
    sources = [random_flip(s, seed=rng) / s.max() for s in sources]
    if kind == "cut":
        # The middle of the first a little inside an edge or outside, that of the others anywhere.
        place = rng.integers(beyond, beyond + side, size=2)
        axis, depth = int(rng.integers(2)), int(rng.integers(-4, 17))
        place[axis] = beyond + depth if rng.random() < 0.5 else beyond + side - 1 - depth
        add(sky, sources.pop(), place)
    elif len(sources) == 1 or kind == "filling":
        # As in a stamp: near the middle, at times larger than the frame.
        spread = 0.06 * side if kind != "filling" else 0.15 * side
        add(sky, sources.pop(), [int(whole / 2 + rng.normal(0, spread)) for _ in range(2)])
    for image in sources:
        add(sky, image * np.exp(rng.uniform(np.log(0.03), 0)), rng.integers(whole, size=2))
    return sky


def _galaxy(rng, galaxies):
    """A sharp image, at half its size now and then."""
    if not galaxies:
        return parametric_galaxy(rng)
    image = galaxies[rng.integers(len(galaxies))]
    return binned(image, 2) if rng.random() < 0.25 and min(image.shape) >= 48 else image


def _drawn(rng, side):
    """A galaxy from formulas of any size up to that of the frame."""
    kind = rng.random()
    if kind < 0.5:
        return parametric_galaxy(rng)
    return (spiral_galaxy if kind < 0.8 else edge_on_galaxy)(rng, int(rng.integers(side // 3, side + 1)))


def _large(rng, galaxies, side, whole):
    """A galaxy that fills the frame or more: an image at its full size or magnified up to twice, or one drawn."""
    wide = [image for image in galaxies if min(image.shape) >= 0.6 * side]
    if wide and rng.random() < 0.5:
        image = wide[rng.integers(len(wide))]
        most = min(2.0, 1.5 * whole / max(image.shape))
        if most > 1.0 and rng.random() < 0.7:
            image = np.maximum(scipy.ndimage.zoom(image, rng.uniform(1.0, most), order=3), 0.0)
        return image
    return (spiral_galaxy if rng.random() < 0.7 else edge_on_galaxy)(rng, int(rng.uniform(0.8, 1.0) * whole))


def _small(rng, galaxies):
    """A galaxy, or a star, of few fine pixels and of flux 1."""
    kind = rng.random()
    if kind < 0.15:
        return np.ones((1, 1), np.float32)
    if kind < 0.5 and galaxies:
        image = galaxies[rng.integers(len(galaxies))]
        image = np.maximum(binned(image, int(rng.integers(3, 9))), 0.0)
        if image.max() > 0:
            return random_flip(image, seed=rng) / image.sum()
    image = parametric_galaxy(rng, radius=np.exp(rng.uniform(np.log(0.5), np.log(3.0))))
    return image / image.sum()
