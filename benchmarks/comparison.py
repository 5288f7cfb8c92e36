"""Our methods and other people's, problem by problem: the tables of the sphere, the gallery and real shapes."""

import statistics
from contextlib import ExitStack
from functools import partial

import numpy as np
from peer_process import PeerProcess, limit_for
from peers import absent, as_peers_want, peers
from shapes import shapes
from solves import OURS, RTOL, ours
from tables import row, table, verdict

from deconjugate.solver.gallery import around, problems, right_hand_sides, within

METHODS = {f'method="{m}"': m for m in ("multigrid", "learned", "dct")}


def compare(name, n, options, repeats, make=None, *, alone=False):
    """Our methods and the peers on one problem: the median seconds and the iterations of each, by its name."""
    others = () if alone or options.skip_peers else tuple(peers)
    key = f"comparison of {repeats}{'' if others else ', no peers'}/{name}, {n}^3"
    make = make or partial(problems[name], (n,) * 3)
    found = options.records.once(key, lambda: measure(make(), repeats, others, options))
    if found is None:
        return {}, {}
    headings = "iterations", "set-up (s)", "total, median (s)", "best (s)", "true residual", "multigrid is faster by"
    table(f"{name}, {n}^3, {found['unknowns']:,} unknowns", *headings)
    median = {title: statistics.median(run[0] for run in runs) for title, runs in found["runs"].items() if runs}
    for title, runs in found["runs"].items():
        if not runs:
            row(title, *(5 * "-"), found["why"][title])
            continue
        _, iterations, setup, error = min(runs, key=lambda run: abs(run[0] - median[title]))
        # SciPy and PyAMG stop on a residual carried by recursion: a little above the bound is no failure.
        reached = f"{error:.1e}" + ("" if error <= 1.05 * RTOL else " (not reached)")
        times = f"{setup:.3f}", f"{median[title]:.3f}", f"{min(run[0] for run in runs):.3f}"
        row(title, iterations, *times, reached, f"{median[title] / median[OURS]:.1f}")
    iterations = {title: runs[0][1] for title, runs in found["runs"].items() if runs}
    beside = "" if others else ", alone"
    options.results.note(f"poisson/{name}, {n}^3{beside}", seconds=median, iterations=iterations)
    return median, iterations


def measure(A, repeats, names, options):
    """Runs (seconds, iterations, set-up, true residual) of each method and named peer, or why there are none."""
    b = right_hand_sides["divergence"](A, seed=1)
    matrix, inside = as_peers_want(A.to_sparse()), A.unknowns
    inner = b[inside]
    runs, why, others = {title: [] for title in METHODS}, {}, {}
    for title in names:
        runs[title], why[title] = [], absent(title)
    with ExitStack() as stack:
        for repeat in range(repeats):
            for title, found in runs.items():
                # A peer that takes long is timed once or twice: its spread is small beside what it takes.
                if why.get(title) or (repeat and title in peers and sum(run[0] for run in found) > options.patience):
                    continue
                if title in METHODS:
                    result, seconds = ours(A, b, METHODS[title])
                    x, iterations, setup = result.x[inside], result.iterations, result.setup_seconds
                else:
                    if repeat == 0:
                        limit = limit_for(runs[OURS][0][0], options.limit)
                        others[title] = PeerProcess(peers[title], matrix, inner, RTOL, limit=limit)
                        stack.enter_context(others[title])
                    try:
                        x, iterations, setup, solving = others[title].run()
                    except (RuntimeError, TimeoutError) as error:
                        why[title] = str(error)
                        continue
                    seconds = setup + solving
                error = np.linalg.norm(inner - matrix @ x) / np.linalg.norm(inner)
                found.append((seconds, iterations, setup, error))
    return {"unknowns": matrix.shape[0], "runs": runs, "why": why}


def bench_sphere(options):
    median, iterations = compare("sphere", *((32, options, 3) if options.quick else (128, options, 5)))
    if not median:
        return
    mine = median[OURS]
    table("figure", "asked", "measured", "met")
    count = iterations[OURS]
    row("iterations, sphere", "<= 12", count, verdict(count <= 12))
    for peer, factor in (("AMGCL SA-CG", 10), ("PyAMG SA-CG", 25)):
        if peer in median:
            speed = median[peer] / mine
            row(f"faster than {peer}", f">= {factor}", f"{speed:.1f}", verdict(speed >= factor))


def bench_problems(options):
    """The same on every other problem of the gallery; in a short run without the peers."""
    for name in problems:
        if name not in ("box", "sphere"):
            compare(name, 32 if options.quick else 128, options, 3, alone=options.quick)


def bench_shapes(options):
    """Real shapes, in a box of fluid and filled with it: masks of 64^3 cells, repeated onto finer grids.

    In a short run without the peers.
    """
    n = 32 if options.quick else 128
    for title, inside in shapes(n):
        if isinstance(inside, str):
            print(f"\n{title}: - ({inside})")
            continue
        for make in (around, within):
            compare(f"{make.__name__} {title}", n, options, 3, partial(make, inside), alone=options.quick)
