"""Squared error and likeness of images: the network, the classical path and peers on the same views."""

import itertools

import numpy as np
from deconvolution_peers import oracle_richardson_lucy, oracle_wiener, paper_tikhonov
from network_views import beside, ours, views

from deconjugate.astro import deconvolve
from deconjugate.astro.metrics import nmse


def quality(args):
    """Medians of NMSE and of SSIM, every method on the same views; FISTA at the stop that is best for the setting."""
    print("| PSF | upsample | peak SNR | NMSE: none | Tikhonov, 9e-3 |"
          " Wiener, oracle | Tikhonov, oracle | Richardson-Lucy, oracle | FISTA, best stop |"
          " classical path | network alone | network, corrected | over the best classical |"
          " the same view by view (network alone) | SSIM: FISTA's start |"
          " classical path | network alone | network, corrected | chi2/N |\n" + "|---" * 19 + "|")  # fmt: skip
    for kind in args.psf:
        for upsample in args.upsample:
            for snr in args.peak_snr:
                errors, likeness, paths, chi2 = [], [], [], []
                for psf, scene in views(args, kind, upsample, snr):
                    sigma = scene.noise_map[0, 0]
                    truth = scene.truth / sigma
                    images, chi = ours(args, scene, psf)
                    chi2.append(chi)
                    best, path, problem = beside(scene)
                    lucy = oracle_richardson_lucy(*problem)
                    paper, wiener = paper_tikhonov(*problem[:2]), oracle_wiener(*problem[:2], problem[3])
                    paths.append(path)
                    raw = np.repeat(np.repeat(scene.data, upsample, 0), upsample, 1) / upsample**2 / sigma
                    images = [image / sigma for image in images]
                    errors.append([nmse(x, truth) for x in (raw, paper, wiener, best, lucy, *images)])
                    likeness.append([ssim(x, truth) for x in (best, *images)])
                stop = np.median(paths, axis=0).argmin()
                errors = np.insert(errors, 5, np.array(paths)[:, stop], axis=1)
                values = np.median(errors, axis=0)
                best = values[:-2].argmin()
                ratio = values[-1] / values[best]
                alone, both = np.exp(np.median(np.log(np.array(errors)[:, -2:] / np.array(errors)[:, [best]]), axis=0))
                args.results.note(f"network/quality, {kind}, {upsample}, {snr}", views=len(errors), ratio=ratio,
                                  by_view=both, alone_by_view=alone, nmse=values[-1])  # fmt: skip
                print(
                    f"| {kind} | {upsample} | {snr} | " + " | ".join(f"{v:.4f}" for v in values)
                    + f" | {ratio:.2f} | {both:.2f} ({alone:.2f}) | "
                    + " | ".join(f"{v:.3f}" for v in np.median(likeness, axis=0)) + f" | {np.median(chi2):.3f} |",
                    flush=True,
                )  # fmt: skip
    print(f"({len(errors)} views a row)")


def ssim(image, truth):
    """Structural similarity, Gaussian windows, the range that of the truth."""
    from skimage.metrics import structural_similarity

    return structural_similarity(
        image.astype(np.float64), truth.astype(np.float64), gaussian_weights=True, data_range=float(truth.max())
    )


def classical(args):
    """The classical path beside FISTA at the stop that is best for the setting: medians, and view by view."""
    print("| PSF | upsample | peak SNR | FISTA, best stop | classical path | ratio of the medians |"
          " median of the ratios | geometric mean of them (its error) | lower in |\n" + "|---" * 9 + "|")  # fmt: skip
    for kind, upsample, snr in itertools.product(args.psf, args.upsample, args.peak_snr):
        paths, errors = [], []
        for psf, scene in views(args, kind, upsample, snr):
            paths.append(beside(scene)[1])
            result = deconvolve(scene.data, psf, upsample=upsample, noise=scene.noise_map, network=None)
            errors.append(nmse(result.image.data, scene.truth))
        middle = np.median(paths, axis=0)
        ratio = np.log(np.array(errors) / np.array(paths)[:, middle.argmin()])
        args.results.note(f"network/classical, {kind}, {upsample}, {snr}", views=len(errors), fista=middle.min(),
                          nmse=np.median(errors), ratio=np.median(errors) / middle.min(),
                          by_view=np.exp(ratio.mean()))  # fmt: skip
        print(
            f"| {kind} | {upsample} | {snr} | {middle.min():.4f} | {np.median(errors):.4f} | "
            f"{np.median(errors) / middle.min():.2f} | {np.exp(np.median(ratio)):.2f} | {np.exp(ratio.mean()):.2f} "
            f"({ratio.std() / np.sqrt(len(ratio)):.2f}) | {np.count_nonzero(ratio < 0)} of {len(ratio)} |",
            flush=True,
        )
