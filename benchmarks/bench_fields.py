"""The Swin-UNet where stamps of single galaxies say nothing, and on galaxies that anyone can draw.

    python benchmarks/bench_fields.py edges [--step 4]
    python benchmarks/bench_fields.py deep
    python benchmarks/bench_fields.py galsim [--upsample 2 4]
    python benchmarks/bench_fields.py all [--quick] [--half select] [--weights FILE]

edges: galaxies of the validation half whose middle lies at the edge of the frame. deep: cut-outs of the Hubble eXtreme
Deep Field that comes with scikit-image, around its brightest sources, neighbours included. galsim: bulges, inclined
discs and knots drawn by GalSim. Neither of the last two needs a download, and neither took part in training.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.ndimage
from bench_deconvolution import DATA, PEAK_SNR, psf_of
from galsim_galaxies import galsim_galaxies
from network_views import beside, chosen, ours
from results import begin

from deconjugate.astro import PSF, simulate
from deconjugate.astro.metrics import nmse

SECTIONS = ("edges", "deep", "galsim")
DEPTHS = (-2, 0, 2, 5, 9)  # fine pixels of the middles of galaxies inside of the edge


def edges(args):
    """Squared error of the frame, and the largest error within four fine pixels of the edge over the peak."""
    print("| upsample | peak SNR | views | NMSE, classical path | network, corrected | view by view |"
          " largest error at the edge, classical path | network alone | network, corrected |\n"
          + "|---" * 9 + "|")  # fmt: skip
    if not (DATA / "galaxies").is_dir():
        print(f"- (no galaxies at {DATA}; set DECONJUGATE_DATA)")
        return
    for upsample in args.upsample:
        for snr in (10, 50, 200):
            rows = []
            for number, image in enumerate(chosen(args)):
                psf = psf_of("moffat", number)
                truth, images = cut(args, image, psf, upsample, snr, number)
                border = np.ones(truth.shape, bool)
                border[4:-4, 4:-4] = False
                worst = [np.abs(x - truth)[border].max() / truth.max() for x in images]
                rows.append([nmse(images[0], truth), nmse(images[2], truth), *worst])
            before, after, *worst = np.median(rows, axis=0)
            by_view = np.exp(np.mean(np.log([row[1] / row[0] for row in rows])))
            args.results.note(f"fields/edges, {upsample}, {snr}", views=len(rows), classical=before, nmse=after,
                              by_view=by_view, worst_classical=worst[0], worst=worst[2])  # fmt: skip
            print(f"| {upsample} | {snr} | {len(rows)} | {before:.4f} | {after:.4f} | {by_view:.2f} | "
                  + " | ".join(f"{v:.2f}" for v in worst) + " |", flush=True)  # fmt: skip


def cut(args, image, psf, upsample, snr, number):
    """Truth and images of a frame at whose first or last column the middle of a galaxy lies."""
    margin = 32 // upsample * upsample
    side = max(64, max(image.shape)) // upsample * upsample
    sky = np.zeros((side + 2 * margin,) * 2, np.float32)
    row = margin + side // 2 - image.shape[0] // 2 + 3 * (number % 5 - 2)
    column = margin + DEPTHS[number % len(DEPTHS)] - image.shape[1] // 2
    there = [slice(max(-c, 0), min(n, side + 2 * margin - c)) for c, n in zip((row, column), image.shape)]
    part = image[tuple(there)]
    sky[max(row, 0) : max(row, 0) + part.shape[0], max(column, 0) : max(column, 0) + part.shape[1]] = part
    sky = sky[:, ::-1] if number % 2 else sky
    scene = simulate(sky, psf, upsample=upsample, peak_snr=snr, margin=margin // upsample, seed=[number, snr])
    return scene.truth, ours(args, scene, psf)[0]


def deep(args):
    """Squared error, sixteen fine pixels at the edges left out and not."""
    if find_spec("skimage") is None:
        print("- (no deep field: pip install scikit-image)")
        return
    side, psf = 160, PSF.moffat(3.0, beta=3.0)
    jpg = plain_light(Path(find_spec("skimage").origin).parent / "data/hubble_deep_field.jpg")
    smooth = scipy.ndimage.gaussian_filter(jpg, 6)
    peaks = np.argwhere((smooth == scipy.ndimage.maximum_filter(smooth, side // 2)) & (smooth > 0))
    peaks = peaks[(peaks.min(axis=1) >= side // 2) & (peaks < np.array(jpg.shape) - side // 2).all(axis=1)]
    peaks = peaks[np.argsort(-smooth[tuple(peaks.T)])][: 3 if args.quick else 24]
    peaks = peaks[(args.half == "select") :: 2]
    print("| peak SNR | views | NMSE within, classical path | network, corrected | view by view (alone) |"
          " NMSE of all, classical path | network, corrected | view by view |\n" + "|---" * 8 + "|")  # fmt: skip
    for snr in PEAK_SNR:
        rows = []
        for r, c in peaks:
            sky = jpg[r - side // 2 : r + side // 2, c - side // 2 : c + side // 2]
            scene = simulate(sky, psf, peak_snr=snr, margin=8, seed=[int(r), int(c), snr])
            images, _ = ours(args, scene, psf)
            inner = np.s_[16:-16, 16:-16]
            rows.append([nmse(x[inner], scene.truth[inner]) for x in images] + [nmse(x, scene.truth) for x in images])
        before, _, after, all_before, _, all_after = np.median(rows, axis=0)
        logs = np.log(rows)
        by_view, alone, whole = np.exp(np.mean(logs[:, [2, 1, 5]] - logs[:, [0, 0, 3]], axis=0))
        args.results.note(f"fields/deep, {snr}", views=len(rows), nmse=after, classical=before, by_view=by_view,
                          whole=whole)  # fmt: skip
        print(f"| {snr} | {len(rows)} | {before:.4f} | {after:.4f} | {by_view:.2f} ({alone:.2f}) | {all_before:.4f} | "
              f"{all_after:.4f} | {whole:.2f} |", flush=True)  # fmt: skip


def plain_light(path):
    """The light of a picture that was encoded for the eye: its square is close to it."""
    import matplotlib.pyplot as plt

    light = ((plt.imread(path) / 255.0) ** 2).mean(axis=-1)
    return light - np.median(light)


def galsim(args):
    """Squared error beside FISTA at the stop that is best for the row and the classical path."""
    try:
        images = galsim_galaxies(4 if args.quick else 24)[(args.half == "select") :: 2]
    except ImportError as error:
        print(f"- ({error})")
        return
    print("| upsample | peak SNR | views | Tikhonov, oracle | FISTA, best stop | classical path | network alone |"
          " network, corrected | over the best classical | the same view by view |\n" + "|---" * 10 + "|")  # fmt: skip
    for upsample in args.upsample:
        for snr in PEAK_SNR:
            errors, paths = [], []
            for number, image in enumerate(images):
                psf = psf_of("moffat", number)
                sky = np.pad(image, 14 * upsample)
                sky = np.pad(sky, [(0, -n % upsample) for n in sky.shape])
                scene = simulate(sky, psf, upsample=upsample, peak_snr=snr, seed=[number, snr])
                best, path, (*_, truth) = beside(scene)
                paths.append(path)
                found = [x / scene.noise_map[0, 0] for x in ours(args, scene, psf)[0]]
                errors.append([nmse(x, truth) for x in (best, *found)])
            stop = np.median(paths, axis=0).argmin()
            errors = np.insert(errors, 1, np.array(paths)[:, stop], axis=1)
            values = np.median(errors, axis=0)
            best = values[:-2].argmin()
            by_view = np.exp(np.median(np.log(errors[:, -1] / errors[:, best])))
            args.results.note(f"fields/galsim, {upsample}, {snr}", views=len(errors), nmse=values[-1],
                              ratio=values[-1] / values[best], by_view=by_view)  # fmt: skip
            print(f"| {upsample} | {snr} | {len(errors)} | " + " | ".join(f"{v:.4f}" for v in values)
                  + f" | {values[-1] / values[best]:.2f} | {by_view:.2f} |", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=("all", *SECTIONS), default="all")
    parser.add_argument("--quick", action="store_true", help="few galaxies, upsample 2, a minute or two")
    parser.add_argument("--half", choices=("select", "report"), default="report")
    parser.add_argument("--weights", default="default", help="a .safetensors file")
    parser.add_argument("--upsample", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--step", type=int, default=4)
    args = parser.parse_args()
    if args.quick:
        args.upsample, args.step = [2], 17
    keep, packages = (args.half, args.weights) == ("report", "default"), ("operators", "solver", "astro")
    args.results = begin(quick=args.quick, keep=keep, packages=packages)
    for section in SECTIONS if args.section == "all" else [args.section]:
        globals()[section](args)


if __name__ == "__main__":
    main()
