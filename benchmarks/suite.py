"""The learned multigrid against the tuned one, the box solver and other people's, over a suite of problems.

None of the problems occurs in training: that draws its own, of at most 30 cells a side in 3-D and 96 in 2-D.
"""

import statistics
from functools import cache, partial
from importlib.util import find_spec
from math import exp, log

import numpy as np
from flows import phiflow_plume
from peer_process import PeerProcess, limit_for
from peers import absent, as_peers_want, peers
from shapes import shapes
from solves import RTOL, check_any, ours
from tables import row, table, verdict

from deconjugate.solver.gallery import around, problems, right_hand_sides, within

SEED = 2026
METHODS = ("learned", "multigrid", "dct")
# Those of which a gain of 1.5 is asked.
HARD = ("thin_gaps", "free_surface", "coefficient_jump")
PEERS = ("PyAMG SA-CG", "PyAMG RS-CG", "AMGCL SA-CG", "AMGCL RS-CG", "PETSc hypre-CG")
# In a short run the peers solve every ninth problem: starting them takes longer than what they do.
PEERED = 9
# A peer's hierarchy of more unknowns than this may not fit into memory.
PEERS_UP_TO = 5_000_000


def cases(solid, flat=(), *, plain=()):
    """(title, function that gives the operator and b) on n^3 cells for n in solid and n^2 for n in flat.

    On plain^3 cells the gallery only, without flows and shapes.
    """
    grids = [(n, 3) for n in (*solid, *plain)] + [(n, 2) for n in flat]
    for n, ndim in grids:
        for name in problems:
            yield f"{name}, {n}^{ndim}", partial(gallery_case, name, (n,) * ndim)
    for n in solid:
        for name in ("sphere", "open_top", "free_surface"):
            yield f"smoke past {name}, {n}^3", partial(gallery_case, name, (n,) * 3, "smoke", SEED + 1)
        for title, inside in shapes(n):
            if isinstance(inside, str):
                print(f"\n{title}: - ({inside})")
                continue
            for make in (around, within):
                yield f"{make.__name__} {title}, {n}^3", partial(shape_case, make, inside)
    if solid and find_spec("phi"):
        yield "phiflow's plume, 32^3", partial(phiflow_plume, 32)
    elif solid:
        print("\nphiflow's plume: - (not installed: pip install phiflow)")


def gallery_case(name, shape, rhs=None, seed=SEED):
    A = problems[name](shape, seed=seed)
    rhs = rhs or ("smooth" if name == "rooms" else "divergence")
    return A, right_hand_sides[rhs](A, seed=1)


def shape_case(make, inside):
    A = make(inside)
    return A, right_hand_sides["white_noise"](A, seed=1)


def bench_suite(options, *, large=False):
    """Set-up included, the true residual in float64, medians of interleaved runs; rows on file come from there.

    "> N s": no peer solved the problem, and the limit ended one after N seconds; these enter the geometric mean, and
    are less than what it needs.
    """
    if options.quick:
        todo = cases((), (256,), plain=(64,)) if large else cases((32,), (128,))
    else:
        todo = cases((), (2048,), plain=(256,)) if large else cases((64, 128), (512, 1024))
    kind = "quick suite" if options.quick else "suite"
    headings = [f"{m}, iterations" for m in METHODS] + [f"{m} (ms)" for m in METHODS]
    headings += ["multigrid : learned", "dct : learned", "best peer : learned", "best peer"]
    found = {}
    for number, (title, make) in enumerate(list(todo)):  # what cannot be made is said before the table
        system = cache(make)
        mine = options.records.once(f"{kind}/{title}", lambda system=system: measure(*system(), options))
        if mine is None:
            continue
        theirs = {}
        skipped = options.skip_peers or (options.quick and number % PEERED)
        if not skipped and mine["unknowns"] <= PEERS_UP_TO:
            limit = limit_for(statistics.median(mine["seconds"]["learned"]), options.limit)
            for peer in PEERS:
                run = partial(measure_peer, peer, system, limit, options)
                theirs[peer] = absent(peer) is None and options.records.once(f"{kind}/{title}, {peer}", run)
        if not found:
            table("problem", "unknowns", *headings)
        found[title] = {**mine, "peers": {peer: entry for peer, entry in theirs.items() if entry}}
        suite_row(title, found[title])
        options.results.note(f"poisson/suite/{title}", iterations=mine["iterations"], seconds=times(mine))
    if found:
        name = "poisson/suite, large" if large else "poisson/suite"
        figures = summary(found)
        options.results.note(name, problems=len(found), **{key: figures[key] for key in figures if "peer" not in key})
        if "peer" in figures:
            options.results.note(f"{name}, peers", problems=len(found), **figures)


def measure(A, b, options):
    """Iterations and seconds of our methods, in turns; the first run of each compiles and warms, and is checked."""
    seconds, iterations, residual = {m: [] for m in METHODS}, {}, {}
    for method in METHODS:
        result, _ = ours(A, b, method)
        iterations[method], residual[method] = result.iterations, check_any(A, b, result.x)
    for repeat in range(1 if options.quick else 7):
        if repeat >= 3 and sum(map(sum, seconds.values())) > options.patience:
            break
        for turn in range(len(METHODS)):
            method = METHODS[(repeat + turn) % len(METHODS)]
            if not (method == "dct" and sum(seconds[method]) > options.patience / 4):
                seconds[method].append(ours(A, b, method)[1])
    return {"unknowns": int(A.unknowns.sum()), "iterations": iterations, "seconds": seconds, "residual": residual}


def measure_peer(peer, system, limit, options):
    """Seconds of up to three runs of a peer, set-up included, or why there are none."""
    A, b = system()
    matrix, inner = as_peers_want(A.to_sparse()), b[A.unknowns].astype(np.float64)
    seconds = []
    try:
        with PeerProcess(peers[peer], matrix, inner, RTOL, limit=limit) as process:
            while not seconds or (sum(seconds) < options.patience / 4 and len(seconds) < (1 if options.quick else 3)):
                x, iterations, setup, solving = process.run()
                error = np.linalg.norm(inner - matrix @ x) / np.linalg.norm(inner)
                if not error <= 1.05 * RTOL:
                    return {"why": f"true residual {error:.1e} after {iterations} iterations"}
                seconds.append(setup + solving)
    except TimeoutError as error:
        if not seconds:
            return {"why": str(error), "ended after": limit}
    except RuntimeError as error:
        if not seconds:
            return {"why": str(error)}
    return {"seconds": seconds, "iterations": iterations}


def best_peer(theirs):
    """(seconds, name, whether it was ended then) of the fastest peer, each at its best run; None where none came by."""
    solved = [(min(entry["seconds"]), name, False) for name, entry in theirs.items() if "seconds" in entry]
    ended = [(entry["ended after"], name, True) for name, entry in theirs.items() if "ended after" in entry]
    return min(solved or ended, default=None)


def times(entry):
    return {method: statistics.median(seconds) for method, seconds in entry["seconds"].items()}


def suite_row(title, entry):
    median = times(entry)
    mine = median["learned"]
    best = best_peer(entry["peers"])
    cells = [f"{entry['unknowns']:,}", *(entry["iterations"][m] for m in METHODS)]
    cells += [f"{1e3 * median[m]:.1f}" for m in METHODS]
    cells += [f"{median['multigrid'] / mine:.2f}", f"{median['dct'] / mine:.2f}"]
    if best:
        seconds, name, ended = best
        cells += [f"{'> ' if ended else ''}{seconds / mine:.1f}", f"{name}{f' > {seconds:g} s' if ended else ''}"]
    row(title, *cells, *([] if best else "--"))


def geometric_mean(values):
    return exp(statistics.fmean(log(value) for value in values)) if values else float("nan")


def summary(found):
    """The figures asked for, by a short name as well, and which peers have no time."""
    classical = {title: times(entry)["multigrid"] / times(entry)["learned"] for title, entry in found.items()}
    box = [times(entry)["dct"] / times(entry)["learned"] for entry in found.values()]
    fewer = [entry["iterations"]["multigrid"] / entry["iterations"]["learned"] for entry in found.values()]
    best = {title: best_peer(entry["peers"]) for title, entry in found.items()}
    others = [seconds[0] / times(found[title])["learned"] for title, seconds in best.items() if seconds]
    what = "tuned multigrid : learned, "
    figures = [
        ("multigrid", what + "geometric mean", 1.3, geometric_mean(classical.values())),
        ("multigrid_2d", what + "2-D", None, geometric_mean([r for t, r in classical.items() if t.endswith("^2")])),
        ("multigrid_3d", what + "3-D", None, geometric_mean([r for t, r in classical.items() if t.endswith("^3")])),
        ("multigrid_hard", what + "gaps, free surfaces, jumps", 1.5,
         geometric_mean([r for title, r in classical.items() if title.startswith(HARD)])),
        ("multigrid_worst", what + "worst problem", 0.9, min(classical.values())),
        ("iterations", what + "iterations", None, geometric_mean(fewer)),
        ("dct", "box solver : learned, geometric mean", 1.3, geometric_mean(box)),
    ]  # fmt: skip
    if others:
        ended = sum(entry[2] for entry in best.values() if entry)
        note = f" ({ended} at the limit of time)" if ended else ""
        figures.append(("peer", "best peer : learned, geometric mean" + note, 15, geometric_mean(others)))
        figures.append(("peer_worst", "best peer : learned, worst problem", 1.0, min(others)))
    table(f"figure, {len(found)} problems", "asked", "measured", "met")
    for _, name, asked, measured in figures:
        met = "-" if asked is None else verdict(measured >= asked)
        row(name, "-" if asked is None else f">= {asked}", f"{measured:.2f}", met)
    missing = [(t, p, e["why"]) for t, entry in found.items() for p, e in entry["peers"].items() if "why" in e]
    if missing:
        table("problem", "peer", "why it has no time")
        for entry in missing:
            row(*entry)
    return {key: measured for key, _, _, measured in figures}
