"""Several bands of one object in FITS files, each sharpened to one resolution and one shape."""

import hashlib
import os
import time
import warnings

from deconjugate.astro.deconvolve_file import check_outputs, draw_pages, file_options, images_of, summary
from deconjugate.astro.fingerprint import fingerprint, made_from
from deconjugate.astro.fits import read_frame, read_others, write_hdus
from deconjugate.astro.grids import grids_to_change
from deconjugate.astro.matching import deconvolve_bands
from deconjugate.astro.preparation import prepare
from deconjugate.astro.product import WRITTEN, extensions, product
from deconjugate.astro.regrid import mapping, regrid
from deconjugate.astro.scratch import Scratch
from deconjugate.astro.simulate import TARGET_FWHM
from deconjugate.astro.wcs import pixel_scale_arcsec


def deconvolve_band_files(paths, outputs, options=(), **common):
    """Deconvolve several bands of one object to one resolution; what ``deconjugate deconvolve --match`` does.

    Each output is as :func:`deconjugate.astro.deconvolve_file.deconvolve_file` writes it, made by
    :func:`deconjugate.astro.matching.deconvolve_bands`. Cards of SCI say so: NBANDS, TGTARCS (FWHM of all outputs in
    arcseconds), BANDn and BFWHMn (name and FWHM of each band, in arcseconds, or pixels where there is no WCS).

    Parameters
    ----------
    paths, outputs : list of str or path
        Images of one part of the sky; those on other pixels than the finest are resampled: see :func:`on_one_grid`.
    options : list of dict
        For each band, or none for all: see :func:`deconjugate.astro.deconvolve_file.deconvolve_file`; the PSF above
        all.
    **common
        Options of all bands.

    Returns
    -------
    list of DeconvolutionResult

    Raises
    ------
    OSError, KeyError, ValueError
        See :func:`deconjugate.astro.deconvolve_file.deconvolve_file` and
        :func:`deconjugate.astro.matching.deconvolve_bands`; a cube, or a band that is to be written over another.

    Example
    -------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from astropy.io import fits
    >>> from astropy.nddata import CCDData
    >>> from deconjugate.astro import PSF, simulate, write_image
    >>> y, x = np.mgrid[-48:48, -64:64]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     names = {band: [os.path.join(folder, f"{band}{end}.fits") for end in ("", "_sharp")] for band in "gr"}
    ...     for (given, _), fwhm in zip(names.values(), (3.0, 4.5)):
    ...         galaxy = simulate(np.exp(-np.hypot(x, 1.5 * y) / 8.0), PSF.moffat(fwhm), peak_snr=50, seed=1)
    ...         write_image(given, CCDData(galaxy.data, unit="adu"))
    ...     widths = [{"fwhm_pix": 3.0}, {"fwhm_pix": 4.5}]
    ...     results = deconvolve_band_files(*zip(*names.values()), widths, network=None, sky="none")
    ...     round(fits.getval(names["r"][1], "BFWHM1", "SCI"), 2)
    3.0
    """
    given = list(options) or [{}] * len(paths)
    return process_bands(paths, outputs, [file_options(**{**common, **one}) for one in given])[0]


def process_bands(paths, outputs, options):
    """As :func:`deconjugate.astro.deconvolve_file.process`, of a list of each: results and reports."""
    start, first = time.perf_counter(), options[0]
    if not len(paths) == len(outputs) == len(options):
        raise ValueError(f"there are {len(paths)} images, {len(outputs)} outputs and options for {len(options)}")
    if any((one.upsample, one.k_sigma, one.method) != (first.upsample, first.k_sigma, first.method) for one in options):
        raise ValueError("upsample, k_sigma and the arguments of deconvolve are of all bands; give them once")
    check_band_outputs(paths, outputs, options)
    images = band_images(paths, options)
    key = bands_fingerprint(paths, options)
    scratch = Scratch(os.path.dirname(os.path.realpath(outputs[0])))
    prepared = [prepare(path, ext, None, one, scratch) for path, (_, ext, _), one in zip(paths, images, options)]
    prepared = on_one_grid(prepared, [str(path) for path in paths], scratch)
    results = deconvolve_bands(
        [one.sources for one in prepared],
        [one.psf for one in prepared],
        noise=[one.sigma for one in prepared],
        upsample=first.upsample,
        k_sigma=first.k_sigma,
        stages=False,
        scratch=scratch.folder,
        **first.method,
    )
    products = [product(*both, one, scratch) for *both, one in zip(prepared, results, options)]
    cards = _cards(paths, products, first.upsample)
    seconds = round((time.perf_counter() - start) / len(paths), 3)
    reports = []
    for path, output, (name, ext, _), one, chosen in zip(paths, outputs, images, products, options):
        hdus = extensions([one], chosen, source=os.path.basename(path), name=name, key=key)
        hdus[0].header.update(cards)
        hdus[0].header.add_history(f"shape shared by {len(paths)} bands, then corrected by the data of this one")
        if chosen.keep_hdus:
            used = [ext, *(which for which in (chosen.noise, chosen.mask) if which is not None)]
            hdus += read_others(path, used=used, taken=WRITTEN)
        write_hdus(output, hdus, overwrite=chosen.overwrite)
        if chosen.qa is not None:
            draw_pages(path, [(name, one)], chosen)
        images_done = [summary(name, one)]
        reports.append({"input": str(path), "output": str(output), "seconds": seconds, "images": images_done})
    return results, reports


def on_one_grid(prepared, names, scratch):
    """The bands on the pixels of the one whose pixels are smallest; those that lie on them already are left alone.

    Raises
    ------
    ValueError
        A band without sky coordinates has another shape than the first; a band does not overlap with the finest.

    Warns
    -----
    UserWarning
        For each band that is resampled.
    """
    finest, others = grids_to_change([one.image for one in prepared], names)
    onto, prepared = prepared[finest].image, list(prepared)
    for i in others:
        try:
            prepared[i] = regrid(prepared[i], onto, scratch)
        except ValueError as error:
            raise ValueError(f"{names[i]} cannot be brought to the pixels of {names[finest]}: {error}") from None
        warnings.warn(_resampled(names[i], names[finest]), stacklevel=2)
    return prepared


def _resampled(name, finest):
    return f"{name} is resampled to the pixels of {finest}: its noise is correlated then, its chi^2 below 1"


def check_band_outputs(paths, outputs, options):
    """As :func:`deconjugate.astro.deconvolve_file.check_outputs`, of all bands: none may replace another's input."""
    for path, output, one in zip(paths, outputs, options):
        check_outputs(path, output, one)
        for other in paths:
            if os.path.realpath(other) == os.path.realpath(output):
                raise ValueError(f"the output {output} is an input; choose another name")
    if len({os.path.realpath(output) for output in outputs}) < len(outputs):
        raise ValueError("two bands would be written to one file; give each its own")


def band_images(paths, options):
    """The one image that each file holds, as :func:`deconjugate.astro.deconvolve_file.images_of` gives it."""
    images = []
    for path, one in zip(paths, options):
        found = images_of(path, one)
        if len(found) > 1 or found[0][2] != [None]:
            raise ValueError(f"{path} holds several images or a cube; bands are matched one image each (--ext)")
        images += found
    return images


def check_grids(paths, options):
    """What will be said of the images that are resampled; ValueError where they cannot be brought to one grid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when it is done
        images, names = [read_frame(p, ext=one.ext).image for p, one in zip(paths, options)], [str(p) for p in paths]
        finest, others = grids_to_change(images, names)
        for i in others:
            try:
                mapping(images[finest], images[i])
            except ValueError as error:
                raise ValueError(f"{names[i]} cannot be brought to the pixels of {names[finest]}: {error}") from None
    return [_resampled(names[i], names[finest]) for i in others]


def bands_fingerprint(paths, options):
    """As :func:`deconjugate.astro.fingerprint.fingerprint`, of all bands: each output depends on every one."""
    keys = [fingerprint(path, one) for path, one in zip(paths, options)]
    return None if None in keys else hashlib.sha256("matched".join(keys).encode()).hexdigest()[:32]


def are_done(paths, outputs, options):
    """Whether each output is there, whole, and made from just these."""
    key = bands_fingerprint(paths, options)
    return [key is not None and made_from(output) == key for output in outputs]


def _cards(paths, products, upsample):
    """What an output says of the bands that it was matched with."""
    scale = pixel_scale_arcsec(products[0].prepared.image.wcs)
    unit = "pix" if scale is None else "arcsec"
    cards = {"NBANDS": (len(paths), "bands brought to one resolution and shape")}
    if scale is not None:
        cards["TGTARCS"] = (round(TARGET_FWHM * scale / upsample, 5), "[arcsec] FWHM of the PSF of all of them")
    for number, (path, one) in enumerate(zip(paths, products), 1):
        name = os.path.basename(path).encode("ascii", "replace").decode()
        width = one.prepared.psf.fwhm_pix * (1.0 if scale is None else scale)
        cards[f"BAND{number}"] = name
        cards[f"BFWHM{number}"] = (round(float(width), 4), f"[{unit}] FWHM of its PSF as given")
    return cards
