"""An image file in, the PSF of its stars out."""

import os
import warnings
from importlib.metadata import version

import numpy as np

from deconjugate.astro.atomic import check_output, write_atomically
from deconjugate.astro.background import background_and_rms
from deconjugate.astro.fits import read_frame
from deconjugate.astro.light import check_light
from deconjugate.astro.preparation import given_noise
from deconjugate.astro.star_psf import measure_psf
from deconjugate.astro.wcs import pixel_scale_arcsec

FEW = 10  # stars below which a PSF is doubtful
VARIES = 0.03  # change of the width over the frame that is worth a word
UNITS = {"x": "pix", "y": "pix", "fwhm_pix": "pix"}


def measure_psf_file(
    path,
    output,
    *,
    ext=None,
    noise=None,
    noise_kind=None,
    mask=None,
    saturation=None,
    sky="map",
    qa=None,
    overwrite=False,
    **options,
):
    """Measure the PSF of an image file on its stars; what ``deconjugate psf`` does.

    The file written holds the effective PSF as its primary image, sum 1, OVERSAMP samples per pixel, as
    :meth:`deconjugate.astro.PSF.from_file` and ``deconjugate deconvolve --psf`` take it; the table STARS; and RESIDUAL,
    the mean over the stars of what is left of them, relative to their peaks.

    Parameters
    ----------
    path, output : str or path
    ext, noise, noise_kind, mask
        See :func:`deconjugate.astro.read_image`. Without noise it is measured from the sky; a "weight" is relative, and
        scaled to agree with the noise measured.
    saturation : float, optional
        Default what the header says (SATURATE), else see :func:`deconjugate.astro.star_psf.measure_psf`.
    sky : "map", "flat" or "none"
        See :func:`deconjugate.astro.background.background_and_rms`.
    qa : str or path, optional
        Where to draw :func:`deconjugate.astro.psf_page.psf_page`.
    overwrite : bool
    **options
        Further arguments of :func:`deconjugate.astro.star_psf.measure_psf`.

    Returns
    -------
    (StarPSF, float or None)
        What was measured, and the side of a pixel in arcseconds where the image says it.

    Raises
    ------
    OSError, KeyError, ValueError
        See :func:`deconjugate.astro.read_image` and :func:`deconjugate.astro.star_psf.measure_psf`; an image
        in magnitudes.

    Warns
    -----
    UserWarning
        Fewer than ten stars; a width that changes over the frame by more than 3 per cent.
    """
    if os.path.exists(output) and os.path.samefile(path, output):
        raise ValueError(f"the output {output} is the input; choose another name")
    if qa is not None and os.path.realpath(qa) == os.path.realpath(output):
        raise ValueError(f"the page and the output are the same file, {output}; choose another name for one")
    check_output(output, overwrite=overwrite)
    if qa is not None:
        from deconjugate.astro.qa import check_qa_format

        check_qa_format(qa)
        check_output(qa, overwrite=overwrite)
    frame = read_frame(path, ext=ext, noise=noise, noise_kind=noise_kind, mask=mask)
    image = frame.image
    check_light(image, path)
    if saturation is None and isinstance(given := image.meta.get("SATURATE"), int | float) and given > 0:
        saturation = given
    level, rms = background_and_rms(image.data, image.mask, sky=sky)
    rms = rms if noise is None else given_noise(frame, rms)
    measured = measure_psf(image.data, level, rms, image.mask, saturation=saturation, **options)
    scale = pixel_scale_arcsec(image.wcs)
    if measured.count < FEW:
        warnings.warn(f"only {measured.count} stars show the PSF: look at it before it is used", stacklevel=2)
    if measured.gradient > max(VARIES, 3.0 * measured.gradient_error):
        warnings.warn(
            f"the width of the stars changes by {measured.gradient:.0%} over the frame: one PSF is wrong by up to half "
            "of that at its edges; measure parts of the frame, or give a PSFEx model",
            stacklevel=2,
        )
    _write(output, path, measured, scale, image.wcs, overwrite)
    if qa is not None:
        from deconjugate.astro.psf_page import psf_page

        psf_page(qa, image.data - level, measured, scale, title=os.path.basename(path), overwrite=overwrite)
    return measured, scale


def _write(output, path, measured, scale, wcs, overwrite):
    from astropy.io import fits

    header = fits.Header()
    header["OVERSAMP"] = (measured.oversampling, "samples per pixel of the image")
    if scale is not None:
        header["PIXSCALE"] = (scale / measured.oversampling, "arcsec per sample")
    header["PSFFWHM"] = (measured.fwhm_pix, "FWHM in pixels of the image")
    header["PSFELLIP"] = (measured.ellipticity, "1 - minor / major axis")
    header["PSFPA"] = (measured.pa, "degrees from x to the major axis")
    header["PSFBETA"] = (measured.beta, "exponent of the Moffat it was built on")
    header["PSFNSTAR"] = (measured.count, "stars it rests on")
    if np.isfinite(measured.error):
        header["PSFERROR"] = (measured.error, "halves of the stars against each other")
    header["PSFRESID"] = (float(np.median(measured.stars["misfit"])), "median residual over the peak")
    header["PSFGRAD"] = (measured.gradient, "change of the FWHM over the frame")
    name = os.path.basename(path).encode("ascii", "replace").decode()
    header.add_history(f"deconjugate {version('deconjugate')}: effective PSF of the stars of")
    header.add_history(name)
    columns = dict(measured.stars)
    if wcs is not None and wcs.has_celestial:
        columns["ra"], columns["dec"] = wcs.all_pix2world(columns["x"], columns["y"], 0)
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(key, "D", unit=UNITS.get(key, "deg" if key in ("ra", "dec") else None), array=values)
            for key, values in columns.items()
        ],
        name="STARS",
    )
    hdus = [fits.PrimaryHDU(measured.array.astype(np.float32), header), table]
    hdus.append(fits.ImageHDU(measured.residual.astype(np.float32), name="RESIDUAL"))
    write_atomically(
        output, lambda temporary: fits.HDUList(hdus).writeto(temporary, overwrite=True), overwrite=overwrite
    )
