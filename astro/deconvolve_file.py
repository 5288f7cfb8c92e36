"""A FITS file in, a sharper FITS file out."""

import os
from importlib.metadata import version

import numpy as np

from deconjugate.astro.atomic import check_output
from deconjugate.astro.background import background_and_rms, noise_map
from deconjugate.astro.fits import read_image, read_others, write_image
from deconjugate.astro.psf import PSF
from deconjugate.astro.wcs import pixel_scale_arcsec, wcs_cards

WRITTEN = ("SCI", "ERR", "MASK", "RESIDUAL", "PSF")
PIXEL_SIDES = ("PIXSCALE", "SECPIX", "SECPIX1", "SECPIX2", "PIXSCAL1", "PIXSCAL2")  # headers' own words for the scale
IMPOSSIBLE = 10.0  # sigmas below the sky beyond which a pixel is bad
NOT_OF_THE_RESULT = ("progress", "device")  # options that change no pixel
PIXEL_AREAS = ("PIXAR_SR", "PIXAR_A2")


def deconvolve_file(
    path,
    output,
    *,
    psf=None,
    fwhm_arcsec=None,
    fwhm_pix=None,
    beta=3.0,
    ext=None,
    noise=None,
    noise_kind=None,
    gain=None,
    psf_error=0.0,
    mask=None,
    saturation=None,
    sky="map",
    upsample=2,
    qa=None,
    overwrite=False,
    **options,
):
    """Deconvolve an image file; what ``deconjugate deconvolve`` does.

    The sky is measured and taken off before and put back after, so that positivity holds for the sources and the level
    of the image stays: a sky of c per pixel comes out as c / upsample^2 per fine pixel. Where BUNIT is a surface
    brightness (per steradian or square arcsecond) the output is multiplied by upsample^2 and keeps the unit.

    Parameters
    ----------
    path, output : str or path
        Output: SCI, ERR and MASK where there are such, RESIDUAL (native pixels, in sigmas), PSF (of the output), then
        the other HDUs of the input.
    psf : PSF, str or path
        The PSF or its file, see :meth:`deconjugate.astro.PSF.from_file`; or give one of the widths.
    fwhm_arcsec, fwhm_pix : float, > 0
        Width of a Moffat PSF, as the stars of the image show it.
    beta : float, > 1
        Exponent of the Moffat.
    ext, noise, noise_kind, mask
        See :func:`deconjugate.astro.read_image`. Without noise it is measured from the sky.
    gain : float, > 0, optional
        Electrons per count, for the shot noise of the sources in a measured noise.
    psf_error : float, >= 0
        Relative error of the PSF, added to the noise in proportion to the signal: see
        :func:`deconjugate.astro.background.noise_map`.
    saturation : float, optional
        Pixels of this value or more are bad; default what the header says (SATURATE). Pixels more than 10 sigma below
        the sky are bad in any case.
    sky : "map", "flat" or "none"
        How the sky is measured: see :func:`deconjugate.astro.background.background_and_rms`.
    upsample : int, >= 1
    qa : str or path, optional
        Where to draw :func:`deconjugate.astro.qa.qa_page`.
    overwrite : bool
    **options
        Further arguments of :func:`deconjugate.astro.deconvolve`.

    Returns
    -------
    DeconvolutionResult
        With the image as it was written.

    Raises
    ------
    OSError, KeyError, ValueError
        See :func:`deconjugate.astro.read_image`, :func:`deconjugate.astro.write_image` and
        :func:`deconjugate.astro.deconvolve`; no PSF, or more than one.

    Example
    -------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from astropy.nddata import CCDData
    >>> from deconjugate.astro import PSF, simulate, write_image
    >>> sky = np.zeros((96, 128))
    >>> sky[40, 70] = 1000.0
    >>> scene = simulate(sky, PSF.moffat(3.5), peak_snr=50, background=7.0, seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     given, sharp = (os.path.join(folder, name) for name in ("seen.fits", "sharp.fits"))
    ...     write_image(given, CCDData(scene.data, unit="adu"))
    ...     result = deconvolve_file(given, sharp, fwhm_pix=3.5, network=None)
    >>> result.image.shape
    (96, 128)
    """
    for written in (output, qa):
        for given in (path, psf, noise, mask):
            if written is not None and isinstance(given, str | os.PathLike) and _same_file(written, given):
                raise ValueError(f"the output {written} is an input; choose another name")
    if qa is not None and os.path.realpath(qa) == os.path.realpath(output):
        raise ValueError(f"the page and the output are the same file, {output}; choose another name for one")
    check_output(output, overwrite=overwrite)
    if qa is not None:
        from deconjugate.astro.qa import check_qa_format, qa_page

        check_qa_format(qa)
        check_output(qa, overwrite=overwrite)
    image = read_image(path, ext=ext, noise=noise, noise_kind=noise_kind, mask=mask)
    psf, psf_name = _psf(psf, fwhm_arcsec, fwhm_pix, beta, image.wcs)
    saturation = _positive_card(image.meta, "SATURATE") if saturation is None else saturation
    if saturation is not None:
        _mask_too(image, image.data >= saturation)
    level, rms = background_and_rms(image.data, image.mask, sky=sky)
    sigma = rms if noise is None else image.uncertainty.array
    sigma = noise_map(image.data, level, sigma, gain=gain, psf_error=psf_error)
    # No light explains these: bleeding columns, defects, undershoots of a resampling.
    _mask_too(image, image.data < level - IMPOSSIBLE * sigma)

    from deconjugate.astro.deconvolve import deconvolve

    sources = image.copy()
    sources.data = image.data - level
    result = deconvolve(sources, psf, upsample=upsample, noise=sigma, **options)
    if not (np.isfinite(result.reduced_chi2) and np.isfinite(result.image.data).all()):
        raise ValueError("the result is not finite: the noise, the gain or the PSF cannot be right")
    conserved = _as_the_input(result.image, image, level, upsample)
    n_bad = 0 if image.mask is None else np.count_nonzero(image.mask)
    history = [
        f"deconjugate {version('deconjugate')}: deconvolved {os.path.basename(path)}",
        f"PSF of the input: {psf_name}",
        f"{upsample} x {upsample} fine pixels per pixel; PSF a Gaussian of FWHM 2 of them; {conserved} conserved",
        f"noise {'measured' if noise is None else noise}, gain {gain}, psf_error {psf_error:g}; sky {sky}",
        f"mask {mask}, saturation {saturation}: {n_bad} bad pixels",
        *(f"{name} = {value}" for name, value in options.items() if name not in NOT_OF_THE_RESULT),
        f"network weights: {result.network}; replaced by the classical guess in {result.replaced:.0%} of the tiles",
        f"lambda {result.regularization:.4g}",
        f"reduced chi^2 {result.reduced_chi2:.4f}, flux ratio {result.flux_ratio:.6f}",
    ]
    native = wcs_cards(image.wcs) if image.wcs is not None else None
    write_image(
        output,
        result.image,
        extensions=[("RESIDUAL", result.residual, native), ("PSF", result.psf, None)],
        others=read_others(path, used=[ext, *(name for name in (noise, mask) if name is not None)], taken=WRITTEN),
        history=history,
        overwrite=overwrite,
    )
    if qa is not None:
        qa_page(
            qa,
            image,
            result,
            psf.fine(upsample),
            upsample=upsample,
            background=level,
            per_area=conserved != "counts",
            title=os.path.basename(path),
            overwrite=overwrite,
        )
    return result


def _as_the_input(sharp, image, level, upsample):
    """Give the fine image the sky, the unit and the header of the input; what is conserved, in words."""
    sharp.meta = image.meta.copy()
    for keys, divisor in ((PIXEL_SIDES, upsample), (PIXEL_AREAS, upsample**2)):
        for key in keys:
            if isinstance(sharp.meta.get(key), (int, float)):
                sharp.meta[key] = sharp.meta[key] / divisor
    sharp.data = sharp.data + np.repeat(np.repeat(level, upsample, 0), upsample, 1) / upsample**2
    if not _is_surface_brightness(image.unit):
        return "counts"
    sharp.data = sharp.data * upsample**2
    if sharp.uncertainty is not None:
        sharp.uncertainty.array = sharp.uncertainty.array * upsample**2
    return "surface brightness"


def _same_file(one, other):
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _positive_card(meta, key):
    value = meta.get(key)
    return value if isinstance(value, (int, float)) and value > 0 else None


def _mask_too(image, bad):
    if bad.any():
        image.mask = bad if image.mask is None else image.mask | bad


def _psf(psf, fwhm_arcsec, fwhm_pix, beta, wcs):
    """The PSF and words for it."""
    given = [value for value in (psf, fwhm_arcsec, fwhm_pix) if value is not None]
    if len(given) != 1:
        raise ValueError(f"{len(given)} of psf, fwhm_arcsec and fwhm_pix are given; give one")
    if isinstance(psf, PSF):
        return psf, repr(psf)
    if psf is not None:
        return PSF.from_file(psf), os.path.basename(psf)
    if fwhm_arcsec is not None:
        scale = pixel_scale_arcsec(wcs)
        if scale is None:
            raise ValueError(
                "the image has no sky coordinates to turn arcsec into pixels; give the width in pixels (--fwhm-pix)"
            )
        fwhm_pix = fwhm_arcsec / scale
    return PSF.moffat(fwhm_pix, beta=beta), f"Moffat, FWHM {fwhm_pix:.3f} pixels, beta {beta:g}"


def _is_surface_brightness(unit):
    from astropy import units

    bases = unit.decompose()
    return any(base == units.rad and power < 0 for base, power in zip(bases.bases, bases.powers))
