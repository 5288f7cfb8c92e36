"""Classical deconvolution beside its peers, on ground views of the validation galaxies and on frames of known content.

    python benchmarks/bench_deconvolution.py quality [--upsample 2 4] [--psf moffat psfex] [--step 6] [--without-peers]
    python benchmarks/bench_deconvolution.py flux [--step 2] [--seeds 2]
    python benchmarks/bench_deconvolution.py stars [--upsample 2 4] [--without-points]
    python benchmarks/bench_deconvolution.py compact [--step 1] [--upsample 2 4]
    python benchmarks/bench_deconvolution.py noise | edge | speed | all [--quick]

Truth is the sky convolved with the target resolution; peak SNR is the brightest noiseless native pixel over sigma.
``--step n`` takes every n-th galaxy. The data are looked for in DECONJUGATE_DATA, else beside the checkout.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from deconvolution_peers import oracle_richardson_lucy, oracle_tikhonov, starlet_fista
from results import begin
from scipy.signal.windows import tukey

from deconjugate.astro import PSF, deconvolve, points, simulate
from deconjugate.astro.forward import DataModel
from deconjugate.astro.metrics import flux_error, nmse, scatter
from deconjugate.astro.shape import fwhm_pix
from deconjugate.operators import Binning

DATA = Path(os.environ.get("DECONJUGATE_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
PEAK_SNR = (10, 20, 50, 200)
STAR_SNR = (20, 50, 500, 5000)  # of the brightest star

SECTIONS = ("quality", "flux", "stars", "compact", "noise", "edge", "speed")


def galaxies(step):
    """Validation galaxies, sky subtracted; fields with a real background are tapered to zero at their edges."""
    with np.load(DATA / "galaxies" / "hst_val.npz") as archive:
        for name in archive.files[::step]:
            image = archive[name].astype(np.float64)
            if not name.startswith("candels"):
                image = image[36:-36, 36:-36] if min(image.shape) > 190 else image
                image = (image - np.median(image)) * np.outer(*(tukey(n, 0.3) for n in image.shape))
            yield name, image


def psf_of(kind, number):
    if kind == "moffat":
        return PSF.moffat(3.0)
    files = sorted((DATA / "psfex" / "val").glob("*"))
    native = PSF.from_file(files[number % len(files)]).fine(1)
    middle = native.shape[0] // 2
    return PSF.from_array(native[middle - 15 : middle + 16, middle - 15 : middle + 16])  # stamps are small


def scenes(step, kind, upsample, snr, seed=0):
    for number, (name, image) in enumerate(galaxies(step)):
        sky = np.pad(image, 14 * upsample)
        sky = np.pad(sky, [(0, -n % upsample) for n in sky.shape])
        psf = psf_of(kind, number)
        yield name, psf, simulate(sky, psf, upsample=upsample, peak_snr=snr, seed=[seed, number])


def quality(args):
    """Median NMSE of every method, the median ratio of ours to FISTA galaxy by galaxy, and our reduced chi^2."""
    print("| PSF | upsample | peak SNR | Tikhonov, oracle | Richardson-Lucy, oracle | FISTA, 100 iterations |"
          " FISTA, best fixed stop | FISTA, oracle | ours | ratio to it | chi2/N |\n" + "|---" * 11 + "|")  # fmt: skip
    for kind in args.psf:
        for upsample in args.upsample:
            for snr in PEAK_SNR:
                ours, chi2, peers = [], [], []
                for _name, psf, scene in scenes(args.step, kind, upsample, snr):
                    result = deconvolve(scene.data, psf, upsample=upsample, noise=scene.noise_map, network=None)
                    ours.append(nmse(result.image.data, scene.truth))
                    chi2.append(result.reduced_chi2)
                    if not args.without_peers:
                        peers.append(peer_errors(scene, upsample, result.stages["tikhonov"]))
                cells, ratio = ["-"] * 5, "-"
                if peers:
                    tikhonov, lucy = np.median([p[:2] for p in peers], axis=0)
                    paths = np.array([p[2] for p in peers])
                    path, oracle = np.median(paths, axis=0), paths.min(axis=1)
                    medians = tikhonov, lucy, path[-1], path.min(), np.median(oracle)
                    cells = [f"{v:.4f}" for v in medians]
                    found = dict(zip(("tikhonov", "lucy", "fista_100", "fista_best", "fista_oracle"), medians))
                    args.results.note(f"deconvolution/peers, {kind}, {upsample}, {snr}", galaxies=len(ours),
                                      nmse=np.median(ours), **found)  # fmt: skip
                    ratio = f"{np.median(ours / oracle):.2f}"
                print(f"| {kind} | {upsample} | {snr} | {' | '.join(cells)} | {np.median(ours):.4f} | {ratio} | "
                      f"{np.median(chi2):.3f} |", flush=True)  # fmt: skip
                args.results.note(f"deconvolution/quality, {kind}, {upsample}, {snr}", galaxies=len(ours),
                                  nmse=np.median(ours), reduced_chi2=np.median(chi2))  # fmt: skip
    print(f"({len(ours)} galaxies)")


def peer_errors(scene, upsample, start):
    """NMSE of oracle Tikhonov, of oracle Richardson-Lucy, and of FISTA after every iteration, from our step 1."""
    sigma = scene.noise_map[0, 0]
    truth = scene.truth / sigma
    model = DataModel(scene.data.shape, scene.psf, upsample)
    y = model.embed((scene.data / sigma).astype(np.float32))
    w = model.embed(np.ones(scene.data.shape, np.float32))
    padded = np.zeros(model.domain_shape, np.float32)
    padded[model.inside] = start / sigma
    path = starlet_fista(model, y, w, padded, truth, n_scales=4 + round(np.log2(upsample)))
    images = oracle_tikhonov(model, y, w, truth), oracle_richardson_lucy(model, y, w, truth)
    return *(nmse(x, truth) for x in images), path


def flux(args):
    """Signed error of the flux in the circle that holds 97 % of the blurred light, beside photometry on the data."""
    print("| PSF | upsample | peak SNR | median (its error) | scatter | scatter of photometry on the data | ratio |"
          "\n|---|---|---|---|---|---|---|")  # fmt: skip
    for kind in args.psf:
        for upsample in args.upsample:
            for snr in PEAK_SNR:
                ours, raw = [], []
                for seed in range(args.seeds):
                    for _name, psf, scene in scenes(args.step, kind, upsample, snr, seed):
                        result = deconvolve(scene.data, psf, upsample=upsample, noise=scene.noise_map, network=None)
                        circle = aperture(scene.noiseless)
                        fine = np.repeat(np.repeat(circle, upsample, axis=0), upsample, axis=1)
                        ours.append(100 * flux_error(result.image.data, scene.truth, fine))
                        raw.append(100 * flux_error(scene.data, scene.noiseless, circle))
                error = 1.2533 * scatter(ours) / np.sqrt(len(ours))
                args.results.note(f"deconvolution/flux, {kind}, {upsample}, {snr}", views=len(ours), error=error,
                                  median=np.median(ours), scatter_ratio=scatter(ours) / scatter(raw))  # fmt: skip
                print(
                    f"| {kind} | {upsample} | {snr} | {np.median(ours):+.2f} % ({error:.2f}) | {scatter(ours):.2f} % | "
                    f"{scatter(raw):.2f} % | {scatter(ours) / scatter(raw):.2f} |",
                    flush=True,
                )
    print(f"({len(ours)} views)")


def aperture(image, share=0.97):
    rows, columns = np.indices(image.shape)
    total = image.sum()
    radius = np.hypot(rows - (image * rows).sum() / total, columns - (image * columns).sum() / total)
    order = np.argsort(radius, axis=None)
    enough = np.searchsorted(np.cumsum(image.ravel()[order]), share * total)
    return radius <= radius.ravel()[order][min(enough, image.size - 1)]


def stars(args):
    """Fields of stars: what is left in their cores, flux beside PSF photometry with all places known, width."""
    print("| upsample | peak SNR | residual in the core, median, worst | of noise alone | median flux error |"
          " scatter | scatter of PSF photometry | FWHM, median (least, largest) | flux of the frame | NMSE | chi2/N |"
          "\n" + "|---" * 11 + "|")  # fmt: skip
    psf = PSF.moffat(3.0)
    points.MIN_SNR = np.inf if args.without_points else points.MIN_SNR
    for upsample in args.upsample:
        fields = [star_field(psf, upsample, seed) for seed in range(args.fields)]
        for snr in STAR_SNR:
            found, frames = [], []
            for seed, (places, alone, truths) in enumerate(fields):
                scale = snr / alone.sum(axis=0).max()
                noiseless, truth = scale * alone.sum(axis=0), scale * truths.sum(axis=0)
                data = noiseless + np.random.default_rng([snr, seed]).standard_normal(noiseless.shape)
                result = deconvolve(data, psf, upsample=upsample, noise=1.0, network=None)
                image = result.image.data.astype(np.float64)
                for place, star in zip(places, alone):
                    flux = scale * star.sum()
                    template = star / star.sum()
                    error = 1 / np.linalg.norm(template)
                    photometry = np.vdot(template, data - noiseless) * error**2
                    near = tuple(slice(int(x / upsample) - 1, int(x / upsample) + 2) for x in place)
                    stamp = tuple(slice(round(x) - 10, round(x) + 11) for x in place)
                    rows, columns = np.indices(image.shape)
                    circle = np.hypot(rows - place[0], columns - place[1]) < 3.0 * upsample
                    ours = image[circle].sum() - truth[circle].sum()
                    cores = [np.abs(values[near]).max() for values in (result.residual, data - noiseless)]
                    width = float(fwhm_pix(image[stamp])) if image[stamp].max() > 0 else np.nan
                    found.append([*cores, ours / flux, ours / error, photometry / error, width])
                frames.append([image.sum() / truth.sum() - 1, nmse(image, truth), result.reduced_chi2])
            core, noise_alone, relative, sigmas, photometry, width = np.transpose(found)
            whole, error, chi2 = np.mean(frames, axis=0)
            args.results.note(f"deconvolution/stars, {upsample}, {snr}", core=np.median(core), flux=np.median(relative),
                              core_of_noise=np.median(noise_alone), width=np.nanmedian(width), nmse=error)  # fmt: skip
            print(
                f"| {upsample} | {snr} | {np.median(core):.1f}, {core.max():.1f} | {np.median(noise_alone):.1f}, "
                f"{noise_alone.max():.1f} | {100 * np.median(relative):+.2f} % ({np.median(sigmas):+.2f} sigma) | "
                f"{scatter(sigmas):.2f} sigma | {scatter(photometry):.2f} | "
                f"{np.nanmedian(width):.2f} ({np.nanmin(width):.2f}, {np.nanmax(width):.2f}) | {100 * whole:+.2f} % | "
                f"{error:.4f} | {chi2:.3f} |",
                flush=True,
            )
    print(f"({len(found)} stars; sigma is that of PSF photometry)")


def star_field(psf, upsample, seed, shape=(160, 200), count=24, faintest=0.3, apart=16):
    """Places between the pixels of the fine grid, and every star alone on the native frame and in the truth."""
    rng = np.random.default_rng(seed)
    places = []
    while len(places) < count:
        place = rng.uniform([8, 8], np.array(shape) - 8.0)
        if all(np.hypot(*(place - other)) > apart for other in places):
            places.append(place)
    alone, truths = [], []
    for i, place in enumerate(places := upsample * np.array(places)):
        sky = np.zeros([n * upsample for n in shape])
        pixel = np.round(place).astype(int)
        sky[tuple(pixel)] = faintest ** (i / (count - 1))
        scene = simulate(sky, psf, upsample=upsample, peak_snr=1, shift=place - pixel)
        alone.append(scene.noiseless)
        truths.append(scene.truth)
    return places, np.array(alone), np.array(truths)


def compact(args):
    """Galaxies made ever smaller: how many are taken for points, and the median NMSE of these with and without that."""
    print("| upsample | made smaller by | peak SNR | galaxies | taken for points | their NMSE as galaxies | as points |"
          "\n" + "|---" * 7 + "|")  # fmt: skip
    psf, least = PSF.moffat(3.0), points.MIN_SNR
    images = [image for name, image in galaxies(args.step) if name.startswith("candels")]
    for upsample in args.upsample:
        for factor in (1, 2, 3, 4, 6):
            for snr in PEAK_SNR:
                errors = []
                for number, image in enumerate(images):
                    whole = tuple(n // factor * factor for n in image.shape)
                    small = Binning(whole, factor).apply(image[: whole[0], : whole[1]])
                    sky = np.pad(small, 14 * upsample)
                    sky = np.pad(sky, [(0, -n % upsample) for n in sky.shape])
                    scene = simulate(sky, psf, upsample=upsample, peak_snr=snr, seed=[7, number])
                    model = DataModel(scene.data.shape, scene.psf, upsample)
                    if points.find_points(model, scene.data, scene.noise_map**-2.0, scene.psf).proven.any():
                        errors.append([])
                        for points.MIN_SNR in (np.inf, least):
                            result = deconvolve(scene.data, psf, upsample=upsample, noise=scene.noise_map, network=None)
                            errors[-1].append(nmse(result.image.data, scene.truth))
                medians = " | ".join(f"{e:.2f}" for e in np.median(errors, axis=0)) if errors else "- | -"
                print(f"| {upsample} | {factor} | {snr} | {len(images)} | {len(errors)} | {medians} |", flush=True)


def noise(args):
    """Detections at 5 sigma on frames of pure noise: a matched filter on the frame, and sep on what we make of it."""
    import sep

    psf = PSF.moffat(3.5)
    effective = matched_kernel(psf)
    raw, ours, touched = 0, 0, 0
    for seed in range(args.frames):
        frame = np.random.default_rng(seed).standard_normal((512, 512))
        raw += len(sep.extract(frame, 5.0, err=1.0, filter_kernel=effective, filter_type="matched", minarea=1))
        image = deconvolve(frame, psf, noise=1.0, network=None).image.data.astype(np.float64)
        level = sep.Background(np.ascontiguousarray(image)).globalrms
        touched += int(np.count_nonzero(image.any()))
        if image.any():  # an empty frame has no rms: then any light at all counts
            ours += len(sep.extract(image, 5.0, err=max(level, 1e-6 * image.max()), minarea=1))
    print("| frames of 512 x 512 | matched filter on the frame | sep on the deconvolved frame | frames not empty |")
    print("|---|---|---|---|")
    print(f"| {args.frames} | {raw} | {ours} | {touched} |")
    args.results.note("deconvolution/noise", frames=args.frames, matched_filter=raw, found=ours, not_empty=touched)


def matched_kernel(psf):
    p = psf.fine(1)
    half = 7
    middle = p.shape[0] // 2
    return p[middle - half : middle + half + 1, middle - half : middle + half + 1]


def edge(args):
    """Light far from a source that an edge cuts, over the peak that the source has in the truth, in or out of frame."""
    print("| source at | peak SNR | largest value farther than 4 FWHM, over the peak |\n|---|---|---|")
    psf, ghosts = PSF.moffat(3.5), []
    for row, column in ((0.0, 50.0), (0.0, 0.0), (44.0, 99.5), (-2.0, 50.0)):
        for snr in (20, 200, 2000):
            sky = np.zeros((160, 260))
            sky[int(30 + 2 * row), int(30 + 2 * column)] = 1.0
            whole = simulate(sky, psf, upsample=2, peak_snr=snr, seed=1)
            scene = simulate(sky, psf, upsample=2, sigma=whole.noise_map[0, 0], margin=15, seed=1)
            image = deconvolve(scene.data, psf, noise=scene.noise_map, network=None).image.data
            rows, columns = np.indices(image.shape)
            far = np.hypot(rows - 2 * row, columns - 2 * column) > 4 * 3.5 * 2
            ghost = np.abs(image[far]).max() / whole.truth.max()
            print(f"| ({row:g}, {column:g}) | {snr} | {ghost:.1e} |")
            ghosts.append(ghost)
    args.results.note("deconvolution/edge", cases=len(ghosts), worst=max(ghosts))


def speed(args):
    """Seconds and peak memory from 1024^2 to 2048^2, in a process of its own; the answer is checked first."""
    if not args.child:
        found = []
        for _ in range(args.repeats):
            again = [sys.executable, __file__, "speed", "--child"]
            *lines, last = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
            print("\n".join(lines), flush=True)
            found.append(json.loads(last))
        seconds, gigabytes = np.median(found, axis=0)
        args.results.note("deconvolution/speed", seconds=seconds, gigabytes=gigabytes)
        return
    from deconjugate.astro import scatter_sources

    stamps = [image for name, image in galaxies(3) if name.startswith("candels")]
    sky = scatter_sources(stamps, (2048, 2048), 250, seed=1).astype(np.float32)
    scene = simulate(sky, PSF.moffat(3.5).fine(2, max_size=121), upsample=2, peak_snr=100, seed=1)
    small = tuple(slice(0, 64) for _ in range(2))
    deconvolve(scene.data[small], PSF.moffat(3.5), noise=scene.noise_map[small], network=None)  # compiles
    start, used = time.perf_counter(), time.process_time()
    result = deconvolve(scene.data, PSF.moffat(3.5), noise=scene.noise_map, network=None)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"NMSE {nmse(result.image.data, scene.truth):.4f}, chi2/N {result.reduced_chi2:.3f}, "
          f"flux {100 * flux_error(result.image.data, scene.truth):+.2f} %")  # fmt: skip
    steps = ", ".join(f"{name} {value:.1f}" for name, value in result.timings.items())
    print(
        f"{seconds:.1f} s, processor time {used:.1f} s ({steps}), {peak:.2f} GB in all, load {os.getloadavg()[0]:.1f}"
    )
    print(json.dumps([seconds, peak]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=("all", *SECTIONS), default="all")
    parser.add_argument("--quick", action="store_true", help="few galaxies and frames, upsample 2, a minute or two")
    parser.add_argument("--upsample", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--psf", nargs="+", choices=("moffat", "psfex"), default=["moffat", "psfex"])
    parser.add_argument("--step", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--fields", type=int, default=4, help="of 24 stars each")
    parser.add_argument("--without-points", action="store_true", help="stars: leave them to the steps of galaxies")
    parser.add_argument("--without-peers", action="store_true", help="quality: ours alone")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.upsample, args.psf, args.step, args.frames, args.fields, args.repeats = [2], ["moffat"], 34, 2, 1, 1
    if not args.child:
        keep, packages = not args.without_points, ("operators", "solver", "astro")
        args.results = begin(quick=args.quick, keep=keep, packages=packages)
    for section in SECTIONS if args.section == "all" else [args.section]:
        if section in ("quality", "flux", "compact", "speed") and not (DATA / "galaxies").is_dir():
            print(f"{section}: - (no galaxies at {DATA}; set DECONJUGATE_DATA)")
            continue
        globals()[section](args)


if __name__ == "__main__":
    main()
