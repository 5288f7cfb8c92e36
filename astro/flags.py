"""The flags of a deconvolved image: extension DQ."""

import numpy as np

from deconjugate.astro.scratch import Scratch, forget

MASKED, EDGE, UNCONFIRMED, SATURATED = 1, 2, 4, 8
MEANINGS = {
    MASKED: "no data: masked, not finite, without noise",
    EDGE: "edge: less than 90 % of its light was seen",
    UNCONFIRMED: "structure that only the guess shows",
    SATURATED: "saturated in the input",
}
STRIP = 512, 2**21  # native rows at a time, and pixels: a large frame takes no more memory than a small one
SEEN = 0.9  # of a source's light that must fall into the frame for it not to be flagged as at the edge


def flags(result, psf, weight, *, upsample, saturated=None, k_sigma=3.0, scratch=None):
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
    scratch : deconjugate.astro.scratch.Scratch, optional
        Makes the array.

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
    found = (scratch or Scratch()).zeros(image.shape, np.int16)
    edges = [_cut(n, k) for n, k in zip(image.shape, psf.shape)]
    sums = np.pad(psf, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    search = _Search(psf, weight, upsample, k_sigma)
    step = max(1, min(STRIP[0], STRIP[1] // weight.shape[1]))
    for start in range(0, weight.shape[0], step):
        rows = slice(start, min(start + step, weight.shape[0]))
        strip = found[rows.start * upsample : rows.stop * upsample]
        strip[_finer(weight[rows] == 0, upsample)] |= MASKED
        low, high = (end[rows.start * upsample : rows.stop * upsample] for end in edges[0])
        strip[_share_within(sums, (low, high), edges[1]) < SEEN] |= EDGE
        strip[search.unconfirmed(image, weight, rows)] |= UNCONFIRMED
        if saturated is not None:
            strip[_finer(saturated[rows], upsample)] |= SATURATED
        forget(found, image)
    return found


def flag_cards(header):
    """Say in a header what the bits mean."""
    for bit, meaning in MEANINGS.items():
        header[f"DQBIT{bit.bit_length() - 1}"] = (bit, meaning)


class _Search:
    """What the search for unconfirmed structure knows of the PSF and the noise."""

    def __init__(self, psf, weight, upsample, k_sigma):
        from deconjugate.astro.forward import kernel_to_target
        from deconjugate.astro.simulate import target_psf
        from deconjugate.astro.uncertainty import native_psf

        target = target_psf()
        self.upsample, self.k_sigma = upsample, k_sigma
        self.kernel = kernel_to_target(psf, target)[0].astype(np.float32)
        self.width = np.sqrt(1.0 / (4.0 * np.pi * np.sum(psf**2)))  # sigma of a Gaussian with its noise-equivalent area
        self.side = 2 * int(np.ceil(self.width / upsample)) + 1
        self.margin = -(-(self.kernel.shape[0] // 2 + int(3.0 * self.width + 1)) // upsample) + self.side
        # Height of a point source as bright as its one-sigma flux, in units of the noise of a native pixel.
        self.height = target.max() / np.sqrt(np.square(native_psf(psf, upsample)).sum())
        self.typical = np.median(weight[weight > 0])

    def unconfirmed(self, image, weight, rows):
        """Which fine pixels of some native rows hold structure that the data do not show; see :func:`flags`."""
        import scipy.ndimage
        import scipy.signal

        u, low, high = self.upsample, max(rows.start - self.margin, 0), min(rows.stop + self.margin, len(weight))
        image, weight = image[low * u : high * u], weight[low:high]
        detail = image - scipy.ndimage.gaussian_filter(image, self.width, mode="nearest", truncate=3.0)
        fitted = scipy.signal.oaconvolve(detail, self.kernel, mode="same")
        fitted = fitted.reshape(weight.shape[0], u, weight.shape[1], u).sum((1, 3))
        power = self.side**2 * scipy.ndimage.uniform_filter(
            np.square(np.sqrt(weight) * fitted), self.side, mode="constant"
        )
        height = self.height / np.sqrt(np.where(weight > 0, weight, self.typical))
        found = _finer(power < self.k_sigma**2, u) & (detail > _finer(height, u))
        return found[(rows.start - low) * u : (rows.stop - low) * u]


def _cut(n, size):
    """Per pixel of an axis, the first and the end of the samples of a PSF centred there that fall into it."""
    i = np.arange(n)
    return np.clip(size // 2 - i, 0, size), np.clip(size // 2 - i + n, 0, size)


def _share_within(sums, rows, columns):
    """Share of the light of a source in every pixel that falls into the frame."""
    (top, bottom), (left, right) = rows, columns
    corners = sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)]
    return corners - sums[np.ix_(bottom, left)] + sums[np.ix_(top, left)]


def _finer(native, upsample):
    return np.repeat(np.repeat(native, upsample, 0), upsample, 1)
