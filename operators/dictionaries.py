"""What every dictionary of image atoms offers: the starlet and the wavelets under one face, chosen by name."""

from abc import abstractmethod

import numpy as np

from deconjugate.operators.base import LinearOperator


class Dictionary(LinearOperator):
    """Analysis transform W of 2-D images whose coefficients fall into planes, finest first and the coarse one last.

    A subclass sets ``n_scales`` and writes ``noise_std``, ``redundancy``, ``noise_planes``, ``reconstruct`` and
    ``expand`` beside the two maps of a linear operator.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.operators import Starlet
    >>> W = Starlet((33, 41), n_scales=3)
    >>> noise = np.random.default_rng(0).standard_normal((33, 41))
    >>> planes = W.apply(noise)
    >>> isinstance(W, Dictionary), len(planes), bool(np.allclose(W.reconstruct(planes), noise))
    (True, 4, True)
    >>> support = W.multiresolution_support(noise, 1.0, k_sigma=5.0)
    >>> int(support[:-1].sum()), bool(support[-1].all())
    (0, True)
    """

    n_scales: int

    @abstractmethod
    def reconstruct(self, planes):
        """The image whose transform is ``planes``, for planes (..., \\*range_shape)."""

    @abstractmethod
    def noise_std(self):
        """Standard deviation per plane of the transform of white noise of unit variance, (planes,) float64."""

    @abstractmethod
    def redundancy(self):
        """How many coefficients of a plane tell of white noise as much as one independent number, (planes,) float64.

        .. math:: A_j = \\mathrm{mean}_k \\sum_l \\rho_{kl}^2, \\qquad
                  \\mathrm{Var}\\, ||w_j||^2 = 2 A_j n_j \\sigma_j^4

        for n_j coefficients of deviation sigma_j and correlations rho: 1 where they are independent.
        """

    @abstractmethod
    def noise_planes(self, noise_map):
        """Standard deviation of every coefficient, ``range_shape``, for independent pixel noise of the given map."""

    @abstractmethod
    def expand(self, values):
        """One value per plane, (planes,), as an array that broadcasts to ``range_shape``."""

    def multiresolution_support(self, data, sigma, k_sigma=3.0):
        """Which coefficients stand out of the noise.

        .. math:: M_{j,k} = |w_{j,k}| > k_\\sigma \\sigma_{j,k}; \\quad \\text{the coarse plane is always kept}

        Parameters
        ----------
        data : array of ``domain_shape``, or (..., \\*range_shape)
            An image, or its transform.
        sigma : float, array of ``domain_shape``, (planes,) or ``range_shape``
            Pixel noise, one value or a map; or the standard deviation of the coefficients, one per plane or each.
        k_sigma : float or (n_scales,), > 0
            Threshold in sigmas, one or one per scale, finest first; larger keeps fewer coefficients.

        Returns
        -------
        bool array, the shape of the transform

        Raises
        ------
        ValueError
            Shapes do not fit, or sigma or k_sigma are not positive.
        """
        planes = np.asarray(data)
        if planes.shape == self.domain_shape:
            planes = self.apply(planes)
        check_trailing(planes, "data", self.range_shape)
        std = self.noise_std()
        sigma = np.asarray(sigma, dtype=np.float64)
        if not np.all(sigma >= 0):
            raise ValueError("sigma has values that are negative or NaN; give a standard deviation, >= 0")
        if sigma.ndim == 0:
            sigma = self.expand(sigma * std)
        elif sigma.shape == self.domain_shape:
            sigma = self.noise_planes(sigma)
        elif sigma.shape == std.shape:
            sigma = self.expand(sigma)
        elif sigma.shape != self.range_shape:
            raise ValueError(
                f"sigma has shape {sigma.shape}; give a number, a map {self.domain_shape}, one value per plane "
                f"{std.shape} or one per coefficient {self.range_shape}"
            )
        k_sigma = np.asarray(k_sigma, dtype=np.float64)
        if k_sigma.shape not in ((), (self.n_scales,)) or not np.all(k_sigma > 0):
            raise ValueError(
                f"k_sigma is {k_sigma}; give one positive number, or one for each of {self.n_scales} scales"
            )
        orientations = (std.size - 1) // self.n_scales
        k_planes = np.repeat(np.broadcast_to(k_sigma, self.n_scales), orientations)
        coarse = self.expand(np.arange(std.size) == std.size - 1)
        support = np.abs(planes) > self.expand(np.append(k_planes, 0.0)) * sigma
        return np.logical_or(support, coarse, out=support)


def dictionary(name, shape, n_scales):
    """A dictionary by its name.

    Parameters
    ----------
    name : str
        "starlet"; an orthogonal wavelet of PyWavelets such as "haar", "db4", "sym8" or "coif2" for its stationary
        (undecimated) transform; "orthogonal-db4" and so on for the decimated one, which is faster and leaves blocks.
    shape : (int, int)
        Height and width of the images.
    n_scales : int, >= 1

    Returns
    -------
    Dictionary

    Raises
    ------
    ValueError
        The name is none of these.

    Example
    -------
    >>> dictionary("db4", (31, 37), 3).noise_std()[[0, -1]].round(9).tolist()
    [0.5, 0.125]
    """
    from deconjugate.operators.starlet import Starlet
    from deconjugate.operators.wavelet import OrthogonalWavelet, StationaryWavelet

    if name == "starlet":
        return Starlet(shape, n_scales)
    if isinstance(name, str) and name.startswith("orthogonal-"):
        return OrthogonalWavelet(shape, n_scales, name.removeprefix("orthogonal-"))
    return StationaryWavelet(shape, n_scales, name)


def check_trailing(array, name, shape):
    if array.shape[-len(shape) :] != shape:
        raise ValueError(f"{name} has shape {array.shape}; its trailing axes must be {shape}")


def checked_shape(shape):
    shape = tuple(shape)
    if len(shape) != 2 or any(int(n) != n or n < 2 for n in shape):
        raise ValueError(f"shape is {shape}; give the (height, width) of an image of at least 2 x 2 pixels")
    return int(shape[0]), int(shape[1])


def checked_scales(n_scales, shape):
    largest = int(np.log2(min(shape)))
    if int(n_scales) != n_scales or not 1 <= n_scales <= largest:
        raise ValueError(f"n_scales is {n_scales}; images of shape {shape} allow an integer from 1 to {largest}")
    return int(n_scales)


def checked_variance(noise_map, shape):
    noise_map = np.asarray(noise_map, dtype=np.float64)
    if noise_map.shape != shape:
        raise ValueError(f"noise_map has shape {noise_map.shape}; this transform takes {shape}")
    bad = int(np.count_nonzero(~(np.isfinite(noise_map) & (noise_map >= 0))))
    if bad:
        raise ValueError(f"noise_map has {bad} values that are negative or not finite; set them to a real 1 sigma")
    return noise_map**2
