"""Two deconvolutions to look at: ``python -m deconjugate.astro.demo [FOLDER]``.

M13 as a ground survey saw it (in the astropy wheel), and the Hubble deep field (in the scikit-image wheel) as a ground
telescope would have seen it. Both run through the command line; files and pictures go to FOLDER, default ``demo``.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SEEING = 4.0  # native pixels, of the simulated ground telescope
UPSAMPLE = 2
PEAK_SNR = 200.0


def main(folder="demo"):
    """Make both, print what was done and how long it took."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    globular_cluster(folder)
    deep_field(folder)


def globular_cluster(folder):
    """M13 from a photographic survey, its PSF measured on its stars."""
    from deconjugate.astro.background import background_and_rms
    from deconjugate.astro.fits import read_image
    from deconjugate.astro.stars import measure_seeing
    from deconjugate.astro.wcs import pixel_scale_arcsec

    source = shutil.copy(_in_package("astropy", "io/fits/hdu/compressed/tests/data/m13.fits"), folder)
    image = read_image(source)
    # The cluster fills the frame: a map of the sky would take its unresolved stars for sky.
    sky, rms = background_and_rms(image.data, sky="flat")
    seeing = measure_seeing(image.data, sky, rms)
    arcsec = seeing.fwhm_pix * pixel_scale_arcsec(image.wcs)
    print(
        f"M13, {image.shape[1]} x {image.shape[0]} pixels: {len(seeing.positions)} stars are {arcsec:.2f} arcsec wide"
    )
    output, page = folder / "m13_deconvolved.fits", folder / "m13_qa.png"
    with tempfile.TemporaryDirectory() as scratch:
        psf = Path(scratch) / "m13_psf.fits"
        _run("psf", source, "-o", psf, "--sky", "flat")
        _run("deconvolve", source, "--psf", psf, "--sky", "flat", "-o", output, "--qa", page)
    sharp = read_image(output)
    pictures = [(image.data - sky, "M13, ground survey"), (_per_native_pixel(sharp.data) - _finer(sky), "deconvolved")]
    _grey(folder / "m13.png", pictures, float(np.median(rms)))


def deep_field(folder):
    """The Hubble deep field through the atmosphere: three bands, each deconvolved by itself, beside the truth."""
    from astropy.nddata import CCDData, StdDevUncertainty
    from matplotlib.image import imread

    from deconjugate.astro.fits import read_image, write_image
    from deconjugate.astro.psf import PSF
    from deconjugate.astro.qa import busiest_window
    from deconjugate.astro.simulate import simulate

    try:
        source = _in_package("skimage", "data/hubble_deep_field.jpg")
    except FileNotFoundError:
        print("Hubble deep field: left out, for it comes with scikit-image (pip install scikit-image)")
        return
    # The picture is encoded for the eye; its square is close to light.
    light = (imread(source).astype(np.float32) / 255.0) ** 2
    light -= np.median(light, axis=(0, 1))
    light = light[busiest_window(light.mean(axis=-1), 560)]
    print(
        f"Hubble deep field, {light.shape[1]} x {light.shape[0]} pixels, seen from the ground: seeing {SEEING:g} pixels"
    )
    psf = PSF.moffat(SEEING, beta=3.0)
    bands = {"ground": [], "deconvolved": [], "space": []}
    for index, band in enumerate("rgb"):
        scene = simulate(1e4 * light[..., index], psf, upsample=UPSAMPLE, peak_snr=PEAK_SNR, margin=8, seed=index)
        seen = CCDData(scene.data, StdDevUncertainty(scene.noise_map), unit="adu")
        ground, output = folder / f"hubble_{band}_ground.fits", folder / f"hubble_{band}_deconvolved.fits"
        write_image(ground, seen, overwrite=True)
        # The scene has no sky: a measured one would swallow the faint sources.
        _run("deconvolve", ground, "--fwhm-pix", f"{SEEING:g}", "--noise", "ERR", "--sky", "none", "-o", output)
        bands["ground"].append(_finer(scene.data))
        bands["deconvolved"].append(_per_native_pixel(read_image(output).data))
        bands["space"].append(_per_native_pixel(scene.truth))
        errors = [np.sum((bands[name][-1] - bands["space"][-1]) ** 2) for name in ("ground", "deconvolved")]
        before, after = errors / np.sum(bands["space"][-1] ** 2)
        print(f"  squared error against the truth: {100 * before:.1f} % before, {100 * after:.1f} % after")
    _colour(folder / "hubble.png", {name: np.stack(planes, axis=-1) for name, planes in bands.items()})


def _in_package(package, path):
    """A data file of an installed package, which need not be imported for it."""
    spec = importlib.util.find_spec(package)
    found = Path(spec.origin).parent / path if spec else Path(path)
    if not found.exists():
        raise FileNotFoundError(f"{package} is not installed or has no {path}")
    return str(found)


def _run(*arguments):
    """Run the console command as a person would, and show it."""
    command = ["deconjugate", *map(str, arguments), "--overwrite"]
    command += ["--upsample", str(UPSAMPLE), "--no-network"] if arguments[0] == "deconvolve" else []
    print("$", " ".join(command), flush=True)
    start = time.perf_counter()
    subprocess.run([os.path.join(os.path.dirname(sys.executable), command[0]), *command[1:]], check=True)
    print(f"  {time.perf_counter() - start:.1f} s with start-up", flush=True)


def _per_native_pixel(image):
    return np.asarray(image, dtype=np.float64) * UPSAMPLE**2


def _finer(image):
    return np.repeat(np.repeat(image, UPSAMPLE, axis=-2), UPSAMPLE, axis=-1)


def _grey(path, pictures, rms):
    """Before and after, the whole frame above and its busiest part below."""
    from matplotlib.figure import Figure

    from deconjugate.astro.atomic import write_atomically
    from deconjugate.astro.qa import busiest_window

    native = pictures[0][0]
    soft = 60.0 * rms  # linear below, logarithmic above: star light rather than sky noise is to be seen
    window = busiest_window(native, min(native.shape) // 4)
    top = np.percentile(pictures[1][0], 99.9)
    figure = Figure(figsize=(12.0, 12.4), layout="constrained", facecolor="black")
    axes = figure.subplots(2, 2)
    for column, (picture, name) in enumerate(pictures):
        factor = picture.shape[0] // native.shape[0]
        close = tuple(slice(s.start * factor, s.stop * factor) for s in window)
        for axis, part, label in (
            (axes[0, column], picture, name),
            (axes[1, column], picture[close], f"{name}, close-up"),
        ):
            shade = np.arcsinh(part / soft) / np.arcsinh(top / soft)
            axis.imshow(shade, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(label, color="white", fontsize=16)
            axis.axis("off")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110), overwrite=True)
    print(f"  {path}")


def _colour(path, pictures):
    """Ground, deconvolved and space view of the busiest part of the deep field."""
    from matplotlib.figure import Figure

    from deconjugate.astro.atomic import write_atomically
    from deconjugate.astro.qa import busiest_window

    rows, columns = busiest_window(pictures["space"].mean(axis=-1), 320)
    titles = {
        "ground": "from the ground, simulated",
        "deconvolved": "deconvolved",
        "space": "truth, at the same resolution",
    }
    figure = Figure(figsize=(18.0, 6.5), layout="constrained", facecolor="black")
    for axis, (name, picture) in zip(figure.subplots(1, 3), pictures.items()):
        part = picture[rows, columns]
        axis.imshow(_rgb(part, pictures["space"]), interpolation="nearest")
        axis.set_title(titles[name], color="white", fontsize=16)
        axis.axis("off")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110), overwrite=True)
    print(f"  {path}")


def _rgb(light, reference):
    """Colours for the eye: one arcsinh stretch of the mean brightness, so that colours survive (Lupton et al. 2004)."""
    scale = np.percentile(reference, 90.0)
    mean = np.fmax(light.mean(axis=-1, keepdims=True), 1e-9 * scale)
    ceiling = np.arcsinh(np.percentile(reference.mean(axis=-1), 99.8) / scale)
    return np.clip(light / mean * np.arcsinh(mean / scale) / ceiling, 0.0, 1.0)


if __name__ == "__main__":
    main(*sys.argv[1:2])
