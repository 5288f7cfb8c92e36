"""What a solve of ours costs: compilation, time and iterations against size, precision, right-hand sides."""

import os
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from solves import check, ours, residual_by_slices
from tables import row, table, verdict

from deconjugate.operators import Cell
from deconjugate.solver.gallery import problems, right_hand_sides


def bench_compilation(options):
    """What the first solve costs in a new process, without and with numba's cache; in a short run with it alone."""
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
        for name in ("filled numba cache",) if options.quick else ("empty numba cache", "filled numba cache"):
            environment = os.environ if options.quick else dict(os.environ, NUMBA_CACHE_DIR=cache)
            out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
            imports, compiling = out.stdout.split()
            row(name, f"{float(imports):.2f}", f"{float(compiling):.2f}")
            options.results.note(f"poisson/{name}", import_seconds=float(imports), seconds=float(compiling))


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
    options.results.note("poisson/sizes", sizes=sizes, spread=max(counts) - min(counts), growth=ratio)
    table("figure", "asked", "measured", "met")
    row("spread of iterations over sizes", "<= 2", max(counts) - min(counts), verdict(max(counts) - min(counts) <= 2))
    row(f"time per unknown, {sizes[2]}^3 : {sizes[1]}^3", "<= 1.5", f"{ratio:.2f}", verdict(ratio <= 1.5))


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
    options.results.note("poisson/precision", cost=ratio)
    table("figure", "asked", "measured", "met")
    row("cost of 1e-12 : cost of 1e-6", "<= 2.2", f"{ratio:.2f}", verdict(ratio <= 2.2))


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
