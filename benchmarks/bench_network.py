"""The Swin-UNet beside the classical path and its peers, on the half of the validation galaxies kept for reports.

    python benchmarks/bench_network.py quality [--upsample 2 4] [--psf moffat psfex] [--step 3]
    python benchmarks/bench_network.py classical [--step 2]
    python benchmarks/bench_network.py starred [--step 10]
    python benchmarks/bench_network.py flux [--seeds 2]
    python benchmarks/bench_network.py shapes
    python benchmarks/bench_network.py robust
    python benchmarks/bench_network.py blank [--frames 1000]
    python benchmarks/bench_network.py calibration [--upsample 2] [--realisations 16]
    python benchmarks/bench_network.py speed
    python benchmarks/bench_network.py plots [--output FOLDER]
    python benchmarks/bench_network.py all [--quick] [--half select] [--weights FILE]

Weights and settings are chosen on the other half (``--half select``): galaxies of even number, all their bands. The
network's card names what it was trained on; no validation galaxy and no validation PSF is among it.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from bench_deconvolution import DATA, aperture, galaxies, psf_of
from deconvolution_peers import (
    oracle_richardson_lucy,
    oracle_tikhonov,
    oracle_wiener,
    paper_tikhonov,
    starlet_fista,
)
from results import begin
from starred_peer import STRENGTHS
from starred_peer import starred as starred_images

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.forward import DataModel
from deconjugate.astro.metrics import flux_error, nmse, scatter
from deconjugate.astro.shape import fwhm_pix

PEAK_SNR = (10, 20, 50, 200)
BINS = (1, 1.5, 2, 3, 5, 8, 12, 20, 40, 80, np.inf)
SECTIONS = ("quality", "classical", "starred", "flux", "shapes", "robust", "blank", "calibration", "speed")


def chosen(args):
    """Galaxies of one half, bands of one galaxy never apart, a ``step``-th of them."""
    numbers = {}
    half = []
    for name, image in galaxies(1):
        galaxy = name.rsplit("-", 1)[0] if name.startswith("candels") else name
        number = numbers.setdefault(galaxy, len(numbers))
        if (number % 2 == 0) == (args.half == "select"):
            half.append(image)
    return half[:: args.step]


def views(args, kind, upsample, snr, seed=0, **options):
    for number, image in enumerate(chosen(args)):
        sky = np.pad(image, 14 * upsample)
        sky = np.pad(sky, [(0, -n % upsample) for n in sky.shape])
        psf = psf_of(kind, number)
        yield psf, simulate(sky, psf, upsample=upsample, peak_snr=snr, seed=[seed, number, snr], **options)


def ours(args, scene, psf, noise=None):
    """Classical path, network alone, network and correction; chi^2 of the last."""
    options = {"upsample": scene.upsample, "noise": scene.noise_map if noise is None else noise}
    classical = deconvolve(scene.data, psf, network=None, **options)
    learned = deconvolve(scene.data, psf, network=args.weights, device="cpu", **options)
    return [classical.image.data, learned.stages["network"], learned.image.data], learned.reduced_chi2


def ssim(image, truth):
    from skimage.metrics import structural_similarity

    return structural_similarity(
        image.astype(np.float64), truth.astype(np.float64), gaussian_weights=True, data_range=float(truth.max())
    )


def beside(scene):
    """Tikhonov with the best lambda, the NMSE of FISTA from there step by step, and what other peers take."""
    sigma = scene.noise_map[0, 0]
    truth = scene.truth / sigma
    model = DataModel(scene.data.shape, scene.psf, scene.upsample)
    y = model.embed((scene.data / sigma).astype(np.float32))
    w = model.embed(np.ones(scene.data.shape, np.float32))
    best = oracle_tikhonov(model, y, w, truth)
    start = np.zeros(model.domain_shape, np.float32)
    start[model.inside] = best
    options = {"n_scales": 4 + round(np.log2(scene.upsample)), "maxiter": 50 * scene.upsample}
    path = starlet_fista(model, y, w, start, truth, **options)
    return best, path, (model, y, w, truth)


def quality(args):
    """Medians of NMSE and of SSIM, every method on the same views; FISTA at the stop that is best for the setting."""
    print("| PSF | upsample | peak SNR | NMSE: none | Tikhonov, 9e-3 |"
          " Wiener, oracle | Tikhonov, oracle | Richardson-Lucy, oracle | FISTA, best stop |"
          " classical path | network alone | network, corrected | over the best classical |"
          " the same view by view (network alone) | SSIM: FISTA's start |"
          " classical path | network alone | network, corrected | chi2/N |\n" + "|---" * 19 + "|")  # fmt: skip
    for kind in args.psf:
        for upsample in args.upsample:
            for snr in PEAK_SNR:
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


def classical(args):
    """The classical path beside FISTA at the stop that is best for the setting: medians, and view by view."""
    print("| PSF | upsample | peak SNR | FISTA, best stop | classical path | ratio of the medians |"
          " median of the ratios | geometric mean of them (its error) | lower in |\n" + "|---" * 9 + "|")  # fmt: skip
    for kind, upsample, snr in itertools.product(args.psf, args.upsample, PEAK_SNR):
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


def starred(args):
    """STARRED with the strength that is best for the setting, beside the classical path and the network."""
    print("| PSF | upsample | peak SNR | views | STARRED, best strength | strength | its flux | classical path |"
          " network, corrected | over STARRED, view by view |\n" + "|---" * 10 + "|")  # fmt: skip
    for kind, upsample, snr in itertools.product(args.psf, args.upsample, PEAK_SNR):
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


def flux(args):
    """Signed error of the flux in the circle that holds 97 % of the blurred light, with and without the correction."""
    print("| PSF | upsample | peak SNR | network alone: median | corrected: median (its error) | slope per magnitude |"
          " scatter | of photometry on the data | ratio |\n" + "|---" * 9 + "|")  # fmt: skip
    for kind in args.psf:
        for upsample in args.upsample:
            for snr in PEAK_SNR:
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


def shapes(args):
    """Error of the ellipticity of galaxies, |e - e_true|, and the width of stars, which should be 2 fine pixels."""
    names = ("none", "Tikhonov, oracle", "classical path", "network alone", "network, corrected")
    print("| PSF | upsample | peak SNR | ellipticity: " + " | ".join(names) + " | FWHM of stars: classical path |"
          " network alone | network, corrected |\n" + "|---" * 11 + "|")  # fmt: skip
    for kind, upsample, snr in itertools.product(args.psf, args.upsample, PEAK_SNR):
        errors, widths = [], []
        for psf, scene in views(args, kind, upsample, snr):
            right = ellipticity(scene.truth, scene.truth)
            raw = np.repeat(np.repeat(scene.data, upsample, 0), upsample, 1)
            images, _ = ours(args, scene, psf)
            images = raw, beside(scene)[0], *images
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


def blank(args):
    """Detections at 5 sigma on frames of pure noise: a matched filter on the frame, and any light in what we make."""
    import sep
    from bench_deconvolution import matched_kernel

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
            for snr in PEAK_SNR:
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


def plots(args):
    """Two pictures: twelve galaxies through the steps, and resolution against flux error by method."""
    from matplotlib.figure import Figure

    args.output.mkdir(parents=True, exist_ok=True)
    args.step = 4  # of the three bands of each galaxy never the same twice
    names = ("data", "Tikhonov", "network", "corrected", "truth", "residual (sigma)")
    figure = Figure(figsize=(9.6, 19.0), layout="constrained", facecolor="black")
    axes = figure.subplots(12, len(names))
    for axis, name in zip(axes[0], names):
        axis.set_title(name, color="white", fontsize=10)
    marks = {}
    for row, (psf, scene) in zip(axes, views(args, "moffat", 2, 50)):
        learned = deconvolve(scene.data, psf, noise=scene.noise_map, network=args.weights, device="cpu")
        classical = deconvolve(scene.data, psf, noise=scene.noise_map, network=None)
        top = float(scene.truth.max())
        pictures = [np.repeat(np.repeat(scene.data, 2, 0), 2, 1) / 4, *learned.stages.values(), scene.truth]
        for axis, picture, name in zip(row, [*pictures, learned.residual], names):
            if name.startswith("residual"):
                axis.imshow(picture, vmin=-4, vmax=4, cmap="gray", origin="lower")
            else:
                shown = np.arcsinh(picture / (0.02 * top))
                axis.imshow(shown, vmin=0, vmax=np.arcsinh(50), cmap="magma", origin="lower")
            axis.set_axis_off()
        for name, image in {
            "no deconvolution": pictures[0],
            "Tikhonov": learned.stages["tikhonov"],
            "classical path": classical.image.data,
            "network alone": learned.stages["network"],
            "network, corrected": learned.image.data,
        }.items():
            seen = scene.truth > 0.05 * top
            width = second_moment_width(image, seen) / second_moment_width(scene.truth, seen)
            marks.setdefault(name, []).append((width, 100 * flux_error(image, scene.truth)))
    figure.savefig(args.output / "network-galaxies.jpg", dpi=80)
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = figure.subplots()
    for name, points in marks.items():
        axis.plot(*np.transpose(points), "o", ms=4, label=name, alpha=0.8)
    axis.axhline(0, color="0.7", lw=1)
    axis.axvline(1, color="0.7", lw=1)
    axis.set(xlabel="width over that of the truth", ylabel="flux error (%)", ylim=(-12, 12))
    axis.legend(fontsize=8)
    figure.savefig(args.output / "network-flux.png", dpi=100)


def second_moment_width(image, where):
    rows, columns = np.nonzero(where)
    light = np.maximum(image[where], 0.0)
    middle = [np.average(x, weights=light) for x in (rows, columns)]
    return np.sqrt(np.average((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2, weights=light))


def speed(args):
    """Seconds of a stamp and of a frame, in a process of its own; the answer is checked first."""
    if not args.child:
        again = [sys.executable, __file__, "speed", "--child", "--weights", args.weights]
        *lines, last = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        print("\n".join(lines), flush=True)
        args.results.note("network/speed", **json.loads(last))
        return
    from deconjugate.astro import scatter_sources

    found = {}
    for size, repeats in ((128, 15), (2048, 2)):
        stamps = [image for image in chosen(args) if max(image.shape) < 100]
        sky = scatter_sources(stamps, (size, size), max(1, size * size // 16000), seed=1).astype(np.float32)
        scene = simulate(sky, PSF.moffat(3.5).fine(2, max_size=63), upsample=2, peak_snr=100, seed=1)
        options = {"noise": scene.noise_map, "device": "cpu"}
        psf, seconds = PSF.from_array(PSF.moffat(3.5).fine(1, max_size=31)), {"network": [], "classical": []}
        for _ in range(repeats):
            for name, network in (("network", args.weights), ("classical", None)):
                start = time.perf_counter()
                result = deconvolve(scene.data, psf, network=network, **options)
                seconds[name].append(time.perf_counter() - start)
                if name == "network":
                    learned = result
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        steps = ", ".join(f"{step} {value:.3f}" for step, value in learned.timings.items())
        print(f"{size}^2 fine pixels: NMSE {nmse(learned.image.data, scene.truth):.4f}, network "
              f"{np.median(seconds['network'][1:]):.3f} s (the last: {steps}), classical path "
              f"{np.median(seconds['classical'][1:]):.3f} s, {peak:.2f} GB so far", flush=True)  # fmt: skip
        found[f"seconds_{size}"], found["gigabytes"] = np.median(seconds["network"][1:]), peak
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=("all", *SECTIONS, "plots"), default="all")
    parser.add_argument("--quick", action="store_true", help="few galaxies and frames, upsample 2, a minute or two")
    parser.add_argument("--half", choices=("select", "report"), default="report")
    parser.add_argument("--weights", default="default", help="a .safetensors file")
    parser.add_argument("--upsample", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--psf", nargs="+", choices=("moffat", "psfex"), default=["moffat", "psfex"])
    parser.add_argument("--step", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--realisations", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of the pictures")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.upsample, args.psf, args.step, args.frames = [2], ["moffat"], 17, 20
    if not args.child:
        keep, packages = (args.half, args.weights) == ("report", "default"), ("operators", "solver", "astro")
        args.results = begin(quick=args.quick, keep=keep, packages=packages)
    if not (DATA / "galaxies").is_dir():
        print(f"- (no galaxies at {DATA}; set DECONJUGATE_DATA)")
        return
    for section in SECTIONS if args.section == "all" else [args.section]:
        globals()[section](args)


if __name__ == "__main__":
    main()
