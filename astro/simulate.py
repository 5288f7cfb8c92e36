"""Scenes with a known truth: what a ground telescope would have made of a sharper image."""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from deconjugate.astro.psf import PSF, check_psf_array
from deconjugate.astro.shape import GAUSSIAN_FWHM
from deconjugate.operators.convolution import Binning, Convolution

TARGET_FWHM = 2.0  # fine pixels: the sharpest image that the fine grid samples properly
NOISE_KINDS = ("white", "poisson", "correlated")


@dataclass(frozen=True, eq=False)
class Scene:
    """A simulated observation; arrays may carry leading axes, one scene per image.

    Example
    -------
    >>> sky = np.zeros((40, 60))
    >>> sky[20, 30] = 1.0
    >>> scene = simulate(sky, target_psf(fwhm_pix=5.0), peak_snr=50, seed=1)
    >>> scene.data.shape, scene.truth.shape, bool(abs(scene.noiseless.sum() - scene.truth.sum()) < 1e-9)
    ((20, 30), (40, 60), True)
    """

    data: np.ndarray  # y, (..., h, w) native pixels; NaN where masked
    noise_map: np.ndarray  # 1 sigma per native pixel
    mask: np.ndarray  # True = bad
    noiseless: np.ndarray  # D (p * sky) + background
    truth: np.ndarray  # r * sky + background / upsample^2, (..., upsample h, upsample w) fine pixels
    psf: np.ndarray  # p on the fine grid, sum 1
    upsample: int


def simulate(
    sky,
    psf,
    *,
    upsample=2,
    peak_snr=None,
    sigma=None,
    noise="white",
    shot_fraction=0.5,
    correlation_fwhm=1.5,
    background=0.0,
    shift=(0.0, 0.0),
    margin=0,
    bad_fraction=0.0,
    seed=0,
):
    """The ground view of a sharp image, with its noise, its PSF and the truth that a deconvolution should give.

    .. math:: y = D(p * s) + b + n, \\qquad x = r * s + b / u^2

    s is the sky, D the sum over u x u fine pixels, r the Gaussian of FWHM 2 fine pixels. Peak SNR is the largest
    noiseless native pixel, background apart, over the sigma of the noise in that pixel.

    The sky is taken as it is. Where its own sky is exactly zero, as in the CANDELS stamps whose surroundings were cut
    away, the noise given here is all the noise there is, and a method trained on such scenes alone learns that the sky
    is empty: give a ``background``, or add galaxies with a real one.

    Parameters
    ----------
    sky : array (..., H, W)
        Sharp image; one of its pixels is one fine pixel, so with ``upsample=2`` a native pixel has twice its size.
        Rows and columns at the end that do not fill a native pixel are left out. Float32 stays float32.
    psf : PSF, or array (odd, odd)
        A :class:`deconjugate.astro.PSF` in native pixels; or p itself, on the fine grid, centred on its middle pixel.
    upsample : int, >= 1
        Fine pixels per native pixel, along each axis.
    peak_snr : float, > 0
        Larger means less noise. Give this or ``sigma``.
    sigma : float, > 0
        The noise itself, where a peak means nothing (empty sky): that of the sky, or with "poisson" of a pixel without
        source.
    noise : "white", "poisson" or "correlated"
        "white": Gaussian, one sigma. "poisson": photons of the source over uniform read and sky noise. "correlated":
        Gaussian, smoothed as a resampled image is, each pixel with the stated sigma.
    shot_fraction : float, in (0, 1]
        "poisson": share of the source's photons in the variance of the brightest pixel.
    correlation_fwhm : float, > 0
        "correlated": FWHM in native pixels of the Gaussian that the noise was smoothed with.
    background : float
        Counts per native pixel added to data and truth.
    shift : (float, float)
        The sky is moved by so many fine pixels, down and right, before anything else; fractions are exact for skies of
        point sources, since p and r are moved instead.
    margin : int, >= 0
        Native pixels cut from every side at the end, so that light from outside enters the frame and sources are cut
        by its edges, as in a real exposure. Without it the sky is empty outside.
    bad_fraction : float, in [0, 1)
        Share of native pixels that are bad, at random: True in the mask, NaN in the data.
    seed : int or numpy.random.Generator

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        A parameter outside its interval; a sky that is not finite; both or neither of peak_snr and sigma; a peak SNR of
        a sky without light.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF, simulate
    >>> sky = np.zeros((64, 80))
    >>> sky[30, 41] = 1000.0
    >>> scene = simulate(sky, PSF.moffat(3.5), upsample=2, peak_snr=50, seed=1)
    >>> scene.data.shape, scene.truth.shape
    ((32, 40), (64, 80))
    >>> round(float(scene.noiseless.max() / scene.noise_map[0, 0]), 6)
    50.0
    """
    sky = np.asarray(sky)
    if sky.ndim < 2 or sky.dtype.kind not in "fiub":
        raise ValueError(f"sky is {sky.dtype} of shape {sky.shape}; give a real image (..., height, width)")
    if not np.isfinite(sky).all():
        raise ValueError(f"sky has {np.count_nonzero(~np.isfinite(sky))} pixels that are not finite; fill them first")
    if (peak_snr is None) == (sigma is None):
        raise ValueError(f"peak_snr is {peak_snr} and sigma is {sigma}; give one of the two")
    if noise not in NOISE_KINDS:
        raise ValueError(f"noise is {noise!r}; it must be one of {', '.join(NOISE_KINDS)}")
    for name, value, low, high in (
        ("peak_snr", peak_snr, 0.0, np.inf),
        ("sigma", sigma, 0.0, np.inf),
        ("shot_fraction", shot_fraction, 0.0, 1.0),
        ("correlation_fwhm", correlation_fwhm, 0.0, np.inf),
    ):
        if value is not None and not low < value <= high:
            raise ValueError(f"{name} is {value}; it must be positive{'' if high == np.inf else f', at most {high:g}'}")
    if not 0.0 <= bad_fraction < 1.0:
        raise ValueError(f"bad_fraction is {bad_fraction}; it must lie in [0, 1)")
    if upsample != int(upsample) or upsample < 1:
        raise ValueError(f"upsample is {upsample}; it must be a positive integer")
    native_shape = tuple(n // upsample for n in sky.shape[-2:])
    if margin != int(margin) or margin < 0 or min(native_shape) <= 2 * margin:
        raise ValueError(f"margin is {margin}; a frame of {native_shape} native pixels must keep some of them")
    rng = np.random.default_rng(seed)

    fine_shape = tuple(n * upsample for n in native_shape)
    sky = sky[..., : fine_shape[0], : fine_shape[1]]
    p = psf.fine(upsample) if isinstance(psf, PSF) else _fine_array(psf)
    inside = slice(margin, -margin or None)
    fine_inside = slice(margin * upsample, -margin * upsample or None)
    blur = Binning(fine_shape, upsample) @ Convolution(fine_shape, _moved(p, shift))
    signal = blur.apply(sky)[..., inside, inside]
    truth = Convolution(fine_shape, target_psf(shift)).apply(sky)[..., fine_inside, fine_inside]

    peak = signal.max(axis=(-2, -1), keepdims=True)
    if peak_snr is not None and not np.all(peak > 0.0):
        raise ValueError(f"the brightest blurred pixel is {peak.min():g}: peak_snr has no meaning, give sigma")
    if noise == "poisson":
        noise_map, deviation = _poisson_noise(signal, peak, peak_snr, sigma, shot_fraction, rng)
    else:
        level = peak / peak_snr if sigma is None else np.asarray(sigma, signal.dtype)
        noise_map = np.broadcast_to(level, signal.shape).astype(signal.dtype)
        deviation = noise_map * rng.standard_normal(signal.shape, dtype=signal.dtype)
        if noise == "correlated":
            deviation = _correlation(signal.shape[-2:], correlation_fwhm).apply(deviation)

    mask = rng.random(signal.shape) < bad_fraction
    noiseless = signal + signal.dtype.type(background)
    return Scene(
        data=np.where(mask, signal.dtype.type(np.nan), noiseless + deviation),
        noise_map=noise_map,
        mask=mask,
        noiseless=noiseless,
        truth=truth + truth.dtype.type(background / upsample**2),
        psf=p,
        upsample=int(upsample),
    )


def target_psf(shift=(0.0, 0.0), *, fwhm_pix=TARGET_FWHM):
    """The target resolution r: a Gaussian sampled on the fine grid, (odd, odd), sum 1, centred on its middle pixel.

    Parameters
    ----------
    shift : (float, float)
        Fine pixels by which the peak lies below and to the right of the centre.
    fwhm_pix : float, > 0
        FWHM in fine pixels.

    Example
    -------
    >>> r = target_psf()
    >>> middle = r.shape[0] // 2
    >>> bool(abs(r.sum() - 1) < 1e-12), round(float(r[middle, middle + 1] / r[middle, middle]), 3)  # half at one pixel
    (True, 0.5)
    """
    std = fwhm_pix / GAUSSIAN_FWHM
    half = int(np.ceil(6.5 * std + np.abs(shift).max()))
    rows, columns = (np.exp(-0.5 * ((np.arange(-half, half + 1) - d) / std) ** 2) for d in shift)
    return np.outer(rows / rows.sum(), columns / columns.sum())


def scatter_sources(images, shape, n_sources, *, seed=0):
    """A sky with sources from a list of images: chosen, flipped, turned by quarters and placed at random.

    Parameters
    ----------
    images : sequence of arrays (h, w)
        Sources on an empty sky, each of any size; what falls outside the frame is cut.
    shape : (int, int)
        Fine pixels of the sky.
    n_sources : int, >= 0
        0 gives an empty sky.
    seed : int or numpy.random.Generator

    Returns
    -------
    array of ``shape``

    Example
    -------
    >>> import numpy as np
    >>> sky = scatter_sources([np.ones((3, 5))], (40, 50), 4, seed=1)
    >>> sky.shape, float(sky.max()) >= 1.0
    ((40, 50), True)
    """
    if n_sources != int(n_sources) or n_sources < 0:
        raise ValueError(f"n_sources is {n_sources}; it must be an integer, 0 or more")
    if n_sources and not len(images):
        raise ValueError("images is empty; give at least one source")
    rng = np.random.default_rng(seed)
    sky = np.zeros(shape, np.result_type(np.float32, *images))
    for _ in range(n_sources):
        image = random_flip(images[rng.integers(len(images))], seed=rng)
        corner = [int(rng.integers(n)) - k // 2 for n, k in zip(shape, image.shape)]
        here = tuple(slice(max(c, 0), max(c + k, 0)) for c, k in zip(corner, image.shape))
        part = sky[here]
        there = tuple(slice(max(-c, 0), max(-c, 0) + k) for c, k in zip(corner, part.shape))
        part += image[there]
    return sky


def random_flip(image, *, seed=0):
    """One of the eight flips and quarter turns of an image (..., h, w), at random.

    Example
    -------
    >>> random_flip(np.arange(6).reshape(2, 3), seed=4).tolist()
    [[3, 4, 5], [0, 1, 2]]
    """
    rng = np.random.default_rng(seed)
    image = np.rot90(image, rng.integers(4), axes=(-2, -1))
    return image[..., ::-1] if rng.integers(2) else image


def _fine_array(psf):
    p = check_psf_array(psf)
    if any(n % 2 == 0 for n in p.shape):
        raise ValueError(f"psf has shape {p.shape}; p on the fine grid has odd sides, its centre in the middle pixel")
    return p / p.sum()


def _moved(kernel, shift):
    """The kernel moved by (rows, columns), fractions by band-limited interpolation; its size grows to hold it."""
    if not np.any(shift):
        return kernel
    pad = int(np.ceil(np.abs(shift).max())) + 4
    kernel = np.pad(kernel, pad)
    rows, columns = (f(n) * d for f, n, d in zip((scipy.fft.fftfreq, scipy.fft.rfftfreq), kernel.shape, shift))
    phase = np.exp(-2j * np.pi * (rows[:, None] + columns))
    return scipy.fft.irfft2(scipy.fft.rfft2(kernel) * phase, kernel.shape)


def _poisson_noise(signal, peak, peak_snr, sigma, shot_fraction, rng):
    """Map and draw of var = uniform + signal / gain, with the share of the second term at the peak as asked."""
    light = np.maximum(signal, 0.0)
    if sigma is None:
        variance_at_peak = (peak / peak_snr) ** 2
        uniform, shot = (1.0 - shot_fraction) * variance_at_peak, shot_fraction * variance_at_peak
    else:
        if shot_fraction == 1.0:
            raise ValueError(
                "shot_fraction is 1 and sigma is given: no noise would be left without light; give peak_snr"
            )
        uniform, shot = sigma**2, sigma**2 * shot_fraction / (1.0 - shot_fraction)
    lit = peak > 0.0
    count = np.where(lit, shot / np.where(lit, peak, 1.0), 1.0)  # signal per detected photon
    deviation = rng.poisson(light / count) * count - light + np.sqrt(uniform) * rng.standard_normal(signal.shape)
    return np.sqrt(uniform + light * count).astype(signal.dtype), deviation.astype(signal.dtype)


def _correlation(shape, fwhm):
    """Smoothing that keeps the variance of white noise; periodic, so that it is the same in every pixel."""
    kernel = target_psf(fwhm_pix=fwhm)
    trim = [max(0, (k - n) // 2 + (k - n) % 2) for k, n in zip(kernel.shape, shape)]
    kernel = kernel[tuple(slice(t, k - t) for t, k in zip(trim, kernel.shape))]
    return Convolution(shape, kernel / np.linalg.norm(kernel), boundary="periodic")
