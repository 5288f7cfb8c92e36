"""Part frames: the real frames as they are, with the options that a user gets by default."""

from pathlib import Path

import numpy as np
from real_frames import NAMES, deconvolved, lucy_of_skimage, native_psf, predicted, prepared_of, real_frames
from real_measures import by_snr, flux_ratios, holes, inside_sources, patterns
from real_scenes import galaxies_of, put
from real_sheet import sheet
from tables import row, table

from deconjugate.astro import PSF, simulate
from deconjugate.astro.deconvolve_file import file_options


def frames(args):
    """Misfit, kept flux, holes, residuals of unsaturated stars, fluxes of faint sources and seconds of each frame."""
    table("frame", "guess", "chi2", "outside flags", "with sigmas of sky and photons", "flux_ratio", "own tiles",
          "bad pixels", "holes", "of RL", "stars", "largest pattern, sigmas", "above 5", "5-10", "10-20", "20-50",
          "s", "s per 512 x 512", "messages")  # fmt: skip
    outcomes, all_ratios = {}, {}
    names = [name for name in NAMES if name in args.frames]
    for frame in real_frames(args.folder, names):
        for guess, network in args.networks.items():
            one = deconvolved(frame, args.folder, network)
            outcomes.setdefault(frame.name, {})[guess] = one
            ratios = line(args, frame, guess, one)
            all_ratios.setdefault(guess, []).append(ratios)
    for guess, pairs in all_ratios.items():
        ratios, snr = (np.concatenate(part) for part in zip(*pairs))
        found = by_snr(ratios, snr)
        said = (f"{key}: {'-' if value is None else f'{value:.3f}'} ({n})" for key, (value, n) in found.items())
        print(f"- all frames, {guess}: flux after / before by flux SNR: " + ", ".join(said))
        args.results.note(f"real/frames faint, {guess}", **found)
    bias = sky_of_stamps(args, 6 if args.quick else 20)
    print(f"- sky of {len(bias)} stamps of 64 x 64, too high by (sigmas): median {np.median(bias):+.3f}, "
          f"{np.percentile(bias, 16):+.3f} to {np.percentile(bias, 84):+.3f}")  # fmt: skip
    args.results.note("real/frames sky of stamps", median=np.median(bias), bias=bias)
    if args.sheet:
        sheet(args.sheet, outcomes)
        print(f"- contact sheet: {args.sheet}")


def line(args, frame, guess, one):
    u, good = one.upsample, ~one.bad
    flagged = (one.flags.reshape(good.shape[0], u, good.shape[1], u) & ~2 & ~4).any(
        (1, 3)
    ) | one.bad  # but edges, guess
    chi2 = one.entry["reduced_chi2"]
    outside = float(np.mean(one.residual[~flagged] ** 2))
    # Independently of the fit's own weights and margins: the image through the PSF, away from the edges.
    border = one.psf.shape[0] // (2 * u)
    inner = np.zeros(good.shape, bool)
    inner[border:-border, border:-border] = True
    left = (one.data - predicted(one.image, one.psf, u)) / one.sigma
    honest = float(np.mean(left[inner & ~flagged] ** 2))
    inside = inside_sources(one.data, one.sigma, u) & ~np.kron(one.bad, np.ones((u, u), bool))
    pitted, of_lucy = (holes(x, inside, u) for x in (one.image, lucy_of_skimage(one.data, one.psf, u)))
    stars = [(x, y) for x, y in frame.stars if not flagged[round(y), round(x)]]
    found = patterns(np.where(one.bad, 0.0, one.residual), native_psf(frame), stars, one.entry["psf_fwhm_pix"])
    ratios, snr = flux_ratios(np.where(one.bad, 0.0, one.data), one.image, one.sigma, one.bad, u)
    faint = by_snr(ratios, snr)
    own = None if guess == "classical" else 1.0 - one.entry["replaced"]
    rate = one.seconds * 512**2 / good.size
    largest = found[np.abs(found).argmax()] if found.size else np.nan
    above = int(np.sum(np.abs(found) > 5.0))
    kept = one.entry["flux_ratio"]
    row(frame.name, guess, f"{chi2:.3f}", f"{outside:.3f}", f"{honest:.3f}", "-" if kept is None else f"{kept:.4f}",
        "-" if own is None else f"{own:.0%}", int(one.bad.sum()), f"{pitted:.1%}", f"{of_lucy:.1%}", len(found),
        f"{largest:+.1f}", above, *(f"{'-' if v is None else f'{v:.2f}'} ({n})" for v, n in faint.values()),
        f"{one.seconds:.1f}", f"{rate:.1f}", len(one.messages))  # fmt: skip
    args.results.note(f"real/frames, {frame.name}, {guess}", reduced_chi2=chi2, outside=outside, honest=honest,
                      flux_ratio=kept, own=own, holes=pitted, holes_lucy=of_lucy, largest=largest, above=above,
                      stars=len(found), faint=faint, seconds=one.seconds, rate=rate, messages=one.messages)  # fmt: skip
    return ratios, snr


def sky_of_stamps(args, number):
    """Mean error of the sky that is taken off stamps of a galaxy, in sigmas of a pixel."""
    from astropy.io import fits

    found, path, sources = [], Path(args.folder) / "stamp.fits", galaxies_of(args.half)
    for i in range(number):
        sky = np.zeros((128, 128))
        put(sky, sources[(11 * i) % len(sources)], 64, 64)
        width, snr = (2.5, 3.5, 4.5)[i % 3], (20, 50, 200)[i // 3 % 3]
        scene = simulate(sky, PSF.moffat(width, beta=3.0), peak_snr=snr, seed=[17, i])
        sigma = scene.noise_map[0, 0]
        fits.writeto(path, (scene.data / sigma + 100.0).astype(np.float32), overwrite=True)
        found.append(float(np.mean(prepared_of(path, file_options(fwhm_pix=width)).level)) - 100.0)
    return found
