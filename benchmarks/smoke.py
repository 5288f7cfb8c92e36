"""What a pressure projection meets: the divergence that smoke brings along, and a body that moves."""

import statistics

import numpy as np
from flows import moving_sphere, phiflow_plume
from solves import RTOL, ours
from tables import row, table, verdict

from deconjugate.solver.gallery import problems, right_hand_sides


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
    options.results.note(f"poisson/moving sphere, {n // 2}^3", update_ms=1e3 * updates, solve_ms=1e3 * solves)
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
