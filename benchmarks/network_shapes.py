"""The shapes of galaxies and the width of stars."""

import itertools

import numpy as np
from bench_deconvolution import psf_of
from deconvolution_peers import oracle_tikhonov
from network_views import as_peers_take_it, ours, views

from deconjugate.astro import simulate
from deconjugate.astro.shape import fwhm_pix


def shapes(args):
    """Error of the ellipticity of galaxies, |e - e_true|, and the width of stars, which should be 2 fine pixels."""
    names = ("none", "Tikhonov, oracle", "classical path", "network alone", "network, corrected")
    print("| PSF | upsample | peak SNR | ellipticity: " + " | ".join(names) + " | FWHM of stars: classical path |"
          " network alone | network, corrected |\n" + "|---" * 11 + "|")  # fmt: skip
    for kind, upsample, snr in itertools.product(args.psf, args.upsample, args.peak_snr):
        errors, widths = [], []
        for psf, scene in views(args, kind, upsample, snr):
            right = ellipticity(scene.truth, scene.truth)
            raw = np.repeat(np.repeat(scene.data, upsample, 0), upsample, 1)
            images, _ = ours(args, scene, psf)
            images = raw, oracle_tikhonov(*as_peers_take_it(scene)), *images
            errors.append([np.hypot(*(ellipticity(x, scene.truth) - right)) for x in images])
        for seed in range(5):
            sky = np.zeros((64 * upsample,) * 2)
            sky[29 * upsample + seed % upsample, 30 * upsample] = 1.0
            psf = psf_of(kind, seed)
            scene = simulate(sky, psf, upsample=upsample, peak_snr=snr, seed=[seed, snr])
            widths.append([fwhm_pix(image) for image in ours(args, scene, psf)[0]])
        args.results.note(f"network/shapes, {kind}, {upsample}, {snr}", widths=np.median(widths, axis=0)[1:],
                          ellipticity_errors=np.median(errors, axis=0)[2:])  # fmt: skip
        print(f"| {kind} | {upsample} | {snr} | " + " | ".join(f"{v:.3f}" for v in np.median(errors, axis=0)) + " | "
              + " | ".join(f"{v:.2f}" for v in np.median(widths, axis=0)) + " |", flush=True)  # fmt: skip


def ellipticity(image, truth):
    """(e1, e2) of the moments of an image under a round Gaussian of the truth's size around its centre."""
    y, x = np.indices(truth.shape)
    total = truth.sum()
    dy, dx = y - (truth * y).sum() / total, x - (truth * x).sum() / total
    weight = np.exp(-0.5 * (dx**2 + dy**2) / max((truth * (dx**2 + dy**2)).sum() / total / 2, 2.0))
    xx, yy, xy = ((image * weight * m).sum() for m in (dx**2, dy**2, dx * dy))
    return np.array([xx - yy, 2 * xy]) / (xx + yy)
