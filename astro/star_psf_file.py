"""An image file in, the PSF of its stars out."""

import os
import warnings

from deconjugate.astro.atomic import check_output, write_atomically
from deconjugate.astro.background import background_and_rms
from deconjugate.astro.fits import read_frame
from deconjugate.astro.hdus import cube_shape, find_image, open_fits
from deconjugate.astro.light import check_light
from deconjugate.astro.preparation import given_noise
from deconjugate.astro.star_build import STARS_A_TERM
from deconjugate.astro.star_hdus import psf_hdus
from deconjugate.astro.star_psf import measure_psf
from deconjugate.astro.star_surface import terms
from deconjugate.astro.wcs import pixel_scale_arcsec

FEW = 10  # stars below which a PSF is doubtful
VARIES = 0.03  # change of the width over the frame that is worth a word


def measure_psf_file(
    path,
    output,
    *,
    ext=None,
    plane=None,
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
    :meth:`deconjugate.astro.PSF.from_file` and ``deconjugate deconvolve --psf`` take it, with its error, PSFERROR; the
    PSFEx model PSF_DATA, where it varies over the frame; the table STARS; and RESIDUAL, the mean over the stars of what
    is left of them, relative to their peaks.

    Parameters
    ----------
    path, output : str or path
    plane : int, optional
        Of a cube, which plane, from 0.
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
        in magnitudes; a cube, and plane does not say which of its planes.

    Warns
    -----
    UserWarning
        Fewer than ten stars, or fewer than three, which give a Moffat; a width that changes over the frame by more
        than 3 per cent and is not followed; an order that is more than the stars can show.
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
    _check_plane(path, ext, plane)
    frame = read_frame(path, ext=ext, plane=plane, noise=noise, noise_kind=noise_kind, mask=mask)
    image = frame.image
    check_light(image, path)
    if saturation is None and isinstance(given := image.meta.get("SATURATE"), int | float) and given > 0:
        saturation = given
    level, rms = background_and_rms(image.data, image.mask, sky=sky)
    rms = rms if noise is None else given_noise(frame, rms)
    measured = measure_psf(image.data, level, rms, image.mask, saturation=saturation, **options)
    scale = pixel_scale_arcsec(image.wcs)
    for doubt in doubts(measured, options.get("order", "auto")):
        warnings.warn(doubt, stacklevel=2)
    hdus = psf_hdus(measured, path, scale, image.wcs)
    write_atomically(output, lambda temporary: _write(hdus, temporary), overwrite=overwrite)
    if qa is not None:
        from deconjugate.astro.psf_page import psf_page

        psf_page(qa, image.data - level, measured, scale, title=os.path.basename(path), overwrite=overwrite)
    return measured, scale


def doubts(measured, order="auto"):
    """What there is to be said against a measured PSF, a sentence each.

    Parameters
    ----------
    measured : deconjugate.astro.star_psf.StarPSF
    order : 0, 1, 2 or "auto"
        That was asked for.

    Returns
    -------
    list of str
    """
    said, several = [], "s" * (measured.count != 1)
    error = f"its error is about {measured.error:.0%} of the flux" if measured.error > 0.01 else ""
    if measured.analytic:
        said.append(
            f"only {measured.count} star{several} could be used: the PSF is the elliptical Moffat that fits "
            f"{'them' if several else 'it'} best, and {error or 'its error is small'}; a neighbouring field with more "
            "stars, or a lower --min-snr, tells more"
        )
    elif measured.count < FEW:
        known = f", {error}" if error else ""
        said.append(f"only {measured.count} stars show the PSF{known}: look at it before it is used")
    if order != "auto" and measured.order < order:
        said.append(
            f"{measured.count} star{several} show no PSF of order {order}, which needs {STARS_A_TERM * terms(order)}: "
            f"order {measured.order} is used"
        )
    if not measured.order and measured.gradient > max(VARIES, 3.0 * measured.gradient_error):
        remedy = "let it follow them with --order auto" if order == 0 else "measure parts of the frame"
        said.append(
            f"the width of the stars changes by {measured.gradient:.0%} over the frame: one PSF is wrong by up to half "
            f"of that at its edges; {remedy}, or give a PSFEx model"
        )
    return said


def _check_plane(path, ext, plane):
    with open_fits(path) as hdus:
        shape = cube_shape(hdus[find_image(hdus, ext, os.fspath(path))])
    if shape is None:
        if plane not in (None, 0):
            raise ValueError(f"plane is {plane}, but {path} holds one image, no cube")
    elif plane is None:
        raise ValueError(
            f"{path} is a cube of {shape[0]} planes: say which shows the stars (--plane, 0 to {shape[0] - 1})"
        )
    elif not 0 <= plane < shape[0]:
        raise ValueError(f"plane is {plane}, but {path} has {shape[0]} planes: 0 to {shape[0] - 1}")


def _write(hdus, path):
    from astropy.io import fits

    fits.HDUList(hdus).writeto(path, overwrite=True)
