"""The Poisson solver beside its peers: every figure of the README's solver table, in one run.

    python benchmarks/bench_poisson.py [--quick] [--only SECTION ...] [--skip-peers]

Every answer is checked first: ||b - A x|| / ||b|| in float64, A assembled by ``to_sparse`` (by slices of the cell array
where the matrix would not fit, after those were held against it). Runs that are compared are interleaved and the median
is reported. Ours are timed from the array of cells to x, operator and set-up included; peers from an assembled matrix.
Compilation is reported apart. Memory is the peak of the process above what it held before the call, x not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from time import perf_counter, process_time

import numba
import numpy as np
import scipy.fft
import suite
from flows import moving_sphere, phiflow_plume
from machine import describe
from peers import absent, as_peers_want, peers
from shapes import shapes

from deconjugate.operators import Cell, PoissonOperator
from deconjugate.solver import PoissonSolver, solve
from deconjugate.solver.fast_poisson import BoxPoisson
from deconjugate.solver.gallery import around, problems, right_hand_sides, within

RTOL = 1e-6
OURS = 'method="multigrid"'


def fresh(A):
    """The operator made anew, so that nothing kept from an earlier run is used."""
    return PoissonOperator(A.cells, spacing=A.spacing, coefficient=A.coefficient, boundary=A.boundary)


def ours(A, b, method, rtol=RTOL):
    start = perf_counter()
    result = solve(fresh(A), b, method=method, rtol=rtol)
    return result, perf_counter() - start


def residual_by_slices(A, b, x):
    """||b - A x|| / ||b|| for coefficient 1 and no given values inside, written without the package's kernels."""
    x, r = np.asarray(x, np.float64), np.array(b, np.float64)
    fluid = A.cells == Cell.INTERIOR
    for axis, (h, pair) in enumerate(zip(A.spacing, A.boundary)):
        parts = slice(0, -1), slice(1, None), slice(0, 1), slice(-1, None)
        low, high, first, last = ((slice(None),) * axis + (part,) for part in parts)
        faces = [(low, high)] + ([(last, first)] if pair[0] == "periodic" else [])
        for near, far in faces:
            flow = np.where(fluid[near] & fluid[far], (x[far] - x[near]) / h**2, 0.0)
            r[near] += flow
            r[far] -= flow
        for edge, side in zip((first, last), pair):
            if side == "dirichlet":
                r[edge] -= x[edge] / h**2
    return np.linalg.norm(r) / np.linalg.norm(b.astype(np.float64))


def row(*entries):
    print("| " + " | ".join(str(entry) for entry in entries) + " |", flush=True)


def table(*headings):
    print()
    row(*headings)
    row(*("---" for _ in headings))


def verdict(ok):
    return "yes" if ok else "**no**"


def bench_compilation(options):
    """What the first solve costs in a new process, without and with numba's cache."""
    code = (
        "import time; t = time.perf_counter(); import numpy as np;"
        "from deconjugate.solver import solve, PoissonOperator;"
        "i = time.perf_counter(); b = np.zeros((16, 16, 16)); b[3, 3, 3], b[9, 9, 9] = 1, -1;"
        "A = PoissonOperator(np.ones(b.shape, bool)); s = time.perf_counter(); solve(A, b, method='multigrid');"
        "e = time.perf_counter(); solve(A, b, method='multigrid');"
        "print(i - t, e - s - (time.perf_counter() - e))"
    )
    table("first solve in a new process", "import (s)", "compile or load (s)")
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty numba cache", "filled numba cache"):
            environment = dict(os.environ, NUMBA_CACHE_DIR=cache)
            out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
            imports, compiling = out.stdout.split()
            row(name, f"{float(imports):.2f}", f"{float(compiling):.2f}")


def compare(name, n, options, rhs="divergence", repeats=None, A=None):
    """Our methods and the peers on one problem: the median seconds of ``method="multigrid"`` and of each peer."""
    A = problems[name]((n,) * 3) if A is None else A
    b = right_hand_sides[rhs](A, seed=1)
    matrix, inside = as_peers_want(A.to_sparse()), A.unknowns
    inner = b[inside]
    methods = {f'method="{m}"': m for m in ("multigrid", "learned", "dct")}
    runs = {title: [] for title in [*methods, *([] if options.skip_peers else peers)]}
    for repeat in range(repeats or (3 if options.quick else 5)):
        for title in runs:
            # A peer that takes long is timed once or twice: its spread is small beside what it takes.
            spent = sum(run[0] for run in runs[title])
            if absent(title) or (repeat and title in peers and spent > options.patience):
                continue
            if title in methods:
                result, seconds = ours(A, b, methods[title])
                x, iterations, setup = result.x[inside], result.iterations, result.setup_seconds
            else:
                x, iterations, setup, solving = peers[title](matrix, inner, RTOL)
                seconds = setup + solving
            error = np.linalg.norm(inner - matrix @ x) / np.linalg.norm(inner)
            runs[title].append((seconds, iterations, setup, error))
    headings = "iterations", "set-up (s)", "total, median (s)", "best (s)", "true residual", "multigrid is faster by"
    table(f"{name}, {n}^3, {matrix.shape[0]:,} unknowns", *headings)
    median = {title: statistics.median(run[0] for run in found) for title, found in runs.items() if found}
    for title, found in runs.items():
        if not found:
            row(title, "-", "-", "-", "-", "-", absent(title))
            continue
        _, iterations, setup, error = min(found, key=lambda run: abs(run[0] - median[title]))
        # SciPy and PyAMG stop on a residual carried by recursion: a little above the bound is no failure.
        reached = f"{error:.1e}" + ("" if error <= 1.05 * RTOL else " (not reached)")
        times = f"{setup:.3f}", f"{median[title]:.3f}", f"{min(run[0] for run in found):.3f}"
        row(title, iterations, *times, reached, f"{median[title] / median[OURS]:.1f}")
    return median, {title: found[0][1] for title, found in runs.items() if found}


def bench_sphere(options):
    n = 64 if options.quick else 128
    median, iterations = compare("sphere", n, options)
    mine = median[OURS]
    table("figure", "asked", "measured", "met")
    count = iterations[OURS]
    row("iterations, sphere", "<= 12", count, verdict(count <= 12))
    for peer, factor in (("AMGCL SA-CG", 10), ("PyAMG SA-CG", 25)):
        if peer in median:
            speed = median[peer] / mine
            row(f"faster than {peer}", f">= {factor}", f"{speed:.1f}", verdict(speed >= factor))


def bench_problems(options):
    """The same on every other problem of the gallery."""
    n = 64 if options.quick else 128
    for name in problems:
        if name not in ("box", "sphere"):
            compare(name, n, options, repeats=3)


def bench_right_hand_sides(options):
    n = 64 if options.quick else 128
    table(f"sphere, {n}^3", *(f"{rhs}, {what}" for rhs in right_hand_sides for what in ("iterations", "ms")))
    A = problems["sphere"]((n,) * 3)
    for method in ("multigrid", "dct"):
        cells = []
        for make in right_hand_sides.values():
            b = make(A, seed=1)
            found = [ours(A, b, method) for _ in range(3)]
            check(A, b, found[0][0].x)
            cells += [found[0][0].iterations, f"{1e3 * statistics.median(seconds for _, seconds in found):.0f}"]
        row(f'method="{method}"', *cells)


def bench_shapes(options):
    """Real shapes, in a box of fluid and filled with it: masks of 64^3 cells, repeated onto finer grids."""
    n = 64 if options.quick else 128
    for title, inside in shapes(n):
        if isinstance(inside, str):
            print(f"\n{title}: - ({inside})")
            continue
        for make in (around, within):
            compare(f"{make.__name__} {title}", n, options, repeats=3, A=make(inside))


def bench_batches(options):
    """Right-hand sides in one call beside as many calls of ``solve``: processor time, since the gain is small."""
    small = [((64, 64), 16), ((256, 256), 8), ((32,) * 3, 16), ((64,) * 3, 8)]
    cases = small if options.quick else [*small, ((1024, 1024), 8), ((128,) * 3, 4)]
    headings = "systems", "one by one (ms each)", "in one call (ms each)", "one by one : one call"
    table('sphere, method="multigrid"', *headings)
    least = np.inf
    for shape, count in cases:
        A = problems["sphere"](shape)
        b = np.stack([right_hand_sides["divergence"](A, seed) for seed in range(count)])
        single = partial(lambda A, b: [solve(A, one, method="multigrid", rtol=RTOL).x for one in b], A, b)
        batch = partial(lambda A, b: solve(A, b, method="multigrid", rtol=RTOL).x, A, b)
        for x, one, system in zip(batch(), single(), b):
            check(A, system, x)
            if not np.array_equal(x, one):
                raise RuntimeError("a system in a batch gets another answer than alone")
        apart, together = interleaved((single, batch), 5 if options.quick else 9, clock=process_time)
        least = min(least, apart / together)
        cells = "x".join(map(str, shape))
        row(cells, count, f"{1e3 * apart / count:.2f}", f"{1e3 * together / count:.2f}", f"{apart / together:.2f}")
    table("figure", "asked", "measured", "met")
    row("one by one : one call, least", "> 1", f"{least:.2f}", verdict(least > 1))
    bench_gradients(options)


def bench_gradients(options):
    """A solve of tensors with its gradient beside the two of arrays that the gradient needs: processor time."""
    import torch

    n = 32 if options.quick else 128
    A = problems["sphere"]((n,) * 3)
    b = torch.tensor(right_hand_sides["divergence"](A, 1))
    weights = torch.tensor(right_hand_sides["smooth"](A, 2))
    beta = torch.ones(A.grid_shape, dtype=torch.float64, requires_grad=True)

    def arrays():
        solver = PoissonSolver(PoissonOperator(A.cells, coefficient=beta.detach().numpy()), method="multigrid")
        return [solver.solve(values.numpy(), rtol=RTOL) for values in (b, weights)]

    def tensors():
        beta.grad = None
        solve(A, b, coefficient=beta, rtol=RTOL, method="multigrid").x.backward(weights)

    tensors()
    step = 1e-3 * torch.tensor(np.random.default_rng(3).uniform(-1, 1, A.grid_shape))
    with torch.no_grad():
        ends = [(weights * solve(A, b, coefficient=beta + s * step, rtol=1e-10).x).sum() for s in (1, -1)]
    slope, quotient = float((beta.grad * step).sum()), float(ends[0] - ends[1]) / 2
    if abs(slope - quotient) > 1e-3 * abs(quotient):
        raise RuntimeError(f"the gradient along a direction is {slope:.6g}, by differences {quotient:.6g}")
    two, gradient = interleaved((arrays, tensors), 3 if options.quick else 7, clock=process_time)
    table("gradient in a coefficient of cells", "two solves (ms)", "solve, gradient (ms)", "ratio", "error of a slope")
    error = f"{abs(slope / quotient - 1):.0e}"
    row(f"sphere, {n}^3", f"{1e3 * two:.0f}", f"{1e3 * gradient:.0f}", f"{gradient / two:.2f}", error)


def bench_smoke(options):
    """What a pressure projection meets: the divergence that smoke brings along, and a body that moves."""
    n = 64 if options.quick else 128
    table(f"smoke, {n}^3", *(f'method="{m}", {what}' for m in ("multigrid", "dct") for what in ("iterations", "ms")))
    for name in ("sphere", "random_spheres", "open_top", "free_surface"):
        A = problems[name]((n,) * 3)
        smoke_row(name, A, right_hand_sides["smoke"](A, 1))
    plume = phiflow_plume(32)  # from 48^3 on the row-and-column index of its sparse matrices overflows
    if isinstance(plume, str):
        row(f"phiflow's plume ({plume})", "-", "-", "-", "-")
    else:
        smoke_row(f"phiflow's plume, {plume[1].shape[0]}^3", *plume)
    steps, updates, solves, worst = moving_sphere(n // 2, 4 if options.quick else 12)
    table(f"moving sphere, {n // 2}^3", "steps", "update (ms)", "solve to 1e-8 (ms)", "largest divergence after, h / u")
    row('method="multigrid"', steps, *(f"{1e3 * value:.1f}" for value in (updates, solves)), f"{worst:.1e}")
    table("figure", "asked", "measured", "met")
    row("divergence after projection", "< 1e-6", f"{worst:.1e}", verdict(worst < 1e-6))


def smoke_row(title, A, b):
    matrix, inside = A.to_sparse(), A.unknowns
    cells = []
    for method in ("multigrid", "dct"):
        found = [ours(A, b, method) for _ in range(3)]
        error = np.linalg.norm(b[inside] - matrix @ found[0][0].x[inside]) / np.linalg.norm(b[inside])
        if not error <= 1.001 * RTOL:
            raise RuntimeError(f"{title}: the true residual is {error:.1e}")
        cells += [found[0][0].iterations, f"{1e3 * statistics.median(seconds for _, seconds in found):.0f}"]
    row(title, *cells)


def check(A, b, x, rtol=RTOL):
    error = residual_by_slices(A, b, x)
    if not error <= 1.001 * rtol:
        raise RuntimeError(f"the true residual is {error:.2e}, not {rtol:.0e}: nothing to time")
    return error


def bench_sizes(options):
    """Iterations and time per unknown as the grid grows, and memory."""
    sizes = (32, 64, 128) if options.quick else (64, 128, 256)
    small = problems["sphere"]((32,) * 3)
    b = right_hand_sides["divergence"](small, 1)
    x = ours(small, b, "multigrid")[0].x
    by_matrix = np.linalg.norm(b - small.to_sparse(compress=False).dot(x.ravel()).reshape(b.shape)) / np.linalg.norm(b)
    if abs(by_matrix - residual_by_slices(small, b, x)) > 1e-12:
        raise RuntimeError("the residual by slices disagrees with the matrix")
    cases = {}
    for n in sizes:
        A = problems["sphere"]((n,) * 3)
        cases[n] = A, right_hand_sides["divergence"](A, 1), []
    for _ in range(3 if options.quick else 7):
        for A, b, found in cases.values():
            result, seconds = ours(A, b, "multigrid")
            found.append((seconds, result.iterations))
            if len(found) == 1:
                check(A, b, result.x)
    table('sphere, method="multigrid"', "iterations", "total (ms)", "ns per unknown", "million unknowns per s")
    per_unknown = {}
    for n, (A, _, found) in cases.items():
        seconds, unknowns = statistics.median(run[0] for run in found), np.count_nonzero(A.cells == Cell.INTERIOR)
        per_unknown[n] = seconds / unknowns
        row(
            f"{n}^3", found[0][1], f"{1e3 * seconds:.1f}", f"{1e9 * per_unknown[n]:.1f}", f"{1e-6 / per_unknown[n]:.1f}"
        )
    counts = [found[0][1] for _, _, found in cases.values()]
    ratio = per_unknown[sizes[2]] / per_unknown[sizes[1]]
    table("figure", "asked", "measured", "met")
    row("spread of iterations over sizes", "<= 2", max(counts) - min(counts), verdict(max(counts) - min(counts) <= 2))
    row(f"time per unknown, {sizes[2]}^3 : {sizes[1]}^3", "<= 1.5", f"{ratio:.2f}", verdict(ratio <= 1.5))


def bench_memory(options):
    """Peak of a fresh process during one solve, above what it held before; kernels compiled before."""
    n = 128 if options.quick else 256
    table("memory, b in float32", "peak above inputs (MB)", "less x, bytes per cell", "asked", "met")
    for method in ("multigrid", "dct"):
        arguments = [sys.executable, __file__, "--memory-of", method, str(n)]
        # A fixed threshold has the allocator return freed arrays at once: none of them is used again unseen.
        environment = dict(os.environ, MALLOC_MMAP_THRESHOLD_="65536")
        out = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
        extra, output = (int(value) for value in out.stdout.split())
        per_cell = (extra - output) / n**3
        row(
            f'sphere {n}^3, method="{method}"',
            f"{extra / 1e6:.0f}",
            f"{per_cell:.0f}",
            "<= 120",
            verdict(per_cell <= 120),
        )


def memory_of(method, n):
    """Print the growth of this process's peak resident memory over one solve, and the bytes of its answer."""
    warm = problems["sphere"]((32,) * 3)
    solve(warm, right_hand_sides["divergence"](warm, 1).astype(np.float32), method=method, rtol=RTOL)
    A = problems["sphere"]((n,) * 3)
    b = right_hand_sides["divergence"](A, 1).astype(np.float32)
    A = fresh(A)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # forget the peak so far
    before = _status("VmRSS")
    x = solve(A, b, method=method, rtol=RTOL).x
    print(_status("VmHWM") - before, x.nbytes)


def _status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def bench_precision(options):
    """White noise to 1e-12 and to 1e-6."""
    n = 64 if options.quick else 128
    A = problems["sphere"]((n,) * 3)
    b = right_hand_sides["white_noise"](A, 1)
    found = {rtol: [] for rtol in (1e-6, 1e-12)}
    for _ in range(5 if options.quick else 9):
        for rtol, runs in found.items():
            result, seconds = ours(A, b, "multigrid", rtol)
            runs.append((seconds, result.iterations, str(result.status.name), residual_by_slices(A, b, result.x)))
    table(f"sphere, {n}^3, white noise", "iterations", "total (ms)", "true residual", "status")
    median = {rtol: statistics.median(run[0] for run in runs) for rtol, runs in found.items()}
    for rtol, runs in found.items():
        row(f"rtol {rtol:.0e}", runs[0][1], f"{1e3 * median[rtol]:.1f}", f"{runs[0][3]:.1e}", runs[0][2])
    ratio = median[1e-12] / median[1e-6]
    table("figure", "asked", "measured", "met")
    row("cost of 1e-12 : cost of 1e-6", "<= 2.2", f"{ratio:.2f}", verdict(ratio <= 2.2))


def bench_boxes(options):
    """Exact boxes beside the bare transforms, forward and back, of SciPy on the same array.

    A mixed pair has no transform in SciPy: DCT-II and its inverse stand in for it.
    """
    n = 128 if options.quick else 256
    N, D, P = "neumann", "dirichlet", "periodic"
    pairs = {"N-N": (N, N), "D-D": (D, D), "P-P": (P, P), "N-D": (N, D), "D-N": (D, N)}
    cases = {f"{title} on all axes": [pair] * 3 for title, pair in pairs.items()}
    cases |= {f"{title} on axis {a}, N-N elsewhere": [pairs["N-N"]] * a + [pair] + [pairs["N-N"]] * (2 - a)
              for title, pair in pairs.items() if title != "N-N" for a in range(3)}  # fmt: skip
    cases["P-P, D-D, N-D"] = [pairs["P-P"], pairs["D-D"], pairs["N-D"]]
    for dtype in (np.float32, np.float64):
        headings = (
            "true residual",
            "solve (ms)",
            "its transforms (ms)",
            "solve : its transforms",
            "solve : DCT-II and back",
        )
        table(f"box {n}^3, {np.dtype(dtype).name}", *headings)
        b = np.random.default_rng(1).standard_normal((n,) * 3).astype(dtype)
        b -= b.mean()
        worst = 0.0
        for title, boundary in cases.items():
            A = PoissonOperator(np.ones(b.shape, bool), boundary=boundary)
            box = BoxPoisson.of(A)
            error = residual_by_slices(A, b, box.solve(b))
            # In float32 the rounded b has a mean that no closed box can balance, and x is rounded too.
            if error > 1e3 * np.finfo(dtype).eps:
                raise RuntimeError(f"{title}: the true residual is {error:.1e}")
            functions = partial(box.solve, b), partial(transforms, b, boundary), partial(transforms, b, [(N, N)] * 3)
            solving, own, cosine = interleaved(functions, 3 if options.quick else 5)
            worst = max(worst, solving / own)
            ratios = f"{solving / own:.2f}", f"{solving / cosine:.2f}"
            row(title, f"{error:.0e}", f"{1e3 * solving:.0f}", f"{1e3 * own:.0f}", *ratios)
        table("figure", "asked", "measured", "met")
        row("slowest box : its transforms", "<= 2", f"{worst:.2f}", verdict(worst <= 2))


def transforms(b, boundary):
    """SciPy's forward and inverse transforms of a box, with nothing between them."""
    x, workers = b.copy(), numba.get_num_threads()
    real, fourier = [], []
    for axis, pair in enumerate(boundary):
        if pair[0] == "periodic":
            fourier.append(axis)
        else:
            real.append((axis, *((scipy.fft.dst, scipy.fft.idst, 1) if set(pair) == {"dirichlet"}
                                 else (scipy.fft.dct, scipy.fft.idct, 2))))  # fmt: skip
    for axis, forward, _, kind in real:
        x = forward(x, kind, axis=axis, norm="ortho", overwrite_x=True, workers=workers)
    if fourier:
        spectrum = scipy.fft.rfftn(x, axes=fourier, overwrite_x=True, workers=workers)
        lengths = [b.shape[axis] for axis in fourier]
        x = scipy.fft.irfftn(spectrum, s=lengths, axes=fourier, overwrite_x=True, workers=workers)
    for axis, _, inverse, kind in reversed(real):
        x = inverse(x, kind, axis=axis, norm="ortho", overwrite_x=True, workers=workers)
    return x


def interleaved(functions, repeats, clock=perf_counter):
    """Median seconds of each function, run in turns."""
    times = []
    for _ in range(repeats):
        times.append([])
        for function in functions:
            start = clock()
            function()
            times[-1].append(clock() - start)
    return [statistics.median(column) for column in zip(*times)]


def check_any(A, b, x):
    """The true residual by the assembled matrix; by slices where it would be large and they can."""
    if A.unknowns.sum() < 3e6 or A.coefficient is not None:
        inside = A.unknowns
        error = np.linalg.norm(b[inside] - A.to_sparse() @ x[inside]) / np.linalg.norm(b[inside])
        if not error <= 1.001 * RTOL:
            raise RuntimeError(f"the true residual is {error:.2e}, not {RTOL:.0e}: nothing to time")
        return error
    return check(A, b, x)


sections = {
    "compilation": bench_compilation,
    "sphere": bench_sphere,
    "sizes": bench_sizes,
    "memory": bench_memory,
    "precision": bench_precision,
    "right_hand_sides": bench_right_hand_sides,
    "problems": bench_problems,
    "boxes": bench_boxes,
    "shapes": bench_shapes,
    "smoke": bench_smoke,
    "batches": bench_batches,
    "grid": lambda options: suite.bench_grid(options, sys.modules[__name__]),
    "suite": lambda options: suite.bench_suite(options, sys.modules[__name__]),
    "suite_large": lambda options: suite.bench_suite(options, sys.modules[__name__], large=True),
    "ablations": lambda options: suite.bench_ablations(options, sys.modules[__name__]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller grids and fewer repeats: a minute or two")
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections), metavar="SECTION")
    parser.add_argument("--skip-peers", action="store_true", help="time this package alone")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds after which a peer is not run again")
    parser.add_argument("--memory-of", nargs=2, metavar=("METHOD", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        memory_of(options.memory_of[0], int(options.memory_of[1]))
        return
    print(describe())
    warm = problems["sphere"]((24,) * 3)
    for method in ("multigrid", "learned", "dct"):
        solve(warm, right_hand_sides["divergence"](warm, 1), method=method)
    for name in options.only:
        print(f"\n### {name.replace('_', ' ')}")
        sections[name](options)


if __name__ == "__main__":
    main()
