"""The flags of a deconvolved image: extension DQ."""

import numpy as np

MASKED, EDGE, UNCONFIRMED, SATURATED = 1, 2, 4, 8
MEANINGS = {
    MASKED: "no data: masked, not finite, without noise",
    EDGE: "edge: less than 90 % of its light was seen",
    UNCONFIRMED: "structure that only the guess shows",
    SATURATED: "saturated in the input",
}
SEEN = 0.9  # of a source's light that must fall into the frame for it not to be flagged as at the edge


def flags(result, psf, weight, *, upsample, saturated=None, k_sigma=3.0):
    """Flags of every fine pixel, a sum of bits.

    1, MASKED: the data below have no weight; what is there comes from the surroundings.
    2, EDGE: less than 0.9 of the light of a source there falls into the frame.
    4, UNCONFIRMED: structure finer than the PSF that only the guess (the network) shows. With d the detail of the image
    x, G a Gaussian as wide as the PSF and h the height of a point source as bright as its one-sigma flux,

    .. math:: d = x - G * x > h, \\qquad \\Big( \\sum_{\\text{PSF}} W (A d)^2 \\Big)^{1/2} < k_\\sigma

    taking the detail away changes the data by less than k_sigma: they fit as well without it.
    8, SATURATED: the data below are saturated (and masked).

    Parameters
    ----------
    result : DeconvolutionResult
        Of one frame.
    psf : (odd, odd) array
        p on the fine grid.
    weight : (h, w) array
        1 / sigma^2 of the native frame, 0 where bad.
    upsample : int
    saturated : (h, w) bool array, optional
    k_sigma : float, > 0

    Returns
    -------
    (H, W) int16 array

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF, deconvolve, simulate
    >>> sky = np.zeros((96, 128))
    >>> sky[40, 60] = 1.0
    >>> scene = simulate(sky, PSF.moffat(3.5), peak_snr=200, seed=1)
    >>> result = deconvolve(scene.data, PSF.moffat(3.5), noise=scene.noise_map, network=None)
    >>> found = flags(result, PSF.moffat(3.5).fine(2), scene.noise_map**-2.0, upsample=2)
    >>> int(found[40, 60]), int(found[0, 60]) & EDGE
    (0, 2)
    """
    image = result.stages["debiased"]
    found = np.zeros(image.shape, np.int16)
    found[_finer(weight == 0, upsample)] |= MASKED
    found[_share_within(image.shape, psf) < SEEN] |= EDGE
    found[_unconfirmed(image, psf, weight, upsample, k_sigma)] |= UNCONFIRMED
    if saturated is not None:
        found[_finer(saturated, upsample)] |= SATURATED
    return found


def one_sigma_height(psf, weight, upsample):
    """Height in the image of a point source as bright as its one-sigma flux, per native pixel; bad ones typical."""
    from deconjugate.astro.simulate import target_psf
    from deconjugate.astro.uncertainty import native_psf

    good = weight > 0
    sigma = 1.0 / np.sqrt(np.where(good, weight, np.median(weight[good])))
    return target_psf().max() * sigma / np.sqrt(np.square(native_psf(psf, upsample)).sum())


def flag_cards(header):
    """Say in a header what the bits mean."""
    for bit, meaning in MEANINGS.items():
        header[f"DQBIT{bit.bit_length() - 1}"] = (bit, meaning)


def _unconfirmed(image, psf, weight, upsample, k_sigma):
    import scipy.ndimage
    import scipy.signal

    from deconjugate.astro.forward import kernel_to_target
    from deconjugate.astro.simulate import target_psf

    width = np.sqrt(1.0 / (4.0 * np.pi * np.sum(psf**2)))  # sigma of a Gaussian with its noise-equivalent area
    detail = image - scipy.ndimage.gaussian_filter(image, width, mode="nearest", truncate=3.0)
    kernel, _ = kernel_to_target(psf, target_psf())
    seen = scipy.signal.oaconvolve(detail, kernel.astype(np.float32), mode="same")
    native = seen.reshape(weight.shape[0], upsample, weight.shape[1], upsample).sum((1, 3))
    side = 2 * int(np.ceil(width / upsample)) + 1
    power = side**2 * scipy.ndimage.uniform_filter(weight * native**2, side, mode="constant")
    unseen = _finer(power < k_sigma**2, upsample)
    return unseen & (detail > _finer(one_sigma_height(psf, weight, upsample), upsample))


def _share_within(shape, psf):
    """Share of the light of a source in every pixel that falls into the frame."""
    sums = np.pad(psf, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    ends = []
    for n, k in zip(shape, psf.shape):
        i = np.arange(n)
        ends.append((np.clip(k // 2 - i, 0, k), np.clip(k // 2 - i + n, 0, k)))
    (top, bottom), (left, right) = ends
    corners = sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)]
    return corners - sums[np.ix_(bottom, left)] + sums[np.ix_(top, left)]


def _finer(native, upsample):
    return np.repeat(np.repeat(native, upsample, 0), upsample, 1)
