"""STARRED beside the classical path and the network."""

import itertools

import numpy as np
from network_views import ours, views
from starred_peer import STRENGTHS
from starred_peer import starred as starred_images

from deconjugate.astro.forward import DataModel
from deconjugate.astro.metrics import nmse


def starred(args):
    """STARRED with the strength that is best for the setting, beside the classical path and the network."""
    print("| PSF | upsample | peak SNR | views | STARRED, best strength | strength | its flux | classical path |"
          " network, corrected | over STARRED, view by view |\n" + "|---" * 10 + "|")  # fmt: skip
    for kind, upsample, snr in itertools.product(args.psf, args.upsample, [50] if args.quick else args.peak_snr):
        errors, fluxes = [], []
        for psf, scene in views(args, kind, upsample, snr):
            kernel, sigma = DataModel(scene.data.shape, scene.psf, upsample).kernel, scene.noise_map[0, 0]
            try:
                found = starred_images(scene.data, sigma, kernel, upsample)
            except (OSError, RuntimeError, TimeoutError) as error:
                print(f"- (no STARRED: {error}; DECONJUGATE_STARRED names a Python that has it)")
                return
            images, _ = ours(args, scene, psf)
            errors.append([nmse(x, scene.truth) for x in (*found, images[0], images[2])])
            fluxes.append([x.sum() / scene.truth.sum() - 1 for x in found])
        values, count = np.median(errors, axis=0), len(STRENGTHS)
        best = values[:count].argmin()
        by_view = np.exp(np.mean(np.log([row[-1] / row[best] for row in errors])))
        args.results.note(f"network/starred, {kind}, {upsample}, {snr}", views=len(errors), starred=values[best],
                          strength=STRENGTHS[best], nmse=values[-1], by_view=by_view)  # fmt: skip
        print(f"| {kind} | {upsample} | {snr} | {len(errors)} | {values[best]:.4f} | {STRENGTHS[best]:g} | "
              f"{100 * np.median(fluxes, axis=0)[best]:+.1f} % | {values[-2]:.4f} | {values[-1]:.4f} | {by_view:.2f} |",
              flush=True)  # fmt: skip
