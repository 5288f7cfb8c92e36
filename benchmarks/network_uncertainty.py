"""Deviations of pixels that show light, and what is found where there is none."""

import itertools

import numpy as np
from bench_deconvolution import matched_kernel
from network_views import views

from deconjugate.astro import PSF, deconvolve

BINS = (1, 1.5, 2, 3, 5, 8, 12, 20, 40, 80, np.inf)  # sigmas of light


def blank(args):
    """Detections at 5 sigma on frames of pure noise: a matched filter on the frame, and any light in what we make."""
    import sep

    psf = PSF.moffat(3.5)
    kernel = matched_kernel(psf)
    raw, found, drawn = 0, 0, 0
    for seed in range(args.frames):
        frame = np.random.default_rng(seed).standard_normal((128, 128))
        raw += len(sep.extract(frame, 5.0, err=1.0, filter_kernel=kernel, filter_type="matched", minarea=1))
        result = deconvolve(frame, psf, noise=1.0, network=args.weights, device="cpu")
        image = result.image.data.astype(np.float64)
        if image.any():
            drawn += 1
            found += len(sep.extract(image, 5.0, err=max(1.0 / 4, 1e-6 * image.max()), minarea=1))
    args.results.note("network/blank", frames=args.frames, matched_filter=raw, found=found, not_empty=drawn)
    print("| frames of 128 x 128 | matched filter on the frame | sep on the result | results not empty |\n" + "|---" * 4
          + f"|\n| {args.frames} | {raw} | {found} | {drawn} |")  # fmt: skip


def calibration(args):
    """Share of the pixels that show light, more of it than one sigma, whose truth lies within one sigma."""
    print("| PSF | upsample | peak SNR | pixels | within one sigma | 68th percentile of the error, in sigmas |\n"
          + "|---" * 6 + "|")  # fmt: skip
    by_significance = []
    for kind in args.psf:
        for upsample in args.upsample:
            for snr in args.peak_snr:
                errors = []
                for psf, scene in views(args, kind, upsample, snr):
                    options = {"noise": scene.noise_map, "network": args.weights, "device": "cpu"}
                    result = deconvolve(scene.data, psf, upsample=upsample, uncertainty=args.realisations, **options)
                    sigma = result.image.uncertainty.array
                    source = result.image.data > sigma
                    errors.append((np.abs(result.image.data - scene.truth) / sigma)[source])
                    by_significance.append([(result.image.data / sigma)[source], errors[-1]])
                errors = np.concatenate(errors)
                args.results.note(f"network/calibration, {kind}, {upsample}, {snr}", pixels=errors.size,
                                  within_one_sigma=np.mean(errors < 1))  # fmt: skip
                print(f"| {kind} | {upsample} | {snr} | {errors.size} | {100 * np.mean(errors < 1):.0f} % | "
                      f"{np.quantile(errors, 0.68):.2f} |", flush=True)  # fmt: skip
    significance, errors = (np.concatenate(values) for values in zip(*by_significance))
    print("\n| sigmas of light in the pixel | pixels | 68th percentile of the error, in sigmas |\n|---|---|---|")
    for low, high in itertools.pairwise(BINS):
        here = errors[(significance >= low) & (significance < high)]
        if here.size:
            print(f"| {low:g} to {high:g} | {here.size} | {np.quantile(here, 0.68):.2f} |")
