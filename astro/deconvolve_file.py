"""A FITS file in, a sharper FITS file out."""

import os
import time
import warnings

from deconjugate.astro.atomic import check_output
from deconjugate.astro.file_options import FileOptions
from deconjugate.astro.fingerprint import fingerprint
from deconjugate.astro.fits import read_others, write_hdus
from deconjugate.astro.hdus import cube_shape, find_all_images, find_image, open_fits
from deconjugate.astro.preparation import prepare
from deconjugate.astro.product import WRITTEN, extensions, product
from deconjugate.astro.scratch import Scratch

METHOD = ("network", "dictionary", "n_scales", "regularization", "positivity", "uncertainty", "center", "maxiter")
METHOD += ("seed", "device", "tile", "progress")


def deconvolve_file(path, output, **options):
    """Deconvolve an image file; what ``deconjugate deconvolve`` does.

    The sky is measured and taken off before and put back after, so that positivity holds for the sources and the level
    of the image stays: a sky of c per pixel comes out as c / upsample^2 per fine pixel. Where BUNIT is a surface
    brightness (per steradian or square arcsecond) the output is multiplied by upsample^2 and keeps the unit.

    Parameters
    ----------
    path, output : str or path
        The output holds SCI, ERR (if ``uncertainty`` is asked for), DQ, RESIDUAL (native pixels, in sigmas), PSF (of
        the output), and SUPPORT and the other HDUs of the input if asked for. A cube gives cubes, plane by plane.
    **options
        Fields of :class:`deconjugate.astro.file_options.FileOptions`; others go to
        :func:`deconjugate.astro.deconvolve`.

    Returns
    -------
    DeconvolutionResult, or a list of them for a cube or several images
        With the image as it was written; None in the list for a plane without data.

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
    results, _ = process(path, output, file_options(**options))
    return results if len(results) > 1 else results[0]


def file_options(**options):
    """:class:`FileOptions` from its fields and the arguments of the deconvolution, in one."""
    method = {name: options.pop(name) for name in METHOD if name in options}
    return FileOptions(**options, method=method)


def process(path, output, options):
    """Deconvolve a file: a pure function of what it reads, whose only effect is its outputs.

    Parameters
    ----------
    path, output : str or path
    options : FileOptions

    Returns
    -------
    results : list of DeconvolutionResult or None
    report : dict
        What was done, in plain values: "input", "output", "seconds" and "images", a dictionary for each.
    """
    start = time.perf_counter()
    check_outputs(path, output, options)
    scratch = Scratch(os.path.dirname(os.path.realpath(output)))  # where the output will need as much
    key = fingerprint(path, options)
    hdus, products = [], []
    images = images_of(path, options)
    each = options.for_images([name for name, _, _ in images])
    for ver, ((name, ext, planes), chosen) in enumerate(zip(images, each), 1):
        done = _planes(path, ext, planes, chosen, scratch)
        hdus += extensions(done, options, source=os.path.basename(path), name=name, ver=ver, key=key)
        products += [(name if len(planes) == 1 else f"{name} {k + 1}".strip(), one) for k, one in enumerate(done)]
    if options.keep_hdus:
        used = [ext for _, ext, _ in images]
        used += [which for which in (options.noise, options.mask) if which is not None]
        hdus += read_others(path, used=used, taken=WRITTEN)
    write_hdus(output, hdus, overwrite=options.overwrite)
    if options.qa is not None:
        draw_pages(path, products, options)
    report = {"input": str(path), "output": str(output), "seconds": round(time.perf_counter() - start, 3)}
    report["images"] = [summary(name, one) for name, one in products if one is not None]
    return [one and one.result for _, one in products], report


def check_outputs(path, output, options):
    """Raise where the output or the page cannot be written, or would replace an input."""
    for written in (output, options.qa):
        for given in (path, options.psf, options.noise, options.mask):
            if written is not None and isinstance(given, str | os.PathLike) and _same_file(written, given):
                raise ValueError(f"the output {written} is an input; choose another name")
    if options.qa is not None and os.path.realpath(options.qa) == os.path.realpath(output):
        raise ValueError(f"the page and the output are the same file, {output}; choose another name for one")
    check_output(output, overwrite=options.overwrite)
    if options.qa is not None:
        from deconjugate.astro.qa import check_qa_format

        check_qa_format(options.qa)
        check_output(options.qa, overwrite=options.overwrite)


def images_of(path, options):
    """The images of a file that are meant: (name, number of the HDU, planes), planes [None] where it is no cube."""
    with open_fits(path) as hdus:
        if options.all_ext:
            found = find_all_images(hdus, path, (options.noise, options.mask))
        else:
            found = [find_image(hdus, options.ext, path)]
        images = []
        for index in found:
            hdu, shape = hdus[index], cube_shape(hdus[index])
            name = f"{hdu.name.strip() or index}{f',{hdu.ver}' if hdu.ver > 1 else ''}"
            images.append((name, index, [None] if shape is None else list(range(shape[0]))))
    return images


def _planes(path, ext, planes, options, scratch):
    """The Products of an image or of the planes of a cube, None for a plane that is empty where others are not."""
    from deconjugate.astro.deconvolve import deconvolve

    done = []
    for plane in planes:
        try:
            prepared = prepare(path, ext, plane, options, scratch)
        except ValueError as error:
            if plane is None or "no pixel of the image is good" not in str(error):
                raise
            warnings.warn(f"plane {plane + 1} of {path} is empty and left so: {error}", stacklevel=2)
            done.append(None)
            continue
        result = deconvolve(
            prepared.sources,
            prepared.psf,
            upsample=options.upsample,
            noise=prepared.sigma,
            k_sigma=options.k_sigma,
            stages=False,
            scratch=scratch.folder,
            **options.method,
        )
        done.append(product(prepared, result, options, scratch))
    if not any(done):
        raise ValueError(f"no plane of {path} holds a good pixel")
    return done


def draw_pages(path, products, options):
    """One page for each image; of several, their number goes into the name."""
    from deconjugate.astro.qa import qa_page

    stem, ending = os.path.splitext(options.qa)
    for number, (name, one) in enumerate(products, 1):
        if one is not None:
            qa_page(
                options.qa if number == 1 else f"{stem}_{number}{ending}",
                one.prepared.image,
                one.result,
                one.psf,
                upsample=options.upsample,
                background=one.prepared.level,
                per_area=one.conserved != "counts",
                title=f"{os.path.basename(path)} {name if len(products) > 1 else ''}",
                overwrite=options.overwrite,
            )


def summary(name, one):
    """The numbers of one image, in plain values."""
    result, prepared = one.result, one.prepared
    height, width = result.image.shape
    return {
        "ext": name,
        "size": [width, height],
        "psf": prepared.psf_name,
        "psf_fwhm_pix": float(prepared.psf.fwhm_pix),
        "noise": prepared.noise_name,
        "bad_pixels": 0 if prepared.image.mask is None else int(prepared.image.mask.sum()),
        "conserved": one.conserved,
        "reduced_chi2": float(result.reduced_chi2),
        "flux_ratio": None if result.flux_ratio != result.flux_ratio else float(result.flux_ratio),
        "lambda": float(result.regularization),
        "network": result.network,
        "replaced": float(result.replaced),
        "timings": {step: round(seconds, 3) for step, seconds in result.timings.items()},
    }


def _same_file(one, other):
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
