"""How good an image is: the numbers used in the tests and benchmarks, each with its formula."""

import numpy as np


def nmse(image, truth):
    """Normalised mean square error over the last two axes.

    .. math:: ||\\hat x - x||^2 / ||x||^2

    Parameters
    ----------
    image, truth : arrays (..., h, w)

    Returns
    -------
    float, or array of the leading axes; 0 is perfect, 1 no better than an empty image.

    Raises
    ------
    ValueError
        Shapes differ, or a truth is empty.

    Example
    -------
    >>> import numpy as np
    >>> nmse(np.array([[1.0, 1.0]]), np.array([[2.0, 0.0]]))
    0.5
    """
    image, truth = _pair(image, truth)
    scale = np.sum(truth**2, axis=(-2, -1))
    _refuse(scale == 0.0, "truth is zero everywhere; its error has no scale")
    return _plain(np.sum((image - truth) ** 2, axis=(-2, -1)) / scale)


def psnr(image, truth):
    """Peak signal to noise ratio in decibels over the last two axes.

    .. math:: 10 \\log_{10} \\frac{(\\max x)^2}{\\mathrm{mean}\\,(\\hat x - x)^2}

    Parameters and errors as in :func:`nmse`; infinite for a perfect image.

    Example
    -------
    >>> import numpy as np
    >>> round(psnr(np.array([[9.0, 1.0]]), np.array([[10.0, 0.0]])), 6)
    20.0
    """
    image, truth = _pair(image, truth)
    peak = truth.max(axis=(-2, -1))
    _refuse(peak <= 0.0, "truth has no positive peak")
    error = np.mean((image - truth) ** 2, axis=(-2, -1))
    with np.errstate(divide="ignore"):
        return _plain(10.0 * np.log10(peak**2 / error))


def flux_error(image, truth, aperture=None):
    """Signed relative error of the flux over the last two axes.

    .. math:: (\\sum \\hat x - \\sum x) / \\sum x

    Parameters
    ----------
    image, truth : arrays (..., h, w)
    aperture : bool array (h, w), optional
        Where both are summed; default everywhere.

    Raises
    ------
    ValueError
        Shapes differ, or the true flux is zero.

    Example
    -------
    >>> import numpy as np
    >>> flux_error(np.full((2, 2), 1.5), np.ones((2, 2)))
    0.5
    """
    image, truth = _pair(image, truth)
    if aperture is not None:
        image, truth = np.where(aperture, image, 0.0), np.where(aperture, truth, 0.0)
    flux = truth.sum(axis=(-2, -1))
    _refuse(flux == 0.0, "the true flux is zero; its error has no scale")
    return _plain((image.sum(axis=(-2, -1)) - flux) / flux)


def reduced_chi2(residual, mask=None):
    """Mean square of a residual given in sigmas, over its good pixels.

    .. math:: \\chi^2 / N = \\frac1N \\sum_i \\left( \\frac{y_i - (A x)_i}{\\sigma_i} \\right)^2

    Parameters
    ----------
    residual : array (h, w)
    mask : bool array (h, w), optional
        True = bad.

    Raises
    ------
    ValueError
        No pixel is good.

    Example
    -------
    >>> import numpy as np
    >>> reduced_chi2(np.array([[1.0, -1.0, 50.0]]), np.array([[False, False, True]]))
    1.0
    """
    residual = np.asarray(residual, dtype=np.float64)
    good = np.ones(residual.shape, bool) if mask is None else ~np.asarray(mask, dtype=bool)
    if not good.any():
        raise ValueError("no pixel of the residual is good: all are masked")
    return float(np.mean(residual[good] ** 2))


def scatter(values):
    """Robust standard deviation, from the median absolute deviation.

    .. math:: 1.4826 \\; \\mathrm{median} \\, | v - \\mathrm{median}\\, v |

    Example
    -------
    >>> scatter([-1.0, 0.0, 1.0, 1e6])
    1.4826
    """
    values = np.asarray(values, dtype=np.float64)
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _pair(image, truth):
    image, truth = np.asarray(image, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if image.shape != truth.shape or image.ndim < 2:
        raise ValueError(f"image has shape {image.shape}, truth {truth.shape}; give two equal shapes (..., h, w)")
    return image, truth


def _refuse(wrong, message):
    if np.any(wrong):
        raise ValueError(message)


def _plain(value):
    return float(value) if np.ndim(value) == 0 else value
