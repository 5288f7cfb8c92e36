"""Over how much of an image a PSF that varies may be taken for one."""

import numpy as np

PLACES = 5  # along each axis of the image, where its change is looked at


def patch(psf, shape, *, tolerance=0.02):
    """Side of the squares, in native pixels, over which the PSF may be taken for that in their middle.

    .. math:: \\| p(x + d) - p(x) \\|_1 \\leq \\text{tolerance}, \\quad |d_1|, |d_2| \\leq \\text{side} / 2

    to first order in d, where the PSF changes fastest of 5 x 5 places.

    Parameters
    ----------
    psf : deconjugate.astro.PSF
    shape : (rows, columns)
        Of the image, native pixels.
    tolerance : float, > 0
        Larger values mean larger squares.

    Returns
    -------
    float
        Infinity for a PSF that does not vary.

    Raises
    ------
    ValueError
        tolerance is not positive.

    Example
    -------
    >>> from deconjugate.astro import PSF
    >>> patch(PSF.moffat(3.5), (1000, 1000))
    inf
    """
    if not (np.isfinite(tolerance) and tolerance > 0.0):
        raise ValueError(f"tolerance is {tolerance}; give a change of the PSF, positive, 0.02 is usual")
    if not psf.varies:
        return float("inf")
    step = [max(n - 1, 1) / PLACES for n in shape[::-1]]
    middles = [(np.arange(PLACES) + 0.5) * s for s in step]
    fastest = 0.0
    for place in np.stack(np.meshgrid(*middles), axis=-1).reshape(-1, 2):
        change = 0.0
        for axis in (0, 1):
            away = 0.5 * step[axis] * np.eye(2)[axis]
            ends = [psf.fine(1, position=place + sign * away) for sign in (1, -1)]
            change += np.abs(_difference(*ends)).sum() / step[axis]
        fastest = max(fastest, change)
    return 2.0 * tolerance / fastest if fastest else float("inf")


def _difference(one, other):
    """Of two arrays of odd sizes with a common middle."""
    shape = np.maximum(one.shape, other.shape)
    one, other = (np.pad(a, [((n - k) // 2,) * 2 for n, k in zip(shape, a.shape)]) for a in (one, other))
    return one - other
