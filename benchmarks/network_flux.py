"""The flux of galaxies."""

import numpy as np
from bench_deconvolution import aperture
from network_views import views
from scipy.stats import theilslopes

from deconjugate.astro import deconvolve
from deconjugate.astro.metrics import flux_error, scatter

DRAWS = 200  # of half of the galaxies, for the errors of the figures: halves scatter as much as the whole would


def flux(args):
    """Signed error of the flux in the circle that holds 97 % of the blurred light, with and without the correction.

    Slopes are against the magnitude and against the radius of that circle, the median of those between all pairs.
    The error of every figure is what drawing other galaxies would change, each with all its noises.
    """
    print("| PSF | upsample | peak SNR | network alone: median | corrected: median (its error) | slope per magnitude |"
          " per doubling of the radius | scatter | of photometry on the data | ratio (its error) |\n"
          + "|---" * 10 + "|")  # fmt: skip
    for kind in args.psf:
        for upsample in args.upsample:
            for snr in args.peak_snr:
                seeds = [
                    [measured(args, psf, scene) for psf, scene in views(args, kind, upsample, snr, seed)]
                    for seed in range(args.seeds)
                ]
                rows = np.array(seeds).transpose(2, 1, 0)  # by figure, galaxy and seed
                values, errors = with_errors(rows)
                names = ("alone", "median", "slope", "slope_radius", "scatter", "scatter_raw", "scatter_ratio")
                found = dict(zip(names, values))
                found |= {f"{name}_error": doubt for name, doubt in zip(names, errors)}
                args.results.note(f"network/flux, {kind}, {upsample}, {snr}", views=rows[0].size, **found)
                shown = [f"{v:+.2f} % ({e:.2f})" for v, e in zip(values[1:4], errors[1:4])]
                print(
                    f"| {kind} | {upsample} | {snr} | {values[0]:+.2f} % | " + " | ".join(shown)
                    + f" | {values[4]:.2f} % | {values[5]:.2f} % | {values[6]:.2f} ({errors[6]:.2f}) |",
                    flush=True,
                )  # fmt: skip
    print(f"({rows[0].size} views a row)")


def measured(args, psf, scene):
    """Errors in per cent of the network's image, the corrected one and the data; magnitude and log2 of the radius."""
    upsample = scene.upsample
    result = deconvolve(scene.data, psf, upsample=upsample, noise=scene.noise_map, network=args.weights)
    circle = aperture(scene.noiseless)
    fine = np.repeat(np.repeat(circle, upsample, axis=0), upsample, axis=1)
    errors = [flux_error(image, scene.truth, fine) for image in (result.stages["network"], result.image.data)]
    errors.append(flux_error(scene.data, scene.noiseless, circle))
    magnitude = -2.5 * np.log10(scene.noiseless[circle].sum() / scene.noise_map[0, 0])
    return [*(100 * error for error in errors), magnitude, np.log2(circle.sum()) / 2]


def with_errors(rows):
    """The figures of rows (quantities, galaxies, seeds), and their standard deviations over halves of the galaxies."""
    galaxies, random = rows.shape[1], np.random.default_rng(0)
    draws = [random.permutation(galaxies)[: (galaxies + 1) // 2] for _ in range(DRAWS)]
    return figures(rows), np.std([figures(rows[:, draw]) for draw in draws], axis=0)


def figures(rows):
    alone, corrected, raw, magnitude, radius = rows.reshape(len(rows), -1)
    slopes = [theilslopes(corrected, size).slope for size in (magnitude, radius)]
    spread = scatter(corrected), scatter(raw)
    return [np.median(alone), np.median(corrected), *slopes, *spread, spread[0] / spread[1]]
