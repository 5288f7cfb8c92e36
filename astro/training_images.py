"""Images of space telescopes made into truths: their own sky, noise and cosmic rays taken away."""

import itertools
import json
from pathlib import Path

import numpy as np
import scipy.ndimage

from deconjugate.astro.training_skies import binned
from deconjugate.operators.starlet import Starlet

NOISE_TAKEN = 2.5  # times the variance of the noise; 1 leaves a grain where chance was high
LEAST_DEPTH = 60.0  # peak over noise of an image that is taken for a truth
LEAST_CUT = 12.0  # that of a stamp cut at an isophote, mostly small
MOST_DOTS = 3  # cosmic rays of an image, which pass for stars; one with more is left out
HELD_OUT = 10  # one galaxy in so many is kept aside for validation during training
WIDE = ("f277w",)  # bands whose own PSF is 3 pixels wide: binned by 2
STACKED = ("f115w", "f150w", "f200w")  # bands of about one PSF, whose mean is deeper than each


def collect(folder):
    """The training images of both collections, cleaned: ``(galaxies, held_out)``, dictionaries by name.

    Every image goes through :func:`clean`, the bands of a ``ceers`` galaxy once more as their mean. One galaxy in ten
    is held out, with all its bands. The same files give the same arrays.

    Parameters
    ----------
    folder : path
        Holds ``hst_train.npz`` and ``index.json``, ``space2_train.npz`` and ``space2_index.json``, or one pair of them.
        The index tells an image's ``galaxy``, ``band`` and ``split``.

    Raises
    ------
    FileNotFoundError
        Neither pair is there.
    ValueError
        An image is not of the training split.
    """
    images, index = {}, {}
    for archive, table in (("hst_train.npz", "index.json"), ("space2_train.npz", "space2_index.json")):
        if (Path(folder) / archive).exists():
            index |= json.loads((Path(folder) / table).read_text())
            with np.load(Path(folder) / archive) as stored:
                images |= {name: stored[name].astype(np.float32) for name in stored.files}
    if not images:
        raise FileNotFoundError(f"{folder} holds neither hst_train.npz nor space2_train.npz; give their folder")
    for name in images:
        if index[name]["split"] != "train":
            raise ValueError(
                f"{name} is of the split {index[name]['split']!r}; only images of 'train' may be trained on"
            )
    known = {name: (index[name]["galaxy"], index[name].get("band")) for name in images}
    for galaxy in sorted({g for g, _ in known.values() if g.startswith("ceers")}):
        bands = [images[name] for name, kind in known.items() if kind[0] == galaxy and kind[1] in STACKED]
        if len(bands) > 1 and len({band.shape for band in bands}) == 1:
            images[f"{galaxy}-mean"], known[f"{galaxy}-mean"] = _mean(bands), (galaxy, "mean")
    order = sorted({galaxy for galaxy, _ in known.values()})
    apart = {galaxy for k, galaxy in enumerate(order) if k % HELD_OUT == HELD_OUT // 2}
    kept = {}, {}
    for name in sorted(images):
        galaxy, band = known[name]
        image = clean(images[name], wide=band in WIDE, cut=name.startswith("candels"))
        if image is not None and image.max() > 0:
            kept[galaxy in apart][name] = (image / image.max()).astype(np.float32)
    return kept


def clean(image, *, wide=False, cut=False):
    """A galaxy on an empty sky, or None where the image is not deep, or not clean, enough to be a truth.

    Its sky, the clipped median of the fourth darkest of sixteen pieces of its border, is subtracted. Every starlet
    coefficient w is then multiplied by what its surroundings show,

    .. math:: g = \\max(0, 1 - k \\sigma_j^2 / \\langle w^2 \\rangle)

    the mean over a Gaussian as wide as the plane's wavelet: an empirical Wiener filter, which leaves the rings and
    holes of a threshold out. The noise sigma_j is that of the image's own sky in plane j, and grows with the signal as
    photons have it. What is fainter than 0.7 sigma fades to zero, and so does an eighth of the side at every border.

    Parameters
    ----------
    image : (h, w) float array
    wide : bool
        The PSF is some 3 pixels wide: pixels are binned by 2 first.
    cut : bool
        The image is zero outside the isophote of about one sigma, which then tells the noise.

    Returns
    -------
    (h, w) float32 array, or None

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro.training_images import clean
    >>> galaxy = np.exp(-np.hypot(*(np.indices((64, 64)) - 31.5)) / 5.0)
    >>> noisy = 100 * galaxy + 7.0 + np.random.default_rng(1).standard_normal((64, 64))
    >>> error = np.square(clean(noisy) - 100 * galaxy).mean()
    >>> bool(error < 0.3), float(clean(noisy)[:5].max()) < 1.0
    (True, True)
    """
    image = np.asarray(binned(image, 2) if wide else image, np.float64)
    if cut:
        level, noise = 0.0, _isophote(image)
        image = np.pad(image, 6)
    else:
        level, noise = _sky(image)
        image = image - level
    if not cut and _spoilt(image, noise):
        return None
    if scipy.ndimage.gaussian_filter(image, 0.7).max() < (LEAST_CUT if cut else LEAST_DEPTH) * noise:
        return None
    smooth = scipy.ndimage.gaussian_filter(image, 2.0)
    local = 1.0 + _shot(image, smooth, noise) * np.maximum(smooth, 0.0) / noise**2
    starlet = Starlet(image.shape, max(1, min(5, int(np.log2(min(image.shape))) - 1)))
    planes, quiet = starlet.apply(image), smooth < noise
    result, grown = planes[-1], 1.0
    for j in range(starlet.n_scales):
        if j < 3 and not cut and quiet.sum() > 400:
            # Drizzled noise is correlated: more of it in wider planes than white noise has. Beyond the third plane the
            # galaxy itself fills the sky, and the ratio of the third is taken.
            calm = 1.4826 * np.median(np.abs(planes[j][quiet]))
            grown = max(grown, calm / (noise * starlet.noise_std()[j]))
        variance = (grown * noise * starlet.noise_std()[j]) ** 2 * local
        power = scipy.ndimage.gaussian_filter(planes[j] ** 2, 1.2 * 2**j)
        result = result + planes[j] * np.maximum(0.0, 1.0 - NOISE_TAKEN * variance / np.maximum(power, 1e-30))
    if result.min() < -3 * noise:
        return None  # holes beside a core that the planes do not hold together
    around = np.maximum(scipy.ndimage.gaussian_filter(result, 2.5), 0.0) ** 2
    result = np.maximum(result, 0.0) * around / (around + (0.7 * noise) ** 2)
    return (result * _fade(image.shape)).astype(np.float32)


def _fade(shape):
    """1 in the middle, 0 at the border and round its corners: where light reaches the border it must not end there."""
    y, x = (np.abs(2 * np.arange(n) + 1 - n) / n for n in shape)
    rest = np.clip((1 - (y[:, None] ** 3 + x**3) ** (1 / 3)) / 0.25, 0.0, 1.0)
    return rest**2 * (3 - 2 * rest)


def _isophote(image):
    """The level at which a stamp was cut: the median of the pixels that border on its empty ones."""
    lit = image > 0
    rim = lit & scipy.ndimage.binary_dilation(~lit)
    return max(float(np.median(image[rim])), 1e-4 * float(image.max())) if rim.any() else 1e-4 * float(image.max())


def _mean(bands):
    """Each band by the weight that its peak over its noise asks for."""
    parts = []
    for band in bands:
        level, noise = _sky(band)
        parts.append(((band - level), scipy.ndimage.gaussian_filter(band - level, 1.0).max() / noise**2))
    return (sum(part * weight for part, weight in parts) / sum(weight for _, weight in parts)).astype(np.float32)


def _sky(image):
    """Level and noise of the fourth darkest of sixteen pieces of the border: a galaxy may reach the others."""
    depth = max(4, min(image.shape) // 10)
    pieces = []
    for turned in (np.rot90(image, k) for k in range(4)):
        pieces += np.array_split(turned[:depth, : turned.shape[1] - depth].astype(np.float64), 4, axis=1)
    levels = []
    for piece in pieces:
        values = piece.ravel()
        for _ in range(5):
            middle = np.median(values)
            noise = 1.4826 * np.median(np.abs(values - middle))
            values = values[np.abs(values - middle) <= 3 * max(noise, 1e-30)]
        levels.append((middle, noise))
    middle, noise = sorted(levels)[3]
    return middle, max(noise, 1e-6 * float(image.max()))


def _shot(image, smooth, noise):
    """Variance of a pixel per count, at most: the least that any brightness shows, structure being on top of it."""
    fine = image - scipy.ndimage.gaussian_filter(image, 1.0)
    unit = fine - scipy.ndimage.median_filter(fine, 5)
    least = np.inf
    edges = np.geomspace(5 * noise, max(10 * noise, smooth.max()), 7)
    for low, high in itertools.pairwise(edges):
        here = (smooth >= low) & (smooth < high)
        if here.sum() >= 60:
            variance = (1.4826 * np.median(np.abs(unit[here]))) ** 2 / 0.85**2 - noise**2
            least = min(least, max(variance, 0.0) / smooth[here].mean())
    return 0.0 if np.isinf(least) else least


def _spoilt(image, noise):
    """More cosmic rays than a few, which pass for stars; a dead or saturated core; an edge brighter than the middle."""
    around = scipy.ndimage.median_filter(image, 5)
    local = np.sqrt(noise**2 + (0.15 * np.maximum(around, 0.0)) ** 2)
    sharp = image - scipy.ndimage.gaussian_filter(image, 1.0)
    smooth = scipy.ndimage.gaussian_filter(image, 1.5)
    core = np.unravel_index(np.argmax(smooth), image.shape)
    rows, columns = np.indices(image.shape)
    near = np.hypot(rows - core[0], columns - core[1]) < 4
    dots = (image - around > 10 * local) & (sharp > 0.25 * (image - around)) & ~near
    dead = (around > 2 * np.maximum(image, noise)) & near & (around > 20 * noise)
    border = max(smooth[0].max(), smooth[-1].max(), smooth[:, 0].max(), smooth[:, -1].max())
    return scipy.ndimage.label(dots)[1] > MOST_DOTS or dead.any() or border > 0.4 * smooth.max()
