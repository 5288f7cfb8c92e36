"""The real frames that need no truth, each with the PSF of its own stars, and what deconjugate makes of them."""

import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np
from bench_deconvolution import DATA

from deconjugate.astro import PSF
from deconjugate.astro.deconvolve_file import file_options, process
from deconjugate.astro.forward import DataModel
from deconjugate.astro.preparation import prepare
from deconjugate.astro.star_psf_file import measure_psf_file

NAMES = ("cfhtls", "decam", "m13", "hsc_gal1", "hsc_gal1_masked", "hsc_gal2")
FILES = {"cfhtls": "humvi_cfhtls_CFHTLS-test_r.fits", "decam": "deepdisc_decam_img_r.fits"}


@dataclass(frozen=True)
class RealFrame:
    """A file, its PSF file, the stars that this rests on (x, y), and what a user has to say of the frame."""

    name: str
    path: Path
    psf: Path
    stars: np.ndarray
    options: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A frame deconvolved; images without their sky, the fine one in counts per fine pixel."""

    entry: dict  # of the report
    image: np.ndarray
    data: np.ndarray
    sigma: np.ndarray  # of the sky and, where the gain is known, of the sources' photons
    level: np.ndarray
    bad: np.ndarray  # native
    flags: np.ndarray  # DQ, fine
    residual: np.ndarray  # in the sigmas of the result
    psf: np.ndarray  # p on the fine grid
    upsample: int
    seconds: float
    messages: list


def real_frames(folder, names=NAMES):
    """The :class:`RealFrame` of each name; PSFs, and FITS files of what comes as arrays, are written to a folder.

    The PSF is measured with the options that a user would need: CFHTLS has three stars above 20 sigma and two above 30;
    the sky of M13 is hidden under its stars.
    """
    return [_hsc(folder, name) if name.startswith("hsc") else _survey(folder, name) for name in names]


def _survey(folder, name):
    path, options = DATA / "frames" / FILES.get(name, ""), {}
    if name == "m13":
        package = Path(find_spec("astropy").origin).parent
        path, options = package / "io/fits/hdu/compressed/tests/data/m13.fits", {"sky": "flat"}
    psf = Path(folder) / f"{name}_psf.fits"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few stars; it is said in the table of the frames
        try:
            measured, _ = measure_psf_file(path, psf, overwrite=True, **options)
        except ValueError:
            measured, _ = measure_psf_file(path, psf, overwrite=True, min_snr=20.0, **options)
    return RealFrame(name, path, psf, np.column_stack([measured.stars["x"], measured.stars["y"]]), options)


def _hsc(folder, name):
    from astropy.io import fits

    stem, masked = name.removesuffix("_masked"), name.endswith("_masked")
    image, noise, mask, psf = (np.load(DATA / "frames" / f"{stem}_{kind}.npy") for kind in ("im", "sig", "mask", "psf"))
    paths = {kind: Path(folder) / f"{name}_{kind}.fits" for kind in ("im", "sig", "mask", "psf")}
    arrays = {"im": image, "sig": noise, "mask": (mask > 0).astype(np.int16), "psf": psf.astype(np.float32)}
    for kind, array in arrays.items():
        fits.writeto(paths[kind], array, overwrite=True)
    options = {"noise": paths["sig"], "noise_kind": "rms"} | ({"mask": paths["mask"]} if masked else {})
    return RealFrame(name, paths["im"], paths["psf"], np.empty((0, 2)), options)


def options_of(frame, network="default", upsample=2, **more):
    """What ``deconjugate deconvolve`` takes by default, for this frame."""
    gain = None if "noise" in frame.options else "header"
    given = {"psf": frame.psf, "gain": gain, "upsample": upsample, "network": network, "overwrite": True}
    return file_options(**{**given, **frame.options, **more})


def deconvolved(frame, folder, network="default", upsample=2, data=None, noise=None, **more):
    """The :class:`Outcome` of a frame, or of other data (and noise, where it was given) in its place."""
    from astropy.io import fits

    path, output = frame.path, Path(folder) / f"{frame.name}_sharp.fits"
    if data is not None:
        path = Path(folder) / f"{frame.name}_changed.fits"
        fits.writeto(path, data.astype(np.float32), fits.getheader(frame.path), overwrite=True)
    if noise is not None:
        more["noise"] = Path(folder) / f"{frame.name}_noise.fits"
        fits.writeto(more["noise"], noise.astype(np.float32), overwrite=True)
    options = options_of(frame, network, upsample, **more)
    start = perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (result,), report = process(path, output, options)
    seconds = perf_counter() - start
    prepared = prepared_of(path, options)
    with fits.open(output) as hdus:
        flags, fine = hdus["DQ"].data.copy(), hdus["SCI"].data.astype(np.float64)
    level = np.asarray(prepared.level, dtype=np.float64)
    finer = np.kron(level, np.ones((upsample, upsample))) / upsample**2
    mask = prepared.image.mask
    return Outcome(
        report["images"][0], fine - finer, prepared.image.data - level, np.asarray(prepared.sigma, float), level,
        np.zeros(level.shape, bool) if mask is None else np.asarray(mask), flags, np.asarray(result.residual),
        prepared.psf.fine(upsample, max_size=min(level.shape) * upsample), upsample, seconds,
        [str(entry.message) for entry in caught],
    )  # fmt: skip


def prepared_of(path, options):
    """Sky, noise and mask of a frame as deconjugate measures them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(path, None, None, options)


def predicted(image, psf, upsample):
    """D (k * x): the native frame that an image at the target resolution stands for, nothing outside of it."""
    shape = tuple(n // upsample for n in image.shape)
    model = DataModel(shape, psf, upsample)
    whole = np.zeros(model.domain_shape, np.float32)
    whole[model.inside] = image
    return model.apply(whole)[model.frame]


def native_psf(frame):
    """The effective PSF at native sampling."""
    return PSF.from_file(frame.psf).fine(1)


def lucy_of_skimage(data, psf, upsample, steps=20):
    """Five lines of scikit-image: Richardson-Lucy of the data with their pixels cut up, sky off, negative ones at 0."""
    from skimage.restoration import richardson_lucy

    u = upsample
    cut = np.kron(np.maximum(np.nan_to_num(data), 0.0), np.ones((u, u))) / u**2
    # Cutting pixels up puts the light half a pixel's rest off its place: the PSF is that of the native pixel, centred.
    scale = cut.max()
    return richardson_lucy(cut / scale, _with_pixel(psf, u), num_iter=steps, clip=False, filter_epsilon=1e-12) * scale


def _with_pixel(psf, upsample):
    """The PSF with the response of the native pixel, as cut up pixels show it: a box twice, of odd extent in all."""
    import scipy.signal

    box = np.ones((upsample, upsample)) / upsample**2
    return scipy.signal.fftconvolve(psf, scipy.signal.convolve2d(box, box))
