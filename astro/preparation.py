"""From a file's image to what the deconvolution takes: sky off, noise known, bad pixels masked, the PSF found."""

import os
import warnings
from dataclasses import dataclass

import numpy as np

from deconjugate.astro.background import background_and_rms, noise_map
from deconjugate.astro.detector import header_gain, header_read_noise, positive_card
from deconjugate.astro.fits import read_frame
from deconjugate.astro.light import check_light
from deconjugate.astro.psf import PSF
from deconjugate.astro.scratch import Scratch, forget, is_mapped, strips
from deconjugate.astro.wcs import pixel_scale_arcsec

PATCH = 7  # pixels of one value, a side, that no noise makes
IMPOSSIBLE = 10.0  # sigmas below the sky beyond which a pixel is bad
TOO_QUIET = 10.0  # times the noise given that the sky scatters
ORDINARY = 1e-8, 1e15  # numbers whose noise has squares, and inverses of these, within single precision


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready to be deconvolved."""

    image: object  # CCDData as it was read, mask complete
    level: np.ndarray  # sky
    sigma: np.ndarray
    saturated: np.ndarray
    psf: object
    psf_name: str
    noise_name: str
    mask_name: str

    @property
    def sources(self):
        """The image without its sky."""
        from astropy.nddata import CCDData

        given = self.image
        data = given.data - self.level
        forget(given.data, self.level)
        return CCDData(data, mask=given.mask, wcs=given.wcs, unit=given.unit, meta=given.meta)

    @property
    def weight(self):
        """1 / sigma^2, zero where bad."""
        bad = np.zeros(self.sigma.shape, bool) if self.image.mask is None else self.image.mask
        weight = np.empty_like(self.sigma)
        for rows in strips(weight):
            weight[rows] = np.where(bad[rows], 0.0, 1.0 / np.where(bad[rows], 1.0, self.sigma[rows]) ** 2)
            forget(self.sigma)
        return weight


def prepare(path, ext, plane, options, scratch=None):
    """Read an image and measure what the deconvolution needs to know of it.

    Parameters
    ----------
    path : str or path
    ext : int or str or None
    plane : int or None
        See :func:`deconjugate.astro.read_image`.
    options : deconjugate.astro.file_options.FileOptions
    scratch : deconjugate.astro.scratch.Scratch, optional
        Makes the arrays that stay.

    Raises
    ------
    OSError, KeyError, ValueError
        See :func:`deconjugate.astro.read_image`, :func:`deconjugate.astro.background.background_and_rms` and
        :meth:`deconjugate.astro.PSF.from_file`; an image without sky coordinates for a width in arcseconds.
    """
    scratch = scratch or Scratch()
    frame = read_frame(
        path,
        ext=ext,
        plane=plane,
        noise=options.noise,
        noise_kind=options.noise_kind,
        mask=options.mask,
        bad_bits=options.bad_bits,
        scratch=scratch,
    )
    image = frame.image
    check_light(image, path)
    _make_room_for_squares(image)
    psf, psf_name = find_psf(options, image.wcs)
    saturation = positive_card(image.meta, "SATURATE") if options.saturation is None else options.saturation
    saturated = np.zeros(image.shape, bool) if saturation is None else image.data >= saturation
    if saturated.any() and not (np.isfinite(image.data) & ~saturated).any():
        given = "SATURATE of the header" if options.saturation is None else "--saturation"
        raise ValueError(f"every pixel is {saturation:g} or more, the saturation level ({given}); give another")
    _mask_too(image, saturated)
    gain = header_gain(image.meta, image.unit) if options.gain == "header" else options.gain
    _mask_too(image, _filled(image))
    level, rms = (x.astype(np.float32, copy=False) for x in background_and_rms(image.data, image.mask, sky=options.sky))
    if options.noise is None:
        rms = np.fmax(rms, np.where(rms > 0.0, 0.0, header_read_noise(image.meta, gain)))
        noise_name = f"noise measured, gain {gain and format(gain, 'g')}"
    else:
        sigma, gain = image.uncertainty.array, None
        noise_name = f"noise {os.path.basename(str(options.noise))}, {frame.noise_kind}"
        if frame.noise_kind == "weight":
            scale = _scale_of_weight(rms, sigma, image.mask)
            sigma, noise_name = sigma * scale, f"{noise_name} times {scale**-2:.6g} to agree with the sky"
        else:
            _compare_with_sky(rms, sigma, image.mask)
        rms = sigma
    _mask_too(image, ~(rms > 0.0))
    sigma = scratch.zeros(image.shape, np.result_type(image.data, np.float32))
    impossible = np.zeros(image.shape, bool)
    for rows in strips(sigma):
        noise = np.where(rms[rows] > 0.0, rms[rows], 1.0)
        sigma[rows] = noise_map(image.data[rows], level[rows], noise, gain=gain, psf_error=options.psf_error)
        # No light explains these: bleeding columns, defects, undershoots of a resampling.
        impossible[rows] = image.data[rows] < level[rows] - IMPOSSIBLE * sigma[rows]
        forget(sigma, image.data)
    _mask_too(image, impossible)
    image.data = scratch.kept(image.data) if scratch.folder and not is_mapped(image.data) else image.data
    if image.mask is not None and image.mask.all():
        raise ValueError("no pixel of the image is good: all are masked, NaN, saturated or without noise")
    bad = 0 if image.mask is None else np.count_nonzero(image.mask)
    mask = None if options.mask is None else os.path.basename(str(options.mask))
    bits = "" if options.bad_bits is None else f" (bits {options.bad_bits})"
    mask_name = f"mask {mask}{bits}, saturation {saturation}: {bad} bad pixels"
    level = scratch.kept(level) if scratch.folder else level
    return Prepared(image, level, sigma, saturated, psf, psf_name, noise_name, mask_name)


def _make_room_for_squares(image):
    """Double precision for numbers such as 1e-18 (erg s-1 cm-2): the squares of their noise underflow in single."""
    if image.data.dtype != np.float32:
        return
    largest = max(
        float(np.abs(image.data[rows]).max(initial=0.0, where=np.isfinite(image.data[rows])))
        for rows in strips(image.data)
    )
    if largest > 0.0 and not ORDINARY[0] < largest < ORDINARY[1]:
        image.data = image.data.astype(np.float64)
        if image.uncertainty is not None:
            image.uncertainty.array = image.uncertainty.array.astype(np.float64)


def find_psf(options, wcs):
    """The PSF that is asked for, and words for it."""
    if isinstance(options.psf, PSF):
        return options.psf, repr(options.psf)
    if options.psf is not None:
        given = {"oversampling": options.psf_oversampling, "ext": options.psf_ext}
        name = os.path.basename(options.psf) + ("" if options.psf_ext is None else f", chip {options.psf_ext}")
        return PSF.from_file(options.psf, pixel_scale=pixel_scale_arcsec(wcs), **given), name
    fwhm_pix = options.fwhm_pix
    if fwhm_pix is None:
        scale = pixel_scale_arcsec(wcs)
        if scale is None:
            raise ValueError(
                "the image has no sky coordinates to turn arcsec into pixels; give the width in pixels (--fwhm-pix)"
            )
        fwhm_pix = options.fwhm_arcsec / scale
    name = f"Moffat, FWHM {fwhm_pix:.3f} pixels, beta {options.beta:g}"
    if options.ellipticity:
        name += f", ellipticity {options.ellipticity:g} at {options.pa:g} degrees"
    return PSF.moffat(fwhm_pix, beta=options.beta, ellipticity=options.ellipticity, pa=options.pa), name


def given_noise(frame, rms):
    """The noise that came with a :class:`deconjugate.astro.fits.Frame`, a weight scaled to the noise of the sky."""
    sigma = frame.image.uncertainty.array
    return sigma * _scale_of_weight(rms, sigma, frame.image.mask) if frame.noise_kind == "weight" else sigma


def _compare_with_sky(rms, sigma, mask):
    """Warn where the noise given is far below the scatter of the sky: most of what is left would pass for light."""
    good = (sigma > 0.0) & (rms > 0.0) & (True if mask is None else ~mask)
    times = float(np.median(rms[good] / sigma[good])) if good.any() else 0.0
    if times > TOO_QUIET:
        warnings.warn(
            f"the sky scatters {times:.0f} times as much as the noise given: is it of another kind (--noise-type)?",
            stacklevel=3,
        )


def _scale_of_weight(rms, sigma, mask):
    """The factor that makes noise of an unknown scale the measured one, in the median."""
    good = np.isfinite(sigma) & (sigma > 0.0) & (rms > 0.0)
    good &= True if mask is None else ~mask
    if not good.any():
        raise ValueError("no pixel of the image is good: the weight is zero where the image is not")
    return float(np.median(rms[good] / sigma[good]))


def _filled(image):
    """Where a border or a gap was filled with one value: it holds no data, and would pass for sky without noise.

    A patch of 7 x 7 pixels of exactly one value; not looked for where numbers are rounded to more than the noise.
    """
    import scipy.ndimage

    data = np.where(np.isfinite(image.data), image.data, 0.0)
    flat = scipy.ndimage.maximum_filter(data, PATCH) == scipy.ndimage.minimum_filter(data, PATCH)
    filled = scipy.ndimage.binary_dilation(flat, np.ones((PATCH, PATCH), bool)) if flat.any() else flat
    new = filled & np.isfinite(image.data) & ~(False if image.mask is None else image.mask)
    good = data[~filled]
    if not new.any() or not good.size:
        return np.zeros(filled.shape, bool)
    steps = np.diff(np.unique(good[:: max(1, good.size // 10000)]))
    scatter = 1.4826 * np.median(np.abs(good - np.median(good)))
    if steps.size and steps.min() > 2.0 * scatter:
        return np.zeros(filled.shape, bool)
    warnings.warn(
        f"{np.count_nonzero(new)} pixels in patches of one value are masked: filled, not observed", stacklevel=3
    )
    return filled


def _mask_too(image, bad):
    if bad.any():
        image.mask = bad if image.mask is None else image.mask | bad
