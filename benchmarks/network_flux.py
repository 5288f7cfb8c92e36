"""The flux of galaxies."""

import numpy as np
from bench_deconvolution import aperture
from network_views import views

from deconjugate.astro import deconvolve
from deconjugate.astro.metrics import flux_error, scatter


def flux(args):
    """Signed error of the flux in the circle that holds 97 % of the blurred light, with and without the correction."""
    print("| PSF | upsample | peak SNR | network alone: median | corrected: median (its error) | slope per magnitude |"
          " scatter | of photometry on the data | ratio |\n" + "|---" * 9 + "|")  # fmt: skip
    for kind in args.psf:
        for upsample in args.upsample:
            for snr in args.peak_snr:
                rows, sizes = [], []
                for seed in range(args.seeds):
                    for psf, scene in views(args, kind, upsample, snr, seed):
                        result = deconvolve(
                            scene.data, psf, upsample=upsample, noise=scene.noise_map, network=args.weights
                        )
                        circle = aperture(scene.noiseless)
                        fine = np.repeat(np.repeat(circle, upsample, axis=0), upsample, axis=1)
                        images = (result.stages["network"], result.image.data)
                        errors = [100 * flux_error(image, scene.truth, fine) for image in images]
                        rows.append([*errors, 100 * flux_error(scene.data, scene.noiseless, circle)])
                        sizes.append(-2.5 * np.log10(scene.noiseless[circle].sum() / scene.noise_map[0, 0]))
                alone, corrected, raw = np.transpose(rows)
                error = 1.2533 * scatter(corrected) / np.sqrt(len(corrected))
                slope = np.polyfit(sizes, corrected, 1)[0]
                args.results.note(f"network/flux, {kind}, {upsample}, {snr}", views=len(rows), error=error,
                                  median=np.median(corrected), alone=np.median(alone), slope=slope,
                                  scatter_ratio=scatter(corrected) / scatter(raw))  # fmt: skip
                print(
                    f"| {kind} | {upsample} | {snr} | {np.median(alone):+.2f} % | {np.median(corrected):+.2f} % "
                    f"({error:.2f}) | {slope:+.2f} % | {scatter(corrected):.2f} % | {scatter(raw):.2f} % | "
                    f"{scatter(corrected) / scatter(raw):.2f} |",
                    flush=True,
                )
    print(f"({len(rows)} views a row)")
