"""Deconvolution with all steps on a GPU: is it right, then stamps a second, seconds of a frame, memory of a large one.

    python benchmarks/bench_gpu_images.py [--quick] [--stamps 2048] [--frame 1024] [--large 4096] [--device cuda]
    python benchmarks/bench_gpu_images.py --device torch:cpu    # every part of it on the processor, tiny: that it runs

Correctness first: stamps and a frame in tiles, by the network and classically, beside the processor's own path (NumPy
and Numba). The flux ratio has to agree to 1e-4 in the median, and images to 0.01 sigma; stamps beyond are counted, for
thirty steps of the correction enlarge rounding. The yardstick is that path itself, with data changed by 1e-7 of
themselves: one stamp in ten, or twice as many as move there, may be beyond. Without a GPU that is done on
tensors of the processor, and the rest is left out with the reason.

Then, end to end with the weights that ship: ``--stamps`` of 64 x 64 native pixels (128 x 128 of output), with one PSF,
from arrays in memory to arrays in memory; a frame of ``--frame`` native pixels a side, upsample 2; and the largest
memory that the device has lent for a frame of ``--large``. The median of several runs, after one that is not counted.
"""

import argparse
import importlib
import statistics
import time
from functools import partial

import numpy as np
import results
import torch
from tables import row, table, verdict

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.frame_psf import orient
from deconjugate.astro.parametric import parametric_galaxy

PROFILE = PSF.moffat(3.0)
AGREE, FLUX = 1e-2, 1e-4
GOAL_STAMPS, GOAL_FRAME = 2000.0, 0.5
GIGABYTE = 1e9
# The package gives the function under the name of the module.
MODULE = importlib.import_module("deconjugate.astro.deconvolve")


def make_stamps(count, seed=7):
    """Galaxies on 64 x 64 native pixels in units of their noise, peak SNR 10 to 200: 64, flipped and turned."""
    rng, kinds = np.random.default_rng(seed), []
    for k in range(min(count, 64)):
        sky = np.zeros((128, 128))
        galaxy = parametric_galaxy(rng, radius=rng.uniform(2.0, 7.0))
        galaxy = galaxy[tuple(slice(max(n // 2 - 64, 0), n // 2 + 64) for n in galaxy.shape)]
        corner = [64 - n // 2 for n in galaxy.shape]
        sky[corner[0] : corner[0] + galaxy.shape[0], corner[1] : corner[1] + galaxy.shape[1]] = galaxy
        scene = simulate(sky, PROFILE, peak_snr=float(np.exp(rng.uniform(*np.log((10.0, 200.0))))), seed=k)
        kinds.append(scene.data / scene.noise_map[0, 0])
    stamps = [orient(kinds[k % len(kinds)], k // len(kinds) % 8) for k in range(count)]
    return np.stack(stamps).astype(np.float32)


def make_frame(side, seed=8):
    """A galaxy for every 64 x 64 native pixels, in units of the noise."""
    rng = np.random.default_rng(seed)
    sky = np.zeros((2 * side, 2 * side), np.float32)
    kinds = [parametric_galaxy(rng, radius=r)[:120, :120] for r in np.linspace(2.0, 7.0, 24)]
    for _ in range((side // 64) ** 2):
        galaxy = kinds[rng.integers(len(kinds))] * np.exp(rng.uniform(*np.log((0.05, 1.0))))
        top, left = (rng.integers(0, 2 * side - n) for n in galaxy.shape)
        sky[top : top + galaxy.shape[0], left : left + galaxy.shape[1]] += galaxy
    scene = simulate(sky, PROFILE, peak_snr=200.0, seed=seed)
    return (scene.data / scene.noise_map[0, 0]).astype(np.float32)


def by_device(device, *arguments, **options):
    """deconvolve() with all steps on a device, the processor too."""
    kept = MODULE.steps_device
    MODULE.steps_device = lambda *_: torch.device(device)
    try:
        return deconvolve(*arguments, noise=1.0, device=device, progress=False, **options)
    finally:
        MODULE.steps_device = kept


def check(kept, device, count, side):
    """Print how far the two paths are apart; stop where that is too far."""
    table(
        "against the path of arrays", "median, sigmas", "at most", "beyond 0.01", "its own, at 1e-7", "flux", "agrees"
    )
    cases = (("stamps", make_stamps(count), {}), ("frame in tiles", make_frame(side), {"tile": side * 3 // 4}))
    for name, data, options in cases:
        moved = data * (1 + 1e-7 * np.random.default_rng(1).standard_normal(data.shape)).astype(np.float32)
        for network in ("default", None):
            given = {"noise": 1.0, "network": network, "device": "cpu", "progress": False, **options}
            ours = by_device(device, data, PROFILE, network=network, **options)
            expected, other = (deconvolve(x, PROFILE, **given) for x in (data, moved))
            apart, own = (in_cells(image.image.data - expected.image.data) for image in (ours, other))
            flux = float(np.nanmedian(np.abs(ours.flux_ratio / expected.flux_ratio - 1)))
            beyond, usual = (int(np.count_nonzero(x > AGREE)) for x in (apart, own))
            same = np.mean(ours.support != expected.support) < 1e-4 and flux <= FLUX
            same &= float(np.median(apart)) <= AGREE and beyond <= max(2 * usual, apart.size // 10)
            path = "network" if network else "classical"
            shares = f"{np.median(apart):.4f}", f"{apart.max():.3f}", f"{beyond} of {apart.size}", usual, f"{flux:.1e}"
            row(f"{name}, {path}", *shares, verdict(same))
            kept.note(
                f"gpu images/agree/{name}/{path}/{device}",
                median=float(np.median(apart)), most=float(apart.max()), beyond=beyond, usual=usual,
                stamps=int(apart.size), flux=flux,
            )  # fmt: skip
            if not same:
                raise SystemExit("the paths differ: nothing is timed")


def in_cells(difference):
    """The largest of each stamp, or of each 64 x 64 fine pixels of a frame."""
    if difference.ndim == 2:
        n = len(difference) // 64
        difference = difference[: 64 * n, : 64 * n].reshape(n, 64, n, 64).swapaxes(1, 2).reshape(n * n, 64, 64)
    return np.abs(difference).max(axis=(1, 2))


def median_seconds(function, device, repeats):
    function()
    seconds = []
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else str
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def bench(kept, device, args):
    """The figures that are asked for."""
    on_card = torch.device(device).type == "cuda"
    card = torch.cuda.get_device_name(device) if on_card else "tensors of the processor: a dry run"
    print(f"\n{card}, torch {torch.__version__}")
    table("what", "seconds", "figure", "asked", "met")
    for network in ("default", None):
        path, options = "network" if network else "classical", {}
        if on_card:
            options = {"noise": 1.0, "device": device, "progress": False}
        stamps = make_stamps(args.stamps)
        timings = {}

        def run(data=stamps, network=network, options=options, timings=timings):
            found = deconvolve if on_card else partial(by_device, device)
            timings |= found(data, PROFILE, network=network, **options).timings

        seconds = median_seconds(run, device, args.repeats)
        rate = len(stamps) / seconds
        row(
            f"{len(stamps)} stamps, {path}",
            f"{seconds:.3f}",
            f"{rate:.0f} a second",
            "2000",
            verdict(rate >= GOAL_STAMPS),
        )
        print("  by step, where the host waits: " + ", ".join(f"{k} {v:.3f} s" for k, v in timings.items()))
        kept.note(f"gpu images/stamps/{path}", seconds=seconds, rate=rate, stamps=len(stamps), card=card, steps=timings)

        frame = make_frame(args.frame)
        seconds = median_seconds(lambda f=frame: run(f), device, args.repeats)
        name = f"frame of {2 * args.frame}^2, {path}"
        row(name, f"{seconds:.3f}", "", "0.5 s for 2048^2", verdict(seconds <= GOAL_FRAME))
        kept.note(f"gpu images/{name}", seconds=seconds, card=card, steps=timings)

    large = make_frame(args.large)
    if not on_card:
        by_device(device, large, PROFILE, stages=False)
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    deconvolve(large, PROFILE, noise=1.0, device=device, stages=False, progress=False)
    seconds, memory = time.perf_counter() - start, torch.cuda.max_memory_allocated(device)
    _, total = torch.cuda.mem_get_info(device)
    bounded = memory < 0.8 * total
    row(
        f"frame of {2 * args.large}^2",
        f"{seconds:.2f}",
        f"{memory / GIGABYTE:.1f} GB at most",
        "bounded",
        verdict(bounded),
    )
    kept.note(f"gpu images/frame of {2 * args.large}^2", seconds=seconds, device_bytes=memory, card=card)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few stamps and small frames")
    parser.add_argument("--stamps", type=int, default=2048)
    parser.add_argument("--frame", type=int, default=1024)
    parser.add_argument("--large", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or torch:cpu for a dry run of all parts")
    args = parser.parse_args()
    dry = args.device == "torch:cpu"
    if dry:
        args.stamps, args.frame, args.large, args.repeats = 2, 96, 128, 1
        torch.set_num_threads(1)
    elif args.quick:
        args.stamps, args.frame, args.large, args.repeats = 256, 256, 1024, 3
    quick = args.quick or not torch.cuda.is_available()
    kept = results.begin(quick=quick, keep=not dry, packages=("operators", "astro"))
    if dry:
        bench(kept, "cpu", args)
    elif torch.cuda.is_available():
        check(kept, args.device, 64, 192)
        bench(kept, args.device, args)
    else:
        check(kept, "cpu", 8 if args.quick else 24, 192)
        print("\nno figure of a GPU: torch finds no CUDA device here")
