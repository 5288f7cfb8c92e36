"""The extensions of a deconvolved file: SCI, ERR, DQ, RESIDUAL, PSF, SUPPORT."""

import warnings
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from deconjugate.astro.cards import derived_header, with_third_axis
from deconjugate.astro.explained import SATURATED, SHARP
from deconjugate.astro.flags import MASKED, flag_cards, flags
from deconjugate.astro.scratch import Scratch, forget, strips

WRITTEN = ("SCI", "ERR", "DQ", "RESIDUAL", "PSF", "SUPPORT")
PIXEL_SIDES = ("PIXSCALE", "SECPIX", "SECPIX1", "SECPIX2", "PIXSCAL1", "PIXSCAL2")  # headers' own words for the scale
PIXEL_AREAS = ("PIXAR_SR", "PIXAR_A2")

SUSPECT_CHI2, SUSPECT_FLUX = 10.0, 0.1  # beyond these the result is not to be used without a look
SUSPECT_RESIDUAL = 10.0  # sigmas; of what is as smooth as the PSF the steps leave less
IDLE_CHI2 = 0.1  # below this the noise cannot be the image's, neighbours that share theirs included


@dataclass(frozen=True, eq=False)
class Product:
    """One deconvolved image with what was said of its input."""

    prepared: object  # deconjugate.astro.preparation.Prepared
    result: object  # DeconvolutionResult, its image with sky, unit and header of the input
    psf: np.ndarray  # p on the fine grid
    conserved: str  # "counts" or "surface brightness"
    flags: np.ndarray


def product(prepared, result, options, scratch=None):
    """Give the fine image the sky, the unit and the header of the input, and find its flags.

    ``scratch``, a :class:`deconjugate.astro.scratch.Scratch`, makes the arrays where there is one.

    Raises
    ------
    ValueError
        The result is not finite.
    """
    scratch = scratch or Scratch()
    if not (np.isfinite(result.reduced_chi2) and _finite(result.image.data)):
        raise ValueError("the result is not finite: the noise, the gain or the PSF cannot be right")
    if result.reduced_chi2 > SUSPECT_CHI2 or abs(result.flux_ratio - 1.0) > SUSPECT_FLUX:
        warnings.warn(
            f"the image does not explain the data (reduced chi2 {result.reduced_chi2:.1f}, flux ratio "
            f"{result.flux_ratio:.3f}): the PSF is too wide, or bright pixels are saturated and not masked; see --qa",
            stacklevel=2,
        )
    elif off := _count_off(result.residual):
        warnings.warn(
            f"{off} pixels are off by more than {SUSPECT_RESIDUAL:.0f} sigma (RESIDUAL): cosmic rays, hot or saturated "
            "pixels that are not masked become sources; bright stars ask for a better PSF, or --psf-error",
            stacklevel=2,
        )
    if options.noise is not None and result.reduced_chi2 < IDLE_CHI2:
        warnings.warn(
            f"the noise given is far above that of the image (reduced chi2 {result.reduced_chi2:.3f}): is it of "
            "another kind (--noise-type)? Little is found where much noise is expected",
            stacklevel=2,
        )
    u, image, sharp = options.upsample, prepared.image, result.image
    psf = prepared.psf.fine(u, max_size=min(image.shape) * u)
    lost = (result.rejected & (SATURATED | SHARP)) > 0
    saturated = prepared.saturated | (result.rejected == SATURATED)
    given = {"saturated": saturated, "k_sigma": options.k_sigma, "scratch": scratch}
    found = flags(result, psf, np.where(lost, 0.0, prepared.weight), upsample=u, **given)
    sharp.meta = image.meta.copy()
    for keys, divisor in ((PIXEL_SIDES, u), (PIXEL_AREAS, u**2)):
        for key in keys:
            if isinstance(sharp.meta.get(key), (int, float)):
                sharp.meta[key] = sharp.meta[key] / divisor
    conserved = "surface brightness" if is_surface_brightness(image.unit) else "counts"
    scale = np.float32(u**2 if conserved != "counts" else 1)
    data = scratch.kept(sharp.data)
    for rows in strips(prepared.level):
        fine = data[rows.start * u : rows.stop * u]
        fine += np.repeat(np.repeat(prepared.level[rows].astype(data.dtype), u, 0), u, 1) / data.dtype.type(u**2)
        fine *= scale
        forget(data, prepared.level)
    sharp.data = data
    if sharp.uncertainty is not None and scale != 1.0:
        for rows in strips(sharp.uncertainty.array):
            sharp.uncertainty.array[rows] *= scale
            forget(sharp.uncertainty.array)
    return Product(prepared, result, psf, conserved, found)


def extensions(planes, options, *, source, name="", ver=1, key=None):
    """The HDUs of one image, or of a cube from its planes.

    Parameters
    ----------
    planes : list of Product or None
        One, or several for a cube; None for a plane without data.
    options : deconjugate.astro.file_options.FileOptions
    source : str
        Name of the input, for HISTORY.
    name : str
        Where in the input the image was, for the card SRCEXT.
    ver : int
        EXTVER of all of them.
    key : str, optional
        For the card DCKEY: see :func:`deconjugate.astro.fingerprint.fingerprint`.

    Returns
    -------
    list of astropy.io.fits.ImageHDU
    """
    good = next(plane for plane in planes if plane is not None)
    sharp, native = good.result.image, good.prepared.image
    header = derived_header(sharp.meta, wcs=sharp.wcs, unit=sharp.unit, history=_history(planes, good, options, source))
    _numbers(header, planes, good, options, name, key)
    fine, coarse = (derived_header({}, wcs=image.wcs) for image in (sharp, native))
    if len(planes) > 1:
        header, fine, coarse = (with_third_axis(cards, native.meta) for cards in (header, fine, coarse))
    unit = {"BUNIT": header["BUNIT"]} if "BUNIT" in header else {}
    hdus = [_hdu("SCI", _stack(planes, lambda p: p.result.image.data), header)]
    if sharp.uncertainty is not None:
        errors = _stack(planes, lambda p: p.result.image.uncertainty.array)
        hdus.append(_hdu("ERR", errors, fine, "standard deviation of SCI", unit))
    hdus.append(_hdu("DQ", _stack(planes, lambda p: p.flags, MASKED, np.int16), fine, "flags, a sum of bits"))
    flag_cards(hdus[-1].header)
    residuals = _stack(planes, lambda p: p.result.residual, 0.0)
    hdus.append(_hdu("RESIDUAL", residuals, coarse, "(input - model) / sigma, on the pixels of the input"))
    hdus.append(_hdu("PSF", good.result.psf.astype(np.float32), None, "of SCI: Gaussian, FWHM 2 pixels, sum 1"))
    if options.support:
        bits = _stack(planes, lambda p: _scales_as_bits(p.result.support), 0, np.uint8)
        hdus.append(_hdu("SUPPORT", bits, coarse, "bit j: significant at scale j of the input, 2^j pixels"))
    for hdu in hdus:
        hdu.ver = ver
    return hdus


def _count_off(residual):
    """Pixels that the image does not explain by far."""
    return sum(int(np.count_nonzero(abs(residual[rows]) > SUSPECT_RESIDUAL)) for rows in strips(residual))


def _finite(array):
    finite = True
    for rows in strips(array):
        finite &= bool(np.isfinite(array[rows]).all())
        forget(array)
    return finite


def is_surface_brightness(unit):
    """Whether a unit is per solid angle, that of a beam among them."""
    from astropy import units

    bases = unit.decompose()
    return any(base in (units.rad, units.beam) and power < 0 for base, power in zip(bases.bases, bases.powers))


def _hdu(name, array, header, comment="", cards=()):
    from astropy.io import fits

    header = fits.Header() if header is None else header.copy()
    header.update(cards)
    if comment:
        header.add_comment(comment)
    return fits.ImageHDU(array, header, name=name)


def _stack(planes, part, missing=np.nan, dtype=np.float32):
    """One array of all planes; those that could not be done hold ``missing``."""
    arrays = [None if plane is None else np.asarray(part(plane), dtype=dtype) for plane in planes]
    if len(arrays) == 1:
        return arrays[0]
    shape = next(array.shape for array in arrays if array is not None)
    return np.stack([np.full(shape, missing, dtype) if array is None else array for array in arrays])


def _scales_as_bits(support):
    """The support without its coarse plane, which is always kept: bit j of a pixel is scale j."""
    bits = np.zeros(support.shape[1:], np.uint8)
    for j, plane in enumerate(support[:-1]):
        bits |= plane.astype(np.uint8) << j
    return bits


def _numbers(header, planes, good, options, name, key):
    """Cards for programs to read."""
    results = [plane.result for plane in planes if plane is not None]
    ratios = [float(result.flux_ratio) for result in results if np.isfinite(result.flux_ratio)]
    cards = {
        "UPSAMPLE": (options.upsample, "pixels per input pixel, along each axis"),
        "CONSERVE": (good.conserved, "what is as in the input"),
        "TGTFWHM": (2.0, "[pix] FWHM of the PSF of this image"),
        "INFWHM": (round(float(good.prepared.psf.fwhm_pix), 4), "[pix] FWHM of the PSF of the input"),
        "INNOISE": (float(f"{_noise(good.prepared.weight):.6g}"), "median noise of a pixel of the input"),
        "KSIGMA": (options.k_sigma, "significance of detail"),
        "REDCHI2": (round(float(np.median([r.reduced_chi2 for r in results])), 6), "reduced chi^2 of the residual"),
        "FLUXRAT": (round(float(np.median(ratios)), 7) if ratios else None, "model over data, within sources"),
        "TIKLAMB": (float(f"{np.median([r.regularization for r in results]):.6g}"), "lambda of the first step"),
        "SRCEXT": (name or None, "extension of the input"),
        "DCKEY": (key, "digest of inputs and options"),
    }
    for keyword, (value, comment) in cards.items():
        if value is not None:
            header[keyword] = (value, comment)
        else:
            header.remove(keyword, ignore_missing=True)


def _noise(weight):
    return 1.0 / np.sqrt(np.median(weight[weight > 0]))


def _history(planes, good, options, source):
    u, method = options.upsample, options.of_the_result()
    chosen = {key: value for key, value in options.method.items() if key in method}
    yield f"deconjugate {version('deconjugate')}: deconvolved {source}"
    yield f"PSF of the input: {good.prepared.psf_name}"
    yield f"{u} x {u} fine pixels per pixel; PSF a Gaussian of FWHM 2 of them; {good.conserved} conserved"
    yield f"k_sigma = {options.k_sigma:g}, sky {options.sky}, psf_error {options.psf_error:g}"
    if chosen:
        yield ", ".join(f"{name} = {value}" for name, value in chosen.items())
    for number, plane in enumerate(planes, 1):
        where = f"plane {number}: " if len(planes) > 1 else ""
        if plane is None:
            yield f"{where}no data"
            continue
        result, prepared = plane.result, plane.prepared
        yield f"{where}{prepared.noise_name}; {prepared.mask_name}"
        share = f"{result.replaced:.0%}"
        yield f"{where}network weights: {result.network}; replaced by the classical guess in {share} of the tiles"
        yield f"{where}lambda {result.regularization:.4g}"
        yield f"{where}reduced chi^2 {result.reduced_chi2:.4f}, flux ratio {result.flux_ratio:.6f}"
