"""The flux of every source in an aperture of its own, and the smallest change that brings it to that of the data."""

import numpy as np
import scipy.ndimage
import scipy.sparse.linalg

SHARE = 0.95  # of a source's light in its aperture
PRECISION = 1.0  # of a source's flux before it is closed: an aperture that is noisier than this hardly moves it
PASSES = 2  # the second repairs what positivity undid of the first


class Apertures:
    """A circle for every source, around its centroid, that holds 95 per cent of its blurred light.

    .. math:: f_i = \\sum_p h_{ip} (y - A x)_p, \\qquad
              h_{ip} = \\min(1, v_i w_p) \\; / \\; \\Big( \\sum_p \\min(1, v_i w_p)^2 / w_p \\Big)^{1/2}

    is the residual flux of source i in sigmas, summed over its circle; w = 1 / sigma^2. Pixels count alike unless they
    are noisier than the variance v_i where the light is, 1 / v_i being the mean of w over the light: bad ones do not
    count. A pixel belongs to the source that is nearest, so that each pixel is in one aperture at most.

    The shape is a circle although sources are not: an aperture that followed the isophotes of the image would follow
    the noise that is in it, and a flux closed there is too high.

    Parameters
    ----------
    light : (h, w) array
        A x on the frame.
    sources : (h, w) int array
        Sources by number, 0 where there is none.
    weight : (h, w) array
        1 / sigma^2, 0 where bad.

    Example
    -------
    >>> rows, columns = np.indices((21, 31))
    >>> light = np.exp(-0.5 * ((rows - 10) ** 2 + (columns - 12) ** 2) / 2.0**2)
    >>> apertures = Apertures(light, (light > 0.1).astype(int), np.ones(light.shape))
    >>> apertures.measure(light).round(1), int(apertures.shape.astype(bool).sum())
    (array([2.7]), 77)
    """

    def __init__(self, light, sources, weight):
        self.count = int(sources.max())
        if self.count:
            nearest = scipy.ndimage.distance_transform_edt(sources == 0, return_distances=False, return_indices=True)
            self.source = sources[tuple(nearest)].ravel() - 1
            self.shape = self._circles(np.maximum(light, 0.0).astype(np.float64))
            self._weigh(np.maximum(light, 0.0).astype(np.float64).ravel(), weight.astype(np.float64).ravel())
            self.shape = self.shape.reshape(light.shape)

    def measure(self, native):
        """The flux of a native image in every aperture, in sigmas."""
        return self._sums((self.shape * native).ravel())

    def spread(self, fluxes):
        """The adjoint of :meth:`measure`."""
        return self.shape * np.asarray(fluxes)[self.source].reshape(self.shape.shape)

    def _circles(self, light):
        """1 inside of the circles, 0 outside."""
        total = np.maximum(self._sums(light.ravel()), 1e-30)
        radius = 0.0
        for x in np.indices(light.shape):
            radius = radius + (x.ravel() - (self._sums((light * x).ravel()) / total)[self.source]) ** 2
        order = np.lexsort((radius, self.source))
        light, source = light.ravel()[order], self.source[order]
        before = np.cumsum(light) - light - np.append(0.0, np.cumsum(total)[:-1])[source]
        inside = np.empty(light.size)
        inside[order] = before < SHARE * total[source]
        return inside

    def _weigh(self, light, weight):
        good = weight > 0
        variance = self._sums(light) / np.maximum(self._sums(light * weight), 1e-30)
        self.shape *= np.minimum(1.0, variance[self.source] * weight)
        power = self._sums(np.where(good, self.shape**2 / np.where(good, weight, 1.0), 0.0))
        self.shape *= np.where(power > 0, 1.0 / np.sqrt(np.maximum(power, 1e-300)), 0.0)[self.source]

    def _sums(self, values):
        return np.bincount(self.source, values, self.count)


def close_fluxes(model, data, weight, image, metric, sources, floor=None):
    """The image nearest to the given one whose sources have, each in its aperture, the flux of the data.

    .. math:: x \\leftarrow \\max(x + D A^T H^T c, \\; \\text{floor}), \\qquad
              (H A D A^T H^T) \\, c = G H (y - A x), \\quad G_{ii} = \\frac{1}{1 + (0.05 \\, s_i)^{-2}}

    the least change in the metric D; H are the apertures of the blurred image as it is given. G weighs the flux in the
    aperture, of signal to noise s_i, against that of the image, which is good to some per cent by itself. The sum over
    a circle is free of bias where one that is weighted with the image itself is not: light that positivity leaves in
    the outskirts of a faint source has next to no weight there, and up to 2 per cent of flux passes unseen.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : float32 arrays on the padded native grid
    image, metric : float32 arrays on the padded fine grid
    sources : int (h, w) array
    floor : float or array, optional
        Least value of each pixel; default none.

    Returns
    -------
    image : float32 array on the padded fine grid
    fluxes : array
        Residual flux of every source in sigmas, after the change.
    fitted : float32 array on the padded native grid
        A x for it.
    """
    fitted = model.apply(image)
    apertures = Apertures(fitted[model.frame], sources, weight[model.frame])
    if not apertures.count:
        return image, np.zeros(0), fitted

    def change(c):
        return metric * model.adjoint(model.embed(apertures.spread(c.ravel()).astype(image.dtype)))

    def normal(c):
        return apertures.measure(model.apply(change(c))[model.frame])

    n = apertures.count
    system = scipy.sparse.linalg.LinearOperator((n, n), normal, dtype=np.float64)
    diagonal = apertures.measure(apertures.shape * model.apply(metric)[model.frame])
    inverse = scipy.sparse.diags(np.where(diagonal > 0, 1.0 / np.maximum(diagonal, 1e-300), 0.0))
    signal = np.maximum(apertures.measure(fitted[model.frame]), 1e-30)
    left = apertures.measure((data - fitted)[model.frame]) / (1.0 + (PRECISION * signal) ** 2)
    for _ in range(PASSES):
        residual = apertures.measure((data - fitted)[model.frame]) - left
        c, _ = scipy.sparse.linalg.cg(system, residual, rtol=1e-2, maxiter=10, M=inverse)
        image = image + change(c)
        image = image if floor is None else np.maximum(image, floor)
        fitted = model.apply(image)
    return image, apertures.measure((data - fitted)[model.frame]), fitted
