"""What a deconvolution is given, checked once at the door."""

from dataclasses import dataclass

import numpy as np

from deconjugate.astro.light import check_light

_LEAST, _LARGEST = 1e-15, 1e15  # of a noise whose weights, squared and summed, single precision holds


@dataclass(frozen=True, eq=False)
class Observation:
    """Frames with their noise, in one layout: (N, h, w), bad pixels zero in data and weight."""

    data: np.ndarray
    weight: np.ndarray  # 1 / sigma^2, 0 where bad
    bad: np.ndarray
    stamps: bool  # whether the caller gave (N, h, w)
    wcs: object
    unit: object
    meta: dict


def observation(image, noise=None, mask=None):
    """Check image, noise and mask, and bring them into one layout.

    Parameters
    ----------
    image : (h, w) or (N, h, w) array, masked array or Quantity, or astropy.nddata.CCDData or NDData
        NaN and infinite pixels are bad. A CCDData brings its uncertainty, mask, WCS, unit and meta along.
    noise : float, or array that broadcasts to the image, optional
        1 sigma per pixel. Default the uncertainty of a CCDData, else :func:`deconjugate.operators.estimate_noise`.
        Infinite noise marks a bad pixel. A Quantity is converted to the unit of the image.
    mask : bool array that broadcasts to the image, optional
        True = bad, beside those of a CCDData.

    Raises
    ------
    ValueError
        Wrong number of axes or shapes that do not fit; noise zero, negative or NaN on a good pixel; no good pixel;
        an uncertainty of unknown type; magnitudes; noise in a unit that the image's cannot be converted to.
    TypeError
        image is not numeric.
    """
    data, uncertainty, own_mask = image, None, None
    wcs = unit = None
    meta = {}
    if hasattr(image, "unit"):
        check_light(image)
    if hasattr(image, "uncertainty") and hasattr(image, "wcs"):
        data, own_mask, wcs, unit, meta = image.data, image.mask, image.wcs, image.unit, dict(image.meta)
        if image.uncertainty is not None:
            from astropy.nddata import StdDevUncertainty

            if image.uncertainty.uncertainty_type not in ("std", "var", "ivar"):
                raise ValueError(
                    f"the uncertainty of the image is of the type {image.uncertainty.uncertainty_type!r}: make it a "
                    "StdDevUncertainty, VarianceUncertainty or InverseVariance"
                )
            deviation = image.uncertainty.represent_as(StdDevUncertainty)
            uncertainty = deviation.array if deviation.unit in (None, unit) else deviation.quantity
    elif isinstance(image, np.ma.MaskedArray):
        own_mask = np.ma.getmaskarray(image)
    elif hasattr(image, "unit"):  # a Quantity
        unit = image.unit
    data = np.asarray(data)
    if data.dtype.kind not in "fiub":
        raise TypeError(f"image has dtype {data.dtype}; give a real numeric array")
    if data.ndim not in (2, 3) or 0 in data.shape:
        raise ValueError(f"image has shape {data.shape}; give (h, w), or (N, h, w) for stamps")
    if min(data.shape[-2:]) < 4:
        raise ValueError(f"image has shape {data.shape}; frames need 4 pixels a side or more")
    stamps = data.ndim == 3
    shape = data.shape
    bad = ~np.isfinite(data)
    for name, given in (("mask", mask), ("mask of the image", own_mask)):
        if given is not None:
            bad = bad | _fitting(name, given, shape).astype(bool)
    noise = uncertainty if noise is None else noise
    given = _estimated(data, bad) if noise is None else _fitting("noise", _in_unit(noise, unit), shape)
    dtype = np.float32 if data.dtype == np.float32 else np.float64  # a large frame in single precision stays so
    sigma = given.astype(dtype)
    if not _LEAST <= sigma.min(where=~bad, initial=np.inf) <= _LARGEST:
        dtype = np.float64  # weights and squares of it would not fit single precision
        sigma = given.astype(dtype)
    if noise is not None:
        bad = bad | np.isposinf(sigma)
        wrong = ~bad & ~(sigma > 0.0)
        if wrong.any():
            raise ValueError(
                f"noise is zero, negative or NaN on {np.count_nonzero(wrong)} pixels; "
                "give 1 sigma > 0 everywhere, and mask pixels that have none"
            )
    empty = bad.reshape(-1, *shape[-2:]).all(axis=(1, 2))
    if empty.any():
        which = f"stamp {int(np.argmax(empty))}" if stamps else "the image"
        raise ValueError(f"no pixel of {which} is good: all are masked or not finite")
    frames = (-1, *shape[-2:])
    weight = np.where(bad, dtype(1), sigma) ** -2
    weight[bad] = 0.0
    clean = np.where(bad, dtype(0), data).astype(dtype, copy=False)
    return Observation(clean.reshape(frames), weight.reshape(frames), bad.reshape(frames), stamps, wcs, unit, meta)


def _in_unit(noise, unit):
    """Noise as a number or an array in the unit of the image."""
    if not hasattr(noise, "unit"):
        return noise
    if unit is None or not noise.unit.is_equivalent(unit):
        raise ValueError(f"noise is in {noise.unit}, the image in {unit or 'no unit'}: give both in units of one kind")
    return noise.to_value(unit)


def _fitting(name, array, shape):
    array = np.asarray(array)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} has shape {array.shape}; the image has {shape}") from None


def _estimated(data, bad):
    """One sigma per frame, from its finest wavelets."""
    from deconjugate.operators.wavelet import estimate_noise

    sigma = np.ones(data.shape)
    for index in np.ndindex(data.shape[:-2]):
        if bad[index].all():
            continue
        level = estimate_noise(data[index].astype(np.float64), mask=bad[index])
        if not level > 0.0:
            raise ValueError("no noise was found in the image: give noise=, 1 sigma per pixel")
        sigma[index] = level
    return sigma
