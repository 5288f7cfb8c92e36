"""Colours of galaxies seen in two bands through different PSFs: before, deconvolved band by band, and matched.

    python benchmarks/bench_bands.py [--galaxies 24] [--seed 5] [--widths 3 4.5] [--classical] [--quick]
    python benchmarks/bench_bands.py --uncertainty 8 [--galaxies 3]

Discs with clumps, of one colour all over, or with clumps 0.55 magnitudes off their discs'; PSFs of FWHM 3 and 4.5
native pixels (Moffat), two fine pixels to a native one, peak SNR 50 and 200 in both bands. Colours in circles of
radius 2, 4 and 8 fine pixels at the galaxy's centre, at places drawn from its light, and on clumps of 3 % of the disc
and more: error in magnitudes against the same circles in the truth at the target resolution, median and (root mean
square).
With --uncertainty: of the pixels of 2 % of the peak and more, how many are within one sigma of the truth, instead.
"Blurred alike" is what is done without deconvolution: the sharper band convolved to the PSF of the other.
"""

import argparse
import sys

import numpy as np
import scipy.fft
import torch
from photutils.aperture import CircularAperture
from results import begin

from deconjugate.astro import PSF, deconvolve, deconvolve_bands, simulate
from deconjugate.astro.clumpy_disc import clumpy_disc
from deconjugate.astro.uncertainty import native_psf

UPSAMPLE, RADII, SNRS, LIGHT = 2, (2, 4, 8), (50, 200), (1e4, 6e3)
FAINTER = 0.6  # light of the clumps in the second band where their colour is another
LEAST_SHARE, PLACES = 0.03, 3


def second_band(disc, clumps, share):
    """The sky of the second band: the first one's, clumps with so much of their light."""
    y, x = np.indices(disc.shape)
    sky = disc.copy()
    for row, column, flux, width in clumps:
        clump = np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / max(width, 0.6) ** 2)
        sky -= (1.0 - share) * flux * clump / clump.sum()
    return sky


def blurred_alike(bands, psfs):
    """The sharper band at the resolution of the other: the ratio of their PSFs, bounded where the sharper has none."""
    shape = bands[0].shape
    transfers = []
    for psf in psfs:
        effective = native_psf(psf.fine(UPSAMPLE, max_size=UPSAMPLE * min(shape)), UPSAMPLE)
        padded = np.zeros(shape)
        cut = tuple(slice(max(0, (k - n) // 2), max(0, (k - n) // 2) + n) for k, n in zip(effective.shape, shape))
        inner = effective[cut]
        padded[: inner.shape[0], : inner.shape[1]] = inner
        middle = np.unravel_index(np.argmax(inner), inner.shape)
        transfers.append(scipy.fft.fft2(np.roll(padded, [-m for m in middle], (0, 1))))
    sharp = int(np.argmin([psf.fwhm_pix for psf in psfs]))
    one, other = transfers[sharp], transfers[1 - sharp]
    kernel = other * np.conj(one) / (np.abs(one) ** 2 + 1e-4)
    both = list(bands)
    both[sharp] = scipy.fft.ifft2(scipy.fft.fft2(bands[sharp]) * kernel).real
    return both


def colours(bands, place, scale=1):
    """Magnitudes between two bands in circles around a place in fine pixels, ``scale`` of which make a pixel."""
    centre = tuple((c + 0.5) / scale - 0.5 for c in place)
    circles = [CircularAperture(centre, radius / scale) for radius in RADII]
    one, other = (np.array([circle.do_photometry(band)[0][0] for circle in circles]) for band in bands)
    with np.errstate(invalid="ignore", divide="ignore"):
        return -2.5 * np.log10(other / one)


def places_of(truth, clumps, rng):
    """Places (x, y) by kind."""
    y, x = np.indices(truth.shape)
    light = np.where(truth > 0.05 * truth.max(), truth, 0.0)
    drawn = rng.choice(light.size, PLACES, p=light.ravel() / light.sum())
    centre = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
    bright = [(column, row) for row, column, flux, _ in clumps if flux >= LEAST_SHARE]
    return {"centre": [centre], "anywhere": [divmod(int(k), truth.shape[1])[::-1] for k in drawn], "clumps": bright}


def errors(bands, truths, places, scale=1):
    """(n, 3) errors at all places of all galaxies."""
    found = [
        colours(both, place, scale) - colours(true, place)
        for both, true, some in zip(zip(*bands), zip(*truths), places)
        for place in some
    ]
    return np.array(found).reshape(-1, len(RADII))


def rows(drawn, psfs, snr, share, network, note):
    """Print one row for each method and kind of place; whether the images explain their data."""
    skies = [[disc for disc, _ in drawn], [second_band(disc, clumps, share) for disc, clumps in drawn]]
    scenes = [
        [simulate(light * s, psf, upsample=UPSAMPLE, peak_snr=snr, seed=2 * i + b) for i, s in enumerate(sky)]
        for b, (sky, psf, light) in enumerate(zip(skies, psfs, LIGHT))
    ]
    data, noise, truths = (
        [[getattr(scene, name) for scene in band] for band in scenes] for name in ("data", "noise_map", "truth")
    )
    rng = np.random.default_rng(1)
    places = [places_of(truth, clumps, rng) for truth, (_, clumps) in zip(truths[0], drawn)]
    options = {"upsample": UPSAMPLE, "network": network, "progress": False}
    alone = [
        deconvolve(np.stack(band), psf, noise=np.stack(sigma), **options).image.data
        for band, psf, sigma in zip(data, psfs, noise)
    ]
    matched = [deconvolve_bands(band, psfs, noise=sigma, **options) for band, sigma in zip(zip(*data), zip(*noise))]
    chi2 = [float(np.median([bands[b].reduced_chi2 for bands in matched])) for b in (0, 1)]
    ratio = [float(np.median([bands[b].flux_ratio for bands in matched])) for b in (0, 1)]
    sharp = [[bands[b].image.data for bands in matched] for b in (0, 1)]
    alike = list(zip(*(blurred_alike(both, psfs) for both in zip(*data))))
    methods = {
        "as observed": (data, UPSAMPLE),
        "blurred alike": (alike, UPSAMPLE),
        "each by itself": (alone, 1),
        "matched": (sharp, 1),
    }
    clumps = "as the disc" if share == 1.0 else "redder" if share > 1.0 else "bluer"
    for name, (bands, scale) in methods.items():
        cells, kept = [], {}
        for kind in places[0]:
            error = errors(bands, truths, [some[kind] for some in places], scale)
            middle, rms = np.nanmedian(error, axis=0), np.sqrt(np.nanmean(error**2, axis=0))
            cells += [f"{m:+.3f} ({r:.3f})" for m, r in zip(middle, rms)]
            kept |= {f"{kind}, median": middle, f"{kind}, rms": rms}
        print(f"| {snr} | {clumps} | {name} | " + " | ".join(cells) + " |", flush=True)
        note(f"{name}, clumps {clumps}, peak SNR {snr}", **kept)
    return all(0.9 < c < 1.1 for c in chi2) and all(abs(r - 1.0) < 0.02 for r in ratio)


def calibration(drawn, psfs, count, network, note):
    """Print the share of pixels within one sigma, by peak SNR and band."""
    print("| peak SNR | sharper band | blurrier band |\n|---|---|---|")
    for snr in SNRS:
        shares = []
        for i, (disc, _) in enumerate(drawn):
            seen = [
                simulate(light * disc, psf, upsample=UPSAMPLE, peak_snr=snr, seed=2 * i + b)
                for b, (light, psf) in enumerate(zip(LIGHT, psfs))
            ]
            options = {"upsample": UPSAMPLE, "network": network, "uncertainty": count, "progress": False}
            noise = [scene.noise_map for scene in seen]
            bands = deconvolve_bands([scene.data for scene in seen], psfs, noise=noise, **options)
            shares.append([within_one_sigma(band.image, scene.truth) for band, scene in zip(bands, seen)])
        sharp, blurred = np.mean(shares, axis=0)
        print(f"| {snr} | {sharp:.2f} | {blurred:.2f} |", flush=True)
        note(f"calibration, {count} realisations, peak SNR {snr}", within_one_sigma=[sharp, blurred])


def within_one_sigma(image, truth):
    error = np.abs(image.data - truth) / image.uncertainty.array
    return (error[truth > 0.02 * truth.max()] < 1.0).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=24)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--widths", type=float, nargs=2, default=(3.0, 4.5), help="FWHM of the PSFs, native pixels")
    parser.add_argument("--classical", action="store_true", help="without the network")
    parser.add_argument("--uncertainty", type=int, metavar="N", help="realisations: are the deviations right?")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = begin(quick=args.quick, packages=("operators", "solver", "astro"))
    rng, psfs = np.random.default_rng(args.seed), [PSF.moffat(width) for width in args.widths]
    drawn = [clumpy_disc(rng) for _ in range(4 if args.quick else args.galaxies)]
    label = f"FWHM {args.widths[0]:g} and {args.widths[1]:g}, {'classical' if args.classical else 'network'}"

    def note(name, **values):
        results.note(f"bands/{name}, {label}, seed {args.seed}", galaxies=len(drawn), **values)

    about = (
        "pixels within one sigma" if args.uncertainty else "errors of colours in magnitudes, median (root mean square)"
    )
    print(f"{len(drawn)} discs, {label}; {about}\n")
    if args.uncertainty:
        calibration(drawn, psfs, args.uncertainty, None if args.classical else "default", note)
        return
    kinds = [f"{kind}, {radius}" for kind in ("centre", "anywhere", "clumps") for radius in RADII]
    head = ["peak SNR", "clumps", "bands", *kinds]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    explained = True
    for share in (1.0, FAINTER):
        for snr in SNRS:
            explained &= rows(drawn, psfs, snr, share, None if args.classical else "default", note)
    if not explained:
        sys.exit("the matched images do not explain their data: the colours above mean nothing")
    print("\nreduced chi2 of all matched bands within 0.9 to 1.1, flux ratios within 2 % of 1")


if __name__ == "__main__":
    main()
