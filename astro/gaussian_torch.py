"""Gaussian smoothing of a batch of images as two products with small matrices."""

from functools import lru_cache

import numpy as np
import scipy.ndimage
import torch


def gaussian_filter(images, width, *, mode="reflect"):
    """What :func:`scipy.ndimage.gaussian_filter` makes of each image: G x G^T.

    Parameters
    ----------
    images : tensor (N, H, W)
    width : float
        Standard deviation in pixels.
    mode : "reflect" or "constant"
        How the images go on beyond their edges.

    Example
    -------
    >>> images = torch.zeros(1, 9, 7)
    >>> images[0, 4, 3] = 1.0
    >>> round(float(gaussian_filter(images, 1.0)[0, 4, 3]), 3)
    0.159
    """
    rows, columns = (_matrix(n, width, mode, images.dtype, images.device) for n in images.shape[-2:])
    return rows @ images @ columns.mT


@lru_cache(maxsize=32)
def _matrix(n, width, mode, dtype, device):
    matrix = scipy.ndimage.gaussian_filter1d(np.eye(n), width, axis=0, mode=mode)
    return torch.from_numpy(matrix).to(device, dtype)
