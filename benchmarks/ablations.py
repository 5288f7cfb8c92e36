"""What the parts of the learned multigrid are worth, and which settings of the classical one are fastest."""

import itertools
from math import log
from time import perf_counter

import numpy as np
from suite import SEED, cases, geometric_mean
from tables import row, table

from deconjugate.operators.learned import weights
from deconjugate.solver import PoissonOperator, deep_conjugate_directions
from deconjugate.solver.certified import CertifiedConjugateGradient
from deconjugate.solver.cut_cells import CutCells
from deconjugate.solver.gallery import problems, right_hand_sides
from deconjugate.solver.learned_multigrid import WEIGHTS, LearnedMultigrid, load
from deconjugate.solver.multigrid import Multigrid
from deconjugate.solver.null_space import NullSpace

GRID = {
    "sweeps": (1, 1.5, 2, 2.5, 3),
    "coarse_sweeps": (1, 2, 3, 4),
    "omega": (1.0, 1.1, 1.15, 1.2, 1.3),
}


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


def bench_grid(options):
    """Which settings of the classical multigrid are fastest over the suite: the bar the learned one is held to."""
    todo = cases((24,), (96,)) if options.quick else cases((64,), (512,))
    keys = list(itertools.product(*GRID.values()))
    keys = keys[:: 12 if options.quick else 1]
    seconds = {key: [] for key in keys}
    for _, make in list(todo):
        A, b = make()
        for key in keys:
            settings = dict(zip(GRID, key))
            runs = [run(A, b, lambda op, s=settings: Multigrid(op, **s))[2] for _ in range(1 if options.quick else 3)]
            seconds[key].append(min(runs))
    means = {key: geometric_mean(found) for key, found in seconds.items()}
    best = min(means.values())
    table(*GRID, "time, geometric mean, against the best")
    for key in sorted(means, key=means.get)[:8]:
        row(*key, f"{means[key] / best:.3f}")
    usual = Multigrid(problems["box"]((8, 8, 8)))
    row("in use:", f"{[len(w) / 2 for w in usual.relaxation]}", float(usual.relaxation[0][0]), "")


def bench_ablations(options):
    """Iterations to 1e-6 with parts of what was learned taken away, and with other numbers of kept directions."""
    trained = load(WEIGHTS)
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
    table(f"iterations, {n}^3", *variants, "window 0", "window 1", "window 2")
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
        row(name, *(f"{count:.2f}" for count in counts))
    means = [geometric_mean(column) for column in zip(*columns)]
    options.results.note("poisson/ablations", iterations=dict(zip([*variants, *map(str, range(3))], means)))
    row("geometric mean, learned = 1", *(f"{mean / means[0]:.2f}" for mean in means))
