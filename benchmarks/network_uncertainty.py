"""Deviations of pixels that show light, and what is found where there is none."""

import itertools

import numpy as np
from bench_deconvolution import matched_kernel
from network_views import views

from deconjugate.astro import PSF, deconvolve

BINS = (1, 1.5, 2, 3, 5, 8, 12, np.inf)  # sigmas of light


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
    print("| PSF | upsample | peak SNR | pixels | within one sigma | view by view, mean |"
          " 68th percentile of the error, in sigmas |\n" + "|---" * 7 + "|")  # fmt: skip
    settings = list(itertools.product(args.psf, args.upsample))
    by_significance = {setting: [] for setting in settings}
    for (kind, upsample), snr in itertools.product(settings, args.peak_snr):
        errors = []
        for psf, scene in views(args, kind, upsample, snr):
            options = {"noise": scene.noise_map, "network": args.weights, "device": "cpu"}
            result = deconvolve(scene.data, psf, upsample=upsample, uncertainty=args.realisations, **options)
            sigma = result.image.uncertainty.array
            source = result.image.data > sigma
            errors.append((np.abs(result.image.data - scene.truth) / sigma)[source])
            by_significance[kind, upsample].append([(result.image.data / sigma)[source], errors[-1]])
        by_view = np.mean([np.mean(view < 1) for view in errors if view.size])
        errors = np.concatenate(errors)
        args.results.note(f"network/calibration, {kind}, {upsample}, {snr}", pixels=errors.size, by_view=by_view,
                          within_one_sigma=np.mean(errors < 1))  # fmt: skip
        print(f"| {kind} | {upsample} | {snr} | {errors.size} | {100 * np.mean(errors < 1):.0f} % | "
              f"{100 * by_view:.0f} % | {np.quantile(errors, 0.68):.2f} |", flush=True)  # fmt: skip
    names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(BINS)]
    print("\n68th percentile of the error, in sigmas, by the sigmas of light in the pixel:\n\n| PSF | upsample | "
          + " | ".join(names).replace(" to inf", " and more") + " |\n" + "|---" * (2 + len(names)) + "|")  # fmt: skip
    for (kind, upsample), values in by_significance.items():
        significance, errors = (np.concatenate(value) for value in zip(*values))
        within = [errors[(significance >= low) & (significance < high)] for low, high in itertools.pairwise(BINS)]
        # A percentile of a few pixels says nothing.
        cells = [f"{np.quantile(bin, 0.68):.2f}" if bin.size >= 100 else "-" for bin in within]
        print(f"| {kind} | {upsample} | " + " | ".join(cells) + " |", flush=True)
