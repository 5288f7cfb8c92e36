"""Clumps found in simulated clumpy discs of peak SNR 50, deconvolved and not.

    python benchmarks/bench_clumps.py [--galaxies 40] [--separation 2] [--seed 2] [--quick]

Seeing a Moffat of FWHM 3 pixels, two fine pixels to a pixel. A drawn clump is found where a reported one lies
within half a seeing FWHM (3 fine pixels) of it, the brighter ones first, each only once. Recall: of the clumps of 5
per cent of the disc's flux or more. Precision: of all clumps reported, and of those reported with 5 per cent or
more; each has to be some clump drawn, however faint. "truth" is the sky at the target resolution without noise:
what the finder makes of a perfect deconvolution, checked first. Flux: measured over true of the clumps of 5 per
cent and more that are found. The last columns: recall by the distance to the nearest other clump, in fine pixels.
"""

import argparse
import sys

import numpy as np
import torch
from results import begin

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.clumps import find_clumps
from deconjugate.astro.clumpy_disc import clumpy_disc

SEEING, UPSAMPLE, PEAK_SNR = 3.0, 2, 50.0
BRIGHT = 0.05  # of the disc's flux
DISTANCES = ((0, 3), (3, 4), (4, 6), (6, np.inf))  # fine pixels to the nearest other clump


def matches(found, truth, radius):
    """Index of the drawn clump of every found one, -1 where there is none, the brightest first."""
    taken, index = set(), np.full(len(found), -1)
    for i, clump in enumerate(found):
        distance = np.hypot(truth[:, 0] - clump[0], truth[:, 1] - clump[1]) if len(truth) else np.empty(0)
        free = [j for j in np.argsort(distance) if distance[j] <= radius and j not in taken]
        if free:
            index[i] = free[0]
            taken.add(free[0])
    return index


def score(images, upsample, noises, truths, resolution):
    """Counts of what was found: recall, precision, fluxes, by distance."""
    step, lists = UPSAMPLE // upsample, {"near": [], "bright": [], "right": [], "share": [], "flux": []}
    for image, noise, truth in zip(images, noises, truths):
        galaxies = find_clumps(
            np.asarray(image, dtype=np.float64),
            noise=float(noise),
            seeing=SEEING * upsample,
            resolution=resolution,
            upsample=upsample,
        )
        clumps = galaxies[0].clumps if galaxies else []
        middle = 0.5 * (step - 1)
        found = np.array([(c.y * step + middle, c.x * step + middle, c.flux, c.share) for c in clumps]).reshape(-1, 4)
        index = matches(found, truth, 0.5 * SEEING * UPSAMPLE)
        lists["right"] += list(index >= 0)
        lists["share"] += list(found[:, 3])
        lists["flux"] += [f[2] / truth[j, 2] for f, j in zip(found, index) if j >= 0 and truth[j, 2] >= BRIGHT]
        for j in np.flatnonzero(truth[:, 2] >= BRIGHT):
            others = np.delete(truth, j, axis=0)
            away = np.hypot(others[:, 0] - truth[j, 0], others[:, 1] - truth[j, 1])
            lists["near"].append(away.min(initial=np.inf))
            lists["bright"].append(j in index)
    return {name: np.array(values) for name, values in lists.items()}


def line(name, s, note):
    strong = s["share"] >= BRIGHT
    cells = [f"{np.sum(s['bright'])}/{len(s['bright'])} = {s['bright'].mean():.3f}"]
    cells += [
        f"{np.sum(r)}/{len(r)} = {np.mean(r):.3f}" if len(r) else "none" for r in (s["right"], s["right"][strong])
    ]
    cells += [f"{np.median(s['flux']):.2f} +- {1.4826 * np.median(np.abs(s['flux'] - np.median(s['flux']))):.2f}"]
    for low, high in DISTANCES:
        here = (s["near"] >= low) & ((s["near"] < high) | np.isinf(high))
        cells.append(f"{np.sum(s['bright'][here])}/{np.count_nonzero(here)}")
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    note(name, recall=s["bright"].mean(), precision=s["right"].mean(), flux=np.median(s["flux"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=40)
    parser.add_argument("--separation", type=float, default=2.0, help="least distance of two clumps, fine pixels")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    count = 6 if args.quick else args.galaxies
    results = begin(quick=args.quick, packages=("operators", "solver", "astro"))
    rng, psf = np.random.default_rng(args.seed), PSF.moffat(SEEING)
    drawn = [clumpy_disc(rng, separation=args.separation) for _ in range(count)]
    scenes = [simulate(image, psf, upsample=UPSAMPLE, peak_snr=PEAK_SNR, seed=i) for i, (image, _) in enumerate(drawn)]
    truths, noises = [clumps for _, clumps in drawn], np.array([scene.noise_map[0, 0] for scene in scenes])
    data = np.stack([scene.data for scene in scenes])
    print(f"{count} discs, {sum(map(len, truths))} clumps, no two nearer than {args.separation:g} fine pixels\n")
    columns = [f"{low} to {high}" for low, high in DISTANCES]
    head = ["image", "recall >= 5 %", "precision, all", "precision >= 5 %", "flux", *columns]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")

    def note(name, **values):
        results.note(f"clumps/{name}, seed {args.seed}", discs=count, **values)

    perfect = score([scene.truth for scene in scenes], UPSAMPLE, noises, truths, 2.0)
    line("truth", perfect, note)
    if perfect["bright"].mean() < 0.9 or abs(np.median(perfect["flux"]) - 1.0) > 0.05:
        sys.exit("the finder fails on the truth itself: nothing below would mean anything")
    for name, network in (("network", "default"), ("classical", None)):
        result = deconvolve(data, psf, upsample=UPSAMPLE, noise=noises[:, None, None], network=network, progress=False)
        line(name, score(result.image.data, UPSAMPLE, noises, truths, 2.0), note)
    line("not deconvolved", score(data, 1, noises, truths, SEEING), note)


if __name__ == "__main__":
    main()
