"""Batches of right-hand sides, and gradients of tensors, beside what they take the place of."""

from functools import partial
from time import process_time

import numpy as np
from machine import interleaved_medians
from solves import RTOL, check
from tables import row, table, verdict

from deconjugate.operators import PoissonOperator
from deconjugate.solver import PoissonSolver, solve
from deconjugate.solver.gallery import problems, right_hand_sides


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
        apart, together = interleaved_medians((single, batch), repeats=5 if options.quick else 9, clock=process_time)
        least = min(least, apart / together)
        cells = "x".join(map(str, shape))
        row(cells, count, f"{1e3 * apart / count:.2f}", f"{1e3 * together / count:.2f}", f"{apart / together:.2f}")
    options.results.note("poisson/batches", gain=least)
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
    two, gradient = interleaved_medians((arrays, tensors), repeats=3 if options.quick else 7, clock=process_time)
    options.results.note(f"poisson/gradient, {n}^3", cost=gradient / two)
    table("gradient in a coefficient of cells", "two solves (ms)", "solve, gradient (ms)", "ratio", "error of a slope")
    error = f"{abs(slope / quotient - 1):.0e}"
    row(f"sphere, {n}^3", f"{1e3 * two:.0f}", f"{1e3 * gradient:.0f}", f"{gradient / two:.2f}", error)
