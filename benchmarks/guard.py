"""A guard against slower code: ratios of ours to a yardstick beside it, held against those in ``guard.json``.

    python benchmarks/guard.py [--only CASE ...] [--store]          # make bench-guard

Seconds of a machine that does other work mean nothing; the ratio of two pieces of work done in turns means nearly the
same everywhere. Each case is timed in rounds, one thread, processor time, and the least of either counts, for other
work only ever adds; a case that is 25 % above what is stored is measured twice more, and fails only if it always is.
Answers are checked before. Where ``perf`` counts instructions, those of one run of each case are held against the
stored ones in the same way: they hardly depend on what else runs. ``--store`` writes the file anew.
"""

import argparse
import json
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from shutil import which
from time import process_time

import numba
import numpy as np
import scipy.fft
from bench_operators import starlet_by_scipy
from boxes import transforms
from machine import describe, facts, triad_run
from tables import row, table, verdict

from deconjugate.operators import PoissonOperator, Starlet
from deconjugate.solver import solve
from deconjugate.solver.fast_poisson import BoxPoisson
from deconjugate.solver.gallery import problems, right_hand_sides

STORED = Path(__file__).resolve().parent / "guard.json"
BOUND = 1.25
ROUNDS = 45


def transform_pair(b):
    return scipy.fft.idctn(scipy.fft.dctn(b, workers=1), workers=1)


def solving(name, shape, method, rtol=1e-6):
    """A solve from the cells on, checked by the assembled matrix, and its right-hand side."""
    A = problems[name](shape, seed=2026)
    b = right_hand_sides["divergence"](A, seed=1)
    run = partial(lambda: solve(PoissonOperator(A.cells, boundary=A.boundary), b, method=method, rtol=rtol).x)
    inside = A.unknowns
    error = np.linalg.norm(b[inside] - A.to_sparse() @ run()[inside]) / np.linalg.norm(b[inside])
    check(f"{name} by {method}", error, 1.001 * rtol)
    return run, b


def check(what, error, bound):
    if not error <= bound:
        raise SystemExit(f"{what}: the error is {error:.1e}, not {bound:.1e}: nothing to time")


def multigrid():
    run, b = solving("sphere", (64,) * 3, "multigrid")
    return run, partial(transform_pair, b)


def multigrid_2d():
    run, b = solving("open_top", (256, 256), "multigrid")
    return run, partial(transform_pair, b)


def learned():
    return solving("random_spheres", (256, 256), "learned")[0], solving("random_spheres", (256, 256), "multigrid")[0]


def box():
    boundary = [("neumann", "neumann")] * 2 + [("periodic", "periodic")]
    b = np.random.default_rng(1).standard_normal((64,) * 3).astype(np.float32)
    b -= b.mean()
    A = PoissonOperator(np.ones(b.shape, bool), boundary=boundary)
    solver = BoxPoisson.of(A)
    check("box", np.linalg.norm(A.apply(solver.solve(b)) - b) / np.linalg.norm(b), 1e-4)
    return partial(solver.solve, b), partial(transforms, b, boundary)


def starlet():
    image = np.random.default_rng(1).standard_normal((512, 512)).astype(np.float32)
    ours = Starlet(image.shape, 4)
    check("starlet", np.abs(ours.apply(image) - starlet_by_scipy(image, 4)).max(), 1e-5)
    return partial(ours.apply, image), partial(starlet_by_scipy, image, 4)


def apply():
    A = problems["sphere"]((192,) * 3)
    u = np.where(A.unknowns, np.random.default_rng(3).standard_normal(A.grid_shape), 0).astype(np.float32)
    exact = A.to_sparse(compress=False) @ u.ravel().astype(np.float64)
    check("apply", np.linalg.norm(A.apply(u).ravel() - exact) / np.linalg.norm(exact), 1e-6)
    return partial(A.apply, u), triad_run(megabytes=32)[0]


def deconvolution(network):
    """A stamp of 96 x 96 pixels beside 100 pairs of Fourier transforms of its fine grid."""
    from deconjugate.astro import PSF, deconvolve, simulate

    y, x = np.mgrid[-96:96, -96:96]
    sky = np.exp(-np.hypot(x, 2 * y) / 8)
    psf = PSF.moffat(3.0)
    scene = simulate(sky, psf, upsample=2, peak_snr=50, seed=1)
    run = partial(deconvolve, scene.data, psf, noise=scene.noise_map, network=network, device="cpu")
    check("deconvolution", abs(run().flux_ratio - 1), 0.05)
    fine = sky.astype(np.float32)

    def fourier():
        for _ in range(100):
            scipy.fft.irfft2(scipy.fft.rfft2(fine, workers=1), s=fine.shape, workers=1)

    return run, fourier


CASES = {
    "multigrid, sphere 64^3, set-up included : DCT pair": multigrid,
    "multigrid, open top 256^2, set-up included : DCT pair": multigrid_2d,
    "learned : tuned multigrid, spheres 256^2": learned,
    "box solver 64^3 : its transforms": box,
    "starlet 512^2 : scipy.ndimage": starlet,
    "PoissonOperator.apply 192^3 : triad of 3 x 32 MB": apply,
    "deconvolve 96^2, classical : 100 FFT pairs": partial(deconvolution, None),
    "deconvolve 96^2, network : 100 FFT pairs": partial(deconvolution, "default"),
}


def ratio(ours, yardstick, rounds=ROUNDS):
    """The least processor time of ours over the yardstick's, the two run in turns."""
    times = [[], []]
    for _ in range(rounds):
        for found, function in zip(times, (ours, yardstick)):
            start = process_time()
            function()
            found.append(process_time() - start)
    return min(times[0]) / min(times[1])


def counted(command):
    """Instructions that a command takes, or why perf cannot tell."""
    if which("perf") is None:
        return "perf is not installed"
    done = subprocess.run(["perf", "stat", "-x", ",", "-e", "instructions:u", *command], capture_output=True, text=True)
    count = next((line.split(",")[0] for line in done.stderr.splitlines() if "instructions" in line), "")
    if done.returncode or not count.isdigit():
        return f"perf: {count or done.stderr.strip()}"
    return int(count)


def instructions(name):
    """Instructions of one run of a case, what starting takes left out, or why there is no count."""
    once, again = (counted([sys.executable, __file__, "--run", name, repeats]) for repeats in ("1", "6"))
    return next((count for count in (once, again) if isinstance(count, str)), None) or (again - once) / 5


def measure(name, bound=None):
    """The ratio of a case, the least of up to three where it is above the bound; without a bound the median of five."""
    ours, yardstick = CASES[name]()
    ours(), yardstick()
    if bound is None:
        return statistics.median(ratio(ours, yardstick) for _ in range(5))
    found = ratio(ours, yardstick)
    for _ in range(2):
        if found > bound:
            found = min(found, ratio(ours, yardstick))
    return found


def guard(stored, names, measured, form):
    """A table of what is measured beside what is stored; the names of those that are too much, and all values."""
    found, slower = {}, []
    table("case", "stored", "now", "now : stored", f"<= {BOUND}")
    for name in names:
        before = stored.get(name)
        found[name] = now = measured(name)
        if isinstance(now, str) or before is None:
            row(name, "-" if before is None else form(before), now if isinstance(now, str) else form(now), "-", "-")
            continue
        if now > BOUND * before:
            slower.append(name)
        row(name, form(before), form(now), f"{now / before:.2f}", verdict(now <= BOUND * before))
    return found, slower


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--store", action="store_true", help="write what is measured in the place of what is stored")
    parser.add_argument("--run", nargs=2, metavar=("CASE", "REPEATS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if numba.config.NUMBA_NUM_THREADS != 1:
        raise SystemExit(
            "one thread is asked for: set NUMBA_NUM_THREADS=1 and OMP_NUM_THREADS=1, as make bench-guard does"
        )
    if options.run:
        ours = CASES[options.run[0]]()[0]
        for _ in range(int(options.run[1])):
            ours()
        return
    machine = facts()
    print(describe(machine))
    content = json.loads(STORED.read_text()) if STORED.exists() else {"ratios": {}, "instructions": {}}
    ratios, instructed = content["ratios"], content["instructions"]
    print("\nprocessor time over that of the yardstick, one thread")
    bounds = {} if options.store else {name: BOUND * value for name, value in ratios.items()}
    found, slower = guard(ratios, options.only, lambda name: measure(name, bounds.get(name)), "{:.2f}".format)
    counts, longer = {}, []
    if isinstance(why := counted(["true"]), str):
        print(f"\ninstructions: - ({why})")
    else:
        print("\nmillions of instructions of one run")
        counts, longer = guard(instructed, options.only, instructions, lambda count: f"{count / 1e6:.1f}")
    if options.store:
        ratios |= {name: float(f"{value:.4g}") for name, value in found.items()}
        ratios = {name: ratios[name] for name in CASES if name in ratios}
        instructed |= {name: round(count) for name, count in counts.items() if not isinstance(count, str)}
        STORED.write_text(
            json.dumps({"machine": machine, "ratios": ratios, "instructions": instructed}, indent=1) + "\n"
        )
    elif slower or longer:
        raise SystemExit("slower than stored by more than a quarter: " + "; ".join(dict.fromkeys(slower + longer)))


if __name__ == "__main__":
    main()
