"""Accuracy at the door: sky positions from file to file, and PSFs on the fine grid.

    python benchmarks/bench_files.py [--quick]

Positions: a star is put at a known place of the sky, the file deconvolved by the console command, and the star measured
in the output through the output's own WCS; beside it, how far the two WCS disagree over the whole frame.
PSFs: an optical Gaussian integrated over native pixels, sampled and given as an array; the fine PSF is held against the
same Gaussian integrated over fine pixels.
Costs: time and memory of the command on frames of galaxies and stars, beside what ``--dry-run`` says.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from results import begin
from scipy.special import erf

from deconjugate.astro import PSF, read_image
from deconjugate.astro.cli import main as command
from deconjugate.astro.shape import windowed_centroid
from deconjugate.operators import Binning, Convolution

SCALE, SHAPE, STAR = 7.3e-5, (141, 123), (97, 152)  # degrees per pixel; native pixels; fine pixel of the star
ANGLE = np.deg2rad(23.0)
CARDS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 61.3, "CRPIX2": -57.9, "CRVAL1": 150.1, "CRVAL2": 62.2}
ROTATION = {"1_1": np.cos(ANGLE), "1_2": -np.sin(ANGLE), "2_1": np.sin(ANGLE), "2_2": np.cos(ANGLE)}
HEADERS = {
    "CD": {f"CD{k}": v * (-SCALE if k.endswith("1") else SCALE) for k, v in ROTATION.items()},
    "PC + CDELT": {**{f"PC{k}": v for k, v in ROTATION.items()}, "CDELT1": -SCALE, "CDELT2": SCALE},
    "CROTA": {"CDELT1": -SCALE, "CDELT2": SCALE, "CROTA2": 23.0},
    "CD + SIP": {
        **{f"CD{k}": v * (-SCALE if k.endswith("1") else SCALE) for k, v in ROTATION.items()},
        "CTYPE1": "RA---TAN-SIP",
        "CTYPE2": "DEC--TAN-SIP",
        "A_ORDER": 2,
        "B_ORDER": 2,
        "A_2_0": 3e-5,
        "B_1_1": -2e-5,
    },
}


def bench_positions():
    sky = np.zeros((2 * SHAPE[0], 2 * SHAPE[1]))
    sky[STAR] = 1e5
    psf = PSF.moffat(3.2)
    blurred = (Binning(sky.shape, 2) @ Convolution(sky.shape, psf.fine(2))).apply(sky)
    data = (blurred + 3.0 * np.random.default_rng(1).standard_normal(SHAPE)).astype(np.float32)
    print("\nSky positions, file to file, upsample 2 (degrees; goal 1e-6 for the WCS)")
    print(f"{'header':12} {'WCS against WCS':>16} {'the star':>10} {'centroid noise':>15}")
    with tempfile.TemporaryDirectory() as folder:
        for name, cards in HEADERS.items():
            given, output = Path(folder) / "in.fits", Path(folder) / "out.fits"
            fits.PrimaryHDU(data, fits.Header({**CARDS, **cards})).writeto(given, overwrite=True)
            arguments = ["deconvolve", given, "-o", output, "--fwhm-pix", 3.2, "--no-network", "--quiet", "--overwrite"]
            if command([str(a) for a in arguments]):
                raise SystemExit("the command failed")
            sharp, native = read_image(output), WCS(fits.getheader(given))
            x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 122, 15), np.linspace(0, 140, 15)))
            disagreement = _apart(native.all_pix2world(x, y, 0), sharp.wcs.all_pix2world(2 * x + 0.5, 2 * y + 0.5, 0))
            window = np.s_[STAR[0] - 12 : STAR[0] + 13, STAR[1] - 12 : STAR[1] + 13]
            row, column = (c + s - 12 for c, s in zip(windowed_centroid(sharp.data[window]), STAR))
            truth = native.all_pix2world((STAR[1] - 0.5) / 2, (STAR[0] - 0.5) / 2, 0)
            star = _apart(truth, sharp.wcs.all_pix2world(column, row, 0))
            # The least error of a centroid: sigma of the PSF over the signal-to-noise ratio of the star's flux.
            least = SCALE * (3.2 / 2.355) / (1e5 / (3.0 * np.sqrt(4 * np.pi) * 3.2 / 2.355))
            print(f"{name:12} {disagreement.max():16.1e} {star.max():10.1e} {least:15.1e}")


def _apart(one, other):
    east = (np.asarray(one[0]) - other[0]) * np.cos(np.deg2rad(one[1]))
    return np.hypot(east, np.asarray(one[1]) - other[1])


def bench_psf():
    print(
        "\nPSF on the fine grid, from samples of a Gaussian: ||p - exact||_1, arrays of even size centred at 15.3, 16.2"
    )
    print(f"{'FWHM (pixels)':>14} {'samples a pixel':>16} " + " ".join(f"{f'upsample {u}':>11}" for u in (2, 3, 4)))
    for fwhm in (2.0, 2.5, 3.0, 4.0):
        for sampling in (1, 2, 3):
            errors = [_psf_error(fwhm / 2.3548, sampling, u) for u in (2, 3, 4)]
            print(f"{fwhm:14g} {sampling:16d} " + " ".join(f"{e:11.1e}" for e in errors))


def _psf_error(sigma, sampling, upsample):
    axes = [(np.arange(32 * sampling) - c * sampling) / sampling for c in (15.3, 16.2)]
    p = PSF.from_array(np.outer(*(_integral(sigma, x, 0.5) for x in axes)), oversampling=sampling).fine(upsample)
    exact = [_integral(sigma, (np.arange(n) - n // 2) / upsample, 0.5 / upsample) for n in p.shape]
    return np.abs(p - np.outer(*exact)).sum()


def _integral(sigma, x, half):
    return 0.5 * (erf((x + half) / (np.sqrt(2) * sigma)) - erf((x - half) / (np.sqrt(2) * sigma)))


def bench_costs(sides, results):
    """Time and largest memory of the command, each in a process of its own, beside its own estimate."""
    print("\nWhat a frame costs, upsample 2: seconds and GB, and as --dry-run says (seconds low to high, GB)")
    print(f"{'pixels':>12} {'path':>10} {'seconds':>8} {'GB':>6} {'estimate':>22} {'chi2':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            given = Path(folder) / f"{side}.fits"
            fits.PrimaryHDU(_frame(side)).writeto(given)
            for path, options in (("classical", ["--no-network"]), ("network", [])):
                command = [sys.executable, "-c", RUN, "deconvolve", given, "-o", Path(folder) / "out.fits", "--json"]
                command += ["--fwhm-pix", 3.5, "--overwrite", *options]
                told, done = (_json(command + more) for more in (["--dry-run"], []))
                (image,) = done["images"]
                if not 0.9 < image["reduced_chi2"] < 1.1:
                    raise SystemExit(f"reduced chi^2 is {image['reduced_chi2']}")
                estimate = f"{told['seconds_low']:.0f} to {told['seconds_high']:.0f}, {told['memory_gb']:.2f}"
                print(
                    f"{side:>5} x {side:<4} {path:>10} {done['seconds']:8.1f} {done['peak_gb']:6.2f} {estimate:>22} "
                    f"{image['reduced_chi2']:6.3f}",
                    flush=True,
                )
                results.note(f"files/{side}^2, {path}", seconds=done["seconds"], gigabytes=done["peak_gb"])


RUN = """
import resource, sys
from deconjugate.astro.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
sys.exit(status)
"""


def _json(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    line, peak = done.stdout.splitlines()
    return json.loads(line) | {"peak_gb": float(peak)}


def _frame(side):
    """Stars and galaxies of exponential profile on a sky, one for every 64 x 64 pixels."""
    rng = np.random.default_rng(4)
    fine = np.zeros((2 * side, 2 * side))
    y, x = np.mgrid[-40:41, -40:41]
    for k in range((side // 64) ** 2):
        row, column = rng.integers(41, 2 * side - 41, 2)
        shape = (
            np.exp(-np.hypot(x, y / rng.uniform(0.4, 1.0)) / rng.uniform(3.0, 8.0)) if k % 2 else (x == 0) * (y == 0)
        )
        fine[row - 40 : row + 41, column - 40 : column + 41] += rng.uniform(300, 3000) * shape / shape.sum()
    blurred = (Binning(fine.shape, 2) @ Convolution(fine.shape, PSF.moffat(3.5).fine(2))).apply(fine)
    return (blurred + 50.0 + 2.0 * rng.standard_normal(blurred.shape)).astype(np.float32)


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    results = begin(quick=quick, packages=("operators", "solver", "astro"))
    bench_positions()
    bench_psf()
    bench_costs((256,) if quick else (256, 512, 1024), results)
