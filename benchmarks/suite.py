"""The learned multigrid against the tuned one, the box solver and other people's, over a suite of problems.

None of the problems occurs in training: that draws its own, of at most 30 cells a side in 3-D and 96 in 2-D.
"""

import itertools
import statistics
from math import exp, log
from time import perf_counter

import numpy as np
from flows import phiflow_plume
from peers import absent, as_peers_want, peers
from shapes import shapes

from deconjugate.solver import PoissonOperator, deep_conjugate_directions
from deconjugate.solver.certified import CertifiedConjugateGradient
from deconjugate.solver.cut_cells import CutCells
from deconjugate.solver.gallery import around, problems, right_hand_sides, within
from deconjugate.solver.learned_multigrid import WEIGHTS, LearnedMultigrid, load
from deconjugate.solver.multigrid import Multigrid
from deconjugate.solver.null_space import NullSpace

SEED = 2026
# Those of which a gain of 1.5 is asked.
HARD = ("thin_gaps", "free_surface", "coefficient_jump")
GRID = {
    "sweeps": (1, 1.5, 2, 2.5, 3),
    "coarse_sweeps": (1, 2, 3, 4),
    "omega": (1.0, 1.1, 1.15, 1.2, 1.3),
}
# Larger problems are left to the sections that time peers one problem at a time: they take minutes each there.
PEERS_UP_TO = 400_000
PEERS = ("PyAMG SA-CG", "PyAMG RS-CG", "AMGCL SA-CG", "AMGCL RS-CG")


def cases(solid, flat, largest=()):
    """(title, operator, b) of every problem, on solid^3 and flat^2 cells; on largest^3 only those named."""
    for name in problems:
        for shape in ((solid,) * 3, (flat,) * 2):
            A = problems[name](shape, seed=SEED)
            rhs = "smooth" if name == "rooms" else "divergence"
            yield f"{name}, {shape[0]}^{len(shape)}", A, right_hand_sides[rhs](A, seed=1)
    for name in ("sphere", "open_top", "free_surface"):
        A = problems[name]((solid,) * 3, seed=SEED + 1)
        yield f"smoke past {name}, {solid}^3", A, right_hand_sides["smoke"](A, 1)
    for title, inside in shapes(solid):
        if isinstance(inside, str):
            print(f"\n{title}: - ({inside})")
            continue
        for make in (around, within):
            A = make(inside)
            yield f"{make.__name__} {title}, {solid}^3", A, right_hand_sides["white_noise"](A, seed=1)
    plume = phiflow_plume(32)
    if not isinstance(plume, str):
        yield "phiflow's plume, 32^3", *plume
    for name in largest:
        A = problems[name]((256,) * 3, seed=SEED)
        yield f"{name}, 256^3", A, right_hand_sides["divergence"](A, seed=1)


def run(A, b, make, rtol=1e-6):
    """(x, residual norms, seconds) of conjugate gradients with the cycle ``make(operator)``, from the cells on."""
    start = perf_counter()
    operator = PoissonOperator(A.cells, spacing=A.spacing, coefficient=A.coefficient, boundary=A.boundary)
    cycle = make(operator)
    loop = CertifiedConjugateGradient(operator, cycle, cycle.levels[0], NullSpace(operator))
    x = np.zeros(b.shape)
    _, norms = loop.solve(b.astype(np.float64), x, rtol * float(np.linalg.norm(b)), 500)
    return x, norms, perf_counter() - start


def iterations(norms, rtol=1e-6):
    """Iterations to rtol with a fraction, log-linear in the last one: whole ones hide a gain of a fifth."""
    fall = np.log(np.array(norms) / norms[0])
    last = int(np.argmax(fall <= log(rtol)))
    return last - 1 + (fall[last - 1] - log(rtol)) / (fall[last - 1] - fall[last])


def geometric_mean(values):
    return exp(statistics.fmean(log(value) for value in values)) if values else float("nan")


def bench_grid(options, report):
    """Which settings of the classical multigrid are fastest over the suite: the bar the learned one is held to."""
    problems_ = list(cases(24, 96) if options.quick else cases(64, 512))
    keys = list(itertools.product(*GRID.values()))
    keys = keys[:: 12 if options.quick else 1]
    seconds = {key: [] for key in keys}
    for _, A, b in problems_:
        for key in keys:
            settings = dict(zip(GRID, key))
            runs = [run(A, b, lambda op, s=settings: Multigrid(op, **s))[2] for _ in range(1 if options.quick else 3)]
            seconds[key].append(min(runs))
    means = {key: geometric_mean(found) for key, found in seconds.items()}
    best = min(means.values())
    report.table(*GRID, "time, geometric mean, against the best")
    for key in sorted(means, key=means.get)[:8]:
        report.row(*key, f"{means[key] / best:.3f}")
    usual = Multigrid(problems["box"]((8, 8, 8)))
    report.row("in use:", f"{[len(w) / 2 for w in usual.relaxation]}", float(usual.relaxation[0][0]), "")


def bench_suite(options, report, *, large=False):
    """Set-up included, the true residual in float64, medians of interleaved runs."""
    if large:
        todo = cases(128, 2048, () if options.quick else ("sphere", "thin_gaps", "free_surface"))
    else:
        todo = cases(*((48, 128) if options.quick else (64, 1024)))
    methods = ["learned", "multigrid", "dct"]
    report.table(
        "problem", "unknowns", *(f"{m}, iterations" for m in methods), *(f"{m} (ms)" for m in methods),
        "multigrid : learned", "dct : learned", "best peer : learned", "peer",
    )  # fmt: skip
    against = {"multigrid": {}, "dct": {}, "peers": {}}
    for title, A, b in todo:
        times, counts = {m: [] for m in methods}, {}
        for repeat in range(2 if options.quick else 8):
            for method in methods:
                if method == "dct" and repeat > 1 and sum(times[method]) > options.patience / 4:
                    continue
                result, seconds = report.ours(A, b, method)
                if repeat == 0:
                    # The first run compiles and warms; its answer is the one that is checked.
                    report.check_any(A, b, result.x)
                    counts[method] = result.iterations
                else:
                    times[method].append(seconds)
        median = {method: statistics.median(found) for method, found in times.items()}
        peer, theirs = (
            (None, None) if options.skip_peers or A.unknowns.sum() > PEERS_UP_TO else best_peer(A, b, options)
        )
        mine = median["learned"]
        against["multigrid"][title] = median["multigrid"] / mine
        against["dct"][title] = median["dct"] / mine
        if theirs:
            against["peers"][title] = theirs / mine
        report.row(
            title, f"{A.unknowns.sum():,}", *(counts[m] for m in methods),
            *(f"{1e3 * median[m]:.1f}" for m in methods), f"{median['multigrid'] / mine:.2f}",
            f"{median['dct'] / mine:.2f}", f"{theirs / mine:.1f}" if theirs else "-", peer or "-",
        )  # fmt: skip
    summary(against, report)


def best_peer(A, b, options):
    """(name, seconds) of the fastest of other people's, each run once, set-up included."""
    matrix, inner = as_peers_want(A.to_sparse()), b[A.unknowns].astype(np.float64)
    found = {}
    for name in PEERS:
        if absent(name):
            continue
        try:
            x, _, setup, solving = peers[name](matrix, inner, 1e-6)
        except MemoryError as error:
            # pyamgcl's way to say that its set-up failed
            print(f"\n{name}: {error}\n")
            continue
        if np.linalg.norm(inner - matrix @ x) <= 1.05e-6 * np.linalg.norm(inner):
            found[name] = setup + solving
    return min(found.items(), key=lambda entry: entry[1]) if found else (None, None)


def summary(against, report):
    classical = against["multigrid"]
    hard = {title: ratio for title, ratio in classical.items() if title.startswith(HARD)}
    report.table("figure", "asked", "measured", "met")
    figures = [
        ("tuned multigrid : learned, geometric mean", 1.3, geometric_mean(classical.values())),
        ("the same on gaps, free surfaces, jumps", 1.5, geometric_mean(hard.values())),
        ("the same, worst problem", 0.9, min(classical.values())),
        ("box solver : learned, geometric mean", 1.3, geometric_mean(against["dct"].values())),
    ]
    if against["peers"]:
        figures.append(("best peer : learned, geometric mean", 15, geometric_mean(against["peers"].values())))
        figures.append(("best peer : learned, worst problem", 1.0, min(against["peers"].values())))
    for what, asked, measured in figures:
        report.row(what, f">= {asked}", f"{measured:.2f}", report.verdict(measured >= asked))


def bench_ablations(options, report):
    """Iterations to 1e-6 with parts of what was learned taken away, and with other numbers of kept directions."""
    trained = load(WEIGHTS)
    from deconjugate.operators.learned import weights

    arrays, _ = weights.load(WEIGHTS)
    zero = {name: np.zeros_like(value) for name, value in arrays.items()}
    start = np.full_like(arrays["relaxation_logit"], np.log(1.15 / 0.85))
    blind = {name: zero[name] for name in ("end_weight", "edge_weight", "given_weight")}
    slope = {"relaxation_slope": zero["relaxation_slope"]}
    variants = {
        "learned": trained,
        "no geometry: one factor a level": CutCells(arrays | blind),
        "relaxation alone": CutCells(zero | {n: arrays[n] for n in ("relaxation_logit", "relaxation_slope")}),
        "factors alone": CutCells(arrays | {"relaxation_logit": start} | slope),
        "untrained": CutCells(zero | {"relaxation_logit": start}),
    }
    n = 32 if options.quick else 64
    report.table(f"iterations, {n}^3", *variants, "window 0", "window 1", "window 2")
    columns = []
    for name in problems:
        A = problems[name]((n,) * 3, seed=SEED)
        b = right_hand_sides["divergence"](A, seed=1)
        counts = [iterations(run(A, b, lambda op, w=w: LearnedMultigrid(op, weights=w))[1]) for w in variants.values()]
        cycle = LearnedMultigrid(A)

        def direction(r, cycle=cycle):
            z = cycle.apply(r.astype(np.float32).reshape(-1), np.empty(r.size, np.float32))
            return z.astype(np.float64).reshape(r.shape)

        null = NullSpace(A)
        for window in (0, 1, 2):
            rhs = b.astype(np.float64)
            null.project(rhs)
            _, _, norms = deep_conjugate_directions(A, rhs, direction, window=window, rtol=1e-6, maxiter=200)
            counts.append(iterations(norms))
        columns.append(counts)
        report.row(name, *(f"{count:.2f}" for count in counts))
    means = [geometric_mean(column) for column in zip(*columns)]
    report.row("geometric mean, learned = 1", *(f"{mean / means[0]:.2f}" for mean in means))
