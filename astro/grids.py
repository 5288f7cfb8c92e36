"""Whether images lie on the same pixels of the sky."""

import numpy as np

from deconjugate.astro.wcs import pixel_scale_arcsec, places_in

SHIFT = 0.1  # pixels by which the grids of two images may differ
SCALES = 1e-3  # by which their pixel scales may


def grids_to_change(images, names):
    """Which image has the smallest pixels, and which images do not lie on its pixels and have to be brought to them.

    Parameters
    ----------
    images : list of CCDData
    names : list of str

    Returns
    -------
    finest : int
    others : list of int

    Raises
    ------
    ValueError
        They differ in shape, and one has no sky coordinates to bring it to the pixels of another.
    """
    scales = [pixel_scale_arcsec(image.wcs) for image in images]
    if None in scales:
        check_alike(images, names)
        return 0, []
    smallest = min(scales)
    finest = next(i for i, scale in enumerate(scales) if scale < smallest * (1.0 + SCALES))
    first = images[finest]
    others = [
        i
        for i, (image, scale) in enumerate(zip(images, scales))
        if image.shape != first.shape or abs(scale / smallest - 1.0) > SCALES or largest_shift(first, image) > SHIFT
    ]
    return finest, others


def check_alike(images, names=None):
    """Raise ValueError where images, arrays or CCDData, do not show the same pixels of the sky."""
    names = [f"image {i}" for i in range(len(images))] if names is None else names
    first = images[0]
    scale = pixel_scale_arcsec(getattr(first, "wcs", None))
    for image, name in zip(images[1:], names[1:]):
        if np.shape(image) != np.shape(first):
            raise ValueError(
                f"{name} is {np.shape(image)[::-1]} pixels, {names[0]} {np.shape(first)[::-1]}: bands are matched "
                "pixel by pixel; bring them to one grid first"
            )
        other = pixel_scale_arcsec(getattr(image, "wcs", None))
        if scale is None or other is None:
            continue
        if abs(other / scale - 1.0) > SCALES:
            raise ValueError(
                f"the pixels of {name} are {other:.5g} arcsec, those of {names[0]} {scale:.5g}: as many fine pixels "
                "would be another resolution; bring them to one grid first"
            )
        shift = largest_shift(first, image)
        if shift > SHIFT:
            raise ValueError(
                f"{name} lies {shift:.2g} pixels from {names[0]}: bands are matched pixel by pixel; bring them to one "
                "grid first"
            )


def largest_shift(one, other):
    """Pixels by which the corners of one image lie elsewhere in another of its shape, both with sky coordinates.

    Infinite where the other lies on another part of the sky.
    """
    h, w = one.shape
    x, y = np.array([0.0, w - 1, 0.0, w - 1]), np.array([0.0, 0.0, h - 1, h - 1])
    row, column = places_in(one.wcs, other.wcs, y, x)
    return float(np.nan_to_num(np.hypot(column - x, row - y), nan=np.inf).max())
