"""The README's picture of the solver: a wind led around 40 spheres, and the residuals on the way.

python docs/solver_picture.py [FOLDER]          # docs/images; a minute on two cores
"""

import sys
from pathlib import Path

import numpy as np

from deconjugate.solver import PoissonOperator, divergence, gallery, solve, subtract_gradient

N = 128
CASES = (
    ("auto", 'learned multigrid ("auto")', "#c0392b", "o-", (8, 1e-5), "left"),
    ("cg", "conjugate gradients", "0.5", "-", (150, 1e-2), "right"),
)


def problem():
    """The operator, and a wind that blows along the last axis, out at its high end, and into the spheres."""
    fluid = gallery.random_spheres((N, N, N), seed=3, count=40, radius=(0.03, 0.13)).unknowns
    A = PoissonOperator(fluid, boundary=["neumann", "neumann", ("neumann", "dirichlet")])
    wind = [np.zeros([N + (a == axis) for a in range(3)]) for axis in range(3)]
    wind[2][:] = 1.0
    wind[2][..., 1:][~fluid] = wind[2][..., :-1][~fluid] = 0.0
    return A, wind


def draw(folder):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    A, wind = problem()
    b = A.rhs(-divergence(A, wind))
    results = {method: solve(A, b, rtol=1e-6, method=method) for method, *_ in CASES}
    if not all(result.converged for result in results.values()):
        raise SystemExit("; ".join(map(str, results.values())))
    pressure = results["auto"].x
    flow = subtract_gradient(A, pressure, wind)
    middle = int(A.unknowns.sum(axis=(1, 2)).argmin())  # the slice through most of the solid
    seen = np.where(A.unknowns[middle], pressure[middle], np.nan)
    across = 0.5 * (flow[1][middle, 1:] + flow[1][middle, :-1])
    along = 0.5 * (flow[2][middle, :, 1:] + flow[2][middle, :, :-1])

    figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    bound = np.nanpercentile(abs(seen - np.nanmedian(seen)), 99)
    shades = plt.get_cmap("RdBu_r").with_extremes(bad="0.2")
    axes[0].imshow(seen - np.nanmedian(seen), origin="lower", cmap=shades, vmin=-bound, vmax=bound)
    cells = np.arange(N)
    axes[0].streamplot(cells, cells, along, across, color="0.25", linewidth=0.5, density=1.6, arrowsize=0.6)
    axes[0].set(xticks=[], yticks=[], xlim=(-0.5, N - 0.5), ylim=(-0.5, N - 0.5))
    axes[0].set_title(f"pressure that leads a wind around 40 solid spheres\n(one slice of {N}³ cells)")
    for method, name, color, form, place, side in CASES:
        norms = np.array(results[method].residual_norms)
        axes[1].semilogy(norms / norms[0], form, color=color, lw=2)
        axes[1].text(*place, f"{name}\n{results[method].iterations} iterations", color=color, fontsize=12, ha=side)
    axes[1].axhline(1e-6, color="k", ls=":", lw=1)
    axes[1].set_xscale("symlog", linthresh=1)
    axes[1].set(xlabel="iteration", ylabel=r"$\|b - A x\| \,/\, \|b\|$", xlim=(0, None), ylim=(2e-7, 5))
    axes[1].set_title("true residual, to 1e-6")
    axes[1].grid(alpha=0.3)
    figure.savefig(folder / "solver.png", dpi=100)
    print({method: result.iterations for method, result in results.items()})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).resolve().parent / "images")
