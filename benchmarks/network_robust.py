"""What training never saw."""

import numpy as np
from network_views import chosen, ours

from deconjugate.astro import PSF, simulate
from deconjugate.astro.metrics import flux_error, nmse


def robust(args):
    """What training never saw: more and less noise, correlated noise, a PSF that is too wide or too narrow."""
    cases = {
        "as trained, peak SNR 50": (50, {}, 1.0),
        "peak SNR 1.7, a third of the least": (1.7, {}, 1.0),
        "peak SNR 1500, three times the most": (1500, {}, 1.0),
        "noise correlated over 2 pixels": (50, {"noise": "correlated", "correlation_fwhm": 2.0}, 1.0),
        "PSF 5 % too wide": (50, {}, 1.05),
        "PSF 5 % too narrow": (50, {}, 0.95),
        "PSF 10 % too wide": (50, {}, 1.10),
        "PSF 10 % too narrow": (50, {}, 0.90),
    }
    print("| Moffat, upsample 2 | NMSE, classical path | network, corrected | ratio | flux, classical | flux, network |"
          "\n" + "|---" * 6 + "|")  # fmt: skip
    for name, (snr, options, width) in cases.items():
        rows = []
        for number, image in enumerate(chosen(args)):
            sky = np.pad(image, 28)
            sky = np.pad(sky, [(0, -n % 2) for n in sky.shape])
            seed = [number, round(snr)]
            scene = simulate(sky, PSF.moffat(3.0), upsample=2, peak_snr=snr, seed=seed, **options)
            images, _ = ours(args, scene, PSF.moffat(3.0 * width))
            rows.append([value(x, scene.truth) for value in (nmse, flux_error) for x in (images[0], images[2])])
        classical, learned, before, after = np.median(rows, axis=0)
        args.results.note(f"network/robust, {name}", views=len(rows), ratio=learned / classical, flux=after)
        print(f"| {name} | {classical:.4f} | {learned:.4f} | {learned / classical:.2f} | {100 * before:+.2f} % | "
              f"{100 * after:+.2f} % |", flush=True)  # fmt: skip
