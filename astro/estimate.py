"""What a deconvolution would do, how long it would take, and how much memory."""

import os

from deconjugate.astro.deconvolve_file import check_outputs, images_of
from deconjugate.astro.fits import read_frame
from deconjugate.astro.hdus import cube_shape, image_shape, open_fits
from deconjugate.astro.light import check_light
from deconjugate.astro.preparation import find_psf

# Seconds for a million fine pixels and gigabytes, measured on two cores: benchmarks/bench_files.py and bench_frames.py.
START, NETWORK_START = 3.0, 6.0
SECONDS, NETWORK_SECONDS = 2.5, 6.0
SLOWEST = 4.0  # times that: crowds of stars
BASE, NETWORK_BASE, TILE, NETWORK_TILE, PIECE = 0.35, 0.6, 0.6, 0.5, 0.6
BYTES, NATIVE_BYTES = 12.0, 28.0  # in memory: of a fine pixel for the uncertainty alone, of a native one always
TILE_PIXELS = 2304.0**2


def plan(path, output, options):
    """Find out, from the headers and the PSF, what would be done; nothing is written.

    Parameters
    ----------
    path, output : str or path
    options : deconjugate.astro.file_options.FileOptions

    Returns
    -------
    dict
        "status" is "planned"; "images", a dictionary for each; "seconds_low", "seconds_high" and "memory_gb", the
        estimates for two cores; "plan", the same in words.

    Raises
    ------
    OSError, KeyError, ValueError
        What would stop the deconvolution at its door.
    """
    # The folder is made when the work is done.
    if os.path.isdir(os.path.dirname(os.path.realpath(output))):
        check_outputs(path, output, options)
    u, network = options.upsample, options.method.get("network", "default") is not None
    images, fine, largest = [], 0.0, 0.0
    found = images_of(path, options)
    for (name, index, planes), chosen in zip(found, options.for_images([name for name, _, _ in found])):
        with open_fits(path) as hdus:
            height, width = (image_shape(hdus[index]) or cube_shape(hdus[index]))[-2:]
        frame = read_frame(
            path,
            ext=index,
            plane=planes[0],
            noise=options.noise,
            noise_kind=options.noise_kind,
            mask=options.mask,
            bad_bits=options.bad_bits,
        )
        check_light(frame.image, path)
        psf, psf_name = find_psf(chosen, frame.image.wcs)
        psf.fine(u, max_size=min(height, width) * u)
        images.append({"ext": name, "planes": len(planes), "size": [width * u, height * u], "psf": psf_name})
        images[-1]["psf_fwhm_pix"] = round(float(psf.fwhm_pix), 3)
        images[-1]["noise"] = "measured" if options.noise is None else f"{options.noise}, {frame.noise_kind}"
        fine += len(planes) * width * height * u**2
        largest = max(largest, len(planes) * width * height * u**2)
    seconds = (NETWORK_SECONDS if network else SECONDS) * fine / 1e6 * (1 + (options.method.get("uncertainty") or 0))
    seconds += NETWORK_START if network else START
    tile = options.method.get("tile")
    tile = min(largest, TILE_PIXELS if tile is None else (tile * u) ** 2) / TILE_PIXELS
    memory = (NETWORK_BASE if network else BASE) + (NETWORK_TILE if network else TILE) * tile
    memory += PIECE * min(largest / 1e6, 1.0) if network else 0.0  # the network takes no more at once
    memory += (NATIVE_BYTES / u**2 + (BYTES if options.method.get("uncertainty") else 0.0)) * fine / 1e9
    low, high = (_duration(value) for value in (seconds, SLOWEST * seconds))
    words = f", PSF {images[0]['psf']} (FWHM {images[0]['psf_fwhm_pix']:.2f} pixels), noise {images[0]['noise']}: "
    words += f"would take {low} to {high} on two cores, {memory:.1f} GB"
    return {
        "status": "planned",
        "images": images,
        "seconds_low": round(seconds, 1),
        "seconds_high": round(SLOWEST * seconds, 1),
        "memory_gb": round(memory, 2),
        "plan": words,
    }


def _duration(seconds):
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
