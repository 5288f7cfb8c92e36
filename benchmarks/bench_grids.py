"""Colours of bands that were observed on different pixels, matched by the console command's own path from file to file.

    python benchmarks/bench_grids.py [--galaxies 8] [--seed 3] [--classical] [--quick]

Discs with four clumps, one colour all over, from formulas that are drawn on each grid: no pixel is ever resampled but
by what is measured. The first band has pixels of 0.26 arcsec and a PSF of 0.78, the second a PSF of 1.17 arcsec on the
same pixels, on those turned by 12 degrees, on pixels of 0.34 arcsec turned as much, and on finer ones of 0.2 upside
down. Errors of colours in magnitudes: of clumps in circles of 0.26 arcsec, and of the whole galaxy in one of 3.2.
Checked first: resampling alone, without noise, keeps the galaxy's flux to 1 per cent.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from photutils.aperture import CircularAperture
from results import begin

from deconjugate.astro import PSF, simulate
from deconjugate.astro.band_files import deconvolve_band_files
from deconjugate.astro.regrid import mapping, resample

FIRST = (72, 80), 0.26, 0.0
SECOND = {
    "the same": FIRST,
    "turned by 12 degrees": ((90, 90), 0.26, 12.0),
    "0.34 arcsec, turned by 12 degrees": ((72, 72), 0.34, 12.0),
    "0.2 arcsec, upside down": ((98, 108), 0.2, 180.0),
}
SEEING, SNRS, DRAWN, CLUMP = (0.78, 1.17), (50, 200), 4, 0.15  # arcsec, -, samples a pixel, arcsec
NEAR, WIDE = 0.26, 3.2  # arcsec


def wcs_of(shape, scale, turned):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [30.0, -4.0]
    wcs.wcs.crpix = [(shape[1] + 1) / 2 + 0.3, (shape[0] + 1) / 2 - 0.2]
    c, s = np.cos(np.deg2rad(turned)), np.sin(np.deg2rad(turned))
    wcs.wcs.cd = scale / 3600.0 * np.array([[-c, s], [s, c]])
    return wcs


def offsets(wcs, x, y):
    """East and north of the galaxy, arcsec, of pixels (from 0)."""
    given = np.array([np.ravel(x) - wcs.wcs.crpix[0] + 1, np.ravel(y) - wcs.wcs.crpix[1] + 1])
    return (3600.0 * wcs.wcs.cd @ given).reshape(2, *np.shape(x))


def drawn_galaxy(rng):
    """Radius, axis ratio, position angle, and (east, north, height over the disc's) of its clumps."""
    clumps = []
    while len(clumps) < 4:
        r, angle = rng.uniform(1.0, 2.6), rng.uniform(0, 2 * np.pi)
        place = r * np.cos(angle), r * np.sin(angle)
        if all(np.hypot(place[0] - c[0], place[1] - c[1]) > 0.9 for c in clumps):
            clumps.append((*place, rng.uniform(0.8, 1.6)))
    return rng.uniform(1.0, 1.5), rng.uniform(0.5, 1.0), rng.uniform(0, np.pi), clumps


def scene(galaxy, shape, scale, turned):
    """Light per sample, four a pixel along each axis."""
    radius, ratio, angle, clumps = galaxy
    x, y = np.meshgrid(*((np.arange(DRAWN * n) + 0.5) / DRAWN - 0.5 for n in shape[::-1]))
    east, north = offsets(wcs_of(shape, scale, turned), x, y)
    along, across = (
        east * np.cos(angle) + north * np.sin(angle),
        north * np.cos(angle) - east * np.sin(angle),
    )
    light = np.exp(-np.hypot(along, across / ratio) / radius)
    for e, n, height in clumps:
        light += height * np.exp(-((east - e) ** 2 + (north - n) ** 2) / (2 * CLUMP**2))
    return light * (scale / DRAWN) ** 2


def observe(path, galaxy, grid, seeing, snr, seed):
    seen = simulate(scene(galaxy, *grid), PSF.moffat(seeing / grid[1]), upsample=DRAWN, peak_snr=snr, seed=seed)
    header = wcs_of(*grid).to_header()
    noise = np.broadcast_to(seen.noise_map, seen.data.shape).astype(np.float32)
    hdus = [fits.ImageHDU(seen.data.astype(np.float32), header, name="SCI"), fits.ImageHDU(noise, name="ERR")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)


def colours(paths, galaxy):
    """Of the clumps, and of the whole."""
    images, wcs = [fits.getdata(path, "SCI") for path in paths], WCS(fits.getheader(paths[0], "SCI"))
    scale = 3600.0 * np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))
    inverse = np.linalg.inv(3600.0 * wcs.pixel_scale_matrix)

    def colour(east, north, radius):
        x, y = inverse @ (east, north) + wcs.wcs.crpix - 1
        circle = CircularAperture((float(x), float(y)), radius / scale)
        one, other = (circle.do_photometry(image)[0][0] for image in images)
        return -2.5 * np.log10(other / one)

    return [colour(e, n, NEAR) for e, n, _ in galaxy[3]], colour(0.0, 0.0, WIDE)


def check(galaxy):
    """What resampling alone does to the flux of a noiseless galaxy."""
    for name, grid in SECOND.items():
        seen = simulate(scene(galaxy, *grid), PSF.moffat(SEEING[1] / grid[1]), upsample=DRAWN, peak_snr=1e7, seed=1)
        one = CCDData(np.zeros(FIRST[0]), wcs=wcs_of(*FIRST), unit="adu")
        where = mapping(one, CCDData(seen.data, wcs=wcs_of(*grid), unit="adu"))
        light = where.area * resample(seen.data, where)[0]
        sums = []
        for image, (shape, scale, turned) in ((light, FIRST), (seen.data, grid)):
            x, y = wcs_of(shape, scale, turned).wcs.crpix - 1
            sums.append(CircularAperture((x, y), WIDE / scale).do_photometry(image)[0][0])
        if abs(sums[0] / sums[1] - 1.0) > 0.01:
            sys.exit(f"{name}: resampling makes {sums[0] / sums[1]:.4f} of the flux")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=8)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--classical", action="store_true", help="without the network")
    parser.add_argument("--quick", action="store_true", help="one galaxy, of one peak SNR")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = begin(quick=args.quick, packages=("operators", "solver", "astro"))
    rng = np.random.default_rng(args.seed)
    galaxies = [drawn_galaxy(rng) for _ in range(1 if args.quick else args.galaxies)]
    check(galaxies[0])
    print("| peak SNR | pixels of the second band | clumps, median | clumps, rms | whole, rms | reduced chi2 |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each resampling is said
        given, sharp = ([str(Path(folder, f"{name}{band}.fits")) for band in (1, 2)] for name in ("seen", "sharp"))
        for snr in SNRS[:1] if args.quick else SNRS:
            for name, grid in SECOND.items():
                near, whole, chi2 = [], [], []
                for number, galaxy in enumerate(galaxies):
                    for band, (path, one) in enumerate(zip(given, (FIRST, grid))):
                        observe(path, galaxy, one, SEEING[band], snr, 2 * number + band)
                    widths = [{"fwhm_pix": seeing / one[1]} for seeing, one in zip(SEEING, (FIRST, grid))]
                    how = {"network": None} if args.classical else {}
                    found = deconvolve_band_files(
                        given, sharp, widths, noise="ERR", sky="none", overwrite=True, progress=False, **how
                    )
                    clumps, all_of_it = colours(sharp, galaxy)
                    near += clumps
                    whole.append(all_of_it)
                    chi2.append([one.reduced_chi2 for one in found])
                near, whole, chi2 = np.array(near), np.array(whole), np.median(chi2, axis=0)
                rms = np.sqrt((near**2).mean()), np.sqrt((whole**2).mean())
                left = " and ".join(f"{c:.2f}" for c in chi2)
                print(f"| {snr} | {name} | {np.median(near):+.3f} | {rms[0]:.3f} | {rms[1]:.4f} | {left} |", flush=True)
                label = f"grids/{name}, peak SNR {snr}, {'classical' if args.classical else 'network'}"
                results.note(label, median=np.median(near), rms=rms[0], whole=rms[1], galaxies=len(galaxies), chi2=chi2)


if __name__ == "__main__":
    main()
